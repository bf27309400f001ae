"""What the cameras see of a scenario: its ground, houses and trees, and everybody as they are now."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from shapely import Polygon

from wpt_planner.calibration import CameraCalibration
from wpt_planner.geometry import Array
from wpt_training.drives.frame import DriveError
from wpt_training.simulator.agents import Actor, Driver, Kind, Thing
from wpt_training.simulator.cameras import (
    BUILDING,
    EMERGENCY,
    PERSON,
    PLAIN,
    RIDER,
    SEMANTICS,
    SIGNAL,
    VEHICLE,
    Bodies,
    Ground,
    Rendering,
    Weather,
    render,
)  # fmt: skip
from wpt_training.simulator.paths import Path
from wpt_training.simulator.road_map import RoadMap
from wpt_training.simulator.scenarios import Scenario
from wpt_training.simulator.traffic import GREEN, YELLOW

RESOLUTION = 0.12  # m per cell of the ground's picture
MARGIN = 75.0  # m of ground around the route
Row = tuple[Array, Array, float, Array, int, int, float]  # center, size, yaw, color, kind, semantic, state


def weather_of(seed: int) -> Weather:
    """Daylight, tint, haze, noise drawn from a seed."""
    generator = np.random.default_rng(seed)
    warm = float(generator.uniform(-0.08, 0.08))
    return Weather(
        light=float(generator.uniform(0.7, 1.1)),
        tint=(1.0 + warm, 1.0, 1.0 - warm),
        sight=float(np.exp(generator.uniform(np.log(70), np.log(400)))),
        noise=float(generator.uniform(0.0, 0.02)),
        clouds=float(generator.uniform(0, 1)),
        seed=seed % 2**31,
    )


class Scene:
    """Made once for a scenario; `look` renders the present moment."""

    def __init__(
        self,
        scenario: Scenario,
        cameras: tuple[CameraCalibration, ...],
        weather: Weather | None = None,
        device: str = "cpu",
    ) -> None:
        sizes = {(camera.height, camera.width) for camera in cameras}
        if len(sizes) != 1:
            raise DriveError(f"simulated cameras must have one size, this rig has {sorted(sizes)}")
        self.scenario, self.cameras = scenario, cameras
        self.height, self.width = sizes.pop()
        self.device = torch.device(device)
        self.weather = weather or weather_of(scenario.seed)
        generator = np.random.default_rng(scenario.seed + 2)
        low, high = _extent(scenario)
        self.ground = paint_ground(scenario.traffic.map, low, high, generator).to(self.device)
        self._still = surroundings(scenario.traffic.map, low, high, generator) + _posts(scenario)
        self._intrinsics = torch.from_numpy(np.stack([c.intrinsics for c in cameras])).float().to(self.device)
        self._mounts = np.stack([camera.ego_from_camera for camera in cameras])
        self._step = 0
        self.track_ids: list[str] = []

    def look(self, map_from_ego: Array) -> Rendering:
        """All cameras of the rig at this moment; `track_ids` then names the first bodies of the
        instance image."""
        agents = self.scenario.traffic.agents
        self.track_ids = [agent.track_id for agent in agents]
        bodies = _bodies([_agent_row(a) for a in agents] + self._still + _signal_rows(self.scenario))
        poses = torch.from_numpy(map_from_ego @ self._mounts).float().to(self.device)
        self._step += 1
        weather = Weather(**{**vars(self.weather), "seed": (self.weather.seed + self._step) % 2**31})
        return render(
            self.ground, bodies.to(self.device), self._intrinsics, poses, self.height, self.width, weather
        )


def _extent(scenario: Scenario) -> tuple[Array, Array]:
    points = scenario.route.part(scenario.start, scenario.end).points
    return points.min(axis=0) - MARGIN, points.max(axis=0) + MARGIN


def paint_ground(road_map: RoadMap, low: Array, high: Array, generator: np.random.Generator) -> Ground:
    """Grass, pavement, asphalt, crossings, stop lines and lane markings between two corners."""
    size = np.ceil((high - low) / RESOLUTION).astype(int)
    picture = np.empty((size[0], size[1], 3), np.float32)
    semantic = np.full((size[0], size[1]), SEMANTICS.index("terrain"), np.uint8)
    green = generator.uniform(0.85, 1.1)
    picture[:] = np.array([0.33, 0.45, 0.24]) * green

    def fill(outline: Array, color: tuple[float, float, float], name: str) -> None:
        cells = np.round((outline - low)[:, ::-1] / RESOLUTION * 16).astype(np.int32)
        cv2.fillPoly(picture, [cells], color, lineType=cv2.LINE_AA, shift=4)
        cv2.fillPoly(semantic, [cells], (SEMANTICS.index(name),), shift=4)

    grey = float(generator.uniform(0.24, 0.34))
    for polygon, color, name in (
        (road_map.pavement, (0.62, 0.60, 0.57), "pavement"),
        (road_map.asphalt, (grey, grey, grey + 0.02), "road"),
    ):
        fill(np.array(polygon.exterior.coords), color, name)
        inner = (0.33 * green, 0.45 * green, 0.24 * green)
        for ring in polygon.interiors:
            fill(np.array(ring.coords), inner, "terrain")
    # Grain, so that the road's texture moves with it; coarse and fine.
    for scale, strength in ((40, 0.05), (8, 0.05), (2, 0.04)):
        noise = generator.normal(0, strength, (size[0] // scale + 1, size[1] // scale + 1))
        picture *= 1 + cv2.resize(noise.astype(np.float32), (int(size[1]), int(size[0])))[..., None]
    for crossing in road_map.geometry.crossings:
        for stripe in _stripes(crossing):
            fill(stripe, (0.88, 0.88, 0.88), "marking")
    for line in road_map.geometry.stop_lines:
        fill(line, (0.88, 0.88, 0.88), "marking")
    for marking in road_map.markings:
        _stroke(picture, semantic, marking.points, marking.style, low)
    return Ground(
        torch.from_numpy(picture.clip(0, 1)).permute(2, 0, 1).contiguous(),
        torch.from_numpy(semantic),
        float(low[0]),
        float(low[1]),
        RESOLUTION,
    )


def _stripes(crossing: Array) -> list[Array]:
    """A crossing's outline as stripes along the road, half a metre painted, half not."""
    corners = np.array(Polygon(crossing).minimum_rotated_rectangle.exterior.coords)[:4]
    sides = corners[1] - corners[0], corners[3] - corners[0]
    # The longer side leads across the road.
    across, along = sides if np.hypot(*sides[0]) > np.hypot(*sides[1]) else sides[::-1]
    count = max(1, round(float(np.hypot(*across))))
    step = across / count
    return [
        corners[0] + step * i + np.stack([np.zeros(2), step * 0.5, step * 0.5 + along, along])
        for i in range(count)
    ]


