"""Does a plan run into somebody? As published (UniAD, ST-P3: unrotated box on a grid), and exactly.

Everything here is in the metric's grid frame: x forward, y right, origin at the LiDAR, as nuScenes'
planning benchmarks have it. `metric_from_ego` takes plans and boxes there from base_link.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from wpt_planner.geometry import Array, box_corners_2d
from wpt_training.drives.frame import Boxes

EGO_LENGTH, EGO_WIDTH = 4.084, 1.85  # m
EGO_CENTER_AHEAD = 0.5  # m from the plan point (the LiDAR) to the box's centre
LIDAR_AHEAD = 0.94  # m from base_link to nuScenes' LIDAR_TOP
CELLS, RESOLUTION, EDGE = 200, 0.5, -50.0
_FIRST_CENTER = EDGE + RESOLUTION / 2

Mask = NDArray[np.bool_]


def is_road_user(class_name: str) -> bool:
    """Vehicles and people; cones, barriers and the like are left out, as in the published masks."""
    return class_name.startswith(("vehicle.", "human."))


def rasterise(boxes_ego: Boxes) -> Mask:
    """Cells (200, 200) [forward, right] covered by road users, boxes in base_link."""
    occupancy = np.zeros((CELLS, CELLS), np.uint8)
    for corners in _road_user_corners(boxes_ego):
        cells = np.round((corners - EDGE) / RESOLUTION).astype(np.int32)
        # cv2 wants (column, row) = (right, forward).
        cv2.fillPoly(occupancy, [np.ascontiguousarray(cells[:, ::-1])], (1,))
    return occupancy.astype(bool)


def metric_from_ego(points: Array) -> Array:
    """Points (..., 2) x forward, y left to x forward, y right. A plan's points are displacements of
    the vehicle, so they are those of its LiDAR too and are not shifted."""
    return points * np.array([1.0, -1.0])


def grid_collisions(plan: Array, occupancy: Mask) -> tuple[Mask, Mask]:
    """Published test of a plan (P, 2) [forward, right] against occupancy (P, 200, 200).

    Returns whether the plan point's own cell (`obj_col`) and any cell of the unrotated ego box
    (`obj_box_col`) is occupied, each (P,).
    """
    plan32 = plan.astype(np.float32)
    step = np.arange(len(plan))
    cell = ((plan32 - np.float32(_FIRST_CENTER)) / np.float32(RESOLUTION)).astype(np.int64)
    inside = ((cell >= 0) & (cell < CELLS)).all(axis=1)
    clipped = np.clip(cell, 0, CELLS - 1)
    point = inside & occupancy[step, clipped[:, 0], clipped[:, 1]]
    # Shifting the once-rasterised box in cells, then truncating, is what the published code does.
    shifted = (plan32 / np.float32(RESOLUTION)).astype(np.float64)[:, None] + _EGO_CELLS[None]
    covered = np.clip(shifted.astype(np.int32), 0, CELLS - 1)
    box = occupancy[step[:, None], covered[..., 0], covered[..., 1]].any(axis=1)
    return point, box


def exact_collisions(plan_ego: Array, boxes_at_steps: list[Boxes]) -> Mask:
    """`obb`: oriented ego box (heading from the motion) against oriented boxes, both in base_link.

    plan_ego (P, 2); one Boxes per step. Returns (P,).
    """
    headings = motion_headings(plan_ego)
    ahead = EGO_CENTER_AHEAD + LIDAR_AHEAD
    centers = plan_ego + ahead * np.stack([np.cos(headings), np.sin(headings)], axis=1)
    size = np.array([[EGO_LENGTH, EGO_WIDTH]])
    hit = np.zeros(len(plan_ego), bool)
    for step, boxes in enumerate(boxes_at_steps):
        users = np.array([is_road_user(name) for name in boxes.classes], bool)
        if not users.any():
            continue
        ego = box_corners_2d(centers[step : step + 1], size, headings[step : step + 1])[0]
        others = box_corners_2d(boxes.centers[users, :2], boxes.sizes[users, :2], boxes.yaws[users])
        hit[step] = overlaps(ego, others).any()
    return hit


def motion_headings(plan: Array) -> Array:
    """Heading (P,) at each point of a plan (P, 2): from the step that leads to it; a point that
    hardly moves keeps the one before, the first is 0."""
    steps = np.diff(np.vstack([np.zeros(2), plan]), axis=0)
    headings = np.zeros(len(plan))
    heading = 0.0
    for i, step in enumerate(steps):
        if np.hypot(*step) > 0.1:
            heading = float(np.arctan2(step[1], step[0]))
        headings[i] = heading
    return headings


def overlaps(rectangle: Array, rectangles: Array) -> Mask:
    """Whether one rectangle (4, 2) overlaps each of (A, 4, 2): separating axes, touching is not."""
    count = len(rectangles)
    own = np.broadcast_to(rectangle, rectangles.shape)
    apart = np.zeros(count, bool)
    for source in (own, rectangles):
        for edge in (source[:, 1] - source[:, 0], source[:, 2] - source[:, 1]):
            a = np.einsum("akj,aj->ak", own, edge)
            b = np.einsum("akj,aj->ak", rectangles, edge)
            apart |= (a.max(1) <= b.min(1)) | (b.max(1) <= a.min(1))
    return ~apart


def _road_user_corners(boxes_ego: Boxes) -> Array:
    users = np.array([is_road_user(name) for name in boxes_ego.classes], bool)
    if not users.any():
        return np.zeros((0, 4, 2))
    corners = box_corners_2d(boxes_ego.centers[users, :2], boxes_ego.sizes[users, :2], boxes_ego.yaws[users])
    return metric_from_ego(corners - np.array([LIDAR_AHEAD, 0.0]))


def _ego_cells() -> NDArray[np.int64]:
    """Cells whose centre lies in the ego box around the origin: 8 x 4 of them."""
    half = np.array([EGO_LENGTH, EGO_WIDTH]) / 2
    center = np.array([EGO_CENTER_AHEAD, 0.0])
    low = np.ceil((center - half - _FIRST_CENTER) / RESOLUTION).astype(int)
    high = np.floor((center + half - _FIRST_CENTER) / RESOLUTION).astype(int)
    rows, columns = (np.arange(a, b + 1) for a, b in zip(low, high, strict=True))
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


_EGO_CELLS = _ego_cells()
