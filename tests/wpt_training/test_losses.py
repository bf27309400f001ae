"""Losses against hand calculations."""

from __future__ import annotations

import math

import pytest
import torch

from wpt_training.losses import (
    flow_loss,
    imitation_reward_loss,
    lovasz_loss,
    occupancy_loss,
    plan_loss,
    policy_distillation_loss,
    reward_distillation_loss,
    scaling_loss,
    simulation_reward_loss,
)


def test_plan_loss_is_the_mean_distance_over_recorded_steps():
    plan, expert = torch.zeros(1, 6, 2), torch.zeros(1, 6, 2)
    plan[0, 0], plan[0, 1], plan[0, 5] = (
        torch.tensor([3.0, 1.0]),
        torch.tensor([0.0, 2.0]),
        torch.tensor([99.0, 99]),
    )
    valid = torch.tensor([[True, True, True, True, False, False]])
    assert plan_loss(plan, expert, valid).item() == pytest.approx((4 + 2) / 4)


def test_imitation_reward_loss_is_a_cross_entropy_with_soft_targets():
    # Equal logits: ln 2 whatever the target.
    loss = imitation_reward_loss(torch.zeros(4, 2), torch.tensor([[0.7, 0.3]]).expand(4, -1))
    assert loss.item() == pytest.approx(math.log(2))


def test_simulation_reward_loss_is_a_binary_cross_entropy():
    loss = simulation_reward_loss(torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0.5]]]))
    assert loss.item() == pytest.approx(math.log(2))


def test_distillation_pulls_the_student_and_leaves_the_teacher():
    teacher, student = torch.full((2, 4), 1.0, requires_grad=True), torch.zeros(2, 4, requires_grad=True)
    loss = policy_distillation_loss(teacher, student)
    assert loss.item() == pytest.approx(1.0)
    loss.backward()
    assert teacher.grad is None
    assert (student.grad < 0).all()
    best, own = torch.tensor([2.0, 1.0], requires_grad=True), torch.tensor([1.5, 1.5], requires_grad=True)
    gap = reward_distillation_loss(best, own)
    assert gap.item() == pytest.approx(0.5)
    gap.backward()
    assert best.grad is None
    assert own.grad.tolist() == [-0.5, 0.5]  # towards the teacher's reward from either side


def test_cells_of_frames_without_labels_do_not_count():
    logits = torch.zeros(2, 3, 4)
    logits[1] = 50.0 * torch.tensor([0.0, 1.0, 0.0])[:, None]  # certain, and wrong
    target = torch.zeros(2, 4, dtype=torch.long)
    assert occupancy_loss(logits, target, torch.tensor([True, False]), 5.0).item() == pytest.approx(
        math.log(3)
    )


def test_occupied_cells_weigh_more():
    # One occupied cell of weight 3, one free; p = 1/2 and 1 (nearly): (3 ln 2 + 0) / 4.
    logits = torch.tensor([[[0.0, 30.0], [0.0, 0.0]]])
    loss = occupancy_loss(logits, torch.tensor([[1, 0]]), torch.tensor([True]), 3.0)
    assert loss.item() == pytest.approx(3 * math.log(2) / 4, abs=1e-5)


def test_lovasz_is_one_minus_the_jaccard_index_for_hard_predictions():
    # Class 1: predicted in cells 0, 1; true in cells 1, 2: J = 1/3. Class 0: predicted 2, 3; true 0, 3: 1/3.
    probabilities = torch.tensor([[0.0, 1], [0, 1], [1, 0], [1, 0]])
    assert lovasz_loss(probabilities, torch.tensor([0, 1, 1, 0])).item() == pytest.approx(2 / 3)


def test_scaling_is_nothing_for_a_perfect_forecast_and_grows_with_errors():
    target = torch.tensor([0, 0, 1, 2])
    perfect = torch.eye(3)[target]
    assert scaling_loss(perfect, target).item() == pytest.approx(0.0, abs=1e-3)
    assert scaling_loss(torch.full((4, 3), 1 / 3), target) > 1.0


def test_flow_is_compared_where_somebody_is():
    flow, target = torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2, 2), 1.5)
    occupied = torch.tensor([[[True, False], [False, False]]])
    assert flow_loss(flow, target, occupied).item() == pytest.approx(3.0)
