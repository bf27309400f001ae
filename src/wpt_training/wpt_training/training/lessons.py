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
from wpt_training.whole_files import written_whole

BATCH = 16  # clips


class Lesson(NamedTuple):
    """Of B samples: the best candidate's plan `query` (B, C), the plan to be `expected` (B, 6, 2) and its
    score, the `prior` (B,), and, with a reward model, all candidates' `rewards`; `best` (B,) index."""

    query: Tensor
    expected: Tensor
    prior: Tensor
    rewards: PredictedRewards | None
    best: Tensor


def lesson_of(output: TeacherOutput) -> Lesson:
    """What a student learns from a teacher's plans."""
    rows = torch.arange(len(output.best))
    return Lesson(
        output.queries[rows, output.best],
        output.trajectories[:, 0].detach(),
        output.scores[:, 0].detach(),
        output.rewards,
        output.best,
    )


def is_taught(number: Tensor, share: float) -> Tensor:
    """Whether the teacher speaks about the samples `number` (B,): a `share` of them, always the same."""
    # Knuth's multiplicative hash: neighbours in a drive are not alike.
    return (number * 2654435761 % 2**32).double() < share * 2**32


class Lessons:
    """Lessons by `Clips.number`."""

    def __init__(self, table: dict[str, NDArray[np.float32]]) -> None:
        self._table = {name: torch.from_numpy(values) for name, values in table.items()}

    def at(self, number: Tensor, device: torch.device) -> Lesson:
        """Of the samples `number` (B,)."""
        rows = number.cpu()
        query, expected, prior, best = (
            self._table[name][rows].to(device) for name in ("query", "expected", "prior", "best")
        )
        rewards = None
        if "imitation" in self._table:
            rewards = PredictedRewards(
                self._table["imitation"][rows].to(device), self._table["simulation"][rows].to(device)
            )
        return Lesson(query, expected, prior, rewards, best.long())


def taught_lessons(
    teacher: Teacher,
    identity: str,
    cache: BevCache,
    data: ClipData,
    folder: Path,
    device: torch.device,
    share: float = 1.0,
    mixed: bool = False,
    progress: Progress | None = None,
) -> Lessons:
    """Reads `folder`/lessons-<identity>.npz, or makes it for a `share` of the samples, in bfloat16 if
    `mixed`."""
    path = folder / f"lessons-{identity}.npz"
    if not path.is_file():
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            table = _all_lessons(teacher, cache, data, device, share, progress)
        with written_whole(path) as partial, partial.open("wb") as stream:
            np.savez(stream, **table)  # type: ignore[arg-type]
        for old in folder.glob("lessons-*.npz"):
            if old != path:
                old.unlink(missing_ok=True)
    with np.load(path) as stored:
        return Lessons(dict(stored))


@torch.inference_mode()
def _all_lessons(
    teacher: Teacher,
    cache: BevCache,
    data: ClipData,
    device: torch.device,
    share: float,
    progress: Progress | None,
) -> dict[str, NDArray[np.float32]]:
    teacher = teacher.to(device).eval()
    table: dict[str, NDArray[np.float32]] = {}
    taught = is_taught(torch.tensor([data.last_number(index) for index in range(len(data))]), share)
    indices = taught.nonzero()[:, 0].tolist()
    for first in range(0, len(indices), BATCH):
        clips = join([data[index] for index in indices[first : first + BATCH]]).to(device)
        output, _ = teacher_plans(teacher, cache, clips)
        lesson = lesson_of(output)
        rows = {
            "query": lesson.query, "expected": lesson.expected, "prior": lesson.prior, "best": lesson.best,
        }  # fmt: skip
        if lesson.rewards is not None:
            rows |= lesson.rewards._asdict()
        numbers = clips.number.cpu().numpy()
        for name, values in rows.items():
            if name not in table:
                table[name] = np.zeros((data.samples, *values.shape[1:]), np.float32)
            table[name][numbers] = values.float().cpu().numpy()
        if progress is not None:
            progress(min(first + BATCH, len(indices)), len(indices))
    return table
