"""A map as nuScenes' map expansion holds it, and the mask beside it."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from shapely import LineString

from wpt_planner.geometry import Array

LOCATION = "boston-seaport"  # the devkit knows four names; any of them may hold a map
MASK_RESOLUTION = 0.1  # m per pixel, the devkit's default
_LANE_WIDTH = 3.5  # m, of the polygon around a centre line
_POLYGONS = {
    "crossings": "ped_crossing", "walkways": "walkway", "stop_lines": "stop_line",
}  # fmt: skip
_EMPTY_LAYERS = (
    "road_segment",
    "road_block",
    "carpark_area",
    "road_divider",
    "traffic_light",
    "lane_connector",
)

Layers = dict[str, list[Array]]


def token(*names: object) -> str:
    """32 hexadecimal digits, the same for the same names."""
    return hashlib.md5("/".join(map(str, names)).encode()).hexdigest()


class _Expansion:
    def __init__(self) -> None:
        self.layers: dict[str, Any] = {name: [] for name in _EMPTY_LAYERS}
        for name in ("polygon", "line", "node", "drivable_area", "lane", "lane_divider", *_POLYGONS.values()):
            self.layers[name] = []
        self.layers |= {"arcline_path_3": {}, "connectivity": {}, "version": "1.3"}

    def add(self, layer: str, **values: object) -> str:
        name = token(layer, len(self.layers[layer]))
        self.layers[layer].append({"token": name, **values})
        return name

    def nodes(self, points: Array) -> list[str]:
        return [self.add("node", x=float(x), y=float(y)) for x, y in points]

    def polygon(self, points: Array, holes: list[Array] | None = None) -> str:
        inner = [{"node_tokens": self.nodes(hole)} for hole in holes or ()]
        return self.add("polygon", exterior_node_tokens=self.nodes(points), holes=inner)

    def line(self, points: Array) -> str:
        return self.add("line", node_tokens=self.nodes(points))


def expansion_map(maps: list[Layers]) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """The mask (rows from the north) and the expansion's layers of many maps on one canvas.

    `maps`: MapGeometry's attributes to polylines (n, 2) m, coordinates not negative.
    """
    expansion = _Expansion()
    points = [line for layers in maps for lines in layers.values() for line in lines]
    edge = np.ceil(np.vstack(points).max(axis=0) + 20.0) if points else np.array([100.0, 100.0])
    expansion.layers["canvas_edge"] = edge.tolist()
    for layers in maps:
        _add_map(expansion, layers)
    size = np.round(edge / MASK_RESOLUTION).astype(int)
    mask = np.zeros((size[1], size[0]), np.uint8)
    for layers in maps:
        for name, value in (("drivable", 255), ("holes", 0), ("walkways", 255)):
            cells = [np.round(line / MASK_RESOLUTION).astype(np.int32) for line in layers.get(name, [])]
            for polygon in cells:
                cv2.fillPoly(mask, [polygon], (value,))
    return np.ascontiguousarray(mask[::-1]), expansion.layers


def _add_map(expansion: _Expansion, layers: Layers) -> None:
    drivable = layers.get("drivable", [])
    if drivable:
        polygons = [expansion.polygon(line, _inside(line, layers.get("holes", []))) for line in drivable]
        expansion.add("drivable_area", polygon_tokens=polygons)
    for attribute, layer in _POLYGONS.items():
        for line in layers.get(attribute, []):
            values = (
                {"stop_line_type": "YIELD", "ped_crossing_tokens": [], "traffic_light_tokens": [],
                 "road_block_token": ""}
                if layer == "stop_line"
                else {}
            )  # fmt: skip
            expansion.add(layer, polygon_token=expansion.polygon(line), **values)
    for line in layers.get("dividers", []):
        expansion.add("lane_divider", line_token=expansion.line(line), lane_divider_segments=[])
    ends: list[tuple[str, Array, Array]] = []
    for line in layers.get("center_lines", []):
        outline = np.array(LineString(line).buffer(_LANE_WIDTH / 2, cap_style="flat").exterior.coords)[:-1]
        lane = expansion.add(
            "lane", polygon_token=expansion.polygon(outline), lane_type="CAR", from_edge_line_token="",
            to_edge_line_token="", left_lane_divider_segments=[], right_lane_divider_segments=[],
        )  # fmt: skip
        expansion.layers["arcline_path_3"][lane] = _arcline(line)
        ends.append((lane, line[0], line[-1]))
    for lane, first, last in ends:
        expansion.layers["connectivity"][lane] = {
            "incoming": [other for other, _, end in ends if np.hypot(*(end - first)) < 0.3],
            "outgoing": [other for other, start, _ in ends if np.hypot(*(start - last)) < 0.3],
        }


def _arcline(line: Array) -> list[dict[str, Any]]:
    """A polyline as straight arcline pieces: no turn, way straight on, no turn."""
    pieces = []
    for a, b in itertools.pairwise(line):
        length = float(np.hypot(*(b - a)))
        yaw = float(np.arctan2(b[1] - a[1], b[0] - a[0]))
        if length > 1e-3:
            pieces.append(
                {"start_pose": [*a.tolist(), yaw], "end_pose": [*b.tolist(), yaw], "shape": "LSR",
                 "radius": 999.999, "segment_length": [0.0, length, 0.0]}
            )  # fmt: skip
    return pieces


def _inside(outline: Array, holes: list[Array]) -> list[Array]:
    polygon = outline.astype(np.float32)
    return [h for h in holes if cv2.pointPolygonTest(polygon, (float(h[0, 0]), float(h[0, 1])), False) > 0]
