"""Deformable sampling in plain PyTorch: the one primitive both attentions of BEVFormer need."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Leaves mixed precision for a while: a place in metres or pixels does not survive eight bits."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def sample_heads(values: Tensor, locations: Tensor, weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Weighted sums of bilinear samples, per head.

    values (B, h·w, C), rows in image order, `size` (h, w); locations (B, Q, heads, P, 2) in [-1, 1],
    x along w then y along h; weights (B, Q, heads, P). Outside the map samples are 0.
    Returns (B, Q, C).

    Equal to grid_sample (align_corners=False) followed by a weighted sum, but as one embedding bag:
    it reads whole rows of channels and never stores a single sample.
    """
    height, width = size
    # One type for both: the bag takes no other, and mixed precision gives several.
    values, weights = values.float(), weights.float()
    batch, cells, channels = values.shape
    queries, heads = locations.shape[1], locations.shape[2]
    # x and y apart: tensors with a last dimension of 2 or 4 are what makes this slow on a CPU.
    x_cells, x_shares = _neighbours((locations[..., 0] + 1) * (width / 2) - 0.5, width)
    y_cells, y_shares = _neighbours((locations[..., 1] + 1) * (height / 2) - 0.5, height)
    head = torch.arange(heads, device=values.device)[:, None]
    first = (torch.arange(batch, device=values.device) * cells)[:, None, None, None]
    rows, shares = [], []
    for y_cell, y_share in zip(y_cells, y_shares, strict=True):
        line = y_cell * width + first
        line_share = y_share * weights
        for x_cell, x_share in zip(x_cells, x_shares, strict=True):
            rows.append((line + x_cell) * heads + head)
            shares.append(line_share * x_share)
    row, share = torch.cat(rows, dim=-1), torch.cat(shares, dim=-1)
    bags = batch * queries * heads
    sums = F.embedding_bag(
        row.reshape(bags, -1),
        values.reshape(batch * cells * heads, channels // heads),
        per_sample_weights=share.reshape(bags, -1),
        mode="sum",
    )
    return sums.view(batch, queries, channels)


def _neighbours(position: Tensor, count: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two cells beside each position (in cells, centres at whole numbers) and their bilinear
    shares; a cell outside 0..count-1 is moved inside and given the share 0."""
    lower = position.floor()
    fraction = position - lower
    lower_share = (1 - fraction) * ((lower >= 0) & (lower < count))
    upper_share = fraction * ((lower >= -1) & (lower < count - 1))
    lower_cell = lower.clamp(0, count - 1).to(torch.int64)
    upper_cell = (lower + 1).clamp(0, count - 1).to(torch.int64)
    return (lower_cell, upper_cell), (lower_share, upper_share)
