"""The ego-status MLP (AD-MLP, Zhai et al. 2023): how far one gets on nuScenes without looking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from wpt_planner.geometry import Array
from wpt_planner.plan_guard import PLAN_STEPS
from wpt_training.drives.frame import COMMANDS
from wpt_training.training.store import PackedDrive

_HIDDEN, _STEPS, _BATCH, _RATE = 64, 1500, 256, 3e-3


class EgoStatusPlanner:
    """Speed, acceleration, yaw rate and command to a plan, no cameras."""

    def __init__(self) -> None:
        inputs = 3 + len(COMMANDS)
        self.network = nn.Sequential(
            nn.Linear(inputs, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU(),
            nn.Linear(_HIDDEN, 2 * PLAN_STEPS),
        )  # fmt: skip

    @staticmethod
    def trained(drives: Sequence[PackedDrive], seed: int = 0) -> EgoStatusPlanner:
        """Fitted to the recorded futures of `drives`; same seed, same planner."""
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            planner = EgoStatusPlanner()
        inputs = torch.cat([_status(drive) for drive in drives])
        futures = torch.from_numpy(np.concatenate([drive.future for drive in drives])).flatten(1)
        valid = torch.from_numpy(np.concatenate([drive.future_valid for drive in drives]))
        weight = valid.float().repeat_interleave(2, dim=1)
        optimizer = torch.optim.Adam(planner.network.parameters(), _RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
        for _ in range(_STEPS):
            rows = torch.randint(len(inputs), (_BATCH,), generator=generator)
            error = (planner.network(inputs[rows]) - futures[rows]).abs() * weight[rows]
            loss = error.sum() / weight[rows].sum().clamp(min=1.0)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        return planner

    @torch.no_grad()
    def plans(self, drive: PackedDrive) -> Array:
        """(S, 6, 2) in base_link."""
        plans: Array = self.network(_status(drive)).view(-1, PLAN_STEPS, 2).double().numpy()
        return plans


def _status(drive: PackedDrive) -> Tensor:
    # The recorded acceleration is smoothed over what comes after; here only what lies behind counts.
    speed = drive.motion[:, 0]
    seconds = np.diff(drive.stamps, prepend=drive.stamps[0]) / 1e9
    follows = np.array([drive.follows(sample) for sample in range(len(drive))])
    acceleration = np.where(follows, np.diff(speed, prepend=speed[0]) / np.maximum(seconds, 0.05), 0.0)
    status = np.column_stack([speed, acceleration, drive.motion[:, 2]]).astype(np.float32)
    motion = torch.from_numpy(status) / torch.tensor([10.0, 2.0, 0.3])
    command = torch.nn.functional.one_hot(torch.from_numpy(drive.command), len(COMMANDS))
    return torch.cat([motion, command.float()], dim=1)
