"""Is this plan sane, and what is published when it is not?

In order: the policy's plan; the last accepted plan, re-timed; a soft stop. Never silence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wpt_planner.ego_motion import EgoState
from wpt_planner.geometry import Array, inverse, transform_points

STEP_SECONDS = 0.5
PLAN_STEPS = 6
PLAN_TIMES = STEP_SECONDS * np.arange(1, PLAN_STEPS + 1)

SOFT_STOP_DECELERATION = 1.0  # m/s²
SOFT_STOP_JERK = 1.0  # m/s³


@dataclass(frozen=True)
class GuardLimits:
    """Bounds a plan must keep. Wider than comfort: they catch nonsense, not bad taste."""

    start_distance: float = 2.0  # m between the first point and speed × time
    max_acceleration: float = 6.0  # m/s²
    max_deceleration: float = 9.0  # m/s²
    max_lateral_acceleration: float = 7.0  # m/s²
    max_curvature: float = 0.3  # 1/m
    max_reverse: float = 2.0  # m
    max_age: float = 0.5  # s from the reference time to the check
    hold: float = 1.0  # s for which an accepted plan may stand in for a refused one


@dataclass(frozen=True)
class GuardedPlan:
    """`trajectory` (6, 2) in base_link at the reference time; `reason` is empty if it is the policy's."""

    trajectory: Array
    reason: str

    @property
    def is_fallback(self) -> bool:
        return bool(self.reason)


