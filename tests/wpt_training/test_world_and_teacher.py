"""World model, teacher and student as networks: what flows where, with random weights."""

from __future__ import annotations

import math

import pytest
import torch

from wpt_training.drives.occupancy import CLASSES
from wpt_training.export import golden_inputs
from wpt_training.models.braking import braked
from wpt_training.models.config import LossConfig, TrainingConfig, load_training_config
from wpt_training.models.moving_cells import MovingCells
from wpt_training.models.planner import ego_status
from wpt_training.models.student import Student
from wpt_training.models.teacher import Teacher, TeacherPolicy
from wpt_training.models.world_model import WorldModel
from wpt_training.training.teacher import answering_candidate, candidate_losses, draft_loss

from conftest import ROOT, SMALL
from test_training import CONFIG

CELLS = SMALL.bev.cells_x * SMALL.bev.cells_y


@pytest.fixture
def world():
    torch.manual_seed(0)
    return WorldModel(SMALL, CONFIG.world).eval()


@pytest.fixture
def teacher(world):
    teacher = Teacher(SMALL, CONFIG.teacher, world).eval()
    teacher.anchors[1:] = torch.randn(2, 6, 2)
    return teacher


def queue(batch: int = 2) -> torch.Tensor:
    return torch.randn(
        batch, CELLS, CONFIG.world.queue * SMALL.bev.channels, generator=torch.Generator().manual_seed(1)
    )


