"""One pass: a camera set in, a guarded plan out. Knows no ROS, holds no thread.

The node calls it with what topics brought, `wpt bag evaluate` with what a file holds: same code,
same plans.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from wpt_planner.calibration import CameraCalibration
from wpt_planner.camera_rig import CameraRig, CameraSet
from wpt_planner.ego_motion import EgoMotion, EgoState
from wpt_planner.geometry import Array, inverse
from wpt_planner.image_decoding import (
    EncodedImage,
    ImageError,
    decode_into,
    jpeg_reduction,
    reduced_intrinsics,
)
from wpt_planner.plan_guard import GuardLimits, PlanGuard
from wpt_planner.policy_runtime import Candidates, PolicyRuntime


@dataclass(frozen=True)
class PlannedPass:
    """What came of one camera set.

    `trajectory` (6, 2) in base_link at `stamp` (ns). `reason` says why it is not the policy's own
    (empty if it is). `masked` says per camera why the policy was told to ignore it (empty if it was
    not). `seconds` per stage, as in `stage_latency.STAGES`. `candidates` of a teacher.
    """

    stamp: int
    trajectory: Array
    state: EgoState
    reason: str
    masked: tuple[str, ...]
    warming_up: bool
    seconds: dict[str, float] = field(default_factory=dict)
    candidates: Candidates | None = None


class PassRefused(RuntimeError):
    """A set on which nothing can be planned, not even a stand-in: says what is missing."""


class PlannerCore:
    """Calibrated cameras + ego motion + a policy. Raises nothing but PassRefused from `plan`."""

    def __init__(
        self,
        runtime: PolicyRuntime,
        rig: CameraRig,
        limits: GuardLimits,
        max_gap: float,
        decode_threads: int = 2,
    ) -> None:
        self.runtime = runtime
        self.rig = rig
        self.guard = PlanGuard(limits)
        self.state_resets = 0
        self._max_gap = round(max_gap * 1e9)
        self._last_stamp: int | None = None
        self._decoders = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")
        count = len(rig.names)
        self._intrinsics = np.tile(np.eye(3), (count, 1, 1))
        self._ego_from_camera = np.tile(np.eye(4), (count, 1, 1))

    def prepare(self, height: int, width: int, compressed: bool) -> None:
        """Warms the policy up for cameras of this size, raw or compressed."""
        reduction = self._reduction(height, width, compressed)
        self.runtime.prepare(height // reduction, width // reduction)

    def _reduction(self, height: int, width: int, compressed: bool) -> int:
        return jpeg_reduction(height, width, self.runtime.bundle.manifest.image_height) if compressed else 1

    def close(self) -> None:
        """Ends the decoding threads."""
        self._decoders.shutdown()

    def reset(self) -> None:
        """Clears the recurrent state and the guard's memory: the past lies somewhere else."""
        if self._last_stamp is not None:
            self.state_resets += 1
        self._last_stamp = None
        self.runtime.reset()
        self.guard.forget()

    def plan(
        self,
        camera_set: CameraSet,
        calibrations: Mapping[str, CameraCalibration],
        ego_motion: EgoMotion,
        command: int,
        age: float,
    ) -> PlannedPass:
        """Plans on one set. `age` s from the reference time to now, for the guard.

        Raises PassRefused without odometry near the set's stamp, or before any image was decoded.
        """
        try:
            state = ego_motion.state_at(camera_set.stamp)
        except ValueError as error:
            raise PassRefused(f"{error}: is ~/input/odometry alive and on the cameras' clock?") from None
        self._reset_after_gap(camera_set.stamp)
        seconds: dict[str, float] = {}
        started = time.perf_counter()
        masked = self._decode(camera_set, calibrations)
        seconds["decode"] = time.perf_counter() - started

        started = time.perf_counter()
        masked = self._assemble(camera_set, calibrations, ego_motion, state, masked)
        seconds["assemble"] = time.perf_counter() - started
        warming_up = not self.runtime.is_warm
        anchor_problem = masked[self.rig.anchor]
        candidates = None
        if anchor_problem:
            name = self.rig.names[self.rig.anchor]
            guarded = self.guard.fallback(camera_set.stamp, state, f"anchor {name}: {anchor_problem}")
        else:
            valid = np.array([not problem for problem in masked])
            output = self.runtime.run(
                camera_set.stamp,
                state.map_from_ego,
                state.speed,
                state.yaw_rate,
                valid,
                self._intrinsics,
                self._ego_from_camera,
                command,
            )
            seconds["policy"] = output.seconds
            candidates = output.candidates
            started = time.perf_counter()
            guarded = self.guard.accept_or_replace(
                camera_set.stamp, output.trajectory, state, age + sum(seconds.values())
            )
            seconds["guard"] = time.perf_counter() - started
        return PlannedPass(
            camera_set.stamp, guarded.trajectory, state, guarded.reason, masked, warming_up, seconds,
            candidates,
        )  # fmt: skip

    def _reset_after_gap(self, stamp: int) -> None:
        last = self._last_stamp
        if last is not None and not 0 < stamp - last <= self._max_gap:
            self.reset()
        self._last_stamp = stamp

    def _decode(
        self, camera_set: CameraSet, calibrations: Mapping[str, CameraCalibration]
    ) -> tuple[str, ...]:
        """Why each camera is masked, empty where it was decoded into the policy's buffer."""
        problems = ["no image within the tolerance"] * len(self.rig.names)
        jobs = []
        for index, image in enumerate(camera_set.images):
            if image is None:
                continue
            problem = self._size_problem(index, image.image, calibrations)
            if problem:
                problems[index] = problem
                continue
            calibration = calibrations[self.rig.names[index]]
            compressed = image.image.encoding == "compressed"
            jobs.append(
                (index, image.image, self._reduction(calibration.height, calibration.width, compressed))
            )
        if self.runtime.image_size is None:
            raise PassRefused("no usable image has come yet")
        buffer = self.runtime.images
        # The decoders release the interpreter's lock, so two of them use two cores.
        futures = [
            (index, self._decoders.submit(decode_into, image, buffer[index], reduction))
            for index, image, reduction in jobs
        ]
        for index, future in futures:
            try:
                future.result()
                problems[index] = ""
            except ImageError as error:
                problems[index] = str(error)
        for index, problem in enumerate(problems):
            if problem:
                buffer[index] = 0
                if camera_set.images[index] is not None:
                    self.rig.health[index].rejected += 1
            self.rig.health[index].rejection = problem
        return tuple(problems)

    def _size_problem(
        self, index: int, image: EncodedImage, calibrations: Mapping[str, CameraCalibration]
    ) -> str:
        """Checks an image against its camera_info; the first good one sets the buffers' size."""
        name = self.rig.names[index]
        calibration = calibrations.get(name)
        if calibration is None:
            return "waiting for camera_info"
        size = (calibration.height, calibration.width)
        if image.encoding != "compressed" and (image.height, image.width) != size:
            return (
                f"image is {image.width}x{image.height}, camera_info says "
                f"{calibration.width}x{calibration.height}: fix the driver"
            )
        reduction = self._reduction(*size, image.encoding == "compressed")
        if self.runtime.image_size is None:
            self.runtime.prepare(size[0] // reduction, size[1] // reduction)
        elif self.runtime.image_size != (size[0] // reduction, size[1] // reduction):
            height, width = self.runtime.image_size
            return (
                f"camera_info says {calibration.width}x{calibration.height}, the other cameras "
                f"are {width * reduction}x{height * reduction}: all must have one size"
            )
        return ""

    def _assemble(
        self,
        camera_set: CameraSet,
        calibrations: Mapping[str, CameraCalibration],
        ego_motion: EgoMotion,
        state: EgoState,
        masked: tuple[str, ...],
    ) -> tuple[str, ...]:
        """Fills intrinsics and extrinsics; each camera's from the ego pose at its own exposure."""
        ego_from_map = inverse(state.map_from_ego)
        problems = list(masked)
        for index, image in enumerate(camera_set.images):
            if image is None or masked[index]:
                continue
            if self.rig.is_frozen(index) and abs(state.speed) > 1.0:
                count = self.rig.health[index].identical
                problems[index] = f"frozen: {count} identical images while the ego moves"
                continue
            calibration = calibrations[self.rig.names[index]]
            size = (calibration.height, calibration.width)
            reduction = self._reduction(*size, image.image.encoding == "compressed")
            self._intrinsics[index] = reduced_intrinsics(calibration.intrinsics, reduction)
            self._ego_from_camera[index] = calibration.ego_from_camera
            if image.stamp != camera_set.stamp and ego_motion.reachable(image.stamp):
                map_from_ego = ego_motion.state_at(image.stamp).map_from_ego
                self._ego_from_camera[index] = ego_from_map @ map_from_ego @ calibration.ego_from_camera
        return tuple(problems)
