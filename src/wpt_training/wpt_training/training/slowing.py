"""Clips as if the ego came slower: who plans with care gets to where no driver has been so slow.

Demonstrations hardly ever crawl up to a turn, or stand where the way is free. Who learns from them alone
knows only that the slow stay slow and the straight stay straight, and crawls past its turn. Images stay
what they are; motion and future change. (Perturbed demonstrations: ChauffeurNet, arXiv 1812.03079, §5.1;
those of place and heading are the simulator's sway.)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from wpt_planner.plan_guard import PLAN_STEPS, PLAN_TIMES
from wpt_training.training.clips import Clips

CATCHES_UP = 1.5  # m/s², a comfortable start
_BETWEEN = float(PLAN_TIMES[0])  # s, from one step of a plan to the next
_TICKS = 5  # of the roll-out in it


def slow_down(clips: Clips, chance: float, generator: np.random.Generator) -> None:
    """Changes some clips for which `as_driven` then is False: in all their samples with a whole future, speed
    and yaw rate shrink to the same random share, and the future is what follows from that."""
    share = torch.from_numpy(generator.random(len(clips)).astype(np.float32))
    clips.as_driven &= torch.from_numpy(generator.random(len(clips)) >= chance)
    changed = ~clips.as_driven[:, None] & clips.future_valid.all(dim=2)  # (B, T)
    if not bool(changed.any()):
        return
    share = share[:, None].expand(changed.shape)[changed]
    clips.ego_motion[changed] *= torch.cat([torch.ones(len(share), 4), share[:, None].expand(-1, 3)], dim=1)
    clips.speed[changed] *= share
    clips.future[changed] = later(clips.future[changed], clips.speed[changed])


def later(future: Tensor, speed: Tensor) -> Tensor:
    """The same ways (B, 6, 2), begun at `speed` (B,) m/s: picking up by CATCHES_UP, at no place faster and
    at no time further than who drove them."""
    knots = torch.cat([torch.zeros_like(future[:, :1]), future], dim=1).double()
    pieces = (knots[:, 1:] - knots[:, :-1]).norm(dim=-1)
    ways = torch.cat([torch.zeros_like(pieces[:, :1]), pieces.cumsum(1)], dim=1)
    way, now = torch.zeros_like(ways[:, :1]), speed.double()[:, None]
    tick = _BETWEEN / _TICKS
    reached = []
    for step in range(PLAN_STEPS):
        for count in range(1, _TICKS + 1):
            on = torch.searchsorted(ways, way, right=True).clamp(max=PLAN_STEPS) - 1
            now = torch.minimum(now + CATCHES_UP * tick, pieces.gather(1, on) / _BETWEEN)
            driven = ways[:, step, None] + pieces[:, step, None] * count / _TICKS
            way = torch.minimum(way + now * tick, driven)
        on = torch.searchsorted(ways, way).clamp(1, PLAN_STEPS) - 1
        part = (way - ways.gather(1, on)) / pieces.gather(1, on).clamp(min=1e-6)
        start, end = (knots.gather(1, (on + k)[..., None].expand(-1, -1, 2)) for k in (0, 1))
        reached.append(start + part.clamp(0.0, 1.0)[..., None] * (end - start))
    return torch.cat(reached, dim=1).to(future.dtype)
