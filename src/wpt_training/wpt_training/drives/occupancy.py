"""4-D labels from boxes and map, for any drive: who occupies which cell, whence, for T + 1 + F frames."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wpt_planner.geometry import Array, inverse, transform_points
from wpt_planner.policy_bundle import BevGrid
from wpt_training.drives.drive import Drive
from wpt_training.drives.frame import Boxes, MapGeometry

FREE = 0
SEEN_WITHIN = 1_000_000_000  # ns
# The labels' classes; 0 is free.
CLASSES = ("free", "vehicle", "person", "cycle", "movable")
_PREFIXES = (
    ("vehicle.bicycle", 3), ("vehicle.motorcycle", 3), ("vehicle.", 1), ("human.", 2), ("movable_object.", 4),
)  # fmt: skip


@dataclass(frozen=True)
class OccupancyGrid:
    """The BEV cells, and `cells_z` height cells of (z_max − z_min) / cells_z m."""

    bev: BevGrid
    cells_z: int = 4
    z_min: float = -1.0
    z_max: float = 3.0
    history: int = 2
    future: int = 4
    interval: float = 0.5

    @property
    def offsets(self) -> Array:
        """s of each labelled frame from the reference time, oldest first."""
        return np.arange(-self.history, self.future + 1) * self.interval


@dataclass(frozen=True)
class OccupancyLabels:
    """All in base_link at the reference time; L = history + 1 + future frames, oldest first.

    `occupancy` (L, X, Y, Z) uint8 index into CLASSES; `flow` (L, X, Y, 2) m/s, backward: where what
    is in a cell came from, per second (0 where nobody is or nobody knows); `instance` (L, X, Y) int32,
    0 for none, the same number for one road user in all frames; `drivable` (X, Y) bool; `valid` (L,)
    False where the drive holds no labels.
    """

    occupancy: NDArray[np.uint8]
    flow: NDArray[np.float32]
    instance: NDArray[np.int32]
    drivable: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    track_ids: tuple[str, ...] = field(default=())


def class_index(class_name: str) -> int:
    """Index into CLASSES of a nuScenes category; FREE for those that are not labelled."""
    return next((index for prefix, index in _PREFIXES if class_name.startswith(prefix)), FREE)


def occupancy_labels(drive: Drive, stamp: int, grid: OccupancyGrid) -> OccupancyLabels:
    """Labels around the ego at `stamp` ns, boxes interpolated between annotations. Road users that
    nobody could see then, or in the second before, are left out: no camera can learn them."""
    ego_from_map = inverse(drive.ego.pose_at(stamp))
    x, y = cell_centers(grid.bev)
    frames = len(grid.offsets)
    shape = (frames, grid.bev.cells_x, grid.bev.cells_y)
    occupancy = np.zeros((*shape, grid.cells_z), np.uint8)
    flow = np.zeros((*shape, 2), np.float32)
    instance = np.zeros(shape, np.int32)
    valid = np.zeros(frames, bool)
    numbers: dict[str, int] = {}
    seen = _seen(drive, stamp)
    first, last = _annotated(drive)
    for index, offset in enumerate(grid.offsets):
        at = stamp + round(offset * 1e9)
        if not first <= at <= last:
            continue
        valid[index] = True
        earlier = at - round(grid.interval * 1e9)
        boxes = drive.boxes_at(at).moved(ego_from_map)
        before = drive.boxes_at(earlier).moved(ego_from_map) if earlier >= first else Boxes.none()
        if seen is not None:
            boxes = boxes.chosen(np.array([track in seen for track in boxes.track_ids], dtype=bool))
        _fill(boxes, before, grid, x, y, numbers, occupancy[index], flow[index], instance[index])
    return OccupancyLabels(
        occupancy, flow, instance, drivable_cells(drive.map, ego_from_map, grid.bev), valid, tuple(numbers)
    )


def _seen(drive: Drive, stamp: int) -> set[str] | None:
    """Tracks that something met in the second up to `stamp`; None, all of them, where nobody counted."""
    recent = [boxes for at, boxes in drive.annotations if stamp - SEEN_WITHIN <= at <= stamp]
    if not recent or any(boxes.hits is None for boxes in recent):
        return None
    return {
        track
        for boxes in recent
        if boxes.hits is not None
        for track, hits in zip(boxes.track_ids, boxes.hits, strict=True)
        if hits > 0
    }


def _annotated(drive: Drive) -> tuple[int, int]:
    stamps = [stamp for stamp, _ in drive.annotations]
    return (stamps[0], stamps[-1]) if stamps else (0, -1)


def cell_centers(bev: BevGrid) -> tuple[Array, Array]:
    """x (X, 1) and y (1, Y) m of the cells' middles."""
    x = bev.x_min + (np.arange(bev.cells_x) + 0.5) * bev.resolution
    y = bev.y_min + (np.arange(bev.cells_y) + 0.5) * bev.resolution
    return x[:, None], y[None]


