"""The teacher (Eq. 8): several plans, each made on the future it leads to, the best by its reward."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wpt_planner.plan_guard import PLAN_STEPS
from wpt_training.models.braking import braked
from wpt_training.models.config import StudentConfig, TeacherConfig
from wpt_training.models.moving_cells import MovingCells, moving_cells
from wpt_training.models.planner import PlanDecoder, PlanDecoderLayer, PlanHead, Planner, ego_status
from wpt_training.models.reward_model import PredictedRewards, RewardModel
from wpt_training.models.student import Student
from wpt_training.models.world_model import WorldModel

LOOKED_AT = (1, 3, 5)  # predicted states a candidate is planned on: 1, 2, 3 s ahead


class TeacherOutput(NamedTuple):
    """M candidates: `trajectories` (B, M, 6, 2), the first of them the plan to be expected; their `queries`
    (B, M, C), from which `Teacher.plan_head` makes them; `scores` (B, M) logits of the planner alone; before
    looking ahead they were `proposals`, refined from `drafts` (B, R, M, 6, 2), and `ranks`; `futures`
    (B, M, F, S, C'); `rewards` and `final` (B, M), None without a reward model; `best` (B,) index.

    A trained teacher that brakes weighs the first one braked beside them: then trajectories, queries (the
    first one's), futures, rewards and final hold these as well, after the M."""

    trajectories: Tensor
    proposals: Tensor
    drafts: Tensor
    queries: Tensor
    scores: Tensor
    ranks: Tensor
    futures: Tensor
    rewards: PredictedRewards | None
    final: Tensor | None
    best: Tensor


class Proposals(NamedTuple):
    """Candidates before any look ahead: `queries` (B, M, C), `ways` (B, M, 6, 2), the `drafts`
    (B, R, M, 6, 2) they were refined from, and the logits `ranks` (B, M)."""

    queries: Tensor
    ways: Tensor
    drafts: Tensor
    ranks: Tensor


class Teacher(nn.Module):
    """Plans with a frozen world model, whose perception it sees through. Baseline-T is the same with
    one candidate and no reward model.

    The first candidate is the plan that an expert is expected to make; each of the others answers for the
    experts who depart from that plan like its anchor, one of `anchors` (M, 6, 2), the first unused. A teacher
    that does not begin with a trained planner takes driving straight on for what is expected.
    """

    anchors: Tensor

    def __init__(self, student: StudentConfig, config: TeacherConfig, world: WorldModel) -> None:
        super().__init__()
        grid, channels = student.bev, student.bev.channels
        self.config = config
        self.world = world.requires_grad_(False)
        planner = student.planner.model_copy(update={"queries": config.candidates})
        self.plan_decoder = PlanDecoder(grid, len(student.commands), planner)
        self.register_buffer("anchors", torch.zeros(config.candidates, PLAN_STEPS, 2))
        self.anchor = nn.Linear(2 * PLAN_STEPS, channels, bias=False)
        self.plan_head = PlanHead(channels)
        self.foresee = nn.ModuleList(
            PlanDecoderLayer(channels, planner, world.config.channels) for _ in range(config.layers)
        )
        self.rank = nn.Linear(channels, 1)
        # What looking ahead adds to queries and ranks: nothing, before it is learned.
        self.insight = nn.Linear(channels, channels)
        self.score = nn.Linear(channels, 1)
        for weight in (*self.insight.parameters(), *self.score.parameters()):
            nn.init.zeros_(weight)
        self.reward = (
            RewardModel(config.reward, world.config, len(student.commands)) if config.has_reward else None
        )
        self.by_reward = config.has_reward and config.reward.at_inference

    def choose_by_score(self) -> None:
        """Leaves the choice to the planner's own scores, as before there was a reward model."""
        self.by_reward = False

    def train(self, mode: bool = True) -> Teacher:
        """The world model stays as it was trained."""
        super().train(mode)
        self.world.eval()
        return self

    def plan(
        self,
        queue: Tensor,
        ego_motion: Tensor,
        command: Tensor,
        queue_valid: Tensor,
        followed: Tensor | None = None,
    ) -> TeacherOutput:
        """queue (B, X·Y, queue·C) as `WorldModel.remember` gives it; the others as a bundle's inputs. Only
        the candidates `followed` (M',) are looked ahead along and come out, if given."""
        motion = ego_status(ego_motion, queue_valid)
        bev = queue[..., : self.world.grid.channels]
        queries, proposals, drafts, ranks = self.proposals(bev, command, motion)
        if followed is not None:
            queries, proposals, ranks = (part[:, followed] for part in (queries, proposals, ranks))
            drafts = drafts[:, :, followed]
        states = self.world.states(queue)
        futures = self.imagine(states, proposals.detach())
        foreseen = self._foresee(queries, futures)
        queries = queries + self.insight(foreseen)
        trajectories = self.plan_head(queries, motion)
        scores = ranks + self.score(foreseen)[..., 0]
        rewards = final = None
        best = scores.argmax(1)
        if self.reward is not None:
            with torch.no_grad():  # they choose here; what teaches them is told what it teaches
                expected, prior = trajectories[:, :1], scores
                if self.config.braking and not self.training:
                    slower, first = self._braked(expected), scores[:, :1]
                    trajectories = torch.cat([trajectories, slower], dim=1)
                    futures = torch.cat([futures, self.imagine(states, slower)], dim=1)
                    queries = torch.cat([queries, queries[:, :1].expand(-1, slower.shape[1], -1)], dim=1)
                    prior = torch.cat([scores, first.expand(-1, slower.shape[1])], dim=1)
                rewards = self.reward(
                    self.world, trajectories, futures, expected, prior, motion, command, self.cells(queue)
                )  # fmt: skip
            final = self.favoured(self.reward.final(rewards))
            best = final.argmax(1) if self.by_reward else best
        return TeacherOutput(
            trajectories, proposals, drafts, queries, scores, ranks, futures, rewards, final, best
        )  # fmt: skip

    def proposals(self, bev: Tensor, command: Tensor, motion: Tensor) -> Proposals:
        """Before any look ahead: BEV (B, X·Y, C), command (B,), motion (B, 4) as `ego_status`."""
        queries, drafts = self.plan_decoder(bev, command, motion, self.anchor(self.anchors.flatten(1) / 10.0))
        return Proposals(queries, self.plan_head(queries, motion), drafts, self.rank(queries)[..., 0])

    def imagine(self, states: Tensor, ways: Tensor) -> Tensor:
        """Each way's own future: states (B, queue, S, C'), ways (B, M, 6, 2) -> (B, M, F, S, C')."""
        batch, count = ways.shape[:2]
        repeated = states.repeat_interleave(count, 0)
        return self.world.rollout(repeated, ways.flatten(0, 1)).unflatten(0, (batch, count))

    def judge(
        self, queue: Tensor, way: Tensor, expected: Tensor, prior: Tensor, motion: Tensor, command: Tensor
    ) -> PredictedRewards:
        """Somebody else's plan `way` (B, 6, 2), in the future that it leads to from the memory `queue`,
        beside the teacher's own first one, `expected` (B, 6, 2), with the first one's score (B,) as `prior`:
        rewards with M = 1. What can be learned from them is to move within that future, not to bend it."""
        assert self.reward is not None
        with torch.no_grad():
            future = self.imagine(self.world.states(queue), way.detach()[:, None])
        return self.reward(
            self.world, way[:, None], future, expected[:, None], prior[:, None], motion, command,
            self.cells(queue),
        )  # fmt: skip

    @torch.no_grad()
    def cells(self, queue: Tensor) -> MovingCells | None:
        """What is occupied now, of the memory queue (B, X·Y, queue·C), if the reward model looks at it."""
        count = self.config.reward.cells
        if not count or not self.config.has_reward:
            return None
        return moving_cells(self.world.now(queue), self.world.label_grid, count)

    def favoured(self, final: Tensor) -> Tensor:
        """Rewards (B, M) among which the first one is the best, unless another is better by the margin."""
        favour = torch.zeros_like(final[:1])
        favour[:, 0] = self.config.reward.margin
        return final + favour

    @torch.no_grad()
    def begin_with(self, planner: Planner) -> None:
        """Plans at first as `planner`, which knows one candidate, on the same BEVs."""
        state = planner.plan_decoder.state_dict()
        state["queries.weight"] = state["queries.weight"].repeat_interleave(self.plan_decoder.count, 0)
        self.plan_decoder.load_state_dict(state)
        self.plan_head.load_state_dict(planner.plan_head.state_dict())

    @torch.no_grad()
    def begin(self, student: Student) -> None:
        """Gives a student of the same size this teacher's planner, as it is before it looks ahead: the
        student then makes the plan to be expected."""
        one, count = student.plan_decoder, self.plan_decoder.count
        state = self.plan_decoder.state_dict()
        state["queries.weight"] = state["queries.weight"][::count]
        one.load_state_dict(state)
        student.plan_head.load_state_dict(self.plan_head.state_dict())

    def _braked(self, first: Tensor) -> Tensor:
        """The first candidate (B, 1, 6, 2), braked in each of the configured ways: (B, S, 6, 2)."""
        rates = torch.tensor(self.config.braking, dtype=first.dtype, device=first.device)
        return braked(first.expand(-1, len(rates), -1, -1), rates.expand(len(first), -1))

    def _foresee(self, queries: Tensor, futures: Tensor) -> Tensor:
        """Eq. 8: every query reads the states that its own proposal leads to."""
        batch, count = queries.shape[:2]
        steps = [step for step in LOOKED_AT if step < futures.shape[2]]
        tokens = futures[:, :, steps].flatten(0, 1).flatten(1, 2)  # (B·M, steps·S, C')
        own = queries.flatten(0, 1)[:, None]
        for layer in self.foresee:
            own = layer(own, tokens)
        return own[:, 0].unflatten(0, (batch, count))


class TeacherPolicy(nn.Module):
    """What a teacher's bundle exports: the best candidate, and the memory queue as recurrent state."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher

    def forward(
        self,
        images: Tensor,
        camera_valid: Tensor,
        intrinsics: Tensor,
        ego_from_camera: Tensor,
        ego_motion: Tensor,
        command: Tensor,
        queue: Tensor,
        queue_valid: Tensor,
    ) -> tuple[Tensor, ...]:
        """Inputs as POLICY_INPUTS; the queue is (B, X·Y, queue·C). Returns trajectory and queue, and with
        a reward model the candidates (B, M, 6, 2) and their rewards (B, M, 7)."""
        world = self.teacher.world
        last = queue[..., : world.grid.channels]
        bev = world.perception(
            images, camera_valid, intrinsics, ego_from_camera, ego_motion, last, queue_valid
        )
        queue = world.remember(bev, queue, ego_motion, queue_valid)
        output = self.teacher.plan(queue, ego_motion, command, queue_valid)
        index = output.best[:, None, None, None].expand(-1, 1, *output.trajectories.shape[2:])
        best = output.trajectories.gather(1, index)[:, 0]
        if output.rewards is None or output.final is None:
            return best, queue
        shares, simulation = output.rewards.imitation.softmax(1), output.rewards.simulation.sigmoid()
        rewards = torch.cat([shares[..., None], simulation, output.final[..., None]], dim=-1)
        return best, queue, output.trajectories, rewards
