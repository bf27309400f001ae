"""Clips: a few samples of one drive in a row, with the labels of the last one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from wpt_planner.geometry import inverse, yaw_of
from wpt_planner.policy_bundle import EGO_MOTION
from wpt_training.drives.frame import DriveError
from wpt_training.drives.occupancy import OccupancyGrid
from wpt_training.training.store import PackedDrive, read_packed

Progress = Callable[[int, int], None]


class Samples(NamedTuple):
    """S single samples of clips: what is known of each beside its images."""

    number: Tensor
    ego_motion: Tensor
    bev_valid: Tensor
    command: Tensor
    future: Tensor
    future_valid: Tensor


@dataclass(eq=False)
class Clips:
    """B clips of T samples; the inputs as POLICY_INPUTS with a T after the B. Not frozen: Fabric moves
    and casts it.

    `future` (B, T, 6, 2), `future_valid` (B, T, 6), `speed` (B, T) m/s. Of the samples before the last,
    each in its own base_link: `past_occupancy` (B, T−1, X, Y, Z), `past_drivable` (B, T−1, X, Y). Of the
    last sample: `occupancy` (B, L, X, Y, Z) uint8, `flow` (B, L, 2, X, Y), `drivable` (B, X, Y),
    `labels_valid` (B, L), with L = 1 + future frames; and where the ego went from it, `driven` (B, 6, 2) and
    `driven_valid` (B, 6), as `future` says unless the driver should have done something else. `number` (B,)
    of the last sample within the data.
    `as_driven` (B,): motion and future are as packed.
    Clips without labels have L = 0, T − 1 = 0 and a `drivable` without cells.
    """

    images: Tensor
    camera_valid: Tensor
    intrinsics: Tensor
    ego_from_camera: Tensor
    ego_motion: Tensor
    bev_valid: Tensor
    command: Tensor
    future: Tensor
    future_valid: Tensor
    driven: Tensor
    driven_valid: Tensor
    speed: Tensor
    past_occupancy: Tensor
    past_drivable: Tensor
    occupancy: Tensor
    flow: Tensor
    drivable: Tensor
    labels_valid: Tensor
    number: Tensor
    as_driven: Tensor

    def to(self, device: torch.device) -> Clips:
        return Clips(*(getattr(self, entry.name).to(device, non_blocking=True) for entry in fields(self)))

    def rows(self, which: slice) -> Clips:
        """Some of the B clips."""
        return Clips(*(getattr(self, entry.name)[which] for entry in fields(self)))

    def chosen(self, which: Tensor) -> Clips:
        """Those clips for which `which` (B,) holds."""
        return Clips(*(getattr(self, entry.name)[which] for entry in fields(self)))

    def samples(self) -> Samples:
        """All B·T of them, a clip's one after the other."""
        back = torch.arange(self.length - 1, -1, -1, device=self.number.device)
        number = (self.number[:, None] - back).flatten()
        return Samples(number, *(getattr(self, name).flatten(0, 1) for name in Samples._fields[1:]))

    def last_samples(self) -> Samples:
        """The B that clips end with."""
        return Samples(self.number, *(getattr(self, name)[:, -1] for name in Samples._fields[1:]))

    @property
    def length(self) -> int:
        """T."""
        return int(self.command.shape[1])

    def __len__(self) -> int:
        return int(self.command.shape[0])


