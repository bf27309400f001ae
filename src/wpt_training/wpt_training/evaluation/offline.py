"""Plans of a bundle on a whole drive without a ROS graph: the node's own core, fed from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wpt_planner.camera_rig import CameraImage, CameraRig, CameraSet
from wpt_planner.ego_motion import EgoMotion, OdometrySample
from wpt_planner.parameters import PlannerParameters
from wpt_planner.plan_guard import GuardLimits
from wpt_planner.planner_core import PassRefused, PlannedPass, PlannerCore
from wpt_planner.policy_bundle import open_bundle
from wpt_planner.policy_runtime import PolicyRuntime
from wpt_planner.stage_latency import StageLatency
from wpt_training.drives.drive import Drive
from wpt_training.evaluation.matching import MatchedPlan, score_matched
from wpt_training.evaluation.open_loop import OpenLoopScores


@dataclass(frozen=True)
class DriveResult:
    """`passes` in order; `scores` of the policy and of constant velocity over the keyframes."""

    passes: list[PlannedPass]
    refused: list[str]
    scores: list[OpenLoopScores]
    latency: StageLatency


def evaluate_drive(
    drive: Drive,
    bundle_folder: Path,
    parameters: PlannerParameters | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DriveResult:
    """Plans on every anchor image, scores at the keyframes. Raises BundleError."""
    names = [camera.name for camera in drive.cameras]
    parameters = parameters or PlannerParameters(cameras=names, anchor_camera=names[0])
    bundle = open_bundle(bundle_folder, expected_cameras=len(names))
    rig = CameraRig(names, parameters.anchor_camera, parameters.tolerance, parameters.max_wait)
    runtime = PolicyRuntime(bundle, "cpu", parameters.threads)
    core = PlannerCore(runtime, rig, GuardLimits(), parameters.max_gap, parameters.decode_threads)
    ego_motion = _ego_motion(drive, parameters)
    calibrations = {camera.name: camera for camera in drive.cameras}
    passes: list[PlannedPass] = []
    refused: list[str] = []
    latency = StageLatency()
    total = len(drive.streams[0])
    for done, camera_set in enumerate(camera_sets(drive, rig)):
        command = drive.command_at(camera_set.stamp)
        try:
            planned = core.plan(camera_set, calibrations, ego_motion, command, 0.0)
        except PassRefused as refusal:
            refused.append(str(refusal))
            continue
        finally:
            if progress is not None:
                progress(done + 1, total)
        passes.append(planned)
        latency.record(planned.seconds)
    core.close()
    return DriveResult(
        passes, refused, score_matched(drive, matched_plans(drive, passes, bundle.manifest.role)), latency
    )


def camera_sets(drive: Drive, rig: CameraRig) -> Iterator[CameraSet]:
    """The sets that the node would make of the drive's images, arriving in the order of their stamps."""
    order = sorted((view.stamp, index, view) for index, stream in enumerate(drive.streams) for view in stream)
    for stamp, index, view in order:
        deadline = rig.deadline()
        if deadline is not None and stamp > deadline and (late := rig.take(stamp)) is not None:
            yield late
        rig.store(index, CameraImage(stamp, stamp, view.stored.read()))
        if (ready := rig.take(stamp)) is not None:
            yield ready
    if (last := rig.take(2**62)) is not None:
        yield last


def matched_plans(drive: Drive, passes: list[PlannedPass], policy: str) -> list[MatchedPlan]:
    """Each pass with the recorded future at its reference time."""
    return [
        MatchedPlan(planned.stamp, policy, planned.trajectory, *drive.ego.future(planned.stamp))
        for planned in passes
    ]


def _ego_motion(drive: Drive, parameters: PlannerParameters) -> EgoMotion:
    motion = EgoMotion(
        keep=1e6,
        max_speed=parameters.max_speed,
        max_yaw_rate=parameters.max_yaw_rate,
        max_extrapolation=parameters.odometry_timeout,
    )
    ego = drive.ego
    for i in range(len(ego.stamps)):
        motion.add(
            OdometrySample(
                int(ego.stamps[i]), ego.positions[i], ego.quaternions[i],
                float(ego.speeds[i]), float(ego.yaw_rates[i]),
            )
        )  # fmt: skip
    return motion
