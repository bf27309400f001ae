"""BEVFormer's encoder (Li et al. 2022) without compiled extensions: what the cameras see, as seen from above.

Each BEV cell is a query. Temporal self-attention looks at the previous BEV, moved into the present
ego frame; spatial cross-attention looks at the image features around the cell's projected pillar.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from wpt_planner.policy_bundle import BevGrid
from wpt_training.models.config import BevEncoderConfig
from wpt_training.models.sampling import full_precision, sample_heads

MIN_DEPTH = 0.1  # m in front of the camera


def bev_cell_centers(grid: BevGrid) -> Tensor:
    """(X·Y, 2) x, y in metres of every cell's centre; cell (i, j) is row i·Y + j."""
    x = grid.x_min + (torch.arange(grid.cells_x) + 0.5) * grid.resolution
    y = grid.y_min + (torch.arange(grid.cells_y) + 0.5) * grid.resolution
    return torch.stack(torch.meshgrid(x, y, indexing="ij"), dim=-1).reshape(-1, 2)


def normalised_cells(points: Tensor, grid: BevGrid) -> Tensor:
    """Points (..., 2) in metres to grid_sample's [-1, 1] on a map laid out (C, X, Y): y first."""
    x = (points[..., 0] - grid.x_min) / (grid.cells_x * grid.resolution) * 2 - 1
    y = (points[..., 1] - grid.y_min) / (grid.cells_y * grid.resolution) * 2 - 1
    return torch.stack([y, x], dim=-1)


def sample_map(maps: Tensor, points: Tensor, grid: BevGrid) -> Tensor:
    """Maps (B, C, X', Y') of the area of `grid` at points (B, A, 2) m -> (B, A, C), bilinear; 0 outside."""
    with full_precision(maps.device):
        where = normalised_cells(points.float(), grid)[:, :, None]
        return F.grid_sample(maps.float(), where, align_corners=False)[..., 0].transpose(1, 2)


