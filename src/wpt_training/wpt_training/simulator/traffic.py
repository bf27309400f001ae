"""Traffic that reacts: highway-env's road with lights, rules and actors; one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from highway_env.road.regulation import RegulatedRoad
from highway_env.road.road import LaneIndex
from highway_env.vehicle.kinematics import Vehicle

from wpt_planner.geometry import Array, wrap_angle
from wpt_training.drives.frame import Boxes
from wpt_training.simulator.agents import Actor, Driver, EgoBody, StopLine, Thing
from wpt_training.simulator.contact import touching
from wpt_training.simulator.road_map import RoadMap, next_lane

STEP = 0.1  # s between decisions; sensors run at the same rate
SUBSTEPS = 2  # of the vehicles' motion in each
GREEN, YELLOW, RED = "green", "yellow", "red"
_REACH = 70.0  # m within which drivers look for others


@dataclass
class Light:
    """Signal heads of one approach. `axis` says with whom it is green; `stop` (2,) and `heading`
    are of the stop line, `head` (2,) of the post; `lanes` end there."""

    axis: str
    stop: Array
    heading: float
    head: Array
    lanes: tuple[LaneIndex, ...]


@dataclass
class Signals:
    """Axis `ego` starts with `first`; red turns to green once the ego has waited `wait` s near its
    line. The other axis has the opposite."""

    lights: list[Light] = field(default_factory=list)
    first: str = GREEN
    wait: float = 3.0
    waited: float = 0.0
    clearing: float = -1.0  # s of yellow and all-red left before the ego's green; < 0: not yet

    def state(self, axis: str) -> str:
        if self.first == GREEN or self.clearing == 0.0:
            return GREEN if axis == "ego" else RED
        if self.clearing > 0.0:
            return RED if axis == "ego" or self.clearing < 1.5 else YELLOW
        return RED if axis == "ego" else GREEN

    def step(self, ego: Array, dt: float) -> None:
        if self.first == GREEN or self.clearing == 0.0:
            return
        if self.clearing > 0.0:
            self.clearing = max(0.0, self.clearing - dt)
            return
        near = any(np.hypot(*(light.stop - ego)) < 18.0 for light in self.lights if light.axis == "ego")
        self.waited += dt if near else 0.0
        if self.waited >= self.wait:
            self.clearing = 3.5


class TrafficRoad(RegulatedRoad):
    """Neighbours found for all vehicles of a lane at once; collisions are the episode's affair."""

    def __init__(self, road_map: RoadMap, seed: int) -> None:
        super().__init__(road_map.network, np_random=np.random.RandomState(seed))
        self.vehicles: list[Vehicle] = []
        self._found: dict[LaneIndex, tuple[Array, Array]] = {}

    def act(self) -> None:
        self._found.clear()
        super().act()

    def step(self, dt: float) -> None:
        self.steps += 1
        if self.steps % round(1 / dt / self.REGULATION_FREQUENCY) == 0:
            self.enforce_road_rules()
        for vehicle in self.vehicles:
            vehicle.step(dt)

    def enforce_road_rules(self) -> None:
        # Actors keep their own rules: highway-env arbitrates between drivers, and for the ego.
        everybody = self.vehicles
        self.vehicles = [v for v in everybody if isinstance(v, Driver | EgoBody)]
        super().enforce_road_rules()
        self.vehicles = everybody

    @staticmethod
    def is_conflict_possible(v1: Vehicle, v2: Vehicle, horizon: int = 3, step: float = 0.25) -> bool:
        if np.hypot(*(v1.position - v2.position)) > 45:
            return False
        # On one lane IDM keeps them apart; a rule would stop the one in front for ever.
        if v1.lane_index == v2.lane_index or v1.lane_index[:2] == v2.lane_index[:2]:
            return False
        times = np.arange(step, horizon, step)
        first, second = _future(v1, times), _future(v2, times)
        # As highway-env does: boxes half as long again, so that they see each other in time.
        halves = [(0.75 * v.LENGTH, 0.45 * v.WIDTH) for v in (v1, v2)]
        return bool(touching(first, halves[0], second, halves[1]).any())

    def neighbour_vehicles(
        self, vehicle: Vehicle, lane_index: LaneIndex | None = None
    ) -> tuple[Vehicle | None, Vehicle | None]:
        """Who is ahead and behind on a lane and the lanes that continue it along the route."""
        index = lane_index or vehicle.lane_index
        lane = self.network.get_lane(index)
        own = lane.path.project(vehicle.position)[0]
        everybody = self.vehicles + self.objects
        best_front, best_rear = (np.inf, None), (-np.inf, None)
        for lane_here, shift in self._continuation(vehicle, index):
            ways, offsets = self._on(lane_here, everybody)
            half = self.network.get_lane(lane_here).width / 2
            for other, way, offset in zip(everybody, ways, offsets, strict=True):
                if other is vehicle or abs(offset) > half + 0.3 * other.WIDTH:
                    continue
                length = self.network.get_lane(lane_here).length
                if not -2.0 <= way <= length + 2.0:
                    continue
                distance = way + shift - own
                if 0 <= distance < min(best_front[0], _REACH):
                    best_front = (distance, other)
                elif distance < 0 and shift == 0.0 and distance > best_rear[0]:
                    best_rear = (distance, other)
        return best_front[1], best_rear[1]

    def _continuation(self, vehicle: Vehicle, index: LaneIndex) -> list[tuple[LaneIndex, float]]:
        lanes, shift = [(index, 0.0)], 0.0
        route = list(getattr(vehicle, "route", None) or [])
        for _ in range(2):
            shift += self.network.get_lane(index).length
            following = self.network.graph.get(index[1])
            if not following:
                break
            planned = [step[1] for step in route if step[0] == index[1]]
            end = planned[0] if planned else next(iter(following))
            if end not in following:
                break
            index = next_lane(self.network, index, end)
            lanes.append((index, shift))
        return lanes

    def _on(self, index: LaneIndex, everybody: list[Vehicle]) -> tuple[Array, Array]:
        found = self._found.get(index)
        if found is None or len(found[0]) != len(everybody):
            path = self.network.get_lane(index).path
            places = [path.project(other.position) for other in everybody]
            found = np.array([p[0] for p in places]), np.array([p[1] for p in places])
            self._found[index] = found
        return found


