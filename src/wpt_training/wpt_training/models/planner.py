"""Plan queries over a BEV (Eq. 2) and the head that turns them into a trajectory (Eq. 3).

Unlike the paper's, a query also looks along the plan it stands for, and makes it better.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wpt_planner.plan_guard import PLAN_STEPS, PLAN_TIMES
from wpt_planner.policy_bundle import BevGrid
from wpt_training.models.attention import Attention, feed_forward
from wpt_training.models.bev_encoder import sample_map
from wpt_training.models.config import PlannerConfig

# What the ego's status is divided by: m/s, m/s², rad/s.
USUAL_MOTION = (10.0, 2.0, 0.3, 1.0)
# Where a plan looks around each of its points: m forward, left.
AROUND = ((0, 0), (3, 0), (7, 0), (0, 3), (0, -3), (0, 6), (0, -6), (4, 4), (4, -4))
# Cells a side, at most, of the map that an overview is made of, and its channels.
OVERVIEW_SIDE, OVERVIEW_CHANNELS = 8, 32


class PlanOutput(NamedTuple):
    """`trajectory` (B, 6, 2) m; `bev` (B, X·Y, C), the next pass's input; `queries` (B, K, C); `drafts`
    (B, R, 6, 2) m, of which the trajectory was made."""

    trajectory: Tensor
    bev: Tensor
    queries: Tensor
    drafts: Tensor


class PlanQueries(NamedTuple):
    """`queries` (B, K, C), and the `drafts` (B, R, K, 6, 2) that were refined on the way to them."""

    queries: Tensor
    drafts: Tensor


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


class PlanRefinement(nn.Module):
    """A query drafts a plan, and reads the BEV around it."""

    around: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = PlanHead(channels)
        self.register_buffer("around", torch.tensor(AROUND, dtype=torch.float32), persistent=False)
        self.seen = nn.Sequential(
            nn.Linear(PLAN_STEPS * len(AROUND) * channels, 2 * channels),
            nn.ReLU(),
            nn.Linear(2 * channels, channels),
        )
        self.draft = nn.Linear(2 * PLAN_STEPS, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, queries: Tensor, maps: Tensor, motion: Tensor, grid: BevGrid) -> tuple[Tensor, Tensor]:
        """queries (B, K, C), maps (B, C, X, Y), motion (B, 4) as `ego_status` -> queries, and the draft
        (B, K, 6, 2) they had stood for. No gradient reaches the draft through what was seen along it."""
        draft = self.head(queries, motion)
        way = draft.detach()
        points = (way[..., None, :] + self.around).flatten(1, 3)  # (B, K·6·A, 2)
        seen = sample_map(maps, points, grid).reshape(*queries.shape[:2], -1)
        queries = self.norm(queries + self.seen(seen) + self.draft(way.flatten(2) / 20.0))
        return queries, draft


class Overview(nn.Module):
    """The whole BEV in one vector."""

    def __init__(self, grid: BevGrid) -> None:
        super().__init__()
        channels, x, y = grid.channels, grid.cells_x, grid.cells_y
        steps: list[nn.Module] = []
        while max(x, y) > OVERVIEW_SIDE:
            steps += [nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.ReLU()]
            x, y = (x + 1) // 2, (y + 1) // 2
        self.net = nn.Sequential(
            *steps,
            nn.Conv2d(channels, OVERVIEW_CHANNELS, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(OVERVIEW_CHANNELS * x * y, 2 * channels),
            nn.ReLU(),
            nn.Linear(2 * channels, channels),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, X, Y) -> (B, C)."""
        vector: Tensor = self.net(maps)
        return vector


class PlanDecoder(nn.Module):
    """Eq. 2: learned plan queries, chosen by the command and told the ego's motion, read the BEV: all of it,
    then what lies along their drafts."""

    usual: Tensor

    def __init__(self, grid: BevGrid, commands: int, config: PlannerConfig) -> None:
        super().__init__()
        channels = grid.channels
        self.grid, self.count = grid, config.queries
        self.queries = nn.Embedding(commands * config.queries, channels)
        self.position = nn.Parameter(torch.randn(grid.cells_x * grid.cells_y, channels) * 0.02)
        self.register_buffer("usual", torch.tensor(USUAL_MOTION), persistent=False)
        self.motion = nn.Sequential(nn.Linear(4, channels), nn.ReLU(), nn.Linear(channels, channels))
        self.overview = Overview(grid) if config.overview else None
        self.layers = nn.ModuleList(PlanDecoderLayer(channels, config) for _ in range(config.layers))
        self.refinements = nn.ModuleList(PlanRefinement(channels) for _ in range(config.refinements))

    def forward(
        self, bev: Tensor, command: Tensor, motion: Tensor, offset: Tensor | None = None
    ) -> PlanQueries:
        """bev (B, X·Y, C), command (B,), motion (B, 4) as `ego_status`; `offset` (K, C) is added to the
        learned queries."""
        index = command[:, None] * self.count + torch.arange(self.count, device=command.device)
        queries = self.queries(index) + self.motion(motion / self.usual)[:, None]
        if offset is not None:
            queries = queries + offset
        maps = bev.transpose(1, 2).unflatten(2, (self.grid.cells_x, self.grid.cells_y))
        if self.overview is not None or self.refinements:
            maps = maps.contiguous()  # once, for all who sample it
        if self.overview is not None:
            queries = queries + self.overview(maps)[:, None]
        tokens = bev + self.position
        for layer in self.layers:
            queries = layer(queries, tokens)
        drafts = []
        for refinement in self.refinements:
            queries, draft = refinement(queries, maps, motion, self.grid)
            drafts.append(draft)
        if not drafts:
            return PlanQueries(queries, motion.new_zeros(len(motion), 0, self.count, PLAN_STEPS, 2))
        return PlanQueries(queries, torch.stack(drafts, dim=1))


class Planner(nn.Module):
    """One trajectory on a BEV (Eq. 2-3)."""

    def __init__(self, grid: BevGrid, commands: int, config: PlannerConfig) -> None:
        super().__init__()
        self.plan_decoder = PlanDecoder(grid, commands, config)
        self.plan_head = PlanHead(grid.channels)

    def plan_on(self, bev: Tensor, ego_motion: Tensor, command: Tensor, bev_valid: Tensor) -> PlanOutput:
        """The plan on the present BEV (B, X·Y, C); the others as `wpt_planner.policy_bundle.POLICY_INPUTS`,
        with any batch size B."""
        motion = ego_status(ego_motion, bev_valid)
        queries, drafts = self.plan_decoder(bev, command, motion)  # Eq. 2
        trajectory = self.plan_head(queries, motion)[:, 0]  # Eq. 3
        return PlanOutput(trajectory, bev, queries, drafts[:, :, 0])


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
