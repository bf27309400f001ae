"""What a world model sees occupied now, carried on as each cell moves: who keeps on is met where and when?

Future states (Eq. 5) know that somebody will be around, on tokens of several metres. Whether a box passes
him by a metre is read off sharper from the present, as long as he keeps on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wpt_planner.plan_guard import PLAN_TIMES
from wpt_planner.policy_bundle import BevGrid
from wpt_training.models.bev_encoder import bev_cell_centers
from wpt_training.models.present_head import Present
from wpt_training.rewards import EGO_LENGTH, EGO_MIDDLE_AHEAD, EGO_WIDTH, headings

# How far around the ego's box somebody counts as met, and how much further ahead of it: m.
REACHES = ((0.0, 0.0), (0.7, 0.0), (0.0, 5.0))
_EDGE = 0.25  # m, over which the box ends: half a cell of the finest labels


class MovingCells(NamedTuple):
    """`position` (B, K, 2) m and `velocity` (B, K, 2) m/s in base_link, `occupied` (B, K) from 0 to 1."""

    position: Tensor
    velocity: Tensor
    occupied: Tensor


def moving_cells(present: Present, grid: BevGrid, count: int) -> MovingCells:
    """The `count` cells of the present that are the likeliest occupied."""
    every = present.occupied.flatten(1)  # (B, X·Y)
    occupied, index = every.topk(min(count, every.shape[1]), dim=1)
    chosen = index[..., None].expand(-1, -1, 2)
    position = bev_cell_centers(grid).to(occupied.device)[None].expand(len(index), -1, -1).gather(1, chosen)
    # Flow is backward: where what is there was before.
    velocity = -present.flow.flatten(2).transpose(1, 2).gather(1, chosen)
    return MovingCells(position, velocity, occupied)


def met(ways: Tensor, cells: MovingCells) -> Tensor:
    """How surely ways (B, M, 6, 2) meet a cell at each of their steps, within each of REACHES: (B, M, 6, R),
    from 0 to 1."""
    times = torch.tensor(PLAN_TIMES, dtype=torch.float32, device=ways.device)
    then = cells.position[:, None] + times[None, :, None, None] * cells.velocity[:, None]  # (B, 6, K, 2)
    heading = headings(ways)[..., None]
    cosine, sine = torch.cos(heading), torch.sin(heading)
    apart = then[:, None] - ways[..., None, :]  # (B, M, 6, K, 2)
    ahead = cosine * apart[..., 0] + sine * apart[..., 1] - EGO_MIDDLE_AHEAD
    aside = (cosine * apart[..., 1] - sine * apart[..., 0]).abs() - EGO_WIDTH / 2
    found = []
    for around, further in REACHES:
        along = (ahead - further / 2).abs() - (EGO_LENGTH + further) / 2
        inside = torch.sigmoid((around - torch.maximum(along, aside)) / _EDGE)
        found.append((inside * cells.occupied[:, None, None]).amax(-1))
    return torch.stack(found, dim=-1)