class ClipData(Dataset[Clips]):
    """All clips of T samples that some packed drives hold, by (drive, first sample).

    Without `with_images` the clips hold none: for those who train on cached BEVs. Without `with_labels`
    they hold neither occupancy, flow nor drivable area, most of a clip's bytes: whoever needs them now and
    then asks for the `labels` of a few. Raises DriveError if no drive is long enough.
    """

    def __init__(
        self,
        root: Path,
        names: list[str],
        grid: OccupancyGrid,
        clip: int,
        with_images: bool = True,
        with_labels: bool = True,
    ) -> None:
        self.root, self.names, self.grid, self.clip = root, names, grid, clip
        self.with_images, self.with_labels = with_images, with_labels
        self.packed: list[PackedDrive] = []
        self._images: list[NDArray[np.uint8]] = []
        for name in names:
            packed, images = read_packed(root, name)
            self.packed.append(packed)
            self._images.append(images)
        self._first_number = np.cumsum([0, *(len(packed) for packed in self.packed)])
        self.starts = [
            (drive, start)
            for drive, packed in enumerate(self.packed)
            for start in range(len(packed) - clip + 1)
            if all(packed.follows(start + k) for k in range(1, clip))
        ]
        if not self.starts:
            raise DriveError(
                f"{root}: no drive of {len(names)} has {clip} samples in a row: take longer drives or a "
                "smaller data.clip"
            )

    @property
    def samples(self) -> int:
        return int(self._first_number[-1])

    def __len__(self) -> int:
        return len(self.starts)

    def images(self, drive: int) -> NDArray[np.uint8]:
        """(S, N, h, w, 3) of a drive, mapped into memory."""
        return self._images[drive]

    def motion_into(
        self, drive: int, start: int, count: int = 1
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`ego_motion` (T, 7) and `bev_valid` (T,) of `count` samples in a row whose states come from the one
        before."""
        packed = self.packed[drive]
        if not packed.follows(start):
            return _ego_motion(packed, start, count)
        motion, valid = _ego_motion(packed, start - 1, count + 1)
        return motion[1:], valid[1:]

    def last_number(self, index: int) -> int:
        """`Clips.number` of a clip."""
        drive, start = self.starts[index]
        return int(self._first_number[drive]) + start + self.clip - 1

    def place(self, number: int) -> tuple[int, int]:
        """Drive and sample of a `Clips.number`."""
        drive = int(np.searchsorted(self._first_number, number, side="right")) - 1
        return drive, number - int(self._first_number[drive])

    def order(self, epoch: int, seed: int) -> NDArray[np.int64]:
        """Indices of clips that together hold every sample of a drive about once, shuffled."""
        generator = np.random.default_rng([seed, epoch])
        phases = generator.integers(self.clip, size=len(self.packed))
        chosen = [
            index
            for index, (drive, start) in enumerate(self.starts)
            if start % self.clip == phases[drive] % (len(self.packed[drive]) - self.clip + 1)
        ]
        return generator.permutation(np.array(chosen or range(len(self.starts)), dtype=np.int64))

    def __getitem__(self, index: int) -> Clips:
        """One clip, B = 1."""
        drive, start = self.starts[index]
        packed, images = self.packed[drive], self._images[drive]
        chosen = slice(start, start + self.clip)
        last = start + self.clip - 1
        if self.with_images:
            motion, valid = _ego_motion(packed, start, self.clip)
        else:  # the first sample's cached BEV has a past as well
            motion, valid = self.motion_into(drive, start, self.clip)
        values: dict[str, NDArray[np.generic] | np.generic] = {
            "images": np.array(images[chosen] if self.with_images else images[chosen, :0]),
            "camera_valid": packed.camera_valid[chosen].astype(np.float32),
            "intrinsics": packed.intrinsics[chosen],
            "ego_from_camera": packed.ego_from_camera[chosen],
            "ego_motion": motion,
            "bev_valid": valid,
            "command": packed.command[chosen],
            "future": packed.future[chosen],
            "future_valid": packed.future_valid[chosen],
            "driven": packed.driven[last],
            "driven_valid": packed.driven_valid[last],
            "speed": packed.motion[chosen, 0],
            "number": np.int64(self._first_number[drive] + last),
            "as_driven": np.bool_(True),
        }
        values |= self._all_labels(packed, start) if self.with_labels else _NO_LABELS
        return Clips(**{name: torch.from_numpy(np.asarray(value))[None] for name, value in values.items()})

    def _all_labels(self, packed: PackedDrive, start: int) -> dict[str, NDArray[np.generic]]:
        last = start + self.clip - 1
        occupancy, flow = _labels(packed, last, self.grid)
        past = [_labels(packed, sample, self.grid, frames=1)[0] for sample in range(start, last)]
        past_drivable = [_drivable(packed, sample, self.grid) for sample in range(start, last)]
        return {
            "past_occupancy": np.concatenate([occupancy[:0], *past]),
            "past_drivable": np.array(past_drivable, bool).reshape(-1, *occupancy.shape[1:3]),
            "occupancy": occupancy,
            "flow": flow,
            "drivable": _drivable(packed, last, self.grid),
            "labels_valid": packed.labels_valid[last],
        }

    def labels(self, number: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Of the samples `number` (B,): `Clips.occupancy` and `Clips.drivable`."""
        places = [self.place(int(one)) for one in number]
        occupancy = [_labels(self.packed[drive], sample, self.grid)[0] for drive, sample in places]
        drivable = [_drivable(self.packed[drive], sample, self.grid) for drive, sample in places]
        return (
            torch.from_numpy(np.stack(occupancy)).to(device),
            torch.from_numpy(np.stack(drivable)).to(device),
        )


_NO_LABELS: dict[str, NDArray[np.generic]] = {
    "past_occupancy": np.zeros((0, 0, 0, 0), np.uint8),
    "past_drivable": np.zeros((0, 0, 0), bool),
    "occupancy": np.zeros((0, 0, 0, 0), np.uint8),
    "flow": np.zeros((0, 2, 0, 0), np.float32),
    "drivable": np.zeros((0, 0), bool),
    "labels_valid": np.zeros(0, bool),
}


def _ego_motion(
    packed: PackedDrive, start: int, count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`ego_motion` (T, 7) and `bev_valid` (T,): the first sample has no past."""
    motion, valid = np.zeros((count, EGO_MOTION), np.float32), np.zeros(count, np.float32)
    motion[:, 4:] = packed.motion[start : start + count][:, [0, 0, 2]]
    for k in range(1, count):
        last_from_ego = inverse(packed.map_from_ego[start + k - 1]) @ packed.map_from_ego[start + k]
        seconds = (packed.stamps[start + k] - packed.stamps[start + k - 1]) / 1e9
        motion[k, :4] = [*last_from_ego[:2, 3], yaw_of(last_from_ego), seconds]
        motion[k, 4] = packed.motion[start + k - 1, 0]
        valid[k] = 1.0
    return motion, valid


def _drivable(packed: PackedDrive, index: int, grid: OccupancyGrid) -> NDArray[np.bool_]:
    """(X, Y)."""
    shape = (grid.bev.cells_x, grid.bev.cells_y)
    return np.unpackbits(packed.drivable[index], count=shape[0] * shape[1]).astype(bool).reshape(shape)


def _labels(
    packed: PackedDrive, index: int, grid: OccupancyGrid, frames: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Occupancy (L, X, Y, Z) and flow (L, 2, X, Y), of the first `frames`, by default all."""
    frames = frames or 1 + grid.future
    shape = (frames, grid.bev.cells_x, grid.bev.cells_y)
    rows = slice(packed.cell_starts[index], packed.cell_starts[index + 1])
    cells = packed.cells[rows]
    # Frames lie one after the other.
    count = int(np.searchsorted(cells, frames * shape[1] * shape[2]))
    rows = slice(rows.start, rows.start + count)
    cells = cells[:count]
    occupancy = np.zeros((int(np.prod(shape)), grid.cells_z), np.uint8)
    occupancy[cells] = packed.classes[rows]
    flow = np.zeros((frames, 2, shape[1] * shape[2]), np.float32)
    frame, cell = np.divmod(cells, shape[1] * shape[2])
    flow[frame, :, cell] = packed.flow[rows]
    return occupancy.reshape(*shape, grid.cells_z), flow.reshape(frames, 2, *shape[1:])


def join(clips: list[Clips]) -> Clips:
    """Clips of B = 1 to one batch."""
    return Clips(*(torch.cat([getattr(c, entry.name) for c in clips]) for entry in fields(Clips)))
