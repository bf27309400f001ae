"""Batches of clips, and what training does to them: a camera that fails, a past forgotten, an ego that is
slower.

The order of clips is a function of seed and step alone, so that a run that goes on after a kill sees
what it would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader

from wpt_training.training.clips import ClipData, Clips, join
from wpt_training.training.slowing import slow_down


def steps_of(data: ClipData, epochs: float, batch: int) -> int:
    """Training steps of so many epochs; at least one."""
    return max(1, round(epochs * len(data.order(0, 0)) / batch))


def batches(
    data: ClipData,
    batch: int,
    seed: int,
    first_step: int,
    last_step: int,
    camera_drop: float = 0.0,
    memory_drop: float = 0.0,
    slowed: float = 0.0,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Clips]:
    """The batches of steps `first_step` to `last_step` of this process; `batch` counts all processes'.

    With `camera_drop` a clip lacks one camera (never the first) with that chance, the same one in all
    its samples; with `memory_drop` its last sample has no past; with `slowed` it counts as if the ego came
    slower.
    """
    share = batch // world_size
    loader = DataLoader(
        data,
        batch_sampler=_step_indices(data, batch, seed, first_step, last_step, rank * share, share),
        collate_fn=join,
        num_workers=workers,
        worker_init_fn=_quiet_worker,
        pin_memory=torch.cuda.is_available(),
        prefetch_factor=4 if workers else None,
    )
    for step, clips in enumerate(loader, start=first_step):
        generator = np.random.default_rng([seed, step, rank])
        if camera_drop > 0:
            drop_cameras(clips, camera_drop, generator)
        if memory_drop > 0:
            kept = torch.from_numpy(generator.random(len(clips)) >= memory_drop)
            clips.bev_valid[:, -1] *= kept
        if slowed > 0:
            slow_down(clips, slowed, generator)
        yield clips


def drop_cameras(clips: Clips, chance: float, generator: np.random.Generator) -> None:
    """Blacks out one camera of some clips, as the node masks one that is dead."""
    cameras = clips.camera_valid.shape[2]
    for number in range(len(clips)):
        if cameras > 1 and generator.random() < chance:
            dead = int(generator.integers(1, cameras))
            clips.camera_valid[number, :, dead] = 0.0
            clips.images[number, :, dead] = 0


def _step_indices(
    data: ClipData, batch: int, seed: int, first: int, last: int, offset: int, share: int
) -> list[list[int]]:
    """For every step the indices of this process's clips: epochs' orders one after the other."""
    indices: list[int] = []
    epoch = 0
    while len(indices) < last * batch:
        indices += data.order(epoch, seed).tolist()
        epoch += 1
    return [indices[step * batch + offset : step * batch + offset + share] for step in range(first, last)]


def _quiet_worker(_: int) -> None:
    torch.set_num_threads(1)
