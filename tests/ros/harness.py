"""A planner process and the other side of its topics, on a ROS domain of their own."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rclpy
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMessage
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage
from wpt_msgs.msg import DrivingCommand, PlannedTrajectory, PlannerStatus

from wpt_planner import messages
from wpt_planner.ego_motion import OdometrySample

from conftest import SECOND, SPEED, picture, rig

LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)
RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
_domains = itertools.count(os.getpid() % 90 + 5)


def environment(domain: int) -> dict[str, str]:
    return dict(os.environ, ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")


def node_command(module: str, **parameters: object) -> list[str]:
    arguments = []
    for name, value in parameters.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        arguments += ["-p", f"{name}:={text}"]
    return [sys.executable, "-m", f"wpt_planner.{module}", "--ros-args", *arguments]


def run_planner(timeout: float = 60, **parameters: object) -> subprocess.CompletedProcess[str]:
    """Runs a planner that is expected to end by itself."""
    return subprocess.run(
        node_command("planner_node", **parameters),
        env=environment(next(_domains)), capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


class Harness:
    """Publishes what a vehicle would; keeps what the planner answers."""

    def __init__(self, log: Path, rig_file: Path, **parameters: object) -> None:
        self.domain = next(_domains)
        self.log = log
        self._stream = log.open("w")
        self.process = subprocess.Popen(
            node_command("planner_node", rig_file=rig_file, **parameters),
            env=environment(self.domain), stdout=self._stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        self.context = Context()
        rclpy.init(context=self.context, domain_id=self.domain)
        self.node = rclpy.create_node("vehicle", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.plans: list[PlannedTrajectory] = []
        self.paths: list[PathMessage] = []
        self.status: PlannerStatus | None = None
        node = self.node
        node.create_subscription(PlannedTrajectory, "/planner/output/trajectory", self.plans.append, RELIABLE)
        node.create_subscription(PathMessage, "/planner/output/path", self.paths.append, RELIABLE)
        node.create_subscription(PlannerStatus, "/planner/status", self._on_status, LATCHED)
        self.images = {
            c.name: node.create_publisher(CompressedImage, f"/planner/input/{c.name}/image", RELIABLE)
            for c in rig()
        }
        self.infos = {
            c.name: node.create_publisher(CameraInfo, f"/planner/input/{c.name}/camera_info", RELIABLE)
            for c in rig()
        }
        self.odometry = node.create_publisher(Odometry, "/planner/input/odometry", RELIABLE)
        self.command = node.create_publisher(DrivingCommand, "/planner/input/command", RELIABLE)
        self.position = 0.0

    def _on_status(self, status: PlannerStatus) -> None:
        self.status = status

    def wait_for(self, condition: Callable[[], object], seconds: float = 20.0, what: str = "") -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"the planner ended:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"{what or 'condition'} not reached; status: {self.status}"
            self.executor.spin_once(timeout_sec=0.05)

    def make_ready(self) -> None:
        def ready() -> bool:
            for camera in rig():
                self.infos[camera.name].publish(
                    messages.camera_info(camera, self.now(), f"{camera.name}_optical")
                )
            self.executor.spin_once(timeout_sec=0.1)
            return bool(self.status and self.status.ready)

        self.wait_for(ready, 60, "ready")

    def now(self) -> int:
        return self.node.get_clock().now().nanoseconds

    def send_odometry(self, stamp: int, x: float | None = None) -> None:
        position = np.array([self.position if x is None else x, 0.0, 0.0])
        sample = OdometrySample(stamp, position, np.array([1.0, 0, 0, 0]), SPEED, 0.0)
        self.odometry.publish(messages.odometry(sample, "map", "base_link"))

    def send_set(self, index: int, stamp: int | None = None, leave_out: str = "", **data: bytes) -> int:
        """Odometry and six images of one time; returns the stamp (ns)."""
        import cv2

        stamp = self.now() if stamp is None else stamp
        self.send_odometry(stamp)
        for number, camera in enumerate(rig()):
            if camera.name == leave_out:
                continue
            encoded = data.get(camera.name) or cv2.imencode(".jpg", picture(index, number))[1].tobytes()
            self.images[camera.name].publish(
                messages.compressed_image(encoded, stamp, f"{camera.name}_optical")
            )
        return stamp

    def drive(self, sets: int, **kwargs: object) -> list[int]:
        """`sets` sets at 10 Hz, moving on at SPEED."""
        stamps = []
        for index in range(sets):
            stamps.append(self.send_set(index, **kwargs))
            self.position += SPEED / 10
            deadline = time.monotonic() + 0.1
            while (left := deadline - time.monotonic()) > 0:
                self.executor.spin_once(timeout_sec=left)
        return stamps

    def planned(self, stamp: int) -> PlannedTrajectory | None:
        return next((p for p in self.plans if messages.stamp_of(p.header.stamp) == stamp), None)

    def close(self) -> int:
        self.process.terminate()
        code = self.process.wait(20)
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()
        self._stream.close()
        return code


__all__ = ["SECOND", "Harness", "environment", "node_command", "run_planner"]
