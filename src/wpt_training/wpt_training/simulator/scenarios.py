"""The benchmark's routes: 44 scenario types of Bench2Drive, each route determined by its name.

`Accident-3` is a route of the benchmark, `train/Accident-3` one of another set: maps, traffic and
everything else are drawn from the hash of the name, so that sets share nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from highway_env.road.road import LaneIndex
from shapely import Polygon
from shapely.ops import unary_union

from wpt_planner.geometry import Array
from wpt_training.drives.frame import DriveError
from wpt_training.simulator.agents import (
    ADULT,
    CAR,
    CHILD,
    MOTORCYCLE,
    TRUCK,
    VAN,
    Actor,
    Driver,
    Kind,
    Thing,
)  # fmt: skip
from wpt_training.simulator.paths import Path
from wpt_training.simulator.road_map import MapBuilder, RoadMap, band
from wpt_training.simulator.traffic import Light, Signals, Traffic
from wpt_training.simulator.vehicle import FRONT_AHEAD

ROUTES_PER_TYPE = 5
BENCH = "bench220"
# O overtaking, M merging, E emergency brake, G give way, T traffic sign: Bench2Drive's groups.
ABILITIES = {
    "O": "Overtaking", "M": "Merging", "E": "Emergency Brake", "G": "Give Way", "T": "Traffic Sign",
}  # fmt: skip
_PAINTS = (
    (0.75, 0.1, 0.1), (0.12, 0.25, 0.6), (0.85, 0.85, 0.85), (0.15, 0.15, 0.17), (0.55, 0.57, 0.6),
    (0.9, 0.75, 0.2), (0.15, 0.4, 0.25), (0.5, 0.3, 0.15), (0.35, 0.55, 0.75), (0.6, 0.2, 0.45),
)  # fmt: skip


@dataclass(frozen=True)
class StopSign:
    """`stop` (2,) where the lane's line lies, `heading` of who must stop there."""

    stop: Array
    heading: float
    post: Array


@dataclass
class Scenario:
    """A route ready to be driven.

    `route` is the way to complete; `path` the same with the detours that good driving takes (only
    the expert sees it). `allowed` is where the ego may drive, `zone` (from, to m of the route) the
    scenario's stretch, which it must leave within `zone_seconds` of entering.
    """

    name: str
    type_name: str
    traffic: Traffic
    route: Path
    path: Path
    start: float
    end: float
    start_speed: float
    speed_limit: float
    allowed: Polygon
    zone: tuple[float, float]
    zone_seconds: float = 60.0
    stop_signs: list[StopSign] = field(default_factory=list)
    emergency: Actor | None = None
    slippery: tuple[float, float] | None = None

    @property
    def seed(self) -> int:
        return route_seed(self.name)

    @property
    def time_limit(self) -> float:
        """s after which the route has failed."""
        return 60.0 + (self.end - self.start) / 2.0


