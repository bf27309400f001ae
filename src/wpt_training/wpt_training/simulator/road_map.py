"""Maps of the simulated world: roads and junctions as lanes for traffic, layers for labels, paint
for the cameras."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from highway_env.road.road import LaneIndex, RoadNetwork
from shapely import LineString, Polygon
from shapely.ops import unary_union

from wpt_planner.geometry import Array
from wpt_training.drives.frame import MapGeometry
from wpt_training.simulator.paths import Path, PathLane

SHOULDER = 0.5  # m of asphalt beside the outer lanes
BAY = 2.6  # m, width of a row of parking bays
WALKWAY = 2.5  # m


@dataclass(frozen=True)
class Marking:
    """A painted line: `style` is "edge", "dashed" or "center"."""

    points: Array
    style: str


@dataclass(frozen=True)
class RoadMap:
    """`roads`: the reference path of each road by name; `asphalt` and `pavement` cover the ground."""

    network: RoadNetwork
    geometry: MapGeometry
    markings: tuple[Marking, ...]
    roads: dict[str, Path]
    asphalt: Polygon
    pavement: Polygon

    def lane(self, index: LaneIndex) -> PathLane:
        lane = self.network.get_lane(index)
        assert isinstance(lane, PathLane)
        return lane


def next_lane(network: RoadNetwork, index: LaneIndex, end: str) -> LaneIndex:
    """The lane towards node `end` that a lane leads into: the one that starts nearest to its end."""
    lanes = network.graph[index[1]][end]
    tip = network.get_lane(index).path.points[-1]
    distances = [float(np.hypot(*(lane.path.points[0] - tip))) for lane in lanes]
    return index[1], end, int(np.argmin(distances))


@dataclass
class _Road:
    path: Path
    forward: int
    backward: int
    bays: bool


@dataclass
class MapBuilder:
    """Roads first, then the junctions between their ends. Lanes of a road NAME go from node
    `NAME+` to `NAME+.` with its path, from `NAME-` to `NAME-.` against it; lane 0 is nearest to the
    middle, traffic keeps right."""

    speed_limit: float
    lane_width: float = 3.5
    network: RoadNetwork = field(default_factory=RoadNetwork)
    roads: dict[str, _Road] = field(default_factory=dict)
    markings: list[Marking] = field(default_factory=list)
    crossings: list[Array] = field(default_factory=list)
    stop_lines: list[Array] = field(default_factory=list)
    _surfaces: list[Polygon] = field(default_factory=list)
    _lanes: list[PathLane] = field(default_factory=list)

    def road(
        self,
        name: str,
        path: Path,
        forward: int = 1,
        backward: int = 1,
        bays: bool = False,
        priority: int = 0,
        speed_limit: float | None = None,
    ) -> None:
        """`path` is the line between the directions; with `bays` there are some on the right."""
        self.roads[name] = _Road(path, forward, backward, bays)
        width = self.lane_width
        for lane in range(forward):
            self._lane(f"{name}+", f"{name}+.", path.beside(-(lane + 0.5) * width), priority, speed_limit)
        for lane in range(backward):
            way = path.beside((lane + 0.5) * width).reversed()
            self._lane(f"{name}-", f"{name}-.", way, priority, speed_limit)
        right, left = forward * width + SHOULDER + (BAY if bays else 0.0), backward * width + SHOULDER
        self._surfaces.append(band(path, -right, left))
        for lane in range(1, forward):
            self.markings.append(Marking(path.beside(-lane * width).points, "dashed"))
        for lane in range(1, backward):
            self.markings.append(Marking(path.beside(lane * width).points, "dashed"))
        if forward and backward:
            self.markings.append(Marking(path.points, "center"))
        self.markings.append(Marking(path.beside(-forward * width).points, "dashed" if bays else "edge"))
        self.markings.append(Marking(path.beside(backward * width).points, "edge"))

    def _lane(
        self, start: str, end: str, path: Path, priority: int, speed_limit: float | None = None
    ) -> None:
        lane = PathLane(path, self.lane_width, speed_limit or self.speed_limit, priority)
        self._lanes.append(lane)
        self.network.add_lane(start, end, lane)

    def connect(self, start: LaneIndex, end: LaneIndex, priority: int = 0) -> None:
        """A lane from the end of one to the start of another."""
        before, after = self.network.get_lane(start), self.network.get_lane(end)
        path = Path.joining(
            before.path.points[-1], before.path.headings[-1], after.path.points[0], after.path.headings[0]
        )
        self._lane(start[1], end[0], path, priority, min(before.speed_limit, after.speed_limit))
        half = self.lane_width / 2 + SHOULDER
        self._surfaces.append(band(path, -half, half))

    def junction(self, ends: list[str], priority: tuple[str, ...] = ()) -> None:
        """Connects every road end that comes in to every other that goes out. An end is a road's
        name with the sign of the direction that arrives there: `W+`."""
        for coming in ends:
            for going in ends:
                if going == coming:
                    continue
                leave = f"{going[:-1]}{'-' if going[-1] == '+' else '+'}"
                self._connect_roads(coming, leave, 1 if coming in priority else 0)
        corners = [self._mouth(end) for end in ends]
        self._surfaces.append(Polygon(np.array(unary_union(
            [Polygon(c) for c in corners if len(c) > 2] or [LineString(np.vstack(corners))]
        ).convex_hull.exterior.coords)))  # fmt: skip

    def _connect_roads(self, coming: str, leaving: str, priority: int) -> None:
        graph = self.network.graph
        if coming not in graph or leaving not in graph:
            return
        before, after = graph[coming][f"{coming}."], graph[leaving][f"{leaving}."]
        turn = float((after[0].path.headings[0] - before[0].path.headings[-1] + np.pi) % (2 * np.pi) - np.pi)
        if abs(turn) < 0.6:
            pairs = [(i, min(i, len(after) - 1)) for i in range(len(before))]
        else:  # left turns from and to the innermost lane, right turns the outermost
            pairs = [(0, 0)] if turn > 0 else [(len(before) - 1, len(after) - 1)]
        # Who turns left gives way to who comes straight on.
        priority = 2 * priority + (0 if turn >= 0.6 else 1)
        for i, j in pairs:
            self.connect((coming, f"{coming}.", i), (leaving, f"{leaving}.", j), priority)

    def _mouth(self, end: str) -> Array:
        """Corners of a road's last metre."""
        name, arrives = end[:-1], end[-1] == "+"
        road = self.roads[name]
        path = road.path if arrives else road.path.reversed()
        right, left = (road.forward, road.backward) if arrives else (road.backward, road.forward)
        tip = path.part(path.length - 1.0, path.length)
        outline = band(tip, -(right * self.lane_width + SHOULDER), left * self.lane_width + SHOULDER)
        return np.array(outline.exterior.coords)[:-1]

    def crossing(self, road: str, way: float, width: float = 4.0) -> None:
        """A pedestrian crossing over a road, its middle at `way` m."""
        entry = self.roads[road]
        part = entry.path.part(way - width / 2, way + width / 2)
        right, left = entry.forward * self.lane_width, entry.backward * self.lane_width
        self.crossings.append(_outline(band(part, -right, left)))

    def stop_line(self, road: str, sign: str, way: float) -> None:
        """Across the lanes of one direction, `way` m along the road's path."""
        entry = self.roads[road]
        part = entry.path.part(way - 0.2, way + 0.2)
        width = self.lane_width
        low, high = (-entry.forward * width, 0.0) if sign == "+" else (0.0, entry.backward * width)
        self.stop_lines.append(_outline(band(part, low, high)))

    def build(self) -> RoadMap:
        # Widening and narrowing again rounds the corners between roads.
        asphalt = unary_union([s.buffer(0.05) for s in self._surfaces]).buffer(3.0).buffer(-3.0)
        if asphalt.geom_type == "MultiPolygon":
            asphalt = max(asphalt.geoms, key=lambda polygon: polygon.area)
        pavement = asphalt.buffer(WALKWAY)
        geometry = MapGeometry(
            drivable=(_outline(asphalt),),
            holes=tuple(np.array(ring.coords)[:-1] for ring in asphalt.interiors),
            dividers=tuple(marking.points for marking in self.markings if marking.style != "edge"),
            center_lines=tuple(lane.path.points for lane in self._lanes),
            crossings=tuple(self.crossings),
            walkways=(_outline(pavement),),
            stop_lines=tuple(self.stop_lines),
        )
        paths = {name: road.path for name, road in self.roads.items()}
        return RoadMap(self.network, geometry, tuple(self.markings), paths, asphalt, pavement)


def band(path: Path, right: float, left: float) -> Polygon:
    """The area between two parallels of a path, offsets to the left."""
    polygon = Polygon(np.vstack([path.beside(left).points, path.beside(right).points[::-1]]))
    return polygon if polygon.is_valid else polygon.buffer(0)


def _outline(polygon: Polygon) -> Array:
    if polygon.geom_type == "MultiPolygon":
        polygon = max(polygon.geoms, key=lambda part: part.area)
    return np.array(polygon.exterior.coords)[:-1]
