"""The expert: sees the ground truth, and drives well.

It keeps to the scenario's own path (route and detours) and chooses how fast: constant accelerations
are rolled out along the path against everybody's future, and the one that gets furthest without
touching anyone, or a closed line, wins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wpt_planner.geometry import Array, transform_points
from wpt_planner.geometry import inverse as inverse_of
from wpt_planner.plan_guard import PLAN_TIMES
from wpt_training.simulator.agents import Actor, Driver, Thing
from wpt_training.simulator.contact import touching
from wpt_training.simulator.episode import Observation
from wpt_training.simulator.traffic import GREEN
from wpt_training.simulator.vehicle import FRONT_AHEAD, LENGTH, MIDDLE_AHEAD, WIDTH

_STEP = 0.25  # s
_HORIZON = 9.0
_TIMES = np.arange(_STEP, _HORIZON + 1e-6, _STEP)
ACCELERATIONS = np.array([-8.0, -6.0, -4.5, -3.0, -2.2, -1.5, -0.9, -0.4, 0.0, 0.6, 1.2, 1.9])
_LATERAL = 2.0  # m/s², how hard it takes bends
_BRAKING = 1.8  # m/s², how hard it brakes for them
_STAND_OFF = 1.2  # m before a line
_SIGHT = 80.0  # m


@dataclass(frozen=True)
class Outlook:
    """Where each of the K accelerations leads: `ways` (K, T) m of base_link along the path, from `way` and
    `offset` m beside it; where the ego `touches` (K, T) anybody, and where it is over a `closed` (K, T)
    line."""

    way: float
    offset: float
    ways: Array
    touches: NDArray[np.bool_]
    closed: NDArray[np.bool_]


class ExpertPolicy:
    """One instance per route."""

    name = "expert"
    needs_images = False

    def __init__(self) -> None:
        self._limits: Array | None = None
        self._stopped_at: set[int] = set()

    def plan(self, observation: Observation) -> Array:
        """(6, 2) in base_link."""
        outlook = self.look(observation)
        return self.follow(observation, outlook, self.choice(outlook, outlook.touches | outlook.closed))

    def look(self, observation: Observation) -> Outlook:
        """What would come of each of the ACCELERATIONS."""
        scenario, ego = observation.scenario, observation.ego
        path = scenario.path
        if self._limits is None:
            self._limits = speed_limits(
                path.curvature(np.arange(0.0, path.length + 40.0)), scenario.speed_limit
            )
        way, offset = path.project(ego.position)
        ways, speeds = self._rollouts(way, ego.speed)
        poses = self._poses(observation, way, offset, ways)
        touches = self._touches(observation, poses, speeds)
        closed = np.zeros_like(touches)
        line = self._closed_line(observation, way)
        if line is not None:
            over = ways + FRONT_AHEAD > line
            # Who cannot stop before it any more goes on.
            closed = over & (over.all(axis=1).sum() < len(ways))
        return Outlook(way, offset, ways, touches, closed)

    @staticmethod
    def follow(observation: Observation, outlook: Outlook, chosen: int) -> Array:
        """The plan (6, 2) in base_link of the acceleration number `chosen`."""
        path, way = observation.scenario.path, outlook.way
        at = np.concatenate([[way], outlook.ways[chosen]])
        wanted = np.interp(PLAN_TIMES, np.concatenate([[0.0], _TIMES]), at)
        points = path.positions(wanted, outlook.offset * np.exp(-(wanted - way) / 8.0))
        flat = np.column_stack([points, np.zeros(len(points))])
        return transform_points(inverse_of(observation.ego.map_from_ego), flat)[:, :2]

    def _rollouts(self, way: float, speed: float) -> tuple[Array, Array]:
        """Ways (K, T) of base_link along the path, and speeds, for each acceleration."""
        assert self._limits is not None
        now_way, now = np.full(len(ACCELERATIONS), way), np.full(len(ACCELERATIONS), speed)
        ways, speeds = [], []
        for _ in _TIMES:
            limit = self._limits[np.clip(now_way, 0, len(self._limits) - 1).astype(int)]
            faster = now + ACCELERATIONS * _STEP
            # Above the limit it brakes, but not harder than comfortable.
            capped = np.minimum(faster, np.maximum(limit, now - 3.0 * _STEP))
            following = np.maximum(0.0, capped)
            now_way = now_way + (now + following) / 2 * _STEP
            now = following
            ways.append(now_way)
            speeds.append(now)
        return np.stack(ways, axis=1), np.stack(speeds, axis=1)

    @staticmethod
    def _poses(observation: Observation, way: float, offset: float, ways: Array) -> Array:
        """(K, T, 3) of the box's middle."""
        path = observation.scenario.path
        points = path.positions(ways, offset * np.exp(-(ways - way) / 8.0))
        heading = path.heading(ways)
        ahead = MIDDLE_AHEAD * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
        return np.concatenate([points + ahead, heading[..., None]], axis=-1)

    def _touches(self, observation: Observation, poses: Array, speeds: Array) -> NDArray[np.bool_]:
        """(K, T) whether the ego, with room around it, touches anybody."""
        ego = observation.ego
        touched = np.zeros(poses.shape[:2], bool)
        cosine, sine = np.cos(poses[..., 2]), np.sin(poses[..., 2])
        for agent in observation.scenario.traffic.agents:
            relative = agent.position - ego.middle
            if np.hypot(*relative) > _SIGHT or self._follows_us(observation, agent, relative):
                continue
            future = agent.future(_TIMES)
            person = agent.kind.is_person
            side = 0.55 if person else 0.3
            if isinstance(agent, Thing):
                side = 0.2
            length, width = agent.kind.size[0] / 2 + 0.2, agent.kind.size[1] / 2 + side
            distance = np.hypot(poses[..., 0] - future[:, 0], poses[..., 1] - future[:, 1])
            near = distance < np.hypot(length, width) + np.hypot(LENGTH, WIDTH) / 2 + 4.0
            if not near.any():
                continue
            # Room ahead grows with speed; more of it behind somebody who goes our way and may brake.
            alike = abs((agent.heading - ego.yaw + np.pi) % (2 * np.pi) - np.pi) < 0.5
            room = 0.7 + (0.7 if alike and agent.speed > 1.0 else 0.25) * speeds
            # The ego's box, `room` m longer ahead.
            ahead = room[..., None] / 2 * np.stack([cosine, sine, np.zeros_like(sine)], axis=-1)
            own = (LENGTH / 2 + room / 2 + 0.1, WIDTH / 2 + 0.1)
            touched = touched | near & touching(poses + ahead, own, future, (length, width))
        return touched

    @staticmethod
    def _follows_us(observation: Observation, agent: Driver | Actor | Thing, relative: Array) -> bool:
        """Whoever is behind on our own lane keeps the distance himself."""
        ego = observation.ego
        ahead = np.cos(ego.yaw) * relative[0] + np.sin(ego.yaw) * relative[1]
        aside = np.cos(ego.yaw) * relative[1] - np.sin(ego.yaw) * relative[0]
        turned = abs((agent.heading - ego.yaw + np.pi) % (2 * np.pi) - np.pi)
        return bool(ahead < -1.0 and abs(aside) < 1.6 and turned < 0.7)

    def _closed_line(self, observation: Observation, way: float) -> float | None:
        """The nearest line ahead on the path that must not be crossed now."""
        front = way + FRONT_AHEAD
        lines = []
        for line in observation.light_lines:
            if observation.scenario.traffic.signals.state(line.axis) != GREEN and line.way > front - 0.5:
                lines.append(line.way)
        for number, sign_way in enumerate(observation.stop_ways):
            if number in self._stopped_at or sign_way < front - 0.5:
                continue
            if observation.ego.speed < 0.05 and sign_way - front < 3.0:
                self._stopped_at.add(number)
            else:
                lines.append(sign_way)
        return min(lines) - _STAND_OFF if lines else None

    @staticmethod
    def choice(outlook: Outlook, touched: NDArray[np.bool_]) -> int:
        """The furthest of those that are never `touched` (K, T), harsh ones at a cost; else the one that is
        touched last."""
        ways = outlook.ways
        free = ~touched.any(axis=1)
        if free.any():
            value = ways[:, -1] - 0.8 * np.maximum(0.0, -ACCELERATIONS - 2.0) ** 2
            return int(np.argmax(np.where(free, value, -np.inf)))
        first = np.where(touched.any(axis=1), touched.argmax(axis=1), touched.shape[1])
        return int(np.argmax(first - 1e-3 * np.arange(len(first))))


def speed_limits(curvature: Array, limit: float) -> Array:
    """m/s at every metre of a path, braking for bends in time."""
    # A bend is taken as sharp as the sharpest metre around.
    sharpest = np.abs(curvature)
    limits = np.minimum(limit, np.sqrt(_LATERAL / np.maximum(sharpest, 1e-4)))
    for i in range(len(limits) - 2, -1, -1):
        limits[i] = min(limits[i], np.sqrt(limits[i + 1] ** 2 + 2 * _BRAKING))
    return limits
