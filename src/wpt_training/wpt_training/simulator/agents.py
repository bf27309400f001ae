"""Who is on the road: drivers (highway-env's IDM and MOBIL), actors on a path, things that stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from highway_env.road.road import LaneIndex, Road, Route
from highway_env.vehicle.behavior import IDMVehicle
from highway_env.vehicle.kinematics import Vehicle
from highway_env.vehicle.objects import RoadObject

from wpt_planner.geometry import Array
from wpt_training.simulator.paths import Path
from wpt_training.simulator.road_map import next_lane

BRAKE_LIGHT = -0.6  # m/s², from which on brake lights burn


@dataclass(frozen=True)
class Kind:
    """`class_name` as in nuScenes, `size` (length, width, height) m."""

    class_name: str
    size: tuple[float, float, float]

    @property
    def is_person(self) -> bool:
        return self.class_name.startswith("human.")

    @property
    def is_vehicle(self) -> bool:
        return self.class_name.startswith("vehicle.")


CAR = Kind("vehicle.car", (4.6, 1.9, 1.6))
VAN = Kind("vehicle.car", (5.2, 2.0, 2.1))
TRUCK = Kind("vehicle.truck", (8.5, 2.4, 3.2))
MOTORCYCLE = Kind("vehicle.motorcycle", (2.2, 0.8, 1.5))
CYCLIST = Kind("vehicle.bicycle", (1.8, 0.6, 1.7))
AMBULANCE = Kind("vehicle.emergency.ambulance", (5.6, 2.1, 2.5))
ADULT = Kind("human.pedestrian.adult", (0.6, 0.6, 1.75))
CHILD = Kind("human.pedestrian.child", (0.5, 0.5, 1.2))
CONE = Kind("movable_object.trafficcone", (0.4, 0.4, 0.8))
BARRIER = Kind("movable_object.barrier", (0.5, 2.0, 1.0))
DOOR = Kind("movable_object.barrier", (0.15, 1.0, 1.1))


class _Body:
    """What labels and cameras need of everybody."""

    kind: Kind
    track_id: str
    paint: tuple[float, float, float]
    braking: bool = False
    # highway-env's own, which it does not annotate.
    speed: float
    heading: float
    position: Array

    def _dress(self, kind: Kind, track_id: str, paint: tuple[float, float, float]) -> None:
        self.kind, self.track_id, self.paint = kind, track_id, paint
        self.LENGTH, self.WIDTH = kind.size[:2]
        self.diagonal = float(np.hypot(self.LENGTH, self.WIDTH))


class Driver(_Body, IDMVehicle):
    """Follows its lane by IDM, changes it by MOBIL if `changes_lane`."""

    COMFORT_ACC_MAX = 2.0
    COMFORT_ACC_MIN = -3.0
    TIME_WANTED = 1.2
    DISTANCE_WANTED = 2.0  # between bumpers: highway-env's is between middles

    def __init__(
        self, road: Road, lane: LaneIndex, way: float, speed: float, kind: Kind, track_id: str,
        paint: tuple[float, float, float], route: Route | None = None, changes_lane: bool = False,
    ) -> None:  # fmt: skip
        there = road.network.get_lane(lane)
        super().__init__(
            road, there.position(way, 0.0), there.heading_at(way), speed, target_lane_index=lane,
            target_speed=speed, route=list(route) if route else None, enable_lane_change=changes_lane,
            timer=0.1,
        )  # fmt: skip
        self.lane_index, self.lane = lane, there
        self.dressed_speed = speed
        self._dress(kind, track_id, paint)
        self.finished = False

    def desired_gap(self, ego_vehicle: Vehicle, front_vehicle: Vehicle, projected: bool = True) -> float:
        between = (ego_vehicle.LENGTH + front_vehicle.LENGTH) / 2
        return between + float(super().desired_gap(ego_vehicle, front_vehicle, projected))

    def on_state_update(self) -> None:
        """Looks for the own lane among the neighbours only: the whole map takes too long."""
        network = self.road.network
        lanes = [self.lane_index, *network.side_lanes(self.lane_index)]
        lanes += [
            (self.lane_index[1], end, number)
            for end, following in network.graph.get(self.lane_index[1], {}).items()
            for number in range(len(following))
        ]
        if self.target_lane_index not in lanes:
            lanes.append(self.target_lane_index)
        distances = [network.get_lane(i).distance_with_heading(self.position, self.heading) for i in lanes]
        # On a junction all lanes lie together: the one it means to follow wins a tie.
        distances = [d - (0.5 if i == self.target_lane_index else 0.0) for d, i in zip(distances, lanes)]
        self.lane_index = lanes[int(np.argmin(distances))]
        self.lane = network.get_lane(self.lane_index)
        at_end = self.lane.path.project(self.position)[0] > self.lane.length - 2.0
        self.finished = at_end and self.lane_index[1] not in network.graph

    def step(self, dt: float) -> None:
        super().step(dt)
        self.speed = max(0.0, self.speed)
        self.braking = self.action["acceleration"] < BRAKE_LIGHT

    def future(self, times: Array) -> Array:
        """(T, 3) x, y, yaw when it keeps its speed and its route; who waits may go on any time."""
        network = self.road.network
        index = self.target_lane_index
        lane = network.get_lane(index)
        way, offset = lane.path.project(self.position)
        wanted = way + self._distances(times)
        paths, length = [lane.path], lane.length
        route = [step for step in (self.route or []) if step[0] != index[0]]
        while length < wanted[-1] and index[1] in network.graph:
            if route and route[0][0] == index[1]:
                end = route.pop(0)[1]
            else:
                end = next(iter(network.graph[index[1]]))
            index = next_lane(network, index, end)
            paths.append(network.get_lane(index).path)
            length += paths[-1].length
        path = paths[0] if len(paths) == 1 else Path.joined(paths)
        fading = offset * np.exp(-times / 1.0)
        return np.column_stack([path.positions(wanted, fading), path.heading(wanted)])

    def _distances(self, times: Array) -> Array:
        wanted = self.lane.speed_limit if getattr(self, "is_yielding", False) else self.target_speed
        if self.speed > 2.0 or wanted <= self.speed or self._at_closed_line():
            return self.speed * times
        speeding_up = np.minimum(times, (wanted - self.speed) / self.COMFORT_ACC_MAX)
        gained: Array = self.COMFORT_ACC_MAX * (speeding_up * times - speeding_up**2 / 2)
        return self.speed * times + gained

    def _at_closed_line(self) -> bool:
        lines = [thing for thing in self.road.objects if isinstance(thing, StopLine)]
        direction = np.array([np.cos(self.heading), np.sin(self.heading)])
        return any(0.0 < float((line.position - self.position) @ direction) < 25.0 for line in lines)


class Actor(_Body, Vehicle):
    """Goes along a path once it is called: pedestrians, cyclists, those who break the rules.

    `holds`: (way m, s) where it waits. `follows`: keeps behind whoever is ahead on its path.
    """

    def __init__(
        self, road: Road, path: Path, speed: float, kind: Kind, track_id: str,
        paint: tuple[float, float, float], way: float = 0.0, moving: bool = False,
        acceleration: float = 2.0, holds: list[tuple[float, float]] | None = None,
        follows: bool = False, stays: bool = True,
    ) -> None:  # fmt: skip
        at, heading = path.positions(np.array(way)), float(path.heading(way))
        super().__init__(road, at, heading, speed if moving else 0.0)
        self._dress(kind, track_id, paint)
        self.path, self.way, self.target_speed = path, way, speed
        self.moving, self.acceleration = moving, acceleration
        self.holds = list(holds or [])
        self.follows, self.stays = follows, stays
        self.held = 0.0
        self.finished = False
        self.check_collisions = False

    def on_state_update(self) -> None:
        pass  # it has a path, no lane

    def go(self) -> None:
        self.moving = True

    def act(self, action: dict[str, float] | None = None) -> None:
        pass

    def step(self, dt: float) -> None:
        wanted = self._wanted_speed(dt)
        change = np.clip(wanted - self.speed, -6.0 * dt, self.acceleration * dt)
        if self.kind.is_person:
            change = wanted - self.speed
        self.braking = bool(change / dt < BRAKE_LIGHT)
        self.speed = max(0.0, self.speed + float(change))
        self.way += self.speed * dt
        if self.way >= self.path.length:
            self.way, self.speed, self.moving = self.path.length, 0.0, False
            self.finished = not self.stays
        self.position = self.path.positions(np.array(self.way))
        self.heading = float(self.path.heading(self.way))

    def _wanted_speed(self, dt: float) -> float:
        if not self.moving:
            return 0.0
        if self.holds and self.way >= self.holds[0][0] - 0.05:
            self.held += dt
            if self.held < self.holds[0][1]:
                return 0.0
            self.holds.pop(0)
            self.held = 0.0
        limit = self.target_speed
        if self.holds and not self.kind.is_person:
            limit = min(limit, float(np.sqrt(max(0.0, 2 * 3.0 * (self.holds[0][0] - self.way)))) + 0.1)
        if self.follows:
            limit = min(limit, self._speed_behind_others())
        return limit

    def _speed_behind_others(self) -> float:
        limit = self.target_speed
        for other in self.road.vehicles:
            if other is self or np.hypot(*(other.position - self.position)) > 40:
                continue
            way, offset = self.path.project(other.position)
            gap = way - self.way - (self.LENGTH + other.LENGTH) / 2 - 1.5
            if way > self.way and abs(offset) < (self.WIDTH + other.WIDTH) / 2 + 0.2:
                limit = min(limit, float(np.sqrt(max(0.0, 2 * 3.0 * gap))))
        return limit

    def future(self, times: Array) -> Array:
        """(T, 3) x, y, yaw along its path; held where it holds now."""
        if not self.moving:
            return np.tile([*self.position, self.heading], (len(times), 1))
        speed = self.speed if self.kind.is_vehicle and self.speed > 0.5 else self.target_speed
        if self.holds and self.way >= self.holds[0][0] - 0.1:
            times = np.maximum(0.0, times - (self.holds[0][1] - self.held))
        way = np.minimum(self.way + speed * times, self.path.length)
        return np.column_stack([self.path.positions(way), self.path.heading(way)])


class Thing(_Body, RoadObject):
    """Stands: parked or broken-down vehicles, cones, opened doors."""

    def __init__(
        self, road: Road, position: Array, heading: float, kind: Kind, track_id: str,
        paint: tuple[float, float, float],
    ) -> None:  # fmt: skip
        super().__init__(road, position, heading)
        self._dress(kind, track_id, paint)
        self.finished = False

    def future(self, times: Array) -> Array:
        return np.tile([*self.position, self.heading], (len(times), 1))


class StopLine(RoadObject):
    """What drivers see of a light that is not green: something standing on their lane."""

    LENGTH, WIDTH = 0.2, 2.0

    def __init__(self, road: Road, position: Array, heading: float) -> None:
        super().__init__(road, position, heading)
        self.collidable = False


class EgoBody(_Body, Vehicle):
    """The ego as the others see it; moved by the episode, not by highway-env."""

    def __init__(self, road: Road) -> None:
        super().__init__(road, np.zeros(2), 0.0, 0.0)
        self._dress(CAR, "ego", (0.9, 0.9, 0.9))
        self.target_speed = 0.0

    def act(self, action: dict[str, float] | None = None) -> None:
        pass

    def step(self, dt: float) -> None:
        pass

    def place(self, position: Array, heading: float, speed: float) -> None:
        self.position, self.heading, self.speed = np.asarray(position), heading, speed
        self.lane_index = self.road.network.get_closest_lane_index(self.position, self.heading)
        self.lane = self.road.network.get_lane(self.lane_index)