def _fill(
    boxes: Boxes,
    before: Boxes,
    grid: OccupancyGrid,
    x: Array,
    y: Array,
    numbers: dict[str, int],
    occupancy: NDArray[np.uint8],
    flow: NDArray[np.float32],
    instance: NDArray[np.int32],
) -> None:
    """One frame's boxes; the bigger ones first, so that a person beside a truck is not covered."""
    known = {track: row for row, track in enumerate(before.track_ids)}
    size_z = (grid.z_max - grid.z_min) / grid.cells_z
    half_cell = grid.bev.resolution / 2
    for row in np.argsort(-boxes.sizes[:, 0] * boxes.sizes[:, 1]):
        kind = class_index(boxes.classes[row])
        if kind == FREE:
            continue
        center, yaw = boxes.centers[row], float(boxes.yaws[row])
        cosine, sine = np.cos(yaw), np.sin(yaw)
        dx, dy = x - center[0], y - center[1]
        ahead, aside = cosine * dx + sine * dy, cosine * dy - sine * dx
        # Someone thinner than a cell still occupies the one he stands in.
        half = np.maximum(boxes.sizes[row, :2] / 2, half_cell)
        inside = (np.abs(ahead) <= half[0]) & (np.abs(aside) <= half[1])
        if not inside.any():
            continue
        low, high = center[2] - boxes.sizes[row, 2] / 2, center[2] + boxes.sizes[row, 2] / 2
        edges = grid.z_min + np.arange(grid.cells_z) * size_z
        levels = (edges < high) & (edges + size_z > low)
        occupancy[inside[:, :, None] & levels[None, None]] = kind
        track = boxes.track_ids[row]
        instance[inside] = numbers.setdefault(track, len(numbers) + 1)
        earlier = known.get(track)
        if earlier is None:
            continue
        # Where each of its points was: turned with the box, moved with its middle.
        then = before.centers[earlier]
        cosine, sine = np.cos(before.yaws[earlier]), np.sin(before.yaws[earlier])
        was_x = then[0] + cosine * ahead - sine * aside
        was_y = then[1] + sine * ahead + cosine * aside
        back = np.stack([was_x - x, was_y - y], axis=-1) / grid.interval
        flow[inside] = back[inside]


def drivable_cells(geometry: MapGeometry | None, ego_from_map: Array, bev: BevGrid) -> NDArray[np.bool_]:
    """(X, Y) whether a cell's middle is drivable; all False without a map."""
    import shapely

    x, y = cell_centers(bev)
    if geometry is None or not geometry.drivable:
        return np.zeros((bev.cells_x, bev.cells_y), bool)
    grid_x, grid_y = np.broadcast_arrays(x, y)
    flat = np.stack([grid_x, grid_y, np.zeros_like(grid_x)], axis=-1).reshape(-1, 3)
    points = transform_points(inverse(ego_from_map), flat)[:, :2]
    inside = np.zeros(len(points), bool)
    for polygon in geometry.drivable:
        inside |= shapely.contains_xy(_valid(polygon), points[:, 0], points[:, 1])
    for hole in geometry.holes:
        inside &= ~shapely.contains_xy(_valid(hole), points[:, 0], points[:, 1])
    return inside.reshape(bev.cells_x, bev.cells_y)


def _valid(outline: Array) -> object:
    import shapely

    polygon = shapely.Polygon(outline)
    polygon = polygon if polygon.is_valid else polygon.buffer(0)
    shapely.prepare(polygon)  # a hundred times faster on this many points
    return polygon
