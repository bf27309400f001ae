"""The teacher (Eq. 8): several plans, each made on the future it leads to, the best by its reward."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wpt_planner.plan_guard import PLAN_STEPS
from wpt_training.models.config import StudentConfig, TeacherConfig
from wpt_training.models.planner import PlanDecoder, PlanDecoderLayer, PlanHead, ego_status
from wpt_training.models.reward_model import PredictedRewards, RewardModel
from wpt_training.models.world_model import WorldModel

LOOKED_AT = (1, 3, 5)  # predicted states a candidate is planned on: 1, 2, 3 s ahead


class TeacherOutput(NamedTuple):
    """M candidates: `trajectories` and the `proposals` they were refined from (B, M, 6, 2), their
    `queries` (B, M, C), `scores` (B, M) logits of the planner alone, `futures` (B, M, F, S, C');
    `rewards` and `final` (B, M), None without a reward model; `best` (B,) index."""

    trajectories: Tensor
    proposals: Tensor
    queries: Tensor
    scores: Tensor
    futures: Tensor
    rewards: PredictedRewards | None
    final: Tensor | None
    best: Tensor


class Teacher(nn.Module):
    """Plans with a frozen world model, whose perception it sees through. Baseline-T is the same with
    one candidate and no reward model.

    Candidates start from `anchors` (M, 6, 2): the ways in which experts depart from driving straight on.
    """

    anchors: Tensor

    def __init__(self, student: StudentConfig, config: TeacherConfig, world: WorldModel) -> None:
        super().__init__()
        grid, channels = student.bev, student.bev.channels
        self.config = config
        self.world = world.requires_grad_(False)
        planner = student.planner.model_copy(update={"queries": config.candidates})
        self.plan_decoder = PlanDecoder(
            channels, grid.cells_x * grid.cells_y, len(student.commands), planner
        )  # fmt: skip
        self.register_buffer("anchors", torch.zeros(config.candidates, PLAN_STEPS, 2))
        self.anchor = nn.Linear(2 * PLAN_STEPS, channels)
        self.propose = PlanHead(channels)
        self.foresee = nn.ModuleList(
            PlanDecoderLayer(channels, planner, world.config.channels) for _ in range(config.layers)
        )
        self.refine = PlanHead(channels)
        self.rank = nn.Linear(channels, 1)
        self.score = nn.Linear(channels, 1)  # what looking ahead adds to the rank
        for weight in self.score.parameters():
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

    def plan(self, queue: Tensor, ego_motion: Tensor, command: Tensor, queue_valid: Tensor) -> TeacherOutput:
        """queue (B, X·Y, queue·C) as `WorldModel.remember` gives it; the others as a bundle's inputs."""
        motion = ego_status(ego_motion, queue_valid)
        bev = queue[..., : self.world.grid.channels]
        queries, proposals, ranks = self.proposals(bev, command, motion)
        states = self.world.states(queue)
        futures = self.imagine(states, proposals.detach())
        queries = self._foresee(queries, futures)
        trajectories = proposals.detach() + self.refine.change(queries)
        scores = ranks + self.score(queries)[..., 0]
        if self.reward is None:
            return TeacherOutput(
                trajectories, proposals, queries, scores, futures, None, None, scores.argmax(1)
            )
        with torch.no_grad():  # they choose here; what teaches them is told what it teaches
            rewards = self.reward(self.world, trajectories, futures, motion, command)
        final = self.reward.final(rewards)
        best = (final if self.by_reward else scores).argmax(1)
        return TeacherOutput(trajectories, proposals, queries, scores, futures, rewards, final, best)

    def proposals(self, bev: Tensor, command: Tensor, motion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Before any look ahead: BEV (B, X·Y, C), command (B,), motion (B, 4) as `ego_status` -> queries
        (B, M, C), ways (B, M, 6, 2) and the logits (B, M) of their ranks."""
        queries = self.plan_decoder(bev, command, motion)
        queries = queries + self.anchor(self.anchors.flatten(1) / 10.0)
        return queries, self.propose(queries, motion) + self.anchors, self.rank(queries)[..., 0]

    def imagine(self, states: Tensor, ways: Tensor) -> Tensor:
        """Each way's own future: states (B, queue, S, C'), ways (B, M, 6, 2) -> (B, M, F, S, C')."""
        batch, count = ways.shape[:2]
        repeated = states.repeat_interleave(count, 0)
        return self.world.rollout(repeated, ways.flatten(0, 1)).unflatten(0, (batch, count))

    def judge(self, states: Tensor, way: Tensor, motion: Tensor, command: Tensor) -> PredictedRewards:
        """Somebody else's plan `way` (B, 6, 2), in the future that it leads to: rewards with M = 1. What
        can be learned from them is to move within that future, not to bend it."""
        assert self.reward is not None
        future = self.imagine(states, way.detach()[:, None])
        return self.reward(self.world, way[:, None], future, motion, command)

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
