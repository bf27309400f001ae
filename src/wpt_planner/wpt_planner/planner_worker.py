"""The inference thread: owns the model from load to last run, and what callbacks leave for it.

Callbacks only store. The thread takes the newest complete set, plans, and hands the outcome on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from wpt_planner.calibration import CameraCalibration
from wpt_planner.camera_rig import CameraImage, CameraRig, CameraSet
from wpt_planner.ego_motion import EgoMotion, OdometrySample
from wpt_planner.parameters import PlannerParameters
from wpt_planner.planner_core import PassRefused, PlannedPass, PlannerCore
from wpt_planner.stage_latency import StageLatency

logger = logging.getLogger(__name__)

COMMANDS_KEPT = 64


@dataclass(frozen=True)
class PassOutcome:
    """What came of one set: a plan, or why there is none. `error`: the pass raised."""

    camera_set: CameraSet
    planned: PlannedPass | None
    reason: str = ""
    error: bool = False


@dataclass
class WorkerCounts:
    """Since activation."""

    passes: int = 0
    fallbacks: int = 0
    overruns: int = 0
    failures: int = 0


@dataclass
class InputProblems:
    """The newest complaint about each input that belongs to no camera; empty when fine."""

    odometry: str = ""
    command: str = ""
    camera_info: dict[str, str] = field(default_factory=dict)


class PlannerWorker:
    """`make_core` runs on the thread; `publish` is called there with every outcome.

    `clock` gives the node's time in ns, the one the images' stamps belong to.
    """

    def __init__(
        self,
        parameters: PlannerParameters,
        make_core: Callable[[CameraRig], PlannerCore],
        publish: Callable[[PassOutcome, StageLatency], None],
        clock: Callable[[], int],
    ) -> None:
        self.parameters = parameters
        self.rig = CameraRig(
            parameters.cameras,
            parameters.anchor_camera,
            parameters.tolerance,
            parameters.max_wait,
            parameters.frozen_after,
        )
        self.ego_motion = EgoMotion(
            max_speed=parameters.max_speed,
            max_yaw_rate=parameters.max_yaw_rate,
            max_extrapolation=parameters.odometry_timeout,
        )
        self.calibrations: dict[str, CameraCalibration] = {}
        self.problems = InputProblems()
        self.counts = WorkerCounts()
        self.latency = StageLatency()
        self.core: PlannerCore | None = None
        self.active = False
        self._make_core = make_core
        self._publish = publish
        self._clock = clock
        self._commands: deque[tuple[int, int]] = deque(maxlen=COMMANDS_KEPT)
        self._reset_reason = ""
        self._last_anchor_stamp: int | None = None
        self._wake = threading.Condition()
        self._stopping = False
        self._prepared = False
        self._loaded = threading.Event()
        self._load_error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="inference", daemon=True)

    def start(self) -> None:
        """Loads and warms up on the thread; returns when that is done, raises what it raised."""
        self._thread.start()
        self._loaded.wait()
        if self._load_error is not None:
            raise self._load_error

    def stop(self) -> None:
        """Ends the thread after the pass it is in."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    def store_image(self, index: int, image: CameraImage) -> None:
        with self._wake:
            jump = self.rig.store(index, image)
            if jump:
                self._forget_inputs(jump)
            self._wake.notify()

    def store_odometry(self, sample: OdometrySample) -> None:
        """Keeps the sample, or the reason why it cannot be used."""
        with self._wake:
            try:
                jump = self.ego_motion.add(sample)
            except ValueError as error:
                self.problems.odometry = str(error)
                return
            self.problems.odometry = ""
            if jump:
                self._reset_reason = jump
            self._wake.notify()

    def store_command(self, stamp: int, command: int, known: int) -> None:
        """A command index, valid from `stamp` (ns) on; `known` is how many the bundle has."""
        with self._wake:
            if not 0 <= command < known:
                self.problems.command = f"command {command} is unknown: expected 0 to {known - 1}"
                return
            self.problems.command = ""
            self._commands.append((stamp, command))

    def store_calibration(self, calibration: CameraCalibration) -> None:
        with self._wake:
            self.problems.camera_info.pop(calibration.name, None)
            self.calibrations[calibration.name] = calibration
            if not self._prepared:
                self._wake.notify()

    def reject_calibration(self, name: str, reason: str) -> None:
        with self._wake:
            self.problems.camera_info[name] = reason

    def clear(self) -> None:
        """Forgets all inputs and the recurrent state, e.g. on deactivation."""
        with self._wake:
            self.rig.clear()
            self.ego_motion.clear()
            self._forget_inputs("inputs cleared")

    def _forget_inputs(self, reason: str) -> None:
        self._commands.clear()
        self._last_anchor_stamp = None
        self._reset_reason = reason

    def command_at(self, stamp: int) -> int:
        """The newest command that holds at `stamp` (ns), else the default's index."""
        held = [command for since, command in self._commands if since <= stamp]
        if held:
            return held[-1]
        return ("turn_left", "turn_right", "keep_forward").index(self.parameters.default_command)

    def _work(self) -> None:
        try:
            self.core = self._make_core(self.rig)
        except Exception as error:
            self._load_error = error
            return
        finally:
            self._loaded.set()
        while (camera_set := self._next_set()) is not None:
            self._handle(camera_set)
        self.core.close()

    def _prepare(self) -> bool:
        """Warms up as soon as camera_info tells the images' size, so that no first set pays for it."""
        anchor = self.calibrations.get(self.rig.names[self.rig.anchor])
        if anchor is None or self.core is None:
            return False
        self._prepared = True
        self._wake.release()
        try:
            self.core.prepare(anchor.height, anchor.width, self.parameters.compressed)
        finally:
            self._wake.acquire()
        return True

    def _next_set(self) -> CameraSet | None:
        """Waits for a set and the odometry around it; None when the worker is to stop."""
        with self._wake:
            while not self._stopping:
                if not self._prepared and self._prepare():
                    # The lock was free meanwhile: what woke us then must be looked at now.
                    continue
                now = time.monotonic_ns()
                camera_set = self.rig.take(now)
                if camera_set is None:
                    deadline = self.rig.deadline()
                    self._wake.wait(None if deadline is None else max(0, deadline - now) / 1e9)
                    continue
                if not self.active:
                    continue
                limit = camera_set.arrival + round(self.parameters.max_wait * 1e9)
                while not self._stopping and not self.ego_motion.covers(camera_set.newest_stamp):
                    remaining = limit - time.monotonic_ns()
                    if remaining <= 0:
                        break
                    self._wake.wait(remaining / 1e9)
                return camera_set
        return None

    def _handle(self, camera_set: CameraSet) -> None:
        started = time.monotonic_ns()
        try:
            outcome = self._plan(camera_set)
        except Exception as error:
            logger.exception("a pass raised")
            self.counts.failures += 1
            outcome = self._after_error(camera_set, f"{type(error).__name__}: {error}")
        publishing = time.perf_counter()
        try:
            self._publish(outcome, self.latency)
        except Exception:
            logger.exception("publishing raised")
        finished = time.monotonic_ns()
        if outcome.planned is None:
            return
        self.counts.passes += 1
        self.counts.fallbacks += bool(outcome.planned.reason)
        seconds = dict(outcome.planned.seconds)
        seconds["age"] = (started - camera_set.arrival) / 1e9
        seconds["publish"] = time.perf_counter() - publishing
        seconds["total"] = (finished - camera_set.arrival) / 1e9
        seconds["own_share"] = seconds["total"] - seconds.get("policy", 0.0)
        seconds["capture_to_publish"] = (self._clock() - camera_set.stamp) / 1e9
        self.latency.record(seconds)
        self._count_overrun(camera_set.stamp, (finished - started) / 1e9)

    def _plan(self, camera_set: CameraSet) -> PassOutcome:
        core = self.core
        assert core is not None
        with self._wake:
            if self._reset_reason:
                logger.warning("recurrent state cleared: %s", self._reset_reason)
                self._reset_reason = ""
                core.reset()
            ego_motion = self.ego_motion.snapshot()
            calibrations = dict(self.calibrations)
            command = self.command_at(camera_set.stamp)
        age = (self._clock() - camera_set.stamp) / 1e9
        if abs(age) > self.parameters.max_input_age:
            side = "behind" if age > 0 else "ahead of"
            return PassOutcome(
                camera_set,
                None,
                f"image stamps are {abs(age):.1f} s {side} this node's clock: for a bag or a simulator "
                "set use_sim_time:=true and publish /clock, else synchronise the cameras' clock",
            )
        if not core.runtime.bundle.manifest.trained and not self.parameters.allow_untrained:
            return PassOutcome(
                camera_set,
                None,
                "the bundle is untrained (random weights): set allow_untrained:=true to publish its plans",
            )
        try:
            planned = core.plan(camera_set, calibrations, ego_motion, command, age)
        except PassRefused as refusal:
            return PassOutcome(camera_set, None, str(refusal))
        return PassOutcome(camera_set, planned, planned.reason)

    def _after_error(self, camera_set: CameraSet, reason: str) -> PassOutcome:
        """The fallback, if the ego's state is known."""
        core = self.core
        assert core is not None
        core.runtime.reset()
        try:
            state = self.ego_motion.snapshot().state_at(camera_set.stamp)
        except ValueError:
            return PassOutcome(camera_set, None, reason, error=True)
        guarded = core.guard.fallback(camera_set.stamp, state, reason)
        nothing_masked = ("",) * len(self.rig.names)
        planned = PlannedPass(
            camera_set.stamp, guarded.trajectory, state, guarded.reason, nothing_masked, True
        )
        return PassOutcome(camera_set, planned, guarded.reason, error=True)

    def _count_overrun(self, stamp: int, seconds: float) -> None:
        last, self._last_anchor_stamp = self._last_anchor_stamp, stamp
        if last is not None and 0 < (stamp - last) / 1e9 < seconds:
            self.counts.overruns += 1
