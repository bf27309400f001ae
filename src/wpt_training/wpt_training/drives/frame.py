"""The ground floor: one moment of driving, the same from every source."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wpt_planner.calibration import CameraCalibration
from wpt_planner.geometry import Array, rotation_from_quaternion, transform_points, wrap_angle, yaw_of
from wpt_planner.image_decoding import EncodedImage, decode_into

COMMANDS = ("turn_left", "turn_right", "keep_forward")


class DriveError(ValueError):
    """Driving data that cannot be used: which folder or file, what is wrong, what to do."""


@dataclass(frozen=True)
class StoredImage:
    """Where an image's bytes lie: `size` bytes from `offset` in `path` (0: the whole file)."""

    path: Path
    offset: int = 0
    size: int = 0
    encoding: str = "compressed"
    width: int = 0
    height: int = 0
    step: int = 0

    def read(self) -> EncodedImage:
        """The bytes as stored. Raises DriveError if the file is gone."""
        try:
            with self.path.open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read(self.size or -1)
        except OSError as error:
            raise DriveError(f"{self.path}: {error.strerror}: the drive is incomplete") from None
        return EncodedImage(data, self.encoding, self.width, self.height, self.step)


@dataclass(frozen=True)
class CameraView:
    """One image of one camera: `stamp` ns, `map_from_ego` (4, 4) at that very stamp."""

    stamp: int
    calibration: CameraCalibration
    stored: StoredImage
    map_from_ego: Array

    def image(self) -> NDArray[np.uint8]:
        """RGB pixels (H, W, 3)."""
        pixels = np.empty((self.calibration.height, self.calibration.width, 3), np.uint8)
        decode_into(self.stored.read(), pixels)
        return pixels


@dataclass(frozen=True)
class Boxes:
    """A road users in one frame: `centers` and `sizes` (length, width, height) (A, 3) m,
    `yaws` (A,) rad, `velocities` (A, 2) m/s (NaN if unknown). `hits` (A,): how many LiDAR and radar
    points, or in the simulator camera pixels, met each; None if nobody counted."""

    centers: Array
    sizes: Array
    yaws: Array
    velocities: Array
    classes: tuple[str, ...]
    track_ids: tuple[str, ...]
    hits: NDArray[np.int64] | None = None

    @staticmethod
    def none() -> Boxes:
        return Boxes(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0), np.zeros((0, 2)), (), ())

    def __len__(self) -> int:
        return len(self.classes)

    def moved(self, b_from_a: Array) -> Boxes:
        """The same boxes in another frame."""
        return Boxes(
            transform_points(b_from_a, self.centers),
            self.sizes,
            wrap_angle(self.yaws + yaw_of(b_from_a)),
            self.velocities @ b_from_a[:2, :2].T,
            self.classes,
            self.track_ids,
            self.hits,
        )

    def chosen(self, which: NDArray[np.bool_]) -> Boxes:
        """Those for which `which` (A,) holds."""
        return Boxes(
            self.centers[which],
            self.sizes[which],
            self.yaws[which],
            self.velocities[which],
            tuple(name for name, keep in zip(self.classes, which, strict=True) if keep),
            tuple(track for track, keep in zip(self.track_ids, which, strict=True) if keep),
            None if self.hits is None else self.hits[which],
        )

    def corners(self) -> Array:
        """(A, 8, 3): bottom front left, front right, rear right, rear left, then the same on top."""
        signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]]) / 2
        flat = np.concatenate(
            [np.column_stack([signs, np.full(4, z)]) for z in (-0.5, 0.5)]
        )  # (8, 3) of a unit box
        local = flat[None] * self.sizes[:, None]
        quaternions = np.zeros((len(self), 4))
        quaternions[:, 0], quaternions[:, 3] = np.cos(self.yaws / 2), np.sin(self.yaws / 2)
        return np.einsum("aij,akj->aki", rotation_from_quaternion(quaternions), local) + self.centers[:, None]


@dataclass(frozen=True)
class MapGeometry:
    """What the map holds around a drive, (n, 2) m in the map frame: `dividers` and `center_lines`
    are polylines, the others polygons; `holes` are cut out of `drivable`."""

    drivable: tuple[Array, ...] = ()
    holes: tuple[Array, ...] = ()
    dividers: tuple[Array, ...] = ()
    center_lines: tuple[Array, ...] = ()
    crossings: tuple[Array, ...] = ()
    walkways: tuple[Array, ...] = ()
    stop_lines: tuple[Array, ...] = ()

    def shifted(self, offset: Array) -> MapGeometry:
        """The same map moved by `offset` (2,) m."""
        layers = {layer.name: getattr(self, layer.name) for layer in fields(self)}
        return MapGeometry(**{name: tuple(line + offset for line in lines) for name, lines in layers.items()})


@dataclass(frozen=True)
class Frame:
    """One moment: `stamp` ns is the anchor camera's. Views without an image nearby are None.

    `boxes` and `map` in the map frame. `future` (6, 2) in base_link at 0.5 … 3.0 s,
    `future_valid` (6,) False where the recording ends before.
    """

    stamp: int
    views: tuple[CameraView | None, ...]
    map_from_ego: Array
    speed: float
    acceleration: float
    yaw_rate: float
    command: int
    boxes: Boxes
    map: MapGeometry | None
    future: Array
    future_valid: NDArray[np.bool_]
    annotated: bool = field(default=False)
