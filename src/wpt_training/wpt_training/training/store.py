"""Drives packed for training: images as one memory-mapped array a drive, labels as sparse cells.

    STORE/store.json            what it was packed for
    STORE/<drive>/images.npy    (S, N, h, w, 3) uint8
    STORE/<drive>/samples.npz   everything else, by `PackedDrive`'s names

A drive is packed whole or not at all, so that packing goes on where it was killed, and many
processes or machines may pack into one folder.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wpt_planner.geometry import Array, inverse
from wpt_planner.plan_guard import PLAN_STEPS
from wpt_training.drives.drive import Drive
from wpt_training.drives.frame import Boxes, DriveError, Frame
from wpt_training.drives.occupancy import FREE, OccupancyGrid, OccupancyLabels, occupancy_labels
from wpt_training.evaluation.matching import boxes_at_steps
from wpt_training.evaluation.open_loop import GroundTruth

STORE_FILE = "store.json"
SCHEMA = 4
CONTINUOUS = 700_000_000  # ns between samples that follow each other
NOW = -1  # as a step of `PackedDrive.boxes`


@dataclass(frozen=True)
class PackedDrive:
    """S samples of a drive at its annotated moments; L labelled frames as in `OccupancyLabels`.

    `intrinsics` (S, N, 3, 3) of the stored images; `ego_from_camera` (S, N, 4, 4) from each image's own
    pose into base_link at the sample's time; `motion` (S, 3) speed, acceleration, yaw rate. `future` is what
    the driver should have done, `driven` what he did, where he is known to differ.
    Occupied cells lie one after the other: `cells` (n,) index into (L, X, Y), `classes` (n, Z),
    `flow` (n, 2) m/s, sample s from `cell_starts[s]` to `cell_starts[s + 1]`; `drivable` is packed
    bits. `boxes` (b, 11): step, center, size, yaw, class, velocity, in base_link; at the six plan steps, and
    now as step NOW.
    """

    stamps: NDArray[np.int64]
    camera_valid: NDArray[np.bool_]
    intrinsics: NDArray[np.float32]
    ego_from_camera: NDArray[np.float32]
    map_from_ego: Array
    motion: NDArray[np.float32]
    command: NDArray[np.int64]
    future: NDArray[np.float32]
    future_valid: NDArray[np.bool_]
    driven: NDArray[np.float32]
    driven_valid: NDArray[np.bool_]
    labels_valid: NDArray[np.bool_]
    cells: NDArray[np.int32]
    classes: NDArray[np.uint8]
    flow: NDArray[np.float16]
    cell_starts: NDArray[np.int64]
    drivable: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    box_starts: NDArray[np.int64]
    class_names: NDArray[np.str_]
    steps_annotated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.stamps)

    def follows(self, index: int) -> bool:
        """Whether sample `index` comes right after the one before it."""
        return index > 0 and bool(0 < self.stamps[index] - self.stamps[index - 1] <= CONTINUOUS)

    def truth(self, index: int) -> GroundTruth:
        """What a plan of sample `index` is compared with."""
        rows = self.boxes[self.box_starts[index] : self.box_starts[index + 1]]
        boxes = {step: self._boxes(rows[rows[:, 0] == step]) for step in (NOW, *range(PLAN_STEPS))}
        steps = [boxes[s] if annotated else None for s, annotated in enumerate(self.steps_annotated[index])]
        future = self.future[index].astype(np.float64)
        return GroundTruth(future, self.future_valid[index], tuple(steps), boxes[NOW])

    def _boxes(self, rows: NDArray[np.float32]) -> Boxes:
        mine = rows.astype(np.float64)
        names = tuple(str(self.class_names[int(row[8])]) for row in mine)
        return Boxes(mine[:, 1:4], mine[:, 4:7], mine[:, 7], mine[:, 9:], names, names)


def open_store(root: Path, grid: OccupancyGrid, image_size: tuple[int, int]) -> None:
    """Makes the folder, or checks that it was packed for the same labels and images.
    Raises DriveError."""
    path = root / STORE_FILE
    wanted = store_identity(grid, image_size)
    if path.is_file():
        found = json.loads(path.read_text())
        for key, value in wanted.items():
            if found.get(key) != value:
                raise DriveError(
                    f"{path}: packed with {key} {found.get(key)}, the configuration wants {value}: "
                    "choose another folder for it"
                )
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(wanted, indent=1) + "\n")
    except OSError as error:
        raise DriveError(f"{root}: {error.strerror}: choose another folder") from None


def store_identity(grid: OccupancyGrid, image_size: tuple[int, int]) -> dict[str, object]:
    """What a store is packed for, as in its store.json."""
    return {
        "schema": SCHEMA,
        "image_size": list(image_size),
        "bev": grid.bev.model_dump(exclude={"channels"}),
        "cells_z": [grid.cells_z, grid.z_min, grid.z_max],
        "future": [grid.future, grid.interval],
    }


def packed_names(root: Path) -> list[str]:
    """The drives in a store, sorted. Raises DriveError if it is none."""
    if not (root / STORE_FILE).is_file():
        raise DriveError(f"{root}: no {STORE_FILE}: give a folder that `wpt train` packed")
    return sorted(path.parent.name for path in root.glob("*/samples.npz"))


def read_packed(root: Path, name: str) -> tuple[PackedDrive, NDArray[np.uint8]]:
    """A drive's samples, and its images (S, N, h, w, 3), mapped into memory and read when touched."""
    folder = root / name
    try:
        with np.load(folder / "samples.npz") as stored:
            packed = PackedDrive(**{entry.name: stored[entry.name] for entry in fields(PackedDrive)})
        return packed, np.load(folder / "images.npy", mmap_mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise DriveError(f"{folder}: damaged ({error}): remove it, and it is packed again") from None


def pack_drive(drive: Drive, root: Path, grid: OccupancyGrid, image_size: tuple[int, int]) -> bool:
    """Packs the annotated moments of a drive. False if there are none with a recorded future."""
    frames = [frame for frame in drive.frames() if frame.annotated and frame.future_valid.any()]
    if not frames:
        return False
    partial = root / f"{drive.name.replace('/', '-')}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        height, width = image_size
        images = np.lib.format.open_memmap(
            partial / "images.npy", "w+", np.uint8, (len(frames), len(drive.cameras), height, width, 3)
        )
        for number, frame in enumerate(frames):
            _pack_images(frame, images[number])
        images.flush()
        packed = _pack(drive, frames, grid, image_size)
        np.savez_compressed(partial / "samples.npz", **vars(packed))
        target = partial.with_suffix("")
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except OSError as error:
        raise DriveError(f"{root}: {error.strerror or error}: free some space") from None
    return True


def _pack_images(frame: Frame, target: NDArray[np.uint8]) -> None:
    height, width = target.shape[1:3]
    for number, view in enumerate(frame.views):
        if view is None:
            target[number] = 0
            continue
        image: NDArray[Any] = view.image()
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        target[number] = image


def _pack(drive: Drive, frames: list[Frame], grid: OccupancyGrid, image_size: tuple[int, int]) -> PackedDrive:
    labels = [occupancy_labels(drive, frame.stamp, grid) for frame in frames]
    sparse = [_sparse(label) for label in labels]
    names = sorted({name for _, boxes in drive.annotations for name in boxes.classes})
    boxes = [_box_rows(drive, frame, names) for frame in frames]
    cameras = [_cameras(drive, frame, image_size) for frame in frames]
    driven = [drive.ego.future(frame.stamp) for frame in frames]
    return PackedDrive(
        stamps=np.array([frame.stamp for frame in frames], np.int64),
        camera_valid=np.array([[view is not None for view in frame.views] for frame in frames]),
        intrinsics=np.stack([intrinsics for intrinsics, _ in cameras]),
        ego_from_camera=np.stack([poses for _, poses in cameras]),
        map_from_ego=np.stack([frame.map_from_ego for frame in frames]),
        motion=np.array([[f.speed, f.acceleration, f.yaw_rate] for f in frames], np.float32),
        command=np.array([frame.command for frame in frames], np.int64),
        future=np.stack([frame.future for frame in frames]).astype(np.float32),
        future_valid=np.stack([frame.future_valid for frame in frames]),
        driven=np.stack([way for way, _ in driven]).astype(np.float32),
        driven_valid=np.stack([valid for _, valid in driven]),
        labels_valid=np.stack([label.valid for label in labels]),
        cells=np.concatenate([cells for cells, _, _ in sparse]),
        classes=np.concatenate([classes for _, classes, _ in sparse]),
        flow=np.concatenate([flow for _, _, flow in sparse]),
        cell_starts=np.cumsum([0, *(len(cells) for cells, _, _ in sparse)]).astype(np.int64),
        drivable=np.stack([np.packbits(label.drivable) for label in labels]),
        boxes=np.concatenate([rows for rows, _ in boxes]),
        box_starts=np.cumsum([0, *(len(rows) for rows, _ in boxes)]).astype(np.int64),
        class_names=np.array(names or [""]),
        steps_annotated=np.stack([annotated for _, annotated in boxes]),
    )


def _sparse(label: OccupancyLabels) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.float16]]:
    occupancy = label.occupancy.reshape(-1, label.occupancy.shape[-1])
    cells = np.flatnonzero((occupancy != FREE).any(axis=1)).astype(np.int32)
    return cells, occupancy[cells], label.flow.reshape(-1, 2)[cells].astype(np.float16)


