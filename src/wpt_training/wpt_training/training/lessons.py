"""What a frozen teacher says about every sample, made once: the online distillation's other half."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wpt_training.models.reward_model import PredictedRewards
from wpt_training.models.teacher import Teacher, TeacherOutput
from wpt_training.training.bev_cache import BevCache
from wpt_training.training.clips import ClipData, Progress, join
from wpt_training.training.teacher import teacher_plans

BATCH = 16  # clips


class Lesson(NamedTuple):
    """Of B samples: the best candidate's plan `query` (B, C), and, with a reward model, all candidates'
    `rewards`; `best` (B,) index."""

    query: Tensor
    rewards: PredictedRewards | None
    best: Tensor


def lesson_of(output: TeacherOutput) -> Lesson:
    """What a student learns from a teacher's plans."""
    rows = torch.arange(len(output.best))
    return Lesson(output.queries[rows, output.best], output.rewards, output.best)


class Lessons:
    """Lessons by `Clips.number`."""

    def __init__(self, table: dict[str, NDArray[np.float32]]) -> None:
        self._table = {name: torch.from_numpy(values) for name, values in table.items()}

    def at(self, number: Tensor, device: torch.device) -> Lesson:
        """Of the samples `number` (B,)."""
        rows = number.cpu()
        query, best = self._table["query"][rows], self._table["best"][rows].long()
        rewards = None
        if "imitation" in self._table:
            rewards = PredictedRewards(
                self._table["imitation"][rows].to(device), self._table["simulation"][rows].to(device)
            )
        return Lesson(query.to(device), rewards, best.to(device))


def taught_lessons(
    teacher: Teacher,
    identity: str,
    cache: BevCache,
    data: ClipData,
    folder: Path,
    device: torch.device,
    mixed: bool = False,
    progress: Progress | None = None,
) -> Lessons:
    """Reads `folder`/lessons-<identity>.npz, or makes it, in bfloat16 if `mixed`."""
    path = folder / f"lessons-{identity}.npz"
    if not path.is_file():
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            table = _all_lessons(teacher, cache, data, device, progress)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.savez(stream, **table)  # type: ignore[arg-type]
        partial.rename(path)
        for old in folder.glob("lessons-*.npz"):
            if old != path:
                old.unlink(missing_ok=True)
    with np.load(path) as stored:
        return Lessons(dict(stored))


@torch.inference_mode()
def _all_lessons(
    teacher: Teacher, cache: BevCache, data: ClipData, device: torch.device, progress: Progress | None
) -> dict[str, NDArray[np.float32]]:
    teacher = teacher.to(device).eval()
    table: dict[str, NDArray[np.float32]] = {}
    for first in range(0, len(data), BATCH):
        clips = join([data[index] for index in range(first, min(first + BATCH, len(data)))]).to(device)
        output, _ = teacher_plans(teacher, cache, clips)
        lesson = lesson_of(output)
        rows = {"query": lesson.query, "best": lesson.best}
        if lesson.rewards is not None:
            rows |= lesson.rewards._asdict()
        numbers = clips.number.cpu().numpy()
        for name, values in rows.items():
            if name not in table:
                table[name] = np.zeros((data.samples, *values.shape[1:]), np.float32)
            table[name][numbers] = values.float().cpu().numpy()
        if progress is not None:
            progress(min(first + BATCH, len(data)), len(data))
    return table