def check_plan(trajectory: Array, speed: float, age: float, limits: GuardLimits) -> str | None:
    """Why a plan (6, 2) must not be driven, or None. `speed` m/s and `age` s at its reference time."""
    if trajectory.shape != (PLAN_STEPS, 2):
        return f"plan has shape {trajectory.shape}, expected ({PLAN_STEPS}, 2)"
    if not np.all(np.isfinite(trajectory)):
        return "plan holds a value that is not finite"
    if age > limits.max_age:
        return f"plan is {age:.2f} s old, limit {limits.max_age:g} s"
    expected = np.array([speed * STEP_SECONDS, 0.0])
    start = float(np.linalg.norm(trajectory[0] - expected))
    if start > limits.start_distance:
        return f"first point is {start:.1f} m from where the ego will be, limit {limits.start_distance:g} m"
    steps = np.diff(np.vstack([np.zeros(2), trajectory]), axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    backward = _reversed_distance(steps)
    if backward > limits.max_reverse:
        return f"plan reverses {backward:.1f} m, limit {limits.max_reverse:g} m"
    speeds = lengths / STEP_SECONDS
    changes = np.diff(speeds) / STEP_SECONDS
    if changes.max() > limits.max_acceleration:
        return f"acceleration {changes.max():.1f} m/s², limit {limits.max_acceleration:g}"
    if -changes.min() > limits.max_deceleration:
        return f"deceleration {-changes.min():.1f} m/s², limit {limits.max_deceleration:g}"
    return _check_turning(steps, lengths, limits)


def _reversed_distance(steps: Array) -> float:
    """Metres driven backward. A U-turn is none: the heading follows every step that is not
    against it."""
    heading, backward = np.array([1.0, 0.0]), 0.0
    for step in steps:
        along = float(step @ heading)
        length = float(np.hypot(*step))
        if along < 0:
            backward -= along
        elif length > 0.1:
            heading = step / length
    return backward


def _check_turning(steps: Array, lengths: Array, limits: GuardLimits) -> str | None:
    # Below this the heading of a step is the network's rounding, not a turn.
    moving = lengths > 0.5
    pairs = moving[1:] & moving[:-1]
    if not np.any(pairs):
        return None
    headings = np.arctan2(steps[:, 1], steps[:, 0])
    turns = np.abs((np.diff(headings) + np.pi) % (2 * np.pi) - np.pi)[pairs]
    distances = ((lengths[1:] + lengths[:-1]) / 2)[pairs]
    curvature = turns / distances
    if curvature.max() > limits.max_curvature:
        return f"curvature {curvature.max():.2f} 1/m, limit {limits.max_curvature:g}"
    lateral = curvature * (distances / STEP_SECONDS) ** 2
    if lateral.max() > limits.max_lateral_acceleration:
        return f"lateral acceleration {lateral.max():.1f} m/s², limit {limits.max_lateral_acceleration:g}"
    return None


def soft_stop(state: EgoState) -> Array:
    """Trajectory (6, 2): brake at 1 m/s², reached with bounded jerk, on the present curve."""
    resolution = 0.05
    count = round(PLAN_TIMES[-1] / resolution)
    speed, acceleration = max(0.0, state.speed), min(0.0, state.acceleration)
    acceleration = max(acceleration, -SOFT_STOP_DECELERATION)
    curvature = state.yaw_rate / speed if speed > 1.0 else 0.0
    distance, travelled = 0.0, np.zeros(count)
    for i in range(count):
        acceleration = max(-SOFT_STOP_DECELERATION, acceleration - SOFT_STOP_JERK * resolution)
        next_speed = max(0.0, speed + acceleration * resolution)
        distance += (speed + next_speed) / 2 * resolution
        speed = next_speed
        travelled[i] = distance
    at_steps = travelled[np.round(PLAN_TIMES / resolution).astype(int) - 1]
    if abs(curvature) < 1e-4:
        return np.stack([at_steps, np.zeros(PLAN_STEPS)], axis=1)
    angle = curvature * at_steps
    return np.stack([np.sin(angle), 1 - np.cos(angle)], axis=1) / curvature


class PlanGuard:
    """Remembers the last accepted plan, so that it can stand in for a refused one."""

    def __init__(self, limits: GuardLimits) -> None:
        self.limits = limits
        self._accepted: tuple[int, Array, Array] | None = None  # stamp, map_from_ego, trajectory

    def forget(self) -> None:
        """After a jump the old plan lies somewhere else."""
        self._accepted = None

    def accept_or_replace(self, stamp: int, trajectory: Array, state: EgoState, age: float) -> GuardedPlan:
        """The plan itself if it is sane, else a stand-in with the reason."""
        problem = check_plan(trajectory, state.speed, age, self.limits)
        if problem is None:
            self._accepted = (stamp, state.map_from_ego, trajectory)
            return GuardedPlan(trajectory, "")
        return self.fallback(stamp, state, problem)

    def fallback(self, stamp: int, state: EgoState, problem: str) -> GuardedPlan:
        """What to drive at `stamp` (ns) when the policy gives nothing usable: the last accepted plan while it
        is still one that may be driven, else a soft stop."""
        retimed = self._retimed(stamp, state)
        if retimed is not None and check_plan(retimed, state.speed, 0.0, self.limits) is None:
            return GuardedPlan(retimed, f"{problem}; the last accepted plan is held")
        return GuardedPlan(soft_stop(state), f"{problem}; soft stop")

    def _retimed(self, stamp: int, state: EgoState) -> Array | None:
        if self._accepted is None:
            return None
        accepted_stamp, map_from_then, trajectory = self._accepted
        elapsed = (stamp - accepted_stamp) / 1e9
        if not 0 <= elapsed <= self.limits.hold:
            return None
        knots = np.vstack([np.zeros(2), trajectory])
        times = np.concatenate([[0.0], PLAN_TIMES])
        last_velocity = (knots[-1] - knots[-2]) / STEP_SECONDS
        wanted = PLAN_TIMES + elapsed
        points = np.stack([np.interp(wanted, times, knots[:, axis]) for axis in (0, 1)], axis=1)
        points += np.maximum(0.0, wanted - times[-1])[:, None] * last_velocity
        now_from_then = inverse(state.map_from_ego) @ map_from_then
        lifted = np.column_stack([points, np.zeros(PLAN_STEPS)])
        return _standing_where_it_turns_back(transform_points(now_from_then, lifted)[:, :2])


def _standing_where_it_turns_back(trajectory: Array) -> Array:
    """The same, but whoever would reverse stands: a plan to stop hard often overshoots into that."""
    steps = np.diff(np.vstack([np.zeros(2), trajectory]), axis=0)
    for last in range(PLAN_STEPS):
        if _reversed_distance(steps[: last + 1]) > 0:
            kept = trajectory[last - 1] if last else np.zeros(2)
            return np.vstack([trajectory[:last], np.tile(kept, (PLAN_STEPS - last, 1))])
    return trajectory
