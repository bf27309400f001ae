"""Who is around at the six steps of a plan: what softened NC learns from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wpt_planner.plan_guard import PLAN_STEPS
from wpt_training.training.store import PackedDrive

NEAREST = 16  # to where the driver went, of all who are there at a step
_NOWHERE = 1e4  # m


class RoadUsers:
    """Boxes `x, y, length, width, yaw` in base_link by `Clips.number`, those nearest to the driver's way."""

    def __init__(self, packed: Sequence[PackedDrive]) -> None:
        tables = [_of_sample(drive, sample) for drive in packed for sample in range(len(drive))]
        self._table = torch.from_numpy(np.stack(tables))

    def at(self, number: Tensor, device: torch.device) -> Tensor:
        """Of the samples `number` (B,): (B, 6, NEAREST, 5); who is missing is far away."""
        return self._table[number.cpu()].to(device)


def _of_sample(drive: PackedDrive, sample: int) -> NDArray[np.float32]:
    table = np.zeros((PLAN_STEPS, NEAREST, 5), np.float32)
    table[..., :2] = _NOWHERE
    rows = drive.boxes[drive.box_starts[sample] : drive.box_starts[sample + 1]]
    for step in range(PLAN_STEPS):
        mine = rows[rows[:, 0] == step]
        distance = np.hypot(*(mine[:, 1:3] - drive.future[sample, step]).T)
        nearest = mine[np.argsort(distance, kind="stable")[:NEAREST]]
        table[step, : len(nearest)] = nearest[:, [1, 2, 4, 5, 7]]
    return table
