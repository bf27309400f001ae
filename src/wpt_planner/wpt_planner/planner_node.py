"""The planner's lifecycle node: wires topics to the worker, nothing else."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from visualization_msgs.msg import MarkerArray
from wpt_msgs.msg import CandidateTrajectories, DrivingCommand, PlannedTrajectory, PlannerStatus

from wpt_planner import messages
from wpt_planner.calibration import CalibrationError
from wpt_planner.camera_rig import CameraImage, CameraRig
from wpt_planner.extrinsics import Extrinsics, ExtrinsicsError
from wpt_planner.node_parameters import ParameterError, read_parameters, refuse_changes
from wpt_planner.parameters import PlannerParameters
from wpt_planner.plan_guard import GuardLimits
from wpt_planner.planner_core import PlannerCore
from wpt_planner.planner_status import NodeNotes, diagnostics, planner_status
from wpt_planner.planner_worker import PassOutcome, PlannerWorker
from wpt_planner.policy_bundle import BundleError, open_bundle
from wpt_planner.policy_runtime import PolicyRuntime
from wpt_planner.shared_files import bundle_folder, shared_file
from wpt_planner.stage_latency import StageLatency, StageSummary

SENSOR_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
OUTPUT_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_QOS = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
INPUT_QOS = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
COMMAND_QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)

_SOURCES = {
    "student": PlannedTrajectory.SOURCE_STUDENT,
    "baseline": PlannedTrajectory.SOURCE_STUDENT,
    "teacher": PlannedTrajectory.SOURCE_TEACHER,
}


def make_core(parameters: PlannerParameters, rig: CameraRig) -> PlannerCore:
    """Opens, checks and loads the bundle the parameters name. Raises BundleError."""
    bundle = open_bundle(bundle_folder(parameters.bundle), expected_cameras=len(parameters.cameras))
    device = parameters.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    runtime = PolicyRuntime(bundle, device, parameters.threads)
    return PlannerCore(runtime, rig, guard_limits(parameters), parameters.max_gap, parameters.decode_threads)


def guard_limits(parameters: PlannerParameters) -> GuardLimits:
    return GuardLimits(
        start_distance=parameters.guard_start_distance,
        max_acceleration=parameters.guard_max_acceleration,
        max_deceleration=parameters.guard_max_deceleration,
        max_lateral_acceleration=parameters.guard_max_lateral_acceleration,
        max_curvature=parameters.guard_max_curvature,
        max_reverse=parameters.guard_max_reverse,
        max_age=parameters.guard_max_age,
        hold=parameters.guard_hold,
    )


class PlannerNode(LifecycleNode):
    """Configures and activates itself unless `autostart` is false."""

    def __init__(self) -> None:
        super().__init__("planner")
        self.parameters = read_parameters(self)
        refuse_changes(self)
        self.worker: PlannerWorker | None = None
        self._extrinsics: Extrinsics | None = None
        self._notes = NodeNotes({}, {})
        self._outcome: PassOutcome | None = None
        self._summaries: list[StageSummary] = []
        self._frames: dict[str, str] = {}
        self._publish_lock = threading.Lock()
        self._inputs: list[Subscription[Any]] = []
        self._status_timer: Timer | None = None
        self.status_publisher = self.create_publisher(PlannerStatus, "~/status", LATCHED_QOS)
        self.diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)

    # Lifecycle: rclpy swallows what these raise, so each catches, says and returns.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._say_starting()
            rig_file = shared_file("config/rig_nuscenes.yaml")
            self._extrinsics = Extrinsics(self, self.parameters, rig_file)
            worker = PlannerWorker(
                self.parameters, partial(make_core, self.parameters), self._publish, self._now
            )
            worker.start()
            self.worker = worker
            self._make_outputs()
            self._make_inputs()
        except (BundleError, CalibrationError, ExtrinsicsError, ValueError, ImportError) as error:
            self.get_logger().fatal(str(error))
            self._tear_down()
            return TransitionCallbackReturn.FAILURE
        self._status_timer = self.create_timer(1.0, self._report, clock=rclpy.clock.Clock())
        assert worker.core is not None
        bundle = worker.core.runtime.bundle
        self.get_logger().info(
            f"bundle {bundle.short_identity} ({bundle.manifest.role}"
            f"{'' if bundle.manifest.trained else ', UNTRAINED'}) on {worker.core.runtime.device}, "
            f"parameters {self.parameters.identity}"
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self.worker is not None
        self.worker.clear()
        self.worker.active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self.worker is not None
        self.worker.active = False
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._tear_down()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._tear_down()
        return TransitionCallbackReturn.SUCCESS

    def _tear_down(self) -> None:
        if self.worker is None:
            return
        self.worker.stop()
        self.worker = None
        if self._status_timer is not None:
            self.destroy_timer(self._status_timer)
            self._status_timer = None
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs.clear()

    # Topics

    def _make_outputs(self) -> None:
        self._trajectory_publisher = self.create_lifecycle_publisher(
            PlannedTrajectory, "~/output/trajectory", OUTPUT_QOS
        )
        self._path_publisher = self.create_lifecycle_publisher(PathMessage, "~/output/path", OUTPUT_QOS)
        self._marker_publisher = self.create_lifecycle_publisher(MarkerArray, "~/output/markers", OUTPUT_QOS)
        # Only a teacher has any.
        self._candidate_publisher = self.create_lifecycle_publisher(
            CandidateTrajectories, "~/output/candidates", OUTPUT_QOS
        )

    def _make_inputs(self) -> None:
        if self.parameters.synchroniser == "message_filters":
            from wpt_planner.filtered_cameras import subscribe_filtered

            self._inputs += subscribe_filtered(self, self.parameters, SENSOR_QOS, self._on_image)
        else:
            image_type = CompressedImage if self.parameters.compressed else Image
            for index, name in enumerate(self.parameters.cameras):
                self._subscribe(
                    image_type, f"~/input/{name}/image", partial(self._on_image, index), SENSOR_QOS
                )
        for name in self.parameters.cameras:
            self._subscribe(
                CameraInfo, f"~/input/{name}/camera_info", partial(self._on_camera_info, name), SENSOR_QOS
            )
        self._subscribe(Odometry, "~/input/odometry", self._on_odometry, INPUT_QOS)
        self._subscribe(DrivingCommand, "~/input/command", self._on_command, COMMAND_QOS)

    def _subscribe(self, kind: type, topic: str, callback: Callable[..., None], qos: QoSProfile) -> None:
        events = SubscriptionEventCallbacks(incompatible_qos=partial(self._on_incompatible_qos, topic))
        self._inputs.append(self.create_subscription(kind, topic, callback, qos, event_callbacks=events))

    def _on_image(self, index: int, message: Image | CompressedImage) -> None:
        arrival = time.monotonic_ns()
        if self.worker is not None:
            stamp = messages.stamp_of(message.header.stamp)
            self.worker.store_image(index, CameraImage(stamp, arrival, messages.image_of(message)))

    def _on_camera_info(self, name: str, message: CameraInfo) -> None:
        if self.worker is None or self._extrinsics is None:
            return
        try:
            pose = self._extrinsics.ego_from_camera(name, message.header.frame_id)
            self.worker.store_calibration(messages.calibration_of(message, name, pose))
        except (CalibrationError, ExtrinsicsError) as error:
            self.worker.reject_calibration(name, str(error))

    def _on_odometry(self, message: Odometry) -> None:
        if self.worker is not None:
            self.worker.store_odometry(messages.odometry_sample(message))

    def _on_command(self, message: DrivingCommand) -> None:
        if self.worker is not None and self.worker.core is not None:
            known = len(self.worker.core.runtime.bundle.manifest.commands)
            self.worker.store_command(messages.stamp_of(message.header.stamp), message.command, known)

    def _on_incompatible_qos(self, topic: str, info: object) -> None:
        self._notes.topics[topic] = (
            f"{topic}: a publisher's QoS does not fit (policy {getattr(info, 'last_policy_kind', '?')}): "
            "offer at least best effort, volatile"
        )

    # Out

    def _publish(self, outcome: PassOutcome, latency: StageLatency) -> None:
        """Called on the inference thread."""
        worker, planned = self.worker, outcome.planned
        if worker is None or worker.core is None or not worker.active:
            return
        if planned is not None:
            bundle = worker.core.runtime.bundle
            message = PlannedTrajectory(
                header=messages.header(planned.stamp, self.parameters.base_frame),
                points=messages.trajectory_points(planned.trajectory, planned.state.speed),
                source=PlannedTrajectory.SOURCE_FALLBACK
                if planned.reason
                else _SOURCES[bundle.manifest.role],
                reason=planned.reason,
                bundle_id=bundle.short_identity,
                latency=(time.monotonic_ns() - outcome.camera_set.arrival) / 1e9,
            )
            self._trajectory_publisher.publish(message)
            self._path_publisher.publish(messages.path(message))
            self._marker_publisher.publish(messages.markers(message))
            if planned.candidates is not None:
                self._candidate_publisher.publish(
                    messages.candidate_trajectories(message, planned.candidates, planned.state.speed)
                )
        self._outcome = outcome
        self._publish_status(worker)

    def _publish_status(self, worker: PlannerWorker) -> PlannerStatus:
        with self._publish_lock:
            status = planner_status(worker, self._outcome, self._summaries, self._notes, self._now())
            self.status_publisher.publish(status)
        return status

    def _report(self) -> None:
        """Once a second, by the wall: a dead camera or clock calls nobody."""
        worker = self.worker
        if worker is None:
            return
        for name in self.parameters.cameras:
            topic = self.resolve_topic_name(f"~/input/{name}/image")
            publishers = self.count_publishers(topic)
            self._notes.cameras[name] = (
                f"{publishers} publishers on {topic}: stop all but one" if publishers > 1 else ""
            )
        self._summaries = worker.latency.summaries()
        status = self._publish_status(worker)
        self.diagnostics_publisher.publish(diagnostics(status, self.get_fully_qualified_name()))
        if status.state not in (PlannerStatus.PLANNING, PlannerStatus.WARMING_UP):
            self.get_logger().warning(status.reason, throttle_duration_sec=1.0)

    def _say_starting(self) -> None:
        self.status_publisher.publish(
            PlannerStatus(
                header=messages.header(self._now(), self.parameters.base_frame),
                state=PlannerStatus.STARTING,
                reason=f"loading {self.parameters.bundle}",
                parameters_id=self.parameters.identity,
            )
        )

    def _now(self) -> int:
        return self.get_clock().now().nanoseconds


def build_only(parameters: PlannerParameters) -> None:
    """Loads, checks, warms up, prints the latency at 1600x900. Raises BundleError."""
    rig = CameraRig(parameters.cameras, parameters.anchor_camera, parameters.tolerance, parameters.max_wait)
    core = make_core(parameters, rig)
    runtime = core.runtime
    runtime.prepare(900, 1600)
    count = len(parameters.cameras)
    intrinsics = np.tile(np.array([[1266.0, 0, 800], [0, 1266, 450], [0, 0, 1]]), (count, 1, 1))
    poses = np.tile(np.eye(4), (count, 1, 1))
    valid = np.ones(count, bool)
    seconds = [
        runtime.run(step * 100_000_000, np.eye(4), 0.0, 0.0, valid, intrinsics, poses, 0).seconds
        for step in range(30)
    ]
    p50, p99 = np.percentile(seconds, [50, 99]) * 1e3
    print(
        f"{runtime.bundle.folder}: bundle {runtime.bundle.short_identity} is good on {runtime.device}; "
        f"{count} cameras of 1600x900: p50 {p50:.1f} ms, p99 {p99:.1f} ms over {len(seconds)} passes"
    )
    core.close()


def main() -> None:
    """`ros2 run wpt_planner planner`; exits with 1 when the node cannot start."""
    logging.basicConfig(level=logging.WARNING, format="[%(levelname)s] %(name)s: %(message)s")
    rclpy.init()
    try:
        sys.exit(_run())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


def _run() -> int:
    try:
        node = PlannerNode()
    except ParameterError as error:
        print(f"planner: {error}", file=sys.stderr)
        return 1
    if node.parameters.build_only:
        try:
            build_only(node.parameters)
        except BundleError as error:
            print(f"planner: {error}", file=sys.stderr)
            return 1
        return 0
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    if node.parameters.autostart:
        if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
            return 1
        node.trigger_activate()
    try:
        executor.spin()
    finally:
        node._tear_down()
        node.destroy_node()
    return 0


if __name__ == "__main__":
    main()
