"""The simulated world on the planner's topics: follows the plans that come back.

Time stands still until the plan for the present images has come, so that a route ends as it does in
one process; how long the plan took is reported.
"""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import rclpy
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from wpt_msgs.msg import DrivingCommand, PlannedTrajectory, PlannerStatus

from wpt_planner import messages
from wpt_planner.calibration import CalibrationError
from wpt_planner.geometry import Array
from wpt_planner.replay_node import CLOCK_QOS, IMAGE_QOS, LATCHED_QOS, RELIABLE_QOS
from wpt_training.drives.frame import DriveError
from wpt_training.evaluation.closed_loop import score_route, summarise
from wpt_training.evaluation.policies import odometry_sample
from wpt_training.evaluation.tables import print_closed_loop, write_json
from wpt_training.simulator.episode import Observation, drive_route
from wpt_training.simulator.recording import START_STAMP, stamp_of
from wpt_training.simulator.rig import rig_from
from wpt_training.simulator.scenarios import build_route, route_names
from wpt_training.simulator.scene import Scene


class NoPlan(RuntimeError):
    """The planner did not answer: what it says of itself."""


class SimulatorNode(Node):
    """Drives routes with whatever planner listens. Raises DriveError for unknown routes."""

    def __init__(self) -> None:
        super().__init__("simulator")
        routes: str = self.declare_parameter("routes", "bench44").value  # as `wpt evaluate closed-loop`
        planner: str = self.declare_parameter("planner", "planner").value  # the planner node's name
        self.wait = float(self.declare_parameter("wait_for_planner", 120.0).value)  # s until it is ready
        self.plan_timeout = float(self.declare_parameter("plan_timeout", 10.0).value)  # s for a plan
        self.json = str(self.declare_parameter("json", "").value)  # file for the figures
        rig_file = str(self.declare_parameter("rig_file", "").value)  # empty: config/rig_simulated.yaml
        self.names = route_names(routes)
        self.cameras = rig_from(Path(rig_file) if rig_file else None)
        prefix = f"{planner}/input"
        names = [camera.name for camera in self.cameras]
        self._images = {n: self.create_publisher(Image, f"{prefix}/{n}/image", IMAGE_QOS) for n in names}
        self._infos = {
            n: self.create_publisher(CameraInfo, f"{prefix}/{n}/camera_info", IMAGE_QOS) for n in names
        }
        self._odometry = self.create_publisher(Odometry, f"{prefix}/odometry", RELIABLE_QOS)
        self._command = self.create_publisher(DrivingCommand, f"{prefix}/command", RELIABLE_QOS)
        self._clock_publisher = self.create_publisher(Clock, "/clock", CLOCK_QOS)
        self.status: PlannerStatus | None = None
        self._plans: dict[int, Array] = {}
        self.create_subscription(PlannerStatus, f"{planner}/status", self._on_status, LATCHED_QOS)
        self.create_subscription(
            PlannedTrajectory, f"{planner}/output/trajectory", self._on_plan, RELIABLE_QOS
        )

    def _on_status(self, status: PlannerStatus) -> None:
        self.status = status

    def _on_plan(self, message: PlannedTrajectory) -> None:
        points = [[point.pose.position.x, point.pose.position.y] for point in message.points]
        self._plans[messages.stamp_of(message.header.stamp)] = np.array(points)

    def wait_for_planner(self) -> None:
        """Sends camera_info until the planner has warmed up on it. Raises NoPlan."""
        deadline = time.monotonic() + self.wait
        while not (self.status is not None and self.status.ready):
            if time.monotonic() > deadline:
                reason = self.status.reason if self.status is not None else "it says nothing"
                raise NoPlan(f"no planner is ready after {self.wait:g} s: {reason}")
            self._clock_publisher.publish(Clock(clock=messages.time_of(START_STAMP - 1_000_000_000)))
            self._publish_infos(START_STAMP - 1_000_000_000)
            self.spin(0.2)

    def spin(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            rclpy.spin_once(self, timeout_sec=remaining)

    def _publish_infos(self, stamp: int) -> None:
        for camera in self.cameras:
            info = messages.camera_info(camera, stamp, f"{camera.name}_optical")
            self._infos[camera.name].publish(info)

    def ask(self, observation: Observation, images: Array) -> Array:
        """Publishes one moment and waits for the plan made from it. Raises NoPlan."""
        stamp = stamp_of(observation.time)
        self._plans.clear()
        self._clock_publisher.publish(Clock(clock=messages.time_of(stamp)))
        self._odometry.publish(messages.odometry(odometry_sample(observation), "map", "base_link"))
        header = messages.header(stamp, "base_link")
        self._command.publish(DrivingCommand(header=header, command=observation.command))
        self._publish_infos(stamp)
        for camera, pixels in zip(self.cameras, images, strict=True):
            self._images[camera.name].publish(messages.raw_image(pixels, stamp, f"{camera.name}_optical"))
        deadline = time.monotonic() + self.plan_timeout
        while stamp not in self._plans:
            if (remaining := deadline - time.monotonic()) <= 0:
                reason = self.status.reason if self.status is not None else "it says nothing"
                raise NoPlan(f"no plan within {self.plan_timeout:g} s; the planner: {reason}")
            rclpy.spin_once(self, timeout_sec=remaining)
        return self._plans[stamp]


class TopicPolicy:
    """The planner behind the topics, as one route's policy."""

    name = "planner node"

    def __init__(self, node: SimulatorNode) -> None:
        self.node = node
        self.latencies: list[float] = []
        self._scene: Scene | None = None

    def plan(self, observation: Observation) -> Array:
        """(6, 2) in base_link. Raises NoPlan."""
        if self._scene is None:
            self._scene = Scene(observation.scenario, self.node.cameras)
        images = self._scene.look(observation.ego.map_from_ego).images.cpu().numpy()
        started = time.perf_counter()
        plan = self.node.ask(observation, images)
        self.latencies.append(time.perf_counter() - started)
        return plan


def drive(node: SimulatorNode) -> None:
    """All routes, one after the other; prints the table and the latency."""
    from rich.console import Console

    node.wait_for_planner()
    scores, latencies = [], []
    for number, name in enumerate(node.names):
        policy = TopicPolicy(node)
        log = drive_route(build_route(name), policy, plan_timeout=node.plan_timeout + 60.0)
        scores.append(score_route(log))
        latencies += policy.latencies
        left = len(node.names) - number - 1
        node.get_logger().info(f"{name}: {scores[-1].driving_score:.1f}, {left} routes left")
    summary = summarise(scores)
    console = Console()
    print_closed_loop(summary, scores, console)
    quantiles = np.percentile(latencies, [50, 95, 99]) * 1e3 if latencies else np.full(3, np.nan)
    console.print(
        "images out to plan in: p50 {:.1f} ms, p95 {:.1f} ms, p99 {:.1f} ms over {} plans".format(
            *quantiles, len(latencies)
        )
    )
    if node.json:
        content = {
            "summary": asdict(summary),
            "latency_ms": dict(zip(("p50", "p95", "p99"), quantiles.tolist(), strict=True)),
            "routes": [score.to_json() for score in scores],
        }
        write_json(Path(node.json), content)


def main() -> None:
    """`ros2 run wpt_planner simulator --ros-args -p routes:=ParkedObstacle-0`."""
    rclpy.init()
    try:
        drive(SimulatorNode())
    except (CalibrationError, DriveError, NoPlan) as error:
        print(f"simulator: {error}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