def _box_rows(drive: Drive, frame: Frame, names: list[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    ego_from_map = inverse(frame.map_from_ego)
    at_steps = boxes_at_steps(drive, frame.stamp)
    rows = []
    for step, boxes in enumerate([frame.boxes, *at_steps], start=NOW):
        if boxes is None or not len(boxes):
            continue
        moved = boxes.moved(ego_from_map)
        kinds = [names.index(name) for name in moved.classes]
        rows.append(
            np.column_stack(
                [np.full(len(moved), step), moved.centers, moved.sizes, moved.yaws, kinds, moved.velocities]
            )
        )
    table = np.concatenate(rows) if rows else np.zeros((0, 11))
    return table.astype(np.float32), np.array([boxes is not None for boxes in at_steps])


def _cameras(
    drive: Drive, frame: Frame, image_size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Intrinsics (N, 3, 3) of the stored images and base_link_from_camera (N, 4, 4)."""
    intrinsics = np.tile(np.eye(3, dtype=np.float32), (len(drive.cameras), 1, 1))
    poses = np.tile(np.eye(4, dtype=np.float32), (len(drive.cameras), 1, 1))
    ego_from_map = inverse(frame.map_from_ego)
    for number, view in enumerate(frame.views):
        if view is None:
            continue
        scale = np.array([image_size[1] / view.calibration.width, image_size[0] / view.calibration.height])
        scaled = view.calibration.intrinsics.copy()
        # Pixel centres are at whole numbers: u' + ½ = (u + ½)·scale.
        scaled[:2, :2] *= scale[:, None]
        scaled[:2, 2] = (scaled[:2, 2] + 0.5) * scale - 0.5
        intrinsics[number] = scaled
        poses[number] = ego_from_map @ view.map_from_ego @ view.calibration.ego_from_camera
    return intrinsics, poses
