"""Plan queries over a BEV (Eq. 2) and the head that turns them into a trajectory (Eq. 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wpt_planner.plan_guard import PLAN_STEPS, PLAN_TIMES
from wpt_training.models.attention import Attention, feed_forward
from wpt_training.models.config import PlannerConfig

UNKNOWN_SPEED = 3.5  # m/s, a slow roll that a guard at standstill accepts too


class PlanDecoderLayer(nn.Module):
    """Cross-attention to the BEV tokens and a feed-forward, each added and normalised."""

    def __init__(self, channels: int, config: PlannerConfig, token_channels: int | None = None) -> None:
        super().__init__()
        self.attention = Attention(channels, config.heads, token_channels)
        self.feed_forward = feed_forward(channels, config.feed_forward)
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(2))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """queries (B, K, C), tokens (B, S, D) -> (B, K, C)."""
        queries = self.norms[0](queries + self.attention(queries, tokens))
        return self.norms[1](queries + self.feed_forward(queries))


class PlanDecoder(nn.Module):
    """Eq. 2: learned plan queries, chosen by the command and told the ego's motion, read the BEV."""

    def __init__(self, channels: int, cells: int, commands: int, config: PlannerConfig) -> None:
        super().__init__()
        self.count = config.queries
        self.queries = nn.Embedding(commands * config.queries, channels)
        self.position = nn.Parameter(torch.randn(cells, channels) * 0.02)
        self.motion = nn.Sequential(nn.Linear(4, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.layers = nn.ModuleList(PlanDecoderLayer(channels, config) for _ in range(config.layers))

    def forward(self, bev: Tensor, command: Tensor, motion: Tensor) -> Tensor:
        """bev (B, X·Y, C), command (B,), motion (B, 4) as `ego_velocity` -> plan queries (B, K, C)."""
        index = command[:, None] * self.count + torch.arange(self.count, device=command.device)
        queries = self.queries(index) + self.motion(motion)[:, None]
        tokens = bev + self.position
        for layer in self.layers:
            queries = layer(queries, tokens)
        return queries


class PlanHead(nn.Module):
    """Eq. 3: an MLP from each plan query to a trajectory, as a change to driving on as now.

    Its last layer starts at zero: an untrained head carries the ego's motion on. Where that is not
    known, on the first pass after a reset, a learned speed stands in.
    """

    times: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, 2 * PLAN_STEPS)
        )
        for weight in self.mlp[-1].parameters():
            nn.init.zeros_(weight)
        self.unknown_speed = nn.Parameter(torch.tensor(UNKNOWN_SPEED))
        self.register_buffer("times", torch.tensor(PLAN_TIMES, dtype=torch.float32), persistent=False)

    def forward(self, queries: Tensor, motion: Tensor) -> Tensor:
        """queries (B, K, C), motion (B, 4) as `ego_velocity` -> trajectories (B, K, 6, 2) in metres."""
        prior = torch.stack([self.unknown_speed, *[torch.zeros_like(self.unknown_speed)] * 3])
        motion = torch.where(motion[:, 3:] > 0.5, motion, prior)
        return carried_on(motion, self.times)[:, None] + self.change(queries)

    def change(self, queries: Tensor) -> Tensor:
        """queries (B, K, C) -> how they depart from carrying on (B, K, 6, 2)."""
        return self.mlp(queries).view(*queries.shape[:2], PLAN_STEPS, 2).cumsum(2)


def ego_velocity(ego_motion: Tensor, bev_valid: Tensor) -> Tensor:
    """ego_motion (B, 4), bev_valid (B,) -> (B, 4): vx, vy (m/s), yaw rate (rad/s), known (0 or 1)."""
    seconds = ego_motion[:, 3:].clamp(min=1e-3)
    velocity = ego_motion[:, :3] / seconds
    return torch.cat([velocity, torch.ones_like(seconds)], dim=-1) * bev_valid[:, None]


def carried_on(motion: Tensor, times: Tensor) -> Tensor:
    """Where constant speed and yaw rate lead: motion (B, 4) as `ego_velocity`, times (P,) -> (B, P, 2)."""
    speed = motion[:, :2].norm(dim=-1, keepdim=True) * torch.sign(motion[:, :1])
    angle = motion[:, 2:3] * times  # (B, P)
    # sinc(a/2) form: no division by a yaw rate of 0.
    chord = speed * times * torch.sinc(angle / (2 * torch.pi))
    return torch.stack([chord * torch.cos(angle / 2), chord * torch.sin(angle / 2)], dim=-1)