def _future(vehicle: Vehicle, times: Array) -> Array:
    if isinstance(vehicle, Driver):
        return vehicle.future(times)
    direction = np.array([np.cos(vehicle.heading), np.sin(vehicle.heading)])
    points = vehicle.position + times[:, None] * vehicle.speed * direction
    return np.column_stack([points, np.full(len(times), vehicle.heading)])


Script = Callable[["Traffic"], None]


class Traffic:
    """Everybody but the ego's own dynamics. `scripts` are called before every step."""

    def __init__(self, road_map: RoadMap, seed: int) -> None:
        self.map = road_map
        self.generator = np.random.default_rng(seed)
        self.road = TrafficRoad(road_map, seed % 2**31)
        self.ego = EgoBody(self.road)
        self.road.vehicles.append(self.ego)
        self.signals = Signals()
        self.scripts: list[Script] = []
        self.time = 0.0
        self._closed: list[StopLine] = []
        self._count = 0

    @property
    def agents(self) -> list[Driver | Actor | Thing]:
        return [v for v in self.road.vehicles + self.road.objects if isinstance(v, Driver | Actor | Thing)]

    def name(self) -> str:
        self._count += 1
        return f"agent-{self._count}"

    def add(self, agent: Driver | Actor | Thing) -> Driver | Actor | Thing:
        (self.road.objects if isinstance(agent, Thing) else self.road.vehicles).append(agent)
        return agent

    def remove(self, agent: Driver | Actor | Thing) -> None:
        (self.road.objects if isinstance(agent, Thing) else self.road.vehicles).remove(agent)

    def step(self, ego_position: Array, ego_heading: float, ego_speed: float) -> None:
        """Moves everybody by STEP; the ego (its middle, map frame) is where it is told to be."""
        self.ego.place(ego_position, ego_heading, ego_speed)
        for script in self.scripts:
            script(self)
        self.signals.step(self.ego.position, STEP)
        self._show_lights()
        self.road.act()
        for _ in range(SUBSTEPS):
            self.road.step(STEP / SUBSTEPS)
        self.road.vehicles = [v for v in self.road.vehicles if not getattr(v, "finished", False)]
        self.time += STEP

    def _show_lights(self) -> None:
        for line in self._closed:
            self.road.objects.remove(line)
        self._closed = []
        for light in self.signals.lights:
            if self.signals.state(light.axis) != GREEN:
                for index in light.lanes:
                    lane = self.map.lane(index)
                    line = StopLine(
                        self.road, lane.position(lane.length - 1.0, 0.0), lane.heading_at(lane.length)
                    )
                    self._closed.append(line)
        self.road.objects += self._closed

    def boxes(self) -> Boxes:
        """Everybody but the ego, in the map frame, as they are now."""
        agents = self.agents
        if not agents:
            return Boxes.none()
        sizes = np.array([a.kind.size for a in agents])
        positions = np.array([a.position for a in agents])
        yaws = np.array([float(wrap_angle(np.array(a.heading))) for a in agents])
        speeds = np.array([a.speed for a in agents])
        return Boxes(
            np.column_stack([positions, sizes[:, 2] / 2]),
            sizes,
            yaws,
            speeds[:, None] * np.stack([np.cos(yaws), np.sin(yaws)], axis=1),
            tuple(a.kind.class_name for a in agents),
            tuple(a.track_id for a in agents),
        )
