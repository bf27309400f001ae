"""A frozen world model's BEVs of every packed sample, made once and kept beside the data."""

from __future__ import annotations

from operator import itemgetter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wpt_training.models.perception import Perception
from wpt_training.training.checkpoint import weights_digest
from wpt_training.training.clips import ClipData, Progress
from wpt_training.whole_files import written_whole

PASSES_AT_ONCE = 16  # samples whose images are looked at in one call


class BevCache:
    """BEVs by `Clips.number`; the recurrent state runs through a drive, as it does on the road."""

    def __init__(self, data: ClipData, bevs: list[NDArray[np.float16]]) -> None:
        self._data, self._bevs = data, bevs

    def clip(self, number: Tensor, length: int, device: torch.device) -> list[Tensor]:
        """BEVs (B, X·Y, C) of the `length` samples up to each `number` (B,), oldest first."""
        result = []
        for back in range(length - 1, -1, -1):
            rows = [self._one(int(last) - back) for last in number]
            result.append(torch.from_numpy(np.stack(rows)).to(device, torch.float32))
        return result

    def _one(self, number: int) -> NDArray[np.float16]:
        drive, sample = self._data.place(number)
        row: NDArray[np.float16] = self._bevs[drive][sample]
        return row


def cached_bevs(
    perception: Perception, data: ClipData, device: torch.device, progress: Progress | None = None
) -> BevCache:
    """Reads what is there, filed under the weights that made it; makes what is missing. A store keeps the
    BEVs of one perception."""
    identity, bevs = weights_digest(perception), []
    perception = perception.to(device).eval()
    for done, name in enumerate(data.names):
        path = data.root / name / f"bev-{identity}.npy"
        if not path.is_file():
            made = _drive_bevs(perception, data, done, device)
            with written_whole(path) as partial, partial.open("wb") as stream:
                np.save(stream, made)
            for old in path.parent.glob("bev-*.npy"):
                if old != path:
                    old.unlink(missing_ok=True)
        bevs.append(np.load(path, mmap_mode="r"))
        if progress is not None:
            progress(done + 1, len(data.names))
    return BevCache(data, bevs)


@torch.inference_mode()
def _drive_bevs(
    perception: Perception, data: ClipData, drive: int, device: torch.device
) -> NDArray[np.float16]:
    packed, images = data.packed[drive], data.images(drive)
    bev = perception.initial_bev(1)
    made = np.empty((len(packed), *bev.shape[1:]), np.float16)
    for first in range(0, len(packed), PASSES_AT_ONCE):
        rows = slice(first, min(first + PASSES_AT_ONCE, len(packed)))
        seen = perception.look(
            torch.from_numpy(np.array(images[rows])).to(device),
            torch.from_numpy(packed.intrinsics[rows]).to(device),
        )
        for k, sample in enumerate(range(rows.start, rows.stop)):
            motion, valid = data.motion_into(drive, sample)
            bev = perception.step(
                seen.each(itemgetter(slice(k, k + 1))),
                torch.from_numpy(packed.camera_valid[sample : sample + 1]).to(device, torch.float32),
                torch.from_numpy(packed.ego_from_camera[sample : sample + 1]).to(device),
                torch.from_numpy(motion).to(device), bev, torch.from_numpy(valid).to(device),
            )  # fmt: skip
            made[sample] = bev[0].cpu().numpy()
    return made
