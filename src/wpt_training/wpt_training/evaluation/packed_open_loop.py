"""Open loop over packed drives: bundles through the node's own runtime, beside planners that see nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wpt_planner.geometry import Array
from wpt_planner.policy_bundle import open_bundle
from wpt_planner.policy_runtime import PolicyRuntime
from wpt_training.evaluation.baselines import constant_velocity
from wpt_training.evaluation.ego_status import EgoStatusPlanner
from wpt_training.evaluation.open_loop import OpenLoopScores
from wpt_training.training.clips import ClipData
from wpt_training.training.store import PackedDrive

Progress = Callable[[int, int], None]
FIRST = 2  # samples of a drive that only fill the recurrent state, left out for everybody


def score_bundle(
    bundle: Path,
    data: ClipData,
    name: str,
    missing_camera: int | None = None,
    progress: Progress | None = None,
) -> OpenLoopScores:
    """A bundle's plans on every sample, its recurrent state running through each drive. With
    `missing_camera` that camera is masked all the time. Raises BundleError."""
    cameras = data.images(0).shape[1]
    runtime = PolicyRuntime(open_bundle(bundle, expected_cameras=cameras))
    height, width = data.images(0).shape[2:4]
    runtime.prepare(height, width)
    scores = OpenLoopScores(name)
    for drive, packed in enumerate(data.packed):
        plans = drive_plans(runtime, packed, data.images(drive), missing_camera)
        _add(scores, drive, packed, plans)
        if progress is not None:
            progress(drive + 1, len(data.packed))
    return scores


def drive_plans(
    runtime: PolicyRuntime, packed: PackedDrive, images: NDArray[np.uint8], missing_camera: int | None = None
) -> list[Array]:
    """A plan (6, 2) for every sample of a drive."""
    runtime.reset()
    plans = []
    for sample in range(len(packed)):
        if sample and not packed.follows(sample):
            runtime.reset()
        valid = packed.camera_valid[sample].copy()
        runtime.images[:] = images[sample]
        if missing_camera is not None:
            valid[missing_camera] = False
            runtime.images[missing_camera] = 0
        output = runtime.run(
            int(packed.stamps[sample]), packed.map_from_ego[sample], float(packed.motion[sample, 0]),
            float(packed.motion[sample, 2]), valid, packed.intrinsics[sample],
            packed.ego_from_camera[sample], int(packed.command[sample]),
        )  # fmt: skip
        plans.append(output.trajectory)
    return plans


def score_blind(data: ClipData, training: ClipData, seed: int = 0) -> list[OpenLoopScores]:
    """Constant velocity, the ego-status MLP trained on `training`, and the recorded driver: what the metric
    itself makes of a plan without fault."""
    driver = OpenLoopScores("expert")
    straight, status = OpenLoopScores("constant velocity"), OpenLoopScores("ego-status MLP")
    planner = EgoStatusPlanner.trained(training.packed, seed)
    for drive, packed in enumerate(data.packed):
        _add(straight, drive, packed, [constant_velocity(float(motion[0])) for motion in packed.motion])
        _add(status, drive, packed, list(planner.plans(packed)))
        _add(driver, drive, packed, list(packed.future.astype(np.float64)))
    return [straight, status, driver]


def _add(scores: OpenLoopScores, drive: int, packed: PackedDrive, plans: Sequence[Array]) -> None:
    for sample in range(FIRST, len(packed)):
        if packed.future_valid[sample].any():
            scores.add(plans[sample], packed.truth(sample), drive)
