"""The reward model (Eq. 9-14): how good is a trajectory in the future that it leads to?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wpt_planner.plan_guard import PLAN_STEPS
from wpt_training.models.config import RewardConfig, WorldModelConfig
from wpt_training.models.moving_cells import REACHES, MovingCells, met
from wpt_training.models.planner import USUAL_MOTION
from wpt_training.models.world_model import WorldModel
from wpt_training.rewards import headings

SIMULATION_REWARDS = ("nc", "dac", "ep", "ttc", "comfort")
# Around each waypoint the box's middle, its corners' reach ahead, and both sides: m forward, left.
FOOTPRINT = ((1.4, 0.0), (3.7, 0.0), (7.0, 0.0), (1.4, 1.5), (1.4, -1.5), (3.7, 1.5), (3.7, -1.5))
LOG_FLOOR = 1e-4


class PredictedRewards(NamedTuple):
    """`imitation` (B, M) logits, to be compared within M; `simulation` (B, M, 5) logits of
    SIMULATION_REWARDS."""

    imitation: Tensor
    simulation: Tensor


class RewardModel(nn.Module):
    """Trajectories and their own futures to rewards."""

    footprint: Tensor

    usual: Tensor

    def __init__(self, config: RewardConfig, world: WorldModelConfig, commands: int) -> None:
        super().__init__()
        self.config, self.commands = config, commands
        hidden = config.hidden
        self.register_buffer("footprint", torch.tensor(FOOTPRINT), persistent=False)
        self.place = nn.Linear(world.channels * len(FOOTPRINT), hidden)
        self.movement = nn.Linear(7, hidden)
        self.register_buffer("usual", torch.tensor(USUAL_MOTION), persistent=False)
        self.context = nn.Linear(4 + commands, hidden)
        self.mix = nn.Sequential(
            nn.Linear(PLAN_STEPS * hidden, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, hidden), nn.ReLU()
        )
        self.imitation = nn.Linear(hidden, 1)
        for weight in self.imitation.parameters():
            nn.init.zeros_(weight)
        self.simulation = nn.Linear(hidden, len(SIMULATION_REWARDS))
        # Whom the box meets if all keep on: step by step, and, straight to the rewards, at any step.
        self.meeting = nn.Linear(len(REACHES), hidden, bias=False) if config.cells else None
        self.met = nn.Linear(len(REACHES), len(SIMULATION_REWARDS), bias=False) if config.cells else None

    def forward(
        self,
        world: WorldModel,
        trajectories: Tensor,
        futures: Tensor,
        expected: Tensor,
        prior: Tensor,
        motion: Tensor,
        command: Tensor,
        cells: MovingCells | None = None,
    ) -> PredictedRewards:
        """trajectories (B, M, 6, 2), their futures (B, M', F, S, C'), the plan that an expert is expected to
        make (B, 1, 6, 2), the planner's own logits `prior` (B, M), which imitation starts from, motion (B, 4)
        as `ego_status`, command (B,): what a good driver does depends on where he is to go, and the present's
        `cells`, if the configuration counts any. With M' < M each future is shared by M / M' trajectories in
        a row."""
        batch, count = trajectories.shape[:2]
        wanted = F.one_hot(command, self.commands).to(motion.dtype)
        context = self.context(torch.cat([motion / self.usual, wanted], dim=1)).repeat_interleave(count, 0)
        ways = trajectories.view(batch * futures.shape[1], -1, PLAN_STEPS, 2)
        departure = (trajectories - expected).flatten(0, 1)
        meeting = None if cells is None else met(trajectories, cells).flatten(0, 1)
        features = self.interaction(world, ways, futures.flatten(0, 1), departure, context, meeting)
        simulation = self.simulation(features)
        if meeting is not None and self.met is not None:
            simulation = simulation + self.met(meeting.amax(1))
        return PredictedRewards(
            prior + self.imitation(features)[:, 0].view(batch, count), simulation.view(batch, count, -1)
        )

    def interaction(
        self,
        world: WorldModel,
        ways: Tensor,
        future: Tensor,
        departure: Tensor,
        context: Tensor,
        meeting: Tensor | None = None,
    ) -> Tensor:
        """Eq. 9: the future world around each waypoint, and how the ego gets there. Of B' futures
        (B', F, S, C') and V ways in each (B', V, 6, 2), with their departure from the expected one
        (B'·V, 6, 2), context (B'·V, hidden) and whom they meet (B'·V, 6, R) -> (B'·V, hidden)."""
        heading = headings(ways)
        cosine, sine = torch.cos(heading)[..., None], torch.sin(heading)[..., None]
        ahead, left = self.footprint[:, 0], self.footprint[:, 1]
        around = torch.stack([cosine * ahead - sine * left, sine * ahead + cosine * left], dim=-1)
        points = (ways[..., None, :] + around).transpose(1, 2)  # (B', 6, V, A, 2)
        seen = world.sample(future, points.flatten(2, 3)).unflatten(2, points.shape[2:4])
        seen = seen.transpose(1, 2).flatten(0, 1).flatten(2)  # (B'·V, 6, A·C')
        way = ways.flatten(0, 1)
        steps = torch.diff(way, dim=1, prepend=torch.zeros_like(way[:, :1])) / 5.0
        moved = torch.cat(
            [way / 20.0, steps, departure / 5.0, heading.flatten(0, 1)[..., None]], dim=-1
        )  # fmt: skip
        steps_seen = self.place(seen) + self.movement(moved) + context[:, None]
        if meeting is not None and self.meeting is not None:
            steps_seen = steps_seen + self.meeting(meeting)
        return self.mix(F.relu(steps_seen).flatten(1))

    def final(
        self,
        rewards: PredictedRewards,
        reference: Tensor | None = None,
        simulation: Sequence[str] | None = None,
    ) -> Tensor:
        """Eq. 14 (B, M). Imitation is a share among all candidates, or among those whose imitation
        logits (B, M') are the `reference`; of the simulation rewards those named in `simulation` count, by
        default the configured ones."""
        total = torch.logsumexp(rewards.imitation if reference is None else reference, dim=1, keepdim=True)
        config = self.config
        if simulation is not None:
            config = config.model_copy(update={"simulation": simulation})
        return final_reward(config, rewards.imitation - total, rewards.simulation.sigmoid())


def final_reward(config: RewardConfig, log_imitation: Tensor, simulation: Tensor) -> Tensor:
    """Eq. 14 as WoTE has it, on (…) and (…, 5): w₁ log r_im + w₂ log NC + w₃ log DAC +
    w₄ log(5 TTC + 2 C + 5 EP). Rewards that the configuration leaves out do not count."""
    weights = config.weights
    used = dict(zip(SIMULATION_REWARDS, simulation.unbind(-1), strict=True))
    result = weights[0] * log_imitation if config.imitation else torch.zeros_like(log_imitation)
    for name, weight in (("nc", weights[1]), ("dac", weights[2])):
        if name in config.simulation:
            result = result + weight * used[name].clamp(min=LOG_FLOOR).log()
    parts = {"ttc": 5.0, "comfort": 2.0, "ep": 5.0}
    chosen = [factor * used[name] for name, factor in parts.items() if name in config.simulation]
    if chosen:
        result = result + weights[3] * torch.stack(chosen).sum(0).clamp(min=LOG_FLOOR).log()
    return result