def project_pillars(
    points: Tensor, intrinsics: Tensor, ego_from_camera: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Ego points (Q, 3) into N cameras of `height` x `width` pixels.

    intrinsics (B, N, 3, 3), ego_from_camera (B, N, 4, 4). Returns locations (B, N, Q, 2) in [-1, 1]
    and whether each lies in the image, in front of the camera (B, N, Q).
    """
    rotation, translation = ego_from_camera[..., :3, :3], ego_from_camera[..., :3, 3]
    relative = points[None, None] - translation[:, :, None]
    in_camera = relative @ rotation  # rows times R is R^T applied to columns
    pixels = in_camera @ intrinsics.transpose(-1, -2)
    depth = in_camera[..., 2:]
    image_points = pixels[..., :2] / depth.clamp(min=MIN_DEPTH)
    size = torch.tensor([width, height], dtype=points.dtype, device=points.device)
    locations = (image_points + 0.5) / size * 2 - 1
    visible = (depth[..., 0] > MIN_DEPTH) & (locations.abs() < 1).all(-1)
    return locations.clamp(-2, 2), visible


class PillarViews(NamedTuple):
    """Where the cells' pillars appear: for each cell the V cameras that see it best.

    `camera` (B, V, Q) index; `locations` (B, V, Q, D, 2) in [-1, 1] of that camera's image;
    `visible` (B, V, Q, D).
    """

    camera: Tensor
    locations: Tensor
    visible: Tensor


def best_views(locations: Tensor, visible: Tensor, views: int) -> PillarViews:
    """Keeps per cell the `views` cameras that see most of its pillar: the fields of view of a rig
    hardly overlap, so sampling all N cameras would mostly sample nothing.

    locations (B, N, Q, D, 2), visible (B, N, Q, D).
    """
    # Ties (all D points seen by two cameras) go to the camera that sees them nearer its centre.
    centrality = 1 - locations.abs().amax(-1).mean(-1).clamp(max=1)
    score = visible.to(locations.dtype).sum(-1) + 0.5 * centrality
    camera = score.topk(views, dim=1).indices
    index = camera[..., None].expand(-1, -1, -1, locations.shape[3])
    return PillarViews(
        camera,
        locations.gather(1, index[..., None].expand(-1, -1, -1, -1, 2)),
        visible.gather(1, index),
    )


class SpatialCrossAttention(nn.Module):
    """Queries gather image features around their projected pillar points, over the cameras that see them."""

    def __init__(self, channels: int, heads: int, points: int, pillar: int, levels: int) -> None:
        super().__init__()
        self.heads, self.points, self.pillar, self.levels = heads, points, pillar, levels
        self.offsets = nn.Linear(channels, heads * pillar * levels * points * 2)
        self.weights = nn.Linear(channels, heads * pillar * levels * points)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        nn.init.zeros_(self.offsets.weight)
        nn.init.normal_(self.offsets.bias, std=1.0)  # cells of the feature map

    def forward(self, queries: Tensor, features: tuple[Tensor, ...], views: PillarViews) -> Tensor:
        """queries (B, Q, C), features (B, N, C, h, w) a level -> (B, Q, C)."""
        shape = (*queries.shape[:2], self.heads, self.pillar, self.levels, self.points)
        offsets = self.offsets(queries).view(*shape, 2)
        weights = self.weights(queries).view(*shape).flatten(3).softmax(-1).view(*shape)
        sampled = self._sampled(features[0], views, offsets[..., 0, :, :], weights[..., 0, :])
        for level in range(1, self.levels):
            sampled = sampled + self._sampled(
                features[level], views, offsets[..., level, :, :], weights[..., level, :]
            )
        hits = views.visible.any(-1).to(queries.dtype).sum(1).clamp(min=1)  # (B, Q)
        return self.output(sampled / hits[..., None])

    def _sampled(self, features: Tensor, views: PillarViews, offsets: Tensor, weights: Tensor) -> Tensor:
        """features (B, N, C, h, w), offsets (B, Q, heads, D, P, 2) in cells, weights (B, Q, heads, D, P)."""
        batch, cameras, channels, height, width = features.shape
        size = torch.tensor([width, height], dtype=offsets.dtype, device=offsets.device)
        # (B, V, Q, heads, D, P, 2)
        where = views.locations[:, :, :, None, :, None] + (offsets * (2 / size))[:, None]
        share = weights[:, None] * views.visible[:, :, :, None, :, None]
        # All cameras' maps stand below each other in one, so that one call samples any of them.
        tokens = features.flatten(3).transpose(2, 3).reshape(batch, -1, channels)
        atlas = self.value(tokens)
        inside = 1 - 1 / height
        row = (where[..., 1].clamp(-inside, inside) + 1) / 2
        row = (row + views.camera[..., None, None, None]) / cameras * 2 - 1
        where = torch.stack([where[..., 0], row], dim=-1)
        flat = (batch, offsets.shape[1], self.heads, -1)
        return sample_heads(
            atlas,
            where.permute(0, 2, 3, 1, 4, 5, 6).reshape(*flat, 2),
            share.permute(0, 2, 3, 1, 4, 5).reshape(flat),
            (cameras * height, width),
        )


class TemporalSelfAttention(nn.Module):
    """Queries gather from the moved previous BEV and from themselves."""

    def __init__(self, channels: int, heads: int, points: int) -> None:
        super().__init__()
        self.heads, self.points = heads, points
        self.offsets = nn.Linear(2 * channels, 2 * heads * points * 2)
        self.weights = nn.Linear(2 * channels, 2 * heads * points)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        nn.init.zeros_(self.offsets.weight)
        nn.init.normal_(self.offsets.bias, std=1.0)  # cells

    def forward(self, queries: Tensor, previous: Tensor, centers: Tensor, grid: BevGrid) -> Tensor:
        """queries, previous (B, Q, C), both in the present ego frame; centers (Q, 2) in [-1, 1]."""
        batch, count = queries.shape[:2]
        both = torch.cat([previous, queries], dim=-1)
        shape = (batch, count, 2, self.heads, self.points)
        size = torch.tensor([grid.cells_y, grid.cells_x], dtype=queries.dtype, device=queries.device)
        offsets = self.offsets(both).view(*shape, 2) * (2 / size)
        weights = self.weights(both).view(*shape).transpose(2, 3).flatten(3)
        weights = weights.softmax(-1).view(batch, count, self.heads, 2, self.points).transpose(2, 3)
        where = centers[None, :, None, None, None] + offsets
        result = torch.zeros_like(queries)
        for source, tokens in enumerate((previous, queries)):
            result = result + sample_heads(
                self.value(tokens),
                where[:, :, source],
                weights[:, :, source],
                (grid.cells_x, grid.cells_y),
            )
        return self.output(result)


class MotionFusion(nn.Module):
    """How the BEV differs from the previous one around each cell. Not in BEVFormer, whose temporal attention
    looks where a cell's query says, whatever is there: so few points find nobody who has moved on by two
    cells. The cells around reach 3 each way, which others cross in an interval of 0.5 s at 12 m/s, if they
    are of 2 m."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.compare = nn.Conv2d(2 * channels, hidden, 3, padding=2, dilation=2)
        self.output = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, queries: Tensor, previous: Tensor, grid: BevGrid) -> Tensor:
        """queries, previous (B, Q, C), both in the present ego frame -> (B, Q, C)."""
        both = torch.cat([queries, previous], dim=-1).transpose(1, 2)
        maps = both.unflatten(2, (grid.cells_x, grid.cells_y))
        moved: Tensor = self.output(F.relu(self.compare(maps)))
        return moved.flatten(2).transpose(1, 2)