class Stage:
    """What a scenario is set up with: the map, the ego's route on it, and who else is there."""

    def __init__(
        self, name: str, type_name: str, builder: MapBuilder, generator: np.random.Generator
    ) -> None:
        self.name, self.type_name = name, type_name
        self.generator = generator
        self.builder = builder
        self.map: RoadMap = builder.build()
        self.traffic = Traffic(self.map, int(generator.integers(2**31)))
        self.width = builder.lane_width
        self.stop_signs: list[StopSign] = []
        self.emergency: Actor | None = None
        self.slippery: tuple[float, float] | None = None
        self._two_way: tuple[float, float] | None = None

    def take(self, lanes: list[LaneIndex], changes: list[tuple[float, float, float]] | None = None) -> None:
        """The ego's route: lanes one after the other, and lane changes as offsets from them."""
        pieces = [self.map.lane(index).path for index in lanes]
        self.lanes = lanes
        self.reference = Path.joined(pieces)
        self.route = self.reference.shifted(changes or []) if changes else self.reference
        self.path = self.route
        self.marks = np.concatenate([[0.0], np.cumsum([piece.length for piece in pieces])])

    def detour(self, changes: list[tuple[float, float, float]], two_way: bool = False) -> None:
        """Good driving leaves the route for an offset from it; `two_way` allows the oncoming lanes."""
        self.path = self.route.shifted(changes)
        if two_way:
            self._two_way = (changes[0][0] - 15.0, changes[-1][1] + 15.0)

    def scenario(
        self, start: float, end: float, speed: float | None = None, limit: float | None = None,
        zone: tuple[float, float] | None = None, zone_seconds: float = 60.0,
    ) -> Scenario:  # fmt: skip
        limit = limit or self.builder.speed_limit
        end = min(end, self.route.length - 3.0)
        ways = [self._direction(index) for index in self.lanes]
        ways.append(band(self.route, -self.width / 2 - 0.6, self.width / 2 + 0.6))
        if self._two_way:
            low, high = self._two_way
            zone_path = self.route.part(max(0.0, low), min(high, self.route.length))
            ways.append(band(zone_path, -6.0, 1.6 * self.width).intersection(self.map.asphalt))
        allowed = unary_union([way.buffer(0.05) for way in ways])
        at, heading = self.route.positions(np.array(start)), float(self.route.heading(start))
        self.traffic.ego.place(at, heading, 0.0)
        return Scenario(
            self.name, self.type_name, self.traffic, self.route, self.path, start, end,
            min(limit, 6.0) if speed is None else speed, limit, allowed, zone or (start, end),
            zone_seconds, self.stop_signs, self.emergency, self.slippery,
        )  # fmt: skip

    def _direction(self, index: LaneIndex) -> Polygon:
        """All lanes of a road that lead the same way."""
        lanes = self.map.network.graph[index[0]][index[1]]
        half = self.width / 2 + 0.4
        return unary_union([band(lane.path, -half, half) for lane in lanes])

    # Who is there

    def paint(self) -> tuple[float, float, float]:
        return _PAINTS[int(self.generator.integers(len(_PAINTS)))]

    def any_kind(self) -> Kind:
        kinds, shares = (CAR, VAN, TRUCK, MOTORCYCLE), (0.62, 0.18, 0.12, 0.08)
        return kinds[int(self.generator.choice(4, p=shares))]

    def driver(
        self, lane: LaneIndex, way: float, speed: float, kind: Kind | None = None,
        to: list[str] | None = None, changes_lane: bool = False,
    ) -> Driver:  # fmt: skip
        """`to`: the nodes to pass after this lane."""
        nodes = [lane[1], *(to or [])]
        route = [lane] + [(a, b, None) for a, b in itertools.pairwise(nodes)]
        agent = Driver(
            self.traffic.road, lane, way, speed, kind or self.any_kind(), self.traffic.name(), self.paint(),
            route, changes_lane,
        )  # fmt: skip
        self.traffic.add(agent)
        return agent

    def flow(
        self, lane: LaneIndex, speed: float, count: int, gap: tuple[float, float], first: float,
        to: list[str] | None = None, kind: Kind | None = None,
    ) -> list[Driver]:  # fmt: skip
        """Drivers one behind the other on a lane, the foremost at `first` m; those that would start
        before the lane does wait there until there is room."""
        way, drivers = first, []
        for _ in range(count):
            if way < 3.0:
                self._later(lane, speed, (first - way) / speed, to, kind)
            else:
                drivers.append(self.driver(lane, way, speed, kind or self.any_kind(), to))
            way -= float(self.generator.uniform(*gap))
        return drivers

    def _later(
        self, lane: LaneIndex, speed: float, delay: float, to: list[str] | None, kind: Kind | None
    ) -> None:
        waiting = [True]

        def enter(traffic: Traffic) -> None:
            there = self.map.lane(lane).position(4.0, 0.0)
            free = all(np.hypot(*(a.position - there)) > 14.0 for a in traffic.agents)
            if waiting and traffic.time >= delay - 3.0 and free:
                waiting.clear()
                self.driver(lane, 4.0, speed, kind, to)

        self.traffic.scripts.append(enter)

    def actor(self, path: Path, speed: float, kind: Kind, **how: object) -> Actor:
        paint = self.paint()
        agent = Actor(self.traffic.road, path, speed, kind, self.traffic.name(), paint, **how)  # type: ignore[arg-type]
        self.traffic.add(agent)
        return agent

    def person(self, path: Path, speed: float = 1.4, child: bool = False, **how: object) -> Actor:
        return self.actor(path, speed, CHILD if child else ADULT, **how)

    def thing(self, path: Path, way: float, offset: float, kind: Kind, turned: float = 0.0) -> Thing:
        heading = float(path.heading(way)) + turned
        at = path.positions(np.array(way), offset)
        agent = Thing(self.traffic.road, at, heading, kind, self.traffic.name(), self.paint())
        self.traffic.add(agent)
        return agent

    def pedestrians(self, path: Path, right: float, left: float, count: int = 5) -> None:
        """People on the pavements beside a road, walking along it."""
        for _ in range(count):
            offset = -right - 1.2 if self.generator.random() < 0.5 else left + 1.2
            way = float(self.generator.uniform(10, path.length - 10))
            along = path.beside(offset)
            along = along if self.generator.random() < 0.5 else along.reversed()
            self.person(along, float(self.generator.uniform(0.8, 1.6)), way=way, moving=True)

    # What happens

    def ego_way(self) -> float:
        return self.route.project(self.traffic.ego.position)[0]

    def when(self, way: float, action: Callable[[], object]) -> None:
        """Calls `action` once, when the ego has come `way` m along its route."""
        pending = [True]

        def script(traffic: Traffic) -> None:
            if pending and self.ego_way() >= way:
                pending.clear()
                action()

        self.traffic.scripts.append(script)

    def when_meeting(self, way: float, seconds: float, action: Callable[[], object]) -> None:
        """Calls `action` once, when the ego's front is `seconds` s away from `way` m at its speed, so
        that whoever needs as long to get there meets it, however fast it drives."""
        pending = [True]

        def script(traffic: Traffic) -> None:
            left = way - FRONT_AHEAD - self.ego_way()
            if pending and left <= max(traffic.ego.speed, 2.0) * seconds:
                pending.clear()
                action()

        self.traffic.scripts.append(script)

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Calls `action` once, `seconds` s after now."""
        due, pending = self.traffic.time + seconds, [True]

        def script(traffic: Traffic) -> None:
            if pending and traffic.time >= due:
                pending.clear()
                action()

        self.traffic.scripts.append(script)

    def signals(self, first: str, arms: str = "WENS", ego_axis: str = "WE") -> None:
        """Lights at crossroads, with their stop lines; the ego comes from an arm of `ego_axis`."""
        lights = []
        for arm in arms:
            lanes = self.map.network.graph[f"{arm}-"][f"{arm}-."]
            indices = tuple((f"{arm}-", f"{arm}-.", number) for number in range(len(lanes)))
            outer = lanes[-1]
            end = outer.length - 1.0
            lights.append(
                Light(
                    "ego" if arm in ego_axis else "cross", outer.position(end, 0.0), outer.heading_at(end),
                    outer.position(end + 1.5, -self.width / 2 - 1.2), indices,
                )
            )  # fmt: skip
        self.traffic.signals = Signals(lights, first, float(self.generator.uniform(2, 5)))

    def stop_sign(self, arm: str) -> None:
        lane = self.map.network.graph[f"{arm}-"][f"{arm}-."][-1]
        end = lane.length - 1.0
        self.stop_signs.append(
            StopSign(lane.position(end, 0.0), lane.heading_at(end), lane.position(end, -self.width / 2 - 1.2))
        )


Builder = Callable[[str, str, np.random.Generator, int], Scenario]
_REGISTRY: dict[str, tuple[str, Builder]] = {}


def scenario_type(name: str, abilities: str) -> Callable[[Builder], Builder]:
    """Registers what builds a type; `abilities` are letters of ABILITIES."""

    def register(builder: Builder) -> Builder:
        _REGISTRY[name] = (abilities, builder)
        return builder

    return register


def _types() -> dict[str, tuple[str, Builder]]:
    for family in ("street", "junction", "motorway"):
        importlib.import_module(f"wpt_training.simulator.{family}_scenarios")
    return _REGISTRY


def type_names() -> list[str]:
    return sorted(_types())


def abilities_of(type_name: str) -> list[str]:
    return [ABILITIES[letter] for letter in _types()[type_name][0]]


def route_seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")


def build_route(name: str) -> Scenario:
    """Sets up a route. Raises DriveError for a name that is none."""
    bare = name.rpartition("/")[2]
    type_name, _, number = bare.rpartition("-")
    if type_name not in _types() or not number.isdigit():
        raise DriveError(
            f"route {name}: unknown; routes are TYPE-NUMBER or SET/TYPE-NUMBER, e.g. Accident-0, with one "
            f"of the types {', '.join(type_names())}"
        )
    generator = np.random.default_rng(route_seed(name))
    return _types()[type_name][1](name, type_name, generator, int(number))


def route_names(selection: str) -> list[str]:
    """`bench220`; `bench44` (its first route of each type); `SET:COUNT`, e.g. `train:88`, routes of a
    set with the types in turn; or names with commas between. Raises DriveError."""
    if selection in (BENCH, "bench44"):
        count = ROUTES_PER_TYPE if selection == BENCH else 1
        return [f"{name}-{number}" for name in type_names() for number in range(count)]
    kind, _, count_text = selection.partition(":")
    if count_text:
        if not count_text.isdigit() or not kind.isidentifier():
            raise DriveError(f"routes {selection}: expected SET:COUNT, e.g. train:88")
        names = type_names()
        return [f"{kind}/{names[i % len(names)]}-{i // len(names)}" for i in range(int(count_text))]
    chosen = [name.strip() for name in selection.split(",") if name.strip()]
    for name in chosen:
        bare = name.rpartition("/")[2].rpartition("-")
        if bare[0] not in _types() or not bare[2].isdigit():
            build_route(name)
    return chosen
