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
_STILL = 0.1  # m, from one step to the next


class RoadUsers:
    """Boxes `x, y, length, width, yaw, stands` in base_link by `Clips.number`, those nearest to the driver's
    way."""

    def __init__(self, packed: Sequence[PackedDrive]) -> None:
        tables = [_of_sample(drive, sample) for drive in packed for sample in range(len(drive))]
        self._table = torch.from_numpy(np.stack(tables))

    def at(self, number: Tensor, device: torch.device) -> Tensor:
        """Of the samples `number` (B,): (B, 6, NEAREST, 6); who is missing is far away."""
        return self._table[number.cpu()].to(device)


def _of_sample(drive: PackedDrive, sample: int) -> NDArray[np.float32]:
    table = np.zeros((PLAN_STEPS, NEAREST, 6), np.float32)
    table[..., :2] = _NOWHERE
    rows = drive.boxes[drive.box_starts[sample] : drive.box_starts[sample + 1]]
    at_steps = [rows[rows[:, 0] == step] for step in range(PLAN_STEPS)]
    for step, mine in enumerate(at_steps):
        distance = np.hypot(*(mine[:, 1:3] - drive.future[sample, step]).T)
        nearest = mine[np.argsort(distance, kind="stable")[:NEAREST]]
        table[step, : len(nearest), :5] = nearest[:, [1, 2, 4, 5, 7]]
        table[step, : len(nearest), 5] = _stand(nearest, at_steps[step + 1 if step == 0 else step - 1])
    return table


def _stand(rows: NDArray[np.float32], then: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of the boxes were where one is at a neighbouring step."""
    if not len(rows) or not len(then):
        return np.zeros(len(rows), bool)
    moved = np.linalg.norm(rows[:, None, 1:3] - then[None, :, 1:3], axis=-1)
    near: NDArray[np.bool_] = moved.min(axis=1) < _STILL
    return near