class BevEncoderLayer(nn.Module):
    """Temporal self-attention, spatial cross-attention, feed-forward, the last one beside motion, if there
    is such; each added and normalised."""

    def __init__(self, channels: int, config: BevEncoderConfig, levels: int) -> None:
        super().__init__()
        self.temporal = TemporalSelfAttention(channels, config.heads, config.temporal_points)
        self.spatial = SpatialCrossAttention(
            channels, config.heads, config.points, len(config.heights), levels
        )
        self.feed_forward = nn.Sequential(
            nn.Linear(channels, config.feed_forward),
            nn.ReLU(),
            nn.Linear(config.feed_forward, channels),
        )
        self.motion = MotionFusion(channels, config.motion) if config.motion else None
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for _ in range(3))

    def forward(
        self,
        queries: Tensor,
        previous: Tensor,
        features: tuple[Tensor, ...],
        views: PillarViews,
        centers: Tensor,
        grid: BevGrid,
    ) -> Tensor:
        """queries, previous (B, Q, C), features (B, N, C, h, w) a level, centers (Q, 2) -> (B, Q, C)."""
        queries = self.norms[0](queries + self.temporal(queries, previous, centers, grid))
        queries = self.norms[1](queries + self.spatial(queries, features, views))
        change = self.feed_forward(queries)
        if self.motion is not None:
            change = change + self.motion(queries, previous, grid)
        return self.norms[2](queries + change)


class BevEncoder(nn.Module):
    """Image features of N cameras and the previous BEV to the BEV (B, X·Y, C)."""

    centers: Tensor
    pillars: Tensor

    def __init__(
        self, grid: BevGrid, config: BevEncoderConfig, levels: int = 1, recompute: bool = False
    ) -> None:
        super().__init__()
        self.grid, self.recompute = grid, recompute
        self.pillar, self.views = len(config.heights), config.views
        centers = bev_cell_centers(grid)
        heights = torch.tensor(config.heights)
        pillars = torch.cat(
            [
                centers[:, None].expand(-1, self.pillar, -1),
                heights[None, :, None].expand(len(centers), -1, -1),
            ],
            dim=-1,
        )
        self.register_buffer("centers", centers, persistent=False)
        self.register_buffer("pillars", pillars.reshape(-1, 3), persistent=False)
        self.queries = nn.Parameter(torch.randn(len(centers), grid.channels) * 0.02)
        self.layers = nn.ModuleList(
            BevEncoderLayer(grid.channels, config, levels) for _ in range(config.layers)
        )

    def forward(
        self,
        features: tuple[Tensor, ...],
        camera_valid: Tensor,
        intrinsics: Tensor,
        ego_from_camera: Tensor,
        image_size: tuple[int, int],
        ego_motion: Tensor,
        bev: Tensor,
        bev_valid: Tensor,
    ) -> Tensor:
        """features (B, N, C, h, w) a level, camera_valid (B, N), intrinsics (B, N, 3, 3) of images of
        `image_size` (height, width), ego_from_camera (B, N, 4, 4), ego_motion (B, 7),
        bev (B, X·Y, C) of the last pass, bev_valid (B,)."""
        batch, cameras = camera_valid.shape
        with full_precision(bev.device):
            locations, visible = project_pillars(
                self.pillars, intrinsics, ego_from_camera, image_size[0], image_size[1]
            )
        visible = visible & (camera_valid[..., None] > 0.5)
        views = best_views(
            locations.view(batch, cameras, -1, self.pillar, 2),
            visible.view(batch, cameras, -1, self.pillar),
            min(self.views, cameras),
        )
        queries = self.queries[None].expand(batch, -1, -1)
        previous = self.align(bev, ego_motion)
        # Without a past the queries look at themselves, as BEVFormer does on a first frame.
        previous = torch.where(bev_valid[:, None, None] > 0.5, previous, queries)
        centers = normalised_cells(self.centers, self.grid)
        for layer in self.layers:
            given = (queries, previous, features, views, centers, self.grid)
            if self.recompute and torch.is_grad_enabled():
                queries = checkpoint(layer, *given, use_reentrant=False)
            else:
                queries = layer(*given)
        return queries

    def align(self, bev: Tensor, ego_motion: Tensor) -> Tensor:
        """The last pass's BEV (B, X·Y, C), resampled at where the present cells lay then."""
        with full_precision(bev.device):
            cosine, sine = torch.cos(ego_motion[:, 2]), torch.sin(ego_motion[:, 2])
            rotation = torch.stack(
                [torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], dim=-2
            )
            then = self.centers[None] @ rotation.transpose(1, 2) + ego_motion[:, None, :2]
        where = normalised_cells(then, self.grid)[:, :, None, None]
        size = (self.grid.cells_x, self.grid.cells_y)
        return sample_heads(bev, where, torch.ones_like(where[..., 0]), size)
