"""The ego: a kinematic bicycle with actuator lag, and the tracker that makes it follow a plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wpt_planner.geometry import Array, planar_matrix
from wpt_planner.plan_guard import PLAN_STEPS, PLAN_TIMES

LENGTH, WIDTH, HEIGHT = 4.6, 1.9, 1.6  # m
WHEELBASE = 2.8
MIDDLE_AHEAD = 1.35  # m from base_link, the rear axle, to the middle of the box
FRONT_AHEAD = MIDDLE_AHEAD + LENGTH / 2
MAX_STEERING = 0.6  # rad
MAX_STEERING_RATE = 1.0  # rad/s
MAX_ACCELERATION, MAX_BRAKING = 3.0, 8.0  # m/s²
_ENGINE_LAG, _STEERING_LAG = 0.2, 0.1  # s, first order


@dataclass(frozen=True)
class VehicleState:
    """base_link in the map: `x`, `y` m, `yaw` rad; `speed` m/s, `acceleration` m/s², `steering` rad."""

    x: float
    y: float
    yaw: float
    speed: float
    acceleration: float = 0.0
    steering: float = 0.0

    @property
    def position(self) -> Array:
        return np.array([self.x, self.y])

    @property
    def middle(self) -> Array:
        return self.position + MIDDLE_AHEAD * np.array([np.cos(self.yaw), np.sin(self.yaw)])

    @property
    def yaw_rate(self) -> float:
        return self.speed * float(np.tan(self.steering)) / WHEELBASE

    @property
    def map_from_ego(self) -> Array:
        return planar_matrix(self.x, self.y, self.yaw)


@dataclass(frozen=True)
class Surface:
    """What the tyres meet: `grip` scales what the vehicle can do, `steering` rad disturbs it."""

    grip: float = 1.0
    steering: float = 0.0


DRY = Surface()


def advance(
    state: VehicleState, acceleration: float, steering: float, dt: float, surface: Surface = DRY
) -> VehicleState:
    """One step of the kinematic bicycle (rear axle) with lag and limits; never reverses."""
    wanted = np.clip(acceleration, -MAX_BRAKING * surface.grip, MAX_ACCELERATION * surface.grip)
    reached = state.acceleration + (wanted - state.acceleration) * (1 - np.exp(-dt / _ENGINE_LAG))
    turn = np.clip(steering + surface.steering, -MAX_STEERING, MAX_STEERING) - state.steering
    turn = turn * (1 - np.exp(-dt / _STEERING_LAG))
    turned = state.steering + float(np.clip(turn, -MAX_STEERING_RATE * dt, MAX_STEERING_RATE * dt))
    speed = max(0.0, state.speed + float(reached) * dt)
    if speed == 0.0:
        reached = max(reached, 0.0)
    middle = (state.speed + speed) / 2
    yaw_rate = middle * np.tan(turned) / WHEELBASE
    yaw = state.yaw + yaw_rate * dt
    heading = state.yaw + yaw_rate * dt / 2
    return VehicleState(
        state.x + middle * float(np.cos(heading)) * dt,
        state.y + middle * float(np.sin(heading)) * dt,
        float((yaw + np.pi) % (2 * np.pi) - np.pi),
        speed,
        float(reached),
        turned,
    )


class Tracker:
    """Pure pursuit for the steering, feed-forward and a proportional part for the speed."""

    def __init__(self) -> None:
        self._points = np.zeros((PLAN_STEPS + 1, 2))
        self._elapsed = 0.0

    def follow(self, plan: Array, state: VehicleState) -> None:
        """Takes a plan (6, 2) in base_link at `state`. Raises ValueError if it is not finite."""
        if plan.shape != (PLAN_STEPS, 2) or not np.isfinite(plan).all():
            raise ValueError(f"the plan is not {PLAN_STEPS} finite points: {np.asarray(plan).tolist()}")
        points = np.vstack([np.zeros(2), plan])
        cosine, sine = np.cos(state.yaw), np.sin(state.yaw)
        self._points = points @ np.array([[cosine, sine], [-sine, cosine]]) + state.position
        self._elapsed = 0.0

    def control(self, state: VehicleState, dt: float) -> tuple[float, float]:
        """Acceleration m/s² and steering rad for the next `dt` s."""
        steps = np.hypot(*np.diff(self._points, axis=0).T)
        spacing = PLAN_TIMES[0]
        speeds, middles = steps / spacing, PLAN_TIMES - spacing / 2
        slopes = np.diff(speeds) / spacing
        index = int(np.clip(self._elapsed / spacing, 0, len(slopes) - 1))
        wanted = speeds[index] + slopes[index] * (self._elapsed - middles[index])
        acceleration = float(slopes[index] + 1.5 * (max(wanted, 0.0) - state.speed))
        self._elapsed += dt
        return acceleration, self._pursue(state, steps)

    def _pursue(self, state: VehicleState, steps: Array) -> float:
        if steps.sum() < 0.4:
            return state.steering
        reach = float(np.clip(0.45 * state.speed + 2.0, 3.0, 10.0))
        # From the point of the plan nearest to the vehicle, `reach` m on.
        way = np.concatenate([[0.0], np.cumsum(steps)])
        dense = np.linspace(0.0, way[-1], 61)
        x, y = (np.interp(dense, way, self._points[:, axis]) for axis in (0, 1))
        nearest = dense[int(np.argmin((x - state.x) ** 2 + (y - state.y) ** 2))]
        target = nearest + reach
        point = np.array([np.interp(target, way, self._points[:, axis]) for axis in (0, 1)])
        if target > way[-1]:
            last = int(np.max(np.flatnonzero(steps > 0.05)))
            direction = (self._points[last + 1] - self._points[last]) / steps[last]
            point = self._points[-1] + (target - way[-1]) * direction
        dx, dy = point - state.position
        ahead = np.cos(state.yaw) * dx + np.sin(state.yaw) * dy
        left = np.cos(state.yaw) * dy - np.sin(state.yaw) * dx
        distance2 = max(ahead * ahead + left * left, 1e-3)
        return float(np.clip(np.arctan(2 * WHEELBASE * left / distance2), -MAX_STEERING, MAX_STEERING))
