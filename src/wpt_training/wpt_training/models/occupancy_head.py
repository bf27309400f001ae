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


class OccupancyHead(nn.Module):
    """State tokens (B, x·y, C) to a WorldView with `scale` cells a token and side, in two steps of
    pixel shuffling (Shi et al. 2016)."""

    def __init__(self, channels: int, tokens: tuple[int, int], merge: int, config: WorldModelConfig) -> None:
        super().__init__()
        self.tokens, self.merge, self.upsample = tokens, merge, config.upsample
        self.cells_z = config.cells_z
        hidden = config.head_channels
        self.outputs = len(CLASSES) * config.cells_z + 3
        self.expand = nn.Linear(channels, hidden * merge * merge)
        self.smooth = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.out = nn.Conv2d(hidden, self.outputs * config.upsample**2, 1)

    def forward(self, state: Tensor) -> WorldView:
        batch = state.shape[0]
        coarse = self.expand(state).transpose(1, 2).reshape(batch, -1, *self.tokens)
        fine = F.pixel_shuffle(coarse, self.merge)
        values = F.pixel_shuffle(self.out(F.relu(self.smooth(F.relu(fine)))), self.upsample)
        occupancy, flow, drivable = values.split([self.outputs - 3, 2, 1], dim=1)
        return WorldView(
            occupancy.reshape(batch, len(CLASSES), self.cells_z, *occupancy.shape[-2:]), flow, drivable[:, 0]
        )
