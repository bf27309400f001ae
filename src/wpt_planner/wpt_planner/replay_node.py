"""A recorded or simulated drive on the planner's input topics, with /clock."""

from __future__ import annotations

import heapq
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import rclpy
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Empty
from wpt_msgs.msg import AgentBoxes, DrivingCommand, ExpertTrajectory, PlannedTrajectory, PlannerStatus

from wpt_planner import messages
from wpt_planner.ego_motion import OdometrySample
from wpt_planner.fault_injection import FaultError, FaultInjector, parse_fault
from wpt_training.drives.drive import Drive
from wpt_training.drives.frame import CameraView, DriveError
from wpt_training.drives.source import open_drive

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # not on PyPI: there the planner reads extrinsics from a rig file
    TFMessage = None

IMAGE_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)
RELIABLE_QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_QOS = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
CLOCK_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
CLOCK_STEP = 10_000_000  # ns

Entry = tuple[int, int, Callable[[], None]]


class ReplayNode(Node):
    """Parameters are described where they are declared. Raises DriveError, FaultError."""

    def __init__(self) -> None:
        super().__init__("replay")

        def declare(name: str, default: object) -> Parameter:
            return self.declare_parameter(name, default)

        source = declare("source", "simulated").value  # DIR[:SCENE], a bag or simulated[:SEED]
        cache = declare("cache", "").value  # folder for a simulated drive's images
        self.rate = float(declare("rate", 1.0).value)  # times real time
        self.loop = declare("loop", False).value  # again from the start when over
        self.raw = declare("raw", False).value  # Image (bgr8) instead of CompressedImage
        self.clock = declare("clock", True).value  # publish /clock
        self.wait = float(declare("wait_for_planner", 60.0).value)  # s until the planner is ready
        self.wait_for_evaluator = declare("wait_for_evaluator", False).value
        # s that a set waits for the plan of the one before; 0: never, as a vehicle's cameras
        self.plan_timeout = float(declare("plan_timeout", 0.0).value)
        planner = declare("planner", "planner").value  # the planner node's name
        faults: list[str] = self.declare_parameter("faults", Parameter.Type.STRING_ARRAY).value or []
        if not 0 < self.rate <= 100:
            raise DriveError(f"parameter rate is {self.rate}, expected more than 0, at most 100")
        self.drive = open_drive(source, Path(cache) if cache else None)
        names = [camera.name for camera in self.drive.cameras]
        self.faults = [parse_fault(text, names) for text in faults if text]
        self._ready = False
        self._awaited: int | None = None  # stamp of the anchor image whose plan is still to come
        self._planned = 0  # stamp of the newest plan
        self._make_publishers(planner, names)
        # Before the one to the status, so that a planner known to be ready knows of it.
        if self.plan_timeout > 0:
            self.create_subscription(
                PlannedTrajectory, f"{planner}/output/trajectory", self._on_plan, RELIABLE_QOS
            )
        self.create_subscription(PlannerStatus, f"{planner}/status", self._on_status, LATCHED_QOS)

    def _make_publishers(self, planner: str, names: list[str]) -> None:
        prefix = f"{planner}/input"
        kind = Image if self.raw else CompressedImage
        self._images = {n: self.create_publisher(kind, f"{prefix}/{n}/image", IMAGE_QOS) for n in names}
        self._infos = {
            n: self.create_publisher(CameraInfo, f"{prefix}/{n}/camera_info", IMAGE_QOS) for n in names
        }
        self._odometry = self.create_publisher(Odometry, f"{prefix}/odometry", RELIABLE_QOS)
        self._command = self.create_publisher(DrivingCommand, f"{prefix}/command", RELIABLE_QOS)
        self._expert = self.create_publisher(ExpertTrajectory, "expert/trajectory", RELIABLE_QOS)
        self._agents = self.create_publisher(AgentBoxes, "agents", RELIABLE_QOS)
        self._done = self.create_publisher(Empty, "~/done", LATCHED_QOS)
        self._clock_publisher = self.create_publisher(Clock, "/clock", CLOCK_QOS) if self.clock else None

        if TFMessage is not None:
            static = self.create_publisher(TFMessage, "/tf_static", LATCHED_QOS)
            stamp = int(self.drive.ego.stamps[0])
            static.publish(
                TFMessage(
                    transforms=[
                        messages.transform(c.ego_from_camera, stamp, "base_link", f"{c.name}_optical")
                        for c in self.drive.cameras
                    ]
                )
            )

    def _on_status(self, status: PlannerStatus) -> None:
        self._ready = status.ready

    def _on_plan(self, plan: PlannedTrajectory) -> None:
        self._planned = messages.stamp_of(plan.header.stamp)

    def play(self) -> None:
        """Plays to the end, or for ever with `loop`."""
        first = int(self.drive.ego.stamps[0])
        self._wait_for_planner(first)
        if not self._ready and self.wait > 0:
            self.get_logger().warning("no planner is ready: playing all the same")
        while rclpy.ok():
            self._play_once()
            if not self.loop:
                break
        # Long enough for the last plan to be made and matched.
        self._spin(1.0)
        self._done.publish(Empty())
        self._spin(0.5)

    def _wait_for_planner(self, stamp: int) -> None:
        """Sends camera_info until the planner has warmed up on it, so that no image is lost."""
        deadline = time.monotonic() + self.wait
        while rclpy.ok() and time.monotonic() < deadline:
            if self._ready and (not self.wait_for_evaluator or self._agents.get_subscription_count()):
                return
            self._tick(stamp)
            for camera in self.drive.cameras:
                info = messages.camera_info(camera, stamp, f"{camera.name}_optical")
                self._infos[camera.name].publish(info)
            self._spin(0.1)

    def _play_once(self) -> None:
        entries = timeline(self.drive, self, FaultInjector(self.faults))
        first = entries[0][0]
        started = time.monotonic()
        last_clock, last_progress = first - CLOCK_STEP, started
        span = max(1, max(entry[0] for entry in entries) - first)
        anchors = {int(stamp) for stamp in self.drive.anchor_stamps}
        self._awaited, self._planned = None, 0
        heapq.heapify(entries)
        while entries and rclpy.ok():
            due, _, publish = heapq.heappop(entries)
            while last_clock + CLOCK_STEP < due:
                last_clock += CLOCK_STEP
                self._sleep_until(started + (last_clock - first) / 1e9 / self.rate)
                self._tick(last_clock)
            self._sleep_until(started + (due - first) / 1e9 / self.rate)
            if due in anchors:
                started += self._wait_for_plan(due)
            publish()
            if time.monotonic() - last_progress > 5.0:
                last_progress = time.monotonic()
                left = (span - (due - first)) / 1e9 / self.rate
                self.get_logger().info(f"{(due - first) / span:.0%} played, {left:.0f} s left")

    def _wait_for_plan(self, due: int) -> float:
        """Until the plan of the anchor image before `due` is there or `plan_timeout` is over; returns the
        seconds it took."""
        started = time.monotonic()
        if self._awaited is None or self._awaited >= due:
            return 0.0
        while self._planned < self._awaited and rclpy.ok():
            if (remaining := started + self.plan_timeout - time.monotonic()) <= 0:
                self.get_logger().warning(f"no plan within {self.plan_timeout:g} s: playing on")
                break
            rclpy.spin_once(self, timeout_sec=remaining)
        self._awaited = None
        return time.monotonic() - started

    def _tick(self, stamp: int) -> None:
        if self._clock_publisher is not None:
            self._clock_publisher.publish(Clock(clock=messages.time_of(stamp)))

    @staticmethod
    def _sleep_until(moment: float) -> None:
        if (remaining := moment - time.monotonic()) > 0:
            time.sleep(remaining)

    def _spin(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while rclpy.ok() and (remaining := deadline - time.monotonic()) > 0:
            rclpy.spin_once(self, timeout_sec=remaining)

    # What is published, each at its stamp.

    def publish_odometry(self, index: int) -> None:
        ego = self.drive.ego
        sample = OdometrySample(
            int(ego.stamps[index]), ego.positions[index], ego.quaternions[index],
            float(ego.speeds[index]), float(ego.yaw_rates[index]),
        )  # fmt: skip
        self._odometry.publish(messages.odometry(sample, "map", "base_link"))

    def publish_command(self, stamp: int, command: int) -> None:
        self._command.publish(DrivingCommand(header=messages.header(stamp, "base_link"), command=command))

    def publish_expert(self, stamp: int) -> None:
        future, valid = self.drive.ego.future(stamp)
        self._expert.publish(
            ExpertTrajectory(
                header=messages.header(stamp, "base_link"),
                x=future[:, 0].tolist(), y=future[:, 1].tolist(), valid=[bool(v) for v in valid],
            )
        )  # fmt: skip

    def publish_agents(self, index: int) -> None:
        stamp, b = self.drive.annotations[index]
        self._agents.publish(
            messages.agent_boxes(
                stamp, "map", b.centers, b.sizes, b.yaws, b.velocities, b.classes, b.track_ids
            )
        )

    def publish_image(self, view: CameraView, data: bytes) -> None:
        camera = view.calibration
        frame = f"{camera.name}_optical"
        if self.plan_timeout > 0 and camera.name == self.drive.cameras[0].name:
            self._awaited = view.stamp
        self._infos[camera.name].publish(messages.camera_info(camera, view.stamp, frame))
        if self.raw:
            self._images[camera.name].publish(messages.raw_image(view.image(), view.stamp, frame))
        else:
            self._images[camera.name].publish(messages.compressed_image(data, view.stamp, frame))


def timeline(drive: Drive, node: ReplayNode, injector: FaultInjector) -> list[Entry]:
    """(due ns, order, publish) of everything; odometry and command come before images of their time."""
    entries: list[Entry] = []

    def add(due: int, publish: Callable[[], None]) -> None:
        entries.append((due, len(entries), publish))

    for index, stamp in enumerate(drive.ego.stamps):
        add(int(stamp), partial(node.publish_odometry, index))
    for stamp, command in drive.commands:
        add(stamp, partial(node.publish_command, stamp, command))
    for index, (stamp, _) in enumerate(drive.annotations):
        add(stamp, partial(node.publish_agents, index))
    for stamp in drive.anchor_stamps:
        add(int(stamp), partial(node.publish_expert, int(stamp)))
    start = int(drive.ego.stamps[0])
    for stream in drive.streams:
        for view in stream:
            data = bytes(view.stored.read().data)
            outcome = injector.apply(view.calibration.name, (view.stamp - start) / 1e9, data)
            if outcome is not None:
                faulty, late = outcome
                add(view.stamp + round(late * 1e9), partial(node.publish_image, view, faulty))
    return entries


def main() -> None:
    """`ros2 run wpt_planner replay --ros-args -p source:=DIR`."""
    rclpy.init()
    try:
        node = ReplayNode()
        node.play()
    except (DriveError, FaultError) as error:
        print(f"replay: {error}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