def inputs(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ego motion (4 m in 0.5 s), command, and that there is a past."""
    return (
        torch.tensor([[4.0, 0.0, 0.0, 0.5, 8.0, 8.0, 0.0]]).repeat(batch, 1),
        torch.tensor([2] * batch),
        torch.ones(batch),
    )


def test_a_rollout_gives_a_state_per_future_frame_and_depends_on_the_action(world):
    states = world.states(queue())
    still, fast = torch.zeros(2, 6, 2), torch.arange(1, 7)[None, :, None] * torch.tensor([5.0, 0.0])
    futures = world.rollout(states, still)
    assert futures.shape == (2, 6, 16, 16)  # 4 x 4 tokens of 16 channels
    assert not torch.allclose(futures, world.rollout(states, fast.expand(2, -1, -1)))


def test_a_view_has_classes_heights_and_the_labels_cells(world):
    view = world.view(world.states(queue()))
    # 8 x 8 BEV cells, upsample 2; two BEVs in the queue of two samples.
    assert view.occupancy.shape == (4, len(CLASSES), 2, 16, 16)
    assert view.flow.shape == (4, 2, 16, 16)
    assert view.drivable.shape == (4, 16, 16)


def test_candidates_futures_are_their_own_and_rolled_out_as_if_alone(teacher):
    states = teacher.world.states(queue(1))
    ways = torch.randn(1, 3, 6, 2).cumsum(2)
    together = teacher.imagine(states, ways)
    for index in range(3):
        alone = teacher.imagine(states, ways[:, index : index + 1])
        torch.testing.assert_close(together[:, index], alone[:, 0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together[:, 0], together[:, 1])


def test_the_memory_moves_with_the_ego_and_starts_with_the_present(world):
    bev, past = torch.randn(1, CELLS, 16), torch.zeros(1, CELLS, 32)
    past[:, 20, :16] = 1.0  # row 20 of 8 x 8: x cell 2, y cell 4
    # 8 m ahead: a cell. What was in x cell 2 is now in x cell 1.
    motion = torch.tensor([[8.0, 0.0, 0.0, 0.5, 16.0, 16.0, 0.0]])
    remembered = world.remember(bev, past, motion, torch.ones(1))
    assert torch.equal(remembered[..., :16], bev)
    assert remembered[0, 12, 16:].mean().item() == pytest.approx(1.0, abs=1e-4)
    assert remembered[0, 20, 16:].abs().max().item() < 1e-4
    fresh = world.remember(bev, past, motion, torch.zeros(1))
    assert torch.equal(fresh, bev.repeat(1, 1, 2))


def test_sampling_a_state_at_a_tokens_middle_gives_the_token(world):
    # Tokens of 16 m: token (1, 2) is centred at x = -16 + 1.5·16 = 8, y = -32 + 2.5·16 = 8.
    states = torch.randn(1, 1, 16, 16)
    seen = world.sample(states, torch.tensor([[[[8.0, 8.0]]]]))
    torch.testing.assert_close(seen[0, 0, 0], states[0, 0, 1 * 4 + 2])
    assert world.sample(states, torch.tensor([[[[500.0, 0.0]]]])).abs().max() == 0


def test_the_best_candidate_has_the_highest_final_reward_or_score(teacher):
    output = teacher.plan(queue(), *inputs()[:2], inputs()[2])
    assert output.trajectories.shape == (2, 3, 6, 2)
    assert torch.equal(output.best, output.final.argmax(1))
    teacher.choose_by_score()
    again = teacher.plan(queue(), *inputs()[:2], inputs()[2])
    assert torch.equal(again.best, again.scores.argmax(1))


def test_the_world_model_stays_frozen_and_a_judged_plan_gets_a_gradient(teacher):
    teacher.train()
    assert not teacher.world.training
    way = torch.randn(2, 6, 2, requires_grad=True)
    motion = torch.tensor([[8.0, 0.0, 0.0, 1.0]]).repeat(2, 1)
    expected = torch.zeros(2, 6, 2)
    rewards = teacher.judge(queue(), way, expected, torch.zeros(2), motion, inputs()[1])
    rewards.simulation.sum().backward()
    assert way.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.world.parameters())


def test_the_first_candidate_learns_of_every_expert_the_others_of_those_like_their_anchor(teacher):
    teacher.anchors[1], teacher.anchors[2] = -2.0, 3.0
    motion = torch.tensor([[0.0, 0.0, 0.0, 1.0]]).repeat(2, 1)  # standing: straight on is to stay
    expert = torch.stack([torch.full((6, 2), 2.5), torch.full((6, 2), 4.0)])  # both like anchor 2
    valid = torch.ones(2, 6, dtype=torch.bool)
    assert answering_candidate(teacher.anchors, torch.zeros(2, 6, 2), expert, valid).tolist() == [2, 2]
    ways, scores = torch.zeros(2, 3, 6, 2, requires_grad=True), torch.zeros(2, 3)
    plan, score = candidate_losses(teacher, ways, scores, motion, expert, valid, LossConfig(score=1.0))
    plan.backward()
    # L1 over x and y: 2·2.5 and 2·4, a mean of 6.5, once for the first and once for the answering one.
    assert plan.item() == pytest.approx(13.0)
    assert (ways.grad[:, [0, 2]].abs().sum((2, 3)) > 0).all()
    assert ways.grad[:, 1].abs().sum() == 0
    assert score.item() == pytest.approx(math.log(3))  # equal logits


def test_who_begins_with_a_planner_answers_for_departures_from_the_plan_to_be_expected(world):
    teacher = Teacher(SMALL, CONFIG.teacher.model_copy(update={"begin": True}), world)
    teacher.anchors[1], teacher.anchors[2] = -2.0, 3.0
    motion = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    expert, valid = torch.full((1, 6, 2), 2.5), torch.ones(1, 6, dtype=torch.bool)
    ways = torch.full((1, 3, 6, 2), 4.0, requires_grad=True)
    plan, _ = candidate_losses(teacher, ways, torch.zeros(1, 3), motion, expert, valid, LossConfig())
    plan.backward()
    # 1.5 behind what was expected, though 2.5 ahead of standing: like anchor 1.
    assert ways.grad[:, [0, 1]].abs().sum((2, 3)).gt(0).all()
    assert ways.grad[:, 2].abs().sum() == 0


def test_each_draft_counts_its_share_of_a_plan(teacher):
    motion = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    expert, valid = torch.full((1, 6, 2), 2.5), torch.ones(1, 6, dtype=torch.bool)
    drafts = torch.zeros(1, 2, 3, 6, 2)
    drafts[:, 1] = 1.0
    # L1 over x and y of the first and of the answering candidate: 2·(2·2.5) and 2·(2·1.5).
    loss = draft_loss(teacher, drafts, motion, expert, valid, LossConfig(draft=0.3))
    assert loss.item() == pytest.approx(0.3 * (10.0 + 6.0))
    nothing = draft_loss(teacher, drafts[:, :0], motion, expert, valid, LossConfig(draft=0.3))
    assert nothing.item() == 0.0


def test_rewards_of_ways_that_share_a_future_are_those_of_each_in_it(teacher):
    states = teacher.world.states(queue())
    ways = torch.randn(2, 6, 6, 2).cumsum(2)
    futures = teacher.imagine(states, ways[:, ::2])  # three futures, two ways in each
    motion = torch.tensor([[8.0, 0.0, 0.0, 1.0]]).repeat(2, 1)
    # Untrained, imitation adds nothing to the prior.
    torch.nn.init.normal_(teacher.reward.imitation.weight)
    given = (ways[:, :1], torch.zeros(2, 6), motion, inputs()[1])
    shared = teacher.reward(teacher.world, ways, futures, *given)
    each = teacher.reward(teacher.world, ways, futures.repeat_interleave(2, 1), *given)
    assert shared.imitation.std() > 1e-3
    torch.testing.assert_close(shared.simulation, each.simulation)
    torch.testing.assert_close(shared.imitation, each.imitation)


def test_a_student_that_begins_as_its_teacher_makes_the_plan_to_be_expected(teacher):
    torch.manual_seed(1)
    for weight in teacher.plan_head.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    student = Student(SMALL).eval()
    teacher.begin(student)
    bev = torch.randn(2, CELLS, SMALL.bev.channels)
    motion, command, valid = inputs()
    proposals = teacher.proposals(bev, command, ego_status(motion, valid))
    plan = student.plan_on(bev, motion, command, valid)
    torch.testing.assert_close(plan.trajectory, proposals.ways[:, 0])
    torch.testing.assert_close(plan.drafts, proposals.drafts[:, :, 0])


def test_a_teacher_begins_with_the_planner_that_its_world_model_was_pretrained_beside(teacher):
    torch.manual_seed(1)
    planner = teacher.world.pretext
    for weight in planner.plan_head.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    teacher.begin_with(planner)
    bev = torch.randn(2, CELLS, SMALL.bev.channels)
    motion, command, valid = inputs()
    proposals = teacher.proposals(bev, command, ego_status(motion, valid))
    plan = planner.plan_on(bev, motion, command, valid).trajectory
    torch.testing.assert_close(proposals.ways[:, 0], plan)
    assert not torch.allclose(proposals.ways[:, 1], plan)  # its anchor turns it aside


def test_another_candidate_than_the_first_is_chosen_only_if_it_is_better_by_the_margin(world):
    reward = CONFIG.teacher.reward.model_copy(update={"margin": 0.5})
    teacher = Teacher(SMALL, CONFIG.teacher.model_copy(update={"reward": reward}), world)
    final = torch.tensor([[1.0, 1.4, 0.0], [1.0, 0.0, 1.6], [2.0, 1.0, 1.0]])
    assert teacher.favoured(final).argmax(1).tolist() == [0, 2, 0]


def braking_teacher(world: WorldModel) -> Teacher:
    reward = CONFIG.teacher.reward.model_copy(update={"cells": 20})
    config = CONFIG.teacher.model_copy(update={"reward": reward, "braking": [0.2, 0.5]})
    torch.manual_seed(2)
    return Teacher(SMALL, config, world).eval()


def test_a_teacher_that_drives_weighs_its_first_candidate_braked_as_well(world):
    teacher = braking_teacher(world)
    output = teacher.plan(queue(), *inputs()[:2], inputs()[2])
    first = output.trajectories[:, 0]
    assert output.trajectories.shape == (2, 5, 6, 2)
    assert output.futures.shape[1] == output.queries.shape[1] == output.final.shape[1] == 5
    assert output.scores.shape == (2, 3)
    torch.testing.assert_close(output.trajectories[:, 4], braked(first, torch.tensor([0.5, 0.5])))
    assert torch.equal(output.queries[:, 4], output.queries[:, 0])
    assert torch.equal(output.best, output.final.argmax(1))
    # Candidates learn as many as there are.
    learning = teacher.train().plan(queue(), *inputs()[:2], inputs()[2])
    assert learning.trajectories.shape == (2, 3, 6, 2)


def test_whom_a_trajectory_meets_counts_in_its_rewards(world):
    teacher = braking_teacher(world)
    states = world.states(queue())
    cells = teacher.cells(queue())
    ways = torch.arange(1, 7)[None, None, :, None] * torch.tensor([4.0, 0.0]).expand(2, 1, 1, -1)
    futures = teacher.imagine(states, ways)
    given = (ways, torch.zeros(2, 1), torch.tensor([[8.0, 0.0, 0.0, 1.0]]).repeat(2, 1), inputs()[1])
    there = MovingCells(
        torch.tensor([9.0, 0.0]).expand(2, 20, -1), torch.zeros(2, 20, 2), torch.ones_like(cells.occupied)
    )
    gone = there._replace(occupied=torch.zeros_like(cells.occupied))
    met, free = (teacher.reward(world, ways, futures, *given, each).simulation for each in (there, gone))
    assert cells.position.shape == (2, 20, 2)
    assert (met - free).abs().max() > 1e-3


def test_a_teacher_cannot_begin_with_a_planner_that_was_not_pretrained():
    content = CONFIG.model_dump()
    content["world"]["pretext"], content["teacher"]["begin"] = False, True
    with pytest.raises(ValueError, match=r"teacher.begin needs world.pretext"):
        TrainingConfig.model_validate(content)


def test_a_teachers_policy_keeps_its_memory_in_the_recurrent_state(teacher):
    grid = SMALL.bev.model_copy(update={"channels": 32})
    values = golden_inputs(SMALL, grid)
    with torch.no_grad():
        trajectory, state, candidates, rewards = TeacherPolicy(teacher)(*values)
    assert trajectory.shape == (1, 6, 2)
    assert torch.equal(trajectory[0], candidates[0, rewards[0, :, 6].argmax()])
    assert rewards[0, :, 0].sum().item() == pytest.approx(1.0, abs=1e-5)
    assert state.shape == (1, CELLS, 32)


@pytest.mark.parametrize("size", ["tiny", "small", "smoke"])
def test_the_sizes_build_and_plan(size):
    config = load_training_config(ROOT / f"config/training/{size}.yaml")
    student = Student(config.student).eval()
    with torch.no_grad():
        trajectory, bev = student(*golden_inputs(config.student))
    assert trajectory.shape == (1, 6, 2)
    assert bev.shape[1] == config.student.bev.cells_x * config.student.bev.cells_y
    world = WorldModel(config.student, config.world)
    assert Teacher(config.student, config.teacher, world).reward is not None
