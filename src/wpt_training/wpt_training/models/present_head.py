"""What stands where now and how it moves, read off the remembered BEVs cell by cell.

A world state's tokens are several metres wide and made to foresee traffic: people and cycles, who cover
little and get on by less than a BEV cell from one BEV to the next, stand still in them.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from wpt_planner.policy_bundle import BevGrid
from wpt_training.drives.occupancy import CLASSES
from wpt_training.models.occupancy_head import on_label_cells, whole_factor


class Present(NamedTuple):
    """On the labels' cells: `occupied` (B, X, Y) from 0 to 1, at any height; backward `flow` (B, 2, X, Y)
    m/s: where what is there was before."""

    occupied: Tensor
    flow: Tensor


class PresentView(NamedTuple):
    """`classes` (B, classes, X, Y) logits of who stands on a cell, `flow` as of Present."""

    classes: Tensor
    flow: Tensor

    def present(self) -> Present:
        return Present(1.0 - self.classes.float().softmax(1)[:, 0], self.flow.float())


class PresentHead(nn.Module):
    """A memory queue of `count` BEVs, aligned, to a PresentView on `upsample` times their cells."""

    def __init__(self, grid: BevGrid, count: int, hidden: int, upsample: float) -> None:
        super().__init__()
        self.cells = (grid.cells_x, grid.cells_y)
        self.size = (round(grid.cells_x * upsample), round(grid.cells_y * upsample))
        self.shuffle = whole_factor(upsample)
        self.compare = nn.Conv2d(count * grid.channels, hidden, 3, padding=1)
        self.around = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.out = nn.Conv2d(hidden, (len(CLASSES) + 2) * self.shuffle**2, 1)

    def forward(self, queue: Tensor) -> PresentView:
        """queue (B, X·Y, queue·C) as `WorldModel.remember` gives it, newest first."""
        maps = queue.transpose(1, 2).unflatten(2, self.cells)
        found = F.relu(self.around(F.relu(self.compare(maps))))
        values = on_label_cells(found, self.out, self.shuffle, self.size)
        classes, flow = values.split([len(CLASSES), 2], dim=1)
        return PresentView(classes, flow)
