"""A plan in the six cameras and from above, as one picture."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wpt_planner.geometry import Array, inverse, transform_points
from wpt_training.drives.frame import COMMANDS, Boxes, CameraView, Frame, MapGeometry
from wpt_training.evaluation.collision import EGO_LENGTH, EGO_WIDTH, LIDAR_AHEAD

Picture = NDArray[np.uint8]

PLAN, FALLBACK, EXPERT = (60, 220, 90), (255, 160, 0), (80, 170, 255)  # RGB
CANDIDATE = (200, 120, 230)
BOX, DRIVABLE, DIVIDER, RING = (255, 210, 60), (72, 76, 84), (150, 150, 155), (120, 130, 150)
BACKGROUND = (30, 32, 38)
LAYOUT = (
    ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT"),
    ("CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT"),
)
TILE_WIDTH, TILE_HEIGHT = 480, 270
BEV_METRES = 40.0  # to each side; the ego sits a third from the bottom
NEAR = 0.3  # m, nearer than this in front of a camera nothing is drawn


@dataclass(frozen=True)
class DrawnPlan:
    """`trajectory` (6, 2) in base_link at the frame's stamp; `label` names it, `color` RGB. A `faint` one
    is a candidate: a thin line, from above only, and the legend names candidates once."""

    trajectory: Array
    label: str
    color: tuple[int, int, int]
    faint: bool = False


def draw_frame(frame: Frame, plans: list[DrawnPlan], title: str) -> Picture:
    """Cameras left, bird's-eye view right, (H, W, 3) RGB."""
    by_name = {view.calibration.name: view for view in frame.views if view is not None}
    names: tuple[tuple[str, ...], ...] = LAYOUT
    if not set(by_name) & {name for row in LAYOUT for name in row}:
        ordered = list(by_name) + [""] * 6
        names = (tuple(ordered[:3]), tuple(ordered[3:6]))
    rows = [np.hstack([_camera_tile(frame, by_name.get(name), name, plans) for name in row]) for row in names]
    cameras = np.vstack(rows)
    bev = draw_bev(frame, plans, cameras.shape[0])
    picture = np.hstack([cameras, bev])
    band = np.full((34, picture.shape[1], 3), BACKGROUND, np.uint8)
    _text(band, title, (10, 23), 0.55)
    x = picture.shape[1] - 12
    named = {plan.label: plan for plan in plans}
    for plan in reversed(named.values()):
        width = cv2.getTextSize(plan.label, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0]
        x -= width + 38
        cv2.line(band, (x, 17), (x + 22, 17), plan.color, 4, cv2.LINE_AA)
        _text(band, plan.label, (x + 28, 22), 0.5)
    return np.vstack([band, picture])


def _camera_tile(frame: Frame, view: CameraView | None, name: str, plans: list[DrawnPlan]) -> Picture:
    if view is None:
        tile = np.full((TILE_HEIGHT, TILE_WIDTH, 3), BACKGROUND, np.uint8)
        _text(tile, f"{name}: no image" if name else "", (12, 24), 0.5)
        return tile
    image = view.image()
    scale = TILE_WIDTH / image.shape[1]
    tile = cv2.resize(image, (TILE_WIDTH, TILE_HEIGHT), interpolation=cv2.INTER_AREA).astype(np.uint8)
    projector = _Projector(frame, view, scale)
    for radius in (10, 20, 30):
        angle = np.linspace(-np.pi, np.pi, 181)
        ring = radius * np.stack([np.cos(angle), np.sin(angle), np.zeros(181)], axis=1)
        projector.line(tile, ring, RING, 1)
    _draw_boxes(tile, projector, frame.boxes.moved(inverse(frame.map_from_ego)))
    for plan in plans:
        if not plan.faint:
            _draw_ribbon(tile, projector, plan)
    _text(tile, name, (8, 20), 0.45)
    return tile


class _Projector:
    """base_link at the frame's stamp to a tile's pixels, by the camera's own pose at its exposure."""

    def __init__(self, frame: Frame, view: CameraView, scale: float) -> None:
        map_from_camera = view.map_from_ego @ view.calibration.ego_from_camera
        self.camera_from_ego = inverse(map_from_camera) @ frame.map_from_ego
        self.intrinsics = view.calibration.intrinsics.copy()
        self.intrinsics[:2] *= scale

    def line(self, tile: Picture, points: Array, color: tuple[int, int, int], thickness: int) -> None:
        """A polyline (n, 3), cut where it passes behind the camera."""
        in_camera = transform_points(self.camera_from_ego, points)
        for a, b in itertools.pairwise(in_camera):
            segment = _clip_near(a, b)
            if segment is not None:
                start, end = (self._pixel(point) for point in segment)
                cv2.line(tile, start, end, color, thickness, cv2.LINE_AA, shift=4)

    def polygon(self, tile: Picture, points: Array, color: tuple[int, int, int]) -> None:
        """A filled polygon (n, 3), left out if any corner is behind the camera."""
        in_camera = transform_points(self.camera_from_ego, points)
        if (in_camera[:, 2] < NEAR).any():
            return
        pixels = np.array([self._pixel(point) for point in in_camera], np.int32)
        cv2.fillPoly(tile, [pixels], color, cv2.LINE_AA, shift=4)

    def _pixel(self, point: Array) -> tuple[int, int]:
        u, v, depth = self.intrinsics @ point
        limit = 1e5
        return (
            int(np.clip(u / depth, -limit, limit) * 16),
            int(np.clip(v / depth, -limit, limit) * 16),
        )