def _stroke(
    picture: NDArray[np.float32], semantic: NDArray[np.uint8], points: Array, style: str, low: Array
) -> None:
    path = Path(points).resampled(0.5)
    cells = np.round((path.points - low)[:, ::-1] / RESOLUTION * 16).astype(np.int32)
    # 3 m painted, 6 m not.
    pieces = [cells[i : i + 7] for i in range(0, len(cells), 18)] if style == "dashed" else [cells]
    color = (0.85, 0.72, 0.25) if style == "center" else (0.9, 0.9, 0.9)
    cv2.polylines(picture, pieces, False, color, 2, cv2.LINE_AA, shift=4)
    cv2.polylines(semantic, pieces, False, (SEMANTICS.index("marking"),), 2, shift=4)


def surroundings(road_map: RoadMap, low: Array, high: Array, generator: np.random.Generator) -> list[Row]:
    """Houses and trees along all roads, clear of the pavement."""
    rows: list[Row] = []
    clear = road_map.pavement.buffer(1.0)
    for path in road_map.roads.values():
        for side in (-1, 1):
            way = float(generator.uniform(0, 10))
            while way < path.length:
                house = generator.uniform([10, 8, 5], [22, 14, 16])
                gap = generator.uniform(2, 16)
                shade = generator.uniform(0.45, 0.8) * np.array(
                    [1.0, generator.uniform(0.85, 1), generator.uniform(0.7, 1)]
                )
                place = _beside(path, way + house[0] / 2, side, house[:2], clear, 2.0)
                if place is not None and (low < place[0]).all() and (place[0] < high).all():
                    center = np.array([*place[0], house[2] / 2])
                    rows.append((center, house, place[1], shade, BUILDING, SEMANTICS.index("building"), 0.0))
                leaf = np.array([0.16, generator.uniform(0.3, 0.42), 0.14])
                place = _beside(path, way, side, np.array([1.5, 1.5]), clear, 0.0)
                if place is not None and (low < place[0]).all() and (place[0] < high).all():
                    rows += _tree(place[0], place[1], leaf)
                way += house[0] + gap
    return rows


