"""The same way, braked: what a driver can always do, and candidates learned from good ones seldom hold."""

from __future__ import annotations

import torch
from torch import Tensor

from wpt_planner.plan_guard import PLAN_STEPS, PLAN_TIMES, STEP_SECONDS


def braked(ways: Tensor, rates: Tensor) -> Tensor:
    """Ways (…, 6, 2) m with their speed falling by the share `rates` (…) 1/s of it each second, until they
    stand: at 8 m/s a rate of 0.5 is 4 m/s², and stands after 2 s. A rate of 0 leaves them as they are."""
    times = torch.tensor(PLAN_TIMES, dtype=ways.dtype, device=ways.device)
    rates = rates[..., None]
    driven = torch.minimum(times, 1.0 / rates.clamp(min=1e-6))
    # How far along it in its own time, of steps.
    along = ((driven - rates * driven**2 / 2) / STEP_SECONDS).expand(*ways.shape[:-1])
    before = along.floor().clamp(0, PLAN_STEPS - 1)
    knots = torch.cat([torch.zeros_like(ways[..., :1, :]), ways], dim=-2)
    index = before.long()[..., None].expand(*ways.shape)
    start, end = knots.gather(-2, index), knots.gather(-2, index + 1)
    return start + (along - before)[..., None] * (end - start)