def _clip_near(a: Array, b: Array) -> tuple[Array, Array] | None:
    if a[2] < NEAR and b[2] < NEAR:
        return None
    if a[2] < NEAR or b[2] < NEAR:
        share = (NEAR - a[2]) / (b[2] - a[2])
        cut = a + share * (b - a)
        return (cut, b) if a[2] < NEAR else (a, cut)
    return a, b


def _draw_boxes(tile: Picture, projector: _Projector, boxes: Boxes) -> None:
    order = [0, 1, 2, 3, 0, 4, 5, 6, 7, 4, 5, 1, 2, 6, 7, 3]
    for corners, center in zip(boxes.corners(), boxes.centers, strict=True):
        if np.hypot(*center[:2]) < 50:
            projector.line(tile, corners[order], BOX, 1)


def smooth_path(trajectory: Array, step: float = 0.1) -> Array:
    """A plan (6, 2) as a dense polyline (n, 2) from the ego on, one point every `step` s."""
    knots = np.vstack([np.zeros(2), trajectory])
    at = np.arange(0, 3.0 + 1e-9, step)
    knot_times = np.arange(7) * 0.5
    return np.stack([np.interp(at, knot_times, knots[:, axis]) for axis in (0, 1)], axis=1)


def _draw_ribbon(tile: Picture, projector: _Projector, plan: DrawnPlan) -> None:
    """The ground the ego would drive over: translucent, as wide as the car, with a firm edge."""
    path = smooth_path(plan.trajectory)
    if np.linalg.norm(path[-1] - path[0]) < 0.5:
        return
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-6)
    aside = np.stack([-along[:, 1], along[:, 0]], axis=1) * EGO_WIDTH / 2
    left, right = (np.column_stack([path + s * aside, np.zeros(len(path))]) for s in (1, -1))
    overlay = tile.copy()
    for i in range(len(path) - 1):
        projector.polygon(overlay, np.stack([left[i], left[i + 1], right[i + 1], right[i]]), plan.color)
    cv2.addWeighted(overlay, 0.45, tile, 0.55, 0, dst=tile)
    projector.line(tile, left, plan.color, 1)
    projector.line(tile, right, plan.color, 1)


def draw_bev(frame: Frame, plans: list[DrawnPlan], height: int) -> Picture:
    """x up, y left; `height` pixels, square."""
    scale = height / (2 * BEV_METRES)
    canvas = np.full((height, height, 3), BACKGROUND, np.uint8)
    origin = np.array([height * 2 / 3, height / 2])

    def pixels(points_ego: Array) -> NDArray[np.int32]:
        rows = origin[0] - points_ego[:, 0] * scale
        columns = origin[1] - points_ego[:, 1] * scale
        return np.round(np.stack([columns, rows], axis=1) * 16).astype(np.int32)

    ego_from_map = inverse(frame.map_from_ego)
    if frame.map is not None:
        _draw_map(canvas, frame.map, ego_from_map, pixels)
    for radius in (10, 20, 30):
        center = (int(origin[1]), int(origin[0]))
        cv2.circle(canvas, center, int(radius * scale), RING, 1, cv2.LINE_AA)
        _text(
            canvas,
            f"{radius} m",
            (center[0] + int(radius * scale * 0.72) + 2, center[1] + int(radius * scale * 0.72)),
            0.38,
        )
    for corners in frame.boxes.moved(ego_from_map).corners():
        cv2.polylines(canvas, [pixels(corners[:4, :2])], True, BOX, 1, cv2.LINE_AA, shift=4)
        front = np.stack([corners[:4, :2].mean(axis=0), corners[:2, :2].mean(axis=0)])
        cv2.polylines(canvas, [pixels(front)], False, BOX, 1, cv2.LINE_AA, shift=4)
    for plan in sorted(plans, key=lambda plan: not plan.faint):
        thickness = 1 if plan.faint else 2
        line = pixels(smooth_path(plan.trajectory))
        cv2.polylines(canvas, [line], False, plan.color, thickness, cv2.LINE_AA, shift=4)
        if plan.faint:
            continue
        for point in pixels(plan.trajectory):
            cv2.circle(canvas, (int(point[0]), int(point[1])), 3 * 16, plan.color, -1, cv2.LINE_AA, shift=4)
    ahead = LIDAR_AHEAD + 0.5
    half = np.array([EGO_LENGTH, EGO_WIDTH]) / 2
    ego = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) * half + np.array([ahead, 0])
    cv2.fillPoly(canvas, [pixels(ego)], (235, 235, 240), cv2.LINE_AA, shift=4)
    _text(canvas, f"{frame.speed:.1f} m/s, {COMMANDS[frame.command].replace('_', ' ')}", (10, 20), 0.45)
    return canvas


def _draw_map(canvas: Picture, geometry: MapGeometry, ego_from_map: Array, pixels: object) -> None:
    def place(points: Array) -> NDArray[np.int32]:
        lifted = np.column_stack([points, np.zeros(len(points))])
        return pixels(transform_points(ego_from_map, lifted)[:, :2])  # type: ignore[operator]

    for polygon in geometry.drivable:
        cv2.fillPoly(canvas, [place(polygon)], DRIVABLE, cv2.LINE_AA, shift=4)
    for polygon in geometry.holes:
        cv2.fillPoly(canvas, [place(polygon)], BACKGROUND, cv2.LINE_AA, shift=4)
    for line in geometry.dividers:
        cv2.polylines(canvas, [place(line)], False, DIVIDER, 1, cv2.LINE_AA, shift=4)


def _text(picture: Picture, text: str, at: tuple[int, int], size: float) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (245, 245, 245), 1, cv2.LINE_AA)