def _beside(
    path: Path, way: float, side: int, size: Array, clear: Polygon, gap: float
) -> tuple[Array, float] | None:
    """Where a footprint stands beside a road without touching the pavement of any, if anywhere near."""
    for offset in np.arange(6.0, 30.0, 2.0):
        center = path.positions(np.array(way), side * (offset + size[1] / 2 + gap))
        heading = float(path.heading(way))
        cosine, sine = np.cos(heading), np.sin(heading)
        half = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * (size / 2 + gap)
        outline = half @ np.array([[cosine, sine], [-sine, cosine]]) + center
        if not clear.intersects(Polygon(outline)):
            return center, heading
    return None


def _tree(at: Array, yaw: float, leaf: Array) -> list[Row]:
    crown = (np.array([*at, 3.8]), np.array([2.6, 2.6, 3.0]), yaw + 0.5, leaf, PLAIN,
             SEMANTICS.index("vegetation"), 0.0)  # fmt: skip
    trunk = (np.array([*at, 1.2]), np.array([0.4, 0.4, 2.4]), yaw, np.array([0.35, 0.25, 0.18]), PLAIN,
             SEMANTICS.index("vegetation"), 0.0)  # fmt: skip
    return [crown, trunk]


def _posts(scenario: Scenario) -> list[Row]:
    """Posts of lights and signs, and the signs' red plates."""
    rows: list[Row] = []
    grey, post = np.array([0.4, 0.4, 0.42]), SEMANTICS.index("post")
    for light in scenario.traffic.signals.lights:
        rows.append((np.array([*light.head, 1.5]), np.array([0.15, 0.15, 3.0]), 0.0, grey, PLAIN, post, 0.0))
    for sign in scenario.stop_signs:
        rows.append((np.array([*sign.post, 1.0]), np.array([0.1, 0.1, 2.0]), 0.0, grey, PLAIN, post, 0.0))
        plate = np.array([*sign.post, 2.4])
        red = np.array([0.85, 0.05, 0.08])
        rows.append(
            (plate, np.array([0.08, 0.8, 0.8]), sign.heading, red, PLAIN, SEMANTICS.index("signal"), 0.0)
        )
    return rows


def _signal_rows(scenario: Scenario) -> list[Row]:
    signals = scenario.traffic.signals
    states = {GREEN: 2.0, YELLOW: 1.0}
    return [
        (
            np.array([*light.head, 3.5]), np.array([0.4, 0.5, 1.2]), light.heading, np.zeros(3), SIGNAL,
            SEMANTICS.index("signal"), states.get(signals.state(light.axis), 0.0),
        )
        for light in signals.lights
    ]  # fmt: skip


def _agent_row(agent: Driver | Actor | Thing) -> Row:
    size = np.array(agent.kind.size)
    kind, semantic = _look_of(agent.kind)
    color = np.array((0.95, 0.45, 0.1) if semantic == "movable" else agent.paint)
    if kind == EMERGENCY:
        color = np.array([0.95, 0.95, 0.92])
    center = np.array([*agent.position, size[2] / 2])
    return center, size, agent.heading, color, kind, SEMANTICS.index(semantic), float(agent.braking)


def _look_of(kind: Kind) -> tuple[int, str]:
    name = kind.class_name
    if name.startswith("human"):
        return PERSON, "person"
    if name in ("vehicle.bicycle", "vehicle.motorcycle"):
        return RIDER, "cycle"
    if name.startswith("vehicle.emergency"):
        return EMERGENCY, "vehicle"
    return (VEHICLE, "vehicle") if name.startswith("vehicle") else (PLAIN, "movable")


def _bodies(rows: list[Row]) -> Bodies:
    def stack(index: int) -> torch.Tensor:
        return torch.from_numpy(np.array([row[index] for row in rows], dtype=np.float32))

    return Bodies(stack(0), stack(1), stack(2), stack(3), stack(4).long(), stack(5).long(), stack(6))
