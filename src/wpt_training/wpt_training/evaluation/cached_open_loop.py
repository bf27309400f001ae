"""Open loop on cached BEVs, many samples in one call: for the many networks of the tables that share one
perception. The plans are those of the exported bundle, to the rounding of the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wpt_planner.geometry import Array
from wpt_planner.plan_guard import PLAN_STEPS
from wpt_training.evaluation.open_loop import OpenLoopScores
from wpt_training.evaluation.packed_open_loop import FIRST
from wpt_training.export import trained_policy
from wpt_training.models.student import Student
from wpt_training.models.teacher import Teacher
from wpt_training.training.bev_cache import BevCache, cached_bevs
from wpt_training.training.checkpoint import read_state
from wpt_training.training.clips import ClipData, Clips, Progress, join
from wpt_training.training.teacher import teacher_plans

# Clips; a teacher imagines a future for each of its candidates, and their attention takes memory.
BATCH, TEACHERS_BATCH = 16, 4


def shares_perception(run: Path) -> bool:
    """Whether a run sees with the world model's perception as it is."""
    state = read_state(run)
    if state.recipe in ("teacher", "baseline-t"):
        return True
    config = state.training_config()
    recipe = config.student_recipe if state.recipe == "student" else config.baseline_recipe
    return recipe.perception == "frozen"


class Choice(NamedTuple):
    """How a teacher chooses: `by_score` of its planner, or by Eq. 14 with the simulation `rewards` named, by
    default the configured ones. A student has no choice."""

    by_score: bool = False
    rewards: tuple[str, ...] | None = None


AS_TRAINED = Choice()


@torch.inference_mode()
def score_cached(
    run: Path, data: ClipData, choices: Sequence[Choice], progress: Progress | None = None
) -> list[OpenLoopScores]:
    """A run's plans on the samples that `score_bundle` counts, if `data.clip` is no more than FIRST + 1; a
    teacher's for each of the `choices`. Raises ConfigError."""
    _, _, policy = trained_policy(run)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    policy = policy.to(device).eval()
    perception = policy.perception if isinstance(policy, Student) else policy.world.perception
    cache = cached_bevs(perception, data, device)
    # One place for all plans: small arrays kept among a teacher's large ones tear the heap to pieces.
    plans = np.empty((len(choices), len(data), PLAN_STEPS, 2))
    batch = BATCH if isinstance(policy, Student) else TEACHERS_BATCH
    for first in range(0, len(data), batch):
        rows = slice(first, min(first + batch, len(data)))
        clips = join([data[index] for index in range(rows.start, rows.stop)]).to(device)
        if isinstance(policy, Student):
            plans[:, rows] = _of_student(policy, clips, cache).double().cpu().numpy()
        else:
            plans[:, rows] = _of_teacher(policy, clips, cache, choices).double().cpu().numpy()
        if progress is not None:
            progress(rows.stop, len(data))
    return [_scored(run.name, data, made) for made in plans]


def _scored(name: str, data: ClipData, plans: Array) -> OpenLoopScores:
    """The plans (clips, 6, 2) of the samples that count."""
    scores = OpenLoopScores(name)
    for clip, plan in enumerate(plans):
        drive, sample = data.place(data.last_number(clip))
        packed = data.packed[drive]
        if sample >= FIRST and packed.future_valid[sample].any():
            scores.add(plan, packed.truth(sample), drive)
    return scores


def _of_student(student: Student, clips: Clips, cache: BevCache) -> Tensor:
    bev = cache.clip(clips.number, 1, clips.future.device)[0]
    return student.plan_on(
        bev, clips.ego_motion[:, -1], clips.command[:, -1], clips.bev_valid[:, -1]
    ).trajectory


def _of_teacher(teacher: Teacher, clips: Clips, cache: BevCache, choices: Sequence[Choice]) -> Tensor:
    """(choices, B, 6, 2)"""
    output, _ = teacher_plans(teacher, cache, clips)
    rows = torch.arange(len(output.best))
    plans = []
    for choice in choices:
        if choice.by_score or teacher.reward is None or output.rewards is None:
            best = output.scores.argmax(1)
        else:
            best = teacher.favoured(teacher.reward.final(output.rewards, None, choice.rewards)).argmax(1)
        plans.append(output.trajectories[rows, best])
    return torch.stack(plans)
