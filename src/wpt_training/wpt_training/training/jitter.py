"""Pose jitter: the ego set a little aside of the recorded way, and the expert's future led back to it.

A recording only shows drivers who are where they should be; in closed loop a planner is soon beside that,
and would not know what to do. Cf. the shifted views of Bojarski et al. 2016 (arXiv 1604.07316), here by
moving the BEV.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wpt_planner.plan_guard import PLAN_TIMES

YAW = 0.1  # rad for each metre aside
WHOLE_WAY = 10.0  # m driven in 3 s, below which the jitter is less: who stands cannot come back


def random_shifts(count: int, metres: float, generator: np.random.Generator) -> Tensor:
    """Poses (count, 3) of the shifted ego: x 0, y up to `metres`, yaw up to YAW times that; every second
    clip has none."""
    shifts = generator.uniform(-1.0, 1.0, (count, 2)) * [metres, YAW * metres]
    shifts *= generator.random((count, 1)) < 0.5
    return torch.from_numpy(np.column_stack([np.zeros(count), shifts])).float()


def damped(shift: Tensor, future: Tensor) -> Tensor:
    """Less of `shift` (B, 3) where the expert's future (B, 6, 2) does not go far."""
    driven = future.diff(dim=1, prepend=torch.zeros_like(future[:, :1])).norm(dim=-1).sum(1, keepdim=True)
    return shift * (driven / WHOLE_WAY).clamp(max=1.0)


def led_back(future: Tensor, shift: Tensor) -> Tensor:
    """The expert's future (B, 6, 2), seen from the shifted pose (B, 3): it starts there, and is the recorded
    one after 3 s."""
    cosine, sine = torch.cos(shift[:, 2]), torch.sin(shift[:, 2])
    ego_from_shifted = torch.stack(
        [torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], dim=-2
    )  # fmt: skip
    seen = (future - shift[:, None, :2]) @ ego_from_shifted
    start = -shift[:, None, :2] @ ego_from_shifted
    left = 1.0 - torch.tensor(PLAN_TIMES, dtype=future.dtype, device=future.device) / PLAN_TIMES[-1]
    return seen - start * left[:, None]
