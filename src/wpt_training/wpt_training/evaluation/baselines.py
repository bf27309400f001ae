"""Planners that see nothing: what a learned one must be compared with."""

from __future__ import annotations

import numpy as np

from wpt_planner.geometry import Array
from wpt_planner.plan_guard import PLAN_TIMES


def constant_velocity(speed: float) -> Array:
    """Straight on at the present speed (m/s): (6, 2) in base_link."""
    return np.stack([speed * PLAN_TIMES, np.zeros(len(PLAN_TIMES))], axis=1)
