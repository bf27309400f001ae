"""From a world state to what is where: occupancy per class and height, backward flow, drivable area."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from wpt_training.drives.occupancy import CLASSES
from wpt_training.models.config import WorldModelConfig


class WorldView(NamedTuple):
    """`occupancy` (B, classes, Z, X, Y) logits, `flow` (B, 2, X, Y) m/s, `drivable` (B, X, Y) logits,
    on the labels' cells."""

    occupancy: Tensor
    flow: Tensor
    drivable: Tensor


def whole_factor(upsample: float) -> int:
    """How many cells a side pixel shuffling makes of one: 1 where that is no whole number."""
    return int(upsample) if upsample == int(upsample) else 1


def on_label_cells(features: Tensor, out: nn.Module, shuffle: int, size: tuple[int, ...]) -> Tensor:
    """Features (B, C, x, y) through `out` to the labels' cells (B, C', X, Y) of `size`: by pixel shuffling
    (Shi et al. 2016), or by interpolation where `shuffle` is 1."""
    if shuffle == 1 and features.shape[-2:] != size:
        features = F.interpolate(features, size=size, mode="bilinear", align_corners=False)
    return F.pixel_shuffle(out(features), shuffle)


class OccupancyHead(nn.Module):
    """State tokens (B, x·y, C) to a WorldView on `config.upsample` times the BEV's cells."""

    def __init__(self, channels: int, tokens: tuple[int, int], merge: int, config: WorldModelConfig) -> None:
        super().__init__()
        self.tokens, self.merge = tokens, merge
        self.shuffle = whole_factor(config.upsample)
        self.size = tuple(round(count * merge * config.upsample) for count in tokens)
        self.cells_z = config.cells_z
        hidden = config.head_channels
        self.outputs = len(CLASSES) * config.cells_z + 3
        self.expand = nn.Linear(channels, hidden * merge * merge)
        self.smooth = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.out = nn.Conv2d(hidden, self.outputs * self.shuffle**2, 1)

    def forward(self, state: Tensor) -> WorldView:
        batch = state.shape[0]
        coarse = self.expand(state).transpose(1, 2).reshape(batch, -1, *self.tokens)
        fine = F.relu(self.smooth(F.relu(F.pixel_shuffle(coarse, self.merge))))
        values = on_label_cells(fine, self.out, self.shuffle, self.size)
        occupancy, flow, drivable = values.split([self.outputs - 3, 2, 1], dim=1)
        return WorldView(
            occupancy.reshape(batch, len(CLASSES), self.cells_z, *occupancy.shape[-2:]), flow, drivable[:, 0]
        )
