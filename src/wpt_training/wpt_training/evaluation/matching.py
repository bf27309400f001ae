"""Plans matched with what the recorded driver did, by stamp; scored at the annotated moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wpt_planner.geometry import Array
from wpt_planner.plan_guard import PLAN_TIMES
from wpt_training.drives.drive import MATCH_TOLERANCE, Drive
from wpt_training.drives.frame import Boxes
from wpt_training.evaluation.baselines import constant_velocity
from wpt_training.evaluation.open_loop import GroundTruth, OpenLoopScores


@dataclass(frozen=True)
class MatchedPlan:
    """`plan` (6, 2) or None if none was made for this reference time; `future` (6, 2) and `valid`
    (6,) of the recorded driver, all in base_link at `stamp` (ns)."""

    stamp: int
    policy: str
    plan: Array | None
    future: Array
    valid: NDArray[np.bool_]


def keyframe_stamps(stamps: list[int], annotations: tuple[tuple[int, Boxes], ...]) -> set[int]:
    """For each annotation the nearest reference time, if it lies within the tolerance."""
    if not stamps:
        return set()
    at = np.array(sorted(stamps), dtype=np.int64)
    nearest = ((int(at[np.argmin(np.abs(at - stamp))]), stamp) for stamp, _ in annotations)
    return {reference for reference, stamp in nearest if abs(reference - stamp) <= MATCH_TOLERANCE}


def boxes_at_steps(drive: Drive, stamp: int) -> list[Boxes | None]:
    """Road users at each plan step in the map frame; None after the last annotation."""
    last = drive.annotations[-1][0] if drive.annotations else -1
    steps = [stamp + round(seconds * 1e9) for seconds in PLAN_TIMES]
    return [drive.boxes_at(at) if at <= last + MATCH_TOLERANCE else None for at in steps]


def score_matched(drive: Drive, matched: list[MatchedPlan]) -> list[OpenLoopScores]:
    """The policy's score and constant velocity's, on the same reference times."""
    keyframes = keyframe_stamps([entry.stamp for entry in matched], drive.annotations)
    policy = matched[0].policy if matched else "policy"
    ours, straight = OpenLoopScores(policy), OpenLoopScores("constant velocity")
    for entry in matched:
        if entry.stamp not in keyframes or entry.plan is None or not entry.valid.any():
            continue
        truth = GroundTruth.from_map(
            entry.future, entry.valid, drive.ego.pose_at(entry.stamp), boxes_at_steps(drive, entry.stamp),
            drive.boxes_at(entry.stamp),
        )  # fmt: skip
        ours.add(entry.plan, truth)
        straight.add(constant_velocity(drive.ego.motion_at(entry.stamp)[0]), truth)
    return [ours, straight]
