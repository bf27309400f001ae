"""Plan queries over a BEV (Eq. 2) and the head that turns them into a trajectory (Eq. 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wpt_planner.plan_guard import PLAN_STEPS, PLAN_TIMES
from wpt_training.models.attention import Attention, feed_forward
from wpt_training.models.config import PlannerConfig

# What the ego's status is divided by: m/s, m/s², rad/s.
USUAL_MOTION = (10.0, 2.0, 0.3, 1.0)


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

    usual: Tensor

    def __init__(self, channels: int, cells: int, commands: int, config: PlannerConfig) -> None:
        super().__init__()
        self.count = config.queries
        self.queries = nn.Embedding(commands * config.queries, channels)
        self.position = nn.Parameter(torch.randn(cells, channels) * 0.02)
        self.register_buffer("usual", torch.tensor(USUAL_MOTION), persistent=False)
        self.motion = nn.Sequential(nn.Linear(4, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.layers = nn.ModuleList(PlanDecoderLayer(channels, config) for _ in range(config.layers))

    def forward(self, bev: Tensor, command: Tensor, motion: Tensor) -> Tensor:
        """bev (B, X·Y, C), command (B,), motion (B, 4) as `ego_status` -> plan queries (B, K, C)."""
        index = command[:, None] * self.count + torch.arange(self.count, device=command.device)
        queries = self.queries(index) + self.motion(motion / self.usual)[:, None]
        tokens = bev + self.position
        for layer in self.layers:
            queries = layer(queries, tokens)
        return queries


class PlanHead(nn.Module):
    """Eq. 3: an MLP from each plan query to a trajectory, as a change to driving straight on as fast as
    now. Its last layer starts at zero: an untrained head drives so."""

    times: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, 2 * PLAN_STEPS)
        )
        for weight in self.mlp[-1].parameters():
            nn.init.zeros_(weight)
        self.register_buffer("times", torch.tensor(PLAN_TIMES, dtype=torch.float32), persistent=False)

    def forward(self, queries: Tensor, motion: Tensor) -> Tensor:
        """queries (B, K, C), motion (B, 4) as `ego_status` -> trajectories (B, K, 6, 2) in metres."""
        return straight_on(motion, self.times)[:, None] + self.change(queries)

    def change(self, queries: Tensor) -> Tensor:
        """queries (B, K, C) -> how they depart from driving straight on (B, K, 6, 2)."""
        return self.mlp(queries).float().view(*queries.shape[:2], PLAN_STEPS, 2).cumsum(2)


def ego_status(ego_motion: Tensor, bev_valid: Tensor) -> Tensor:
    """ego_motion (B, 7), bev_valid (B,) -> (B, 4): speed (m/s), acceleration (m/s², since the last pass; 0
    without one), yaw rate (rad/s), whether there was a last pass."""
    seconds, then, now, yaw_rate = ego_motion[:, 3:].unbind(1)
    acceleration = (now - then) / seconds.clamp(min=0.05) * bev_valid
    return torch.stack([now, acceleration, yaw_rate, bev_valid], dim=1)


def straight_on(motion: Tensor, times: Tensor) -> Tensor:
    """Straight on at the present speed: motion (B, 4) as `ego_status`, times (P,) -> (B, P, 2)."""
    ahead = motion[:, :1] * times
    return torch.stack([ahead, torch.zeros_like(ahead)], dim=-1)
