"""Published plans against the recorded drive: L2, collision, latency."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import rclpy
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rich.console import Console
from std_msgs.msg import Empty
from wpt_msgs.msg import AgentBoxes, ExpertTrajectory, PlannedTrajectory, PlannerStatus

from wpt_planner import messages
from wpt_planner.stage_latency import StageSummary
from wpt_training.drives.drive import Drive
from wpt_training.drives.ego_track import EgoTrack
from wpt_training.drives.frame import Boxes
from wpt_training.evaluation.matching import MatchedPlan, score_matched
from wpt_training.evaluation.tables import open_loop_rows, print_latency, print_open_loop

QUIET = 0.7  # s without a message, after which nothing is thought to be on its way
RELIABLE_QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
LATCHED_QOS = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


class EvaluatorNode(Node):
    """Collects until the replay is done, then matches by stamp and scores."""

    def __init__(self) -> None:
        super().__init__("evaluator")
        planner = str(self.declare_parameter("planner", "planner").value)
        replay = str(self.declare_parameter("replay", "replay").value)
        self.json_file = str(self.declare_parameter("json", "").value)
        self.as_published = bool(self.declare_parameter("as_published", False).value)
        self.plans: dict[int, PlannedTrajectory] = {}
        self.experts: dict[int, ExpertTrajectory] = {}
        self.annotations: dict[int, Boxes] = {}
        self.odometry: dict[int, Odometry] = {}
        self.status: PlannerStatus | None = None
        self.done = False
        subscribe = self.create_subscription
        subscribe(PlannedTrajectory, f"{planner}/output/trajectory", self._on_plan, RELIABLE_QOS)
        # After the one to the plans: a planner whose status arrives knows of that one already.
        subscribe(PlannerStatus, f"{planner}/status", self._on_status, LATCHED_QOS)
        subscribe(Odometry, f"{planner}/input/odometry", self._on_odometry, RELIABLE_QOS)
        subscribe(ExpertTrajectory, "expert/trajectory", self._on_expert, RELIABLE_QOS)
        subscribe(Empty, f"{replay}/done", self._on_done, LATCHED_QOS)

    def _on_plan(self, message: PlannedTrajectory) -> None:
        self.plans[messages.stamp_of(message.header.stamp)] = message

    def _on_status(self, message: PlannerStatus) -> None:
        if self.status is None:
            # A replay that waits for this node waits for this subscription: from now on no plan is missed.
            self.create_subscription(AgentBoxes, "agents", self._on_agents, RELIABLE_QOS)
        self.status = message

    def _on_odometry(self, message: Odometry) -> None:
        self.odometry[messages.stamp_of(message.header.stamp)] = message

    def _on_expert(self, message: ExpertTrajectory) -> None:
        self.experts[messages.stamp_of(message.header.stamp)] = message

    def _on_agents(self, message: AgentBoxes) -> None:
        self.annotations[messages.stamp_of(message.header.stamp)] = _boxes(message)

    def _on_done(self, _: Empty) -> None:
        self.done = True

    @property
    def received(self) -> int:
        """Messages that count for the report."""
        return len(self.plans) + len(self.experts) + len(self.annotations) + len(self.odometry)

    def report(self, console: Console) -> None:
        """Prints the tables and writes the JSON."""
        reached = [stamp for stamp in self.experts if stamp in self.plans]
        latencies = np.array([plan.latency for plan in self.plans.values()])
        fallbacks = sum(p.source == PlannedTrajectory.SOURCE_FALLBACK for p in self.plans.values())
        console.print(
            f"{len(reached)} of {len(self.experts)} camera sets planned on, {fallbacks} by the fallback"
        )
        content: dict[str, object] = {
            "sets": len(self.experts),
            "planned": len(reached),
            "fallbacks": fallbacks,
            "plans": [self._plan_entry(stamp, plan) for stamp, plan in sorted(self.plans.items())],
        }
        matched = self.odometry and self.annotations and reached
        scores = score_matched(self._drive(), self._matched()) if matched else []
        if scores and scores[0].l2:
            rows = open_loop_rows(scores, self.as_published)
            print_open_loop(rows, console)
            content["open_loop"] = [row.as_dict() for row in rows]
        else:
            console.print("no ground truth matched: L2 and collision are left out")
        if len(latencies):
            p50, p95, p99 = np.percentile(latencies, [50, 95, 99])
            arrival = StageSummary(
                "newest image in -> plan out", len(latencies), latencies[-1], p50, p95, p99
            )
            stages = self.status.latencies if self.status else []
            summaries = [
                StageSummary(s.stage, s.count, s.last, s.p50, s.p95, s.p99) for s in stages if s.count
            ]
            print_latency([*summaries, arrival], console)
            content["latency"] = {"p50": p50, "p95": p95, "p99": p99}
        if self.status is not None:
            content["bundle"] = self.status.bundle_id
            content["trained"] = self.status.trained
            content["cameras"] = {
                camera.name: {"received": camera.received, "rejected": camera.rejected}
                for camera in self.status.cameras
            }
        if self.json_file:
            path = Path(self.json_file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, indent=2, default=float) + "\n")

    @staticmethod
    def _plan_entry(stamp: int, plan: PlannedTrajectory) -> dict[str, object]:
        return {
            "stamp": stamp,
            "trajectory": messages.planned_points(plan).tolist(),
            "source": int(plan.source),
            "reason": plan.reason,
        }

    def _drive(self) -> Drive:
        """What is needed of the drive to compare with, out of its topics."""
        stamps = sorted(self.odometry)
        samples = [messages.odometry_sample(self.odometry[stamp]) for stamp in stamps]
        ego = EgoTrack(
            np.array(stamps, dtype=np.int64),
            np.array([s.position for s in samples]),
            np.array([s.quaternion for s in samples]),
            np.array([s.speed for s in samples]),
            np.array([s.yaw_rate for s in samples]),
        )
        return Drive("topics", (), ((),), ego, tuple(sorted(self.annotations.items())), ())

    def _matched(self) -> list[MatchedPlan]:
        return [
            MatchedPlan(
                stamp,
                "published plans",
                messages.planned_points(self.plans[stamp]) if stamp in self.plans else None,
                np.column_stack([expert.x, expert.y]),
                np.array(expert.valid, dtype=bool),
            )
            for stamp, expert in sorted(self.experts.items())
        ]


def _boxes(message: AgentBoxes) -> Boxes:
    boxes = message.boxes
    if not boxes:
        return Boxes.none()
    positions = [box.pose.position for box in boxes]
    return Boxes(
        np.array([[p.x, p.y, p.z] for p in positions]),
        np.array([[box.length, box.width, box.height] for box in boxes]),
        np.array([box.yaw for box in boxes]),
        np.array([[box.velocity_x, box.velocity_y] for box in boxes]),
        tuple(box.class_name for box in boxes),
        tuple(box.track_id for box in boxes),
    )


def _drain(node: EvaluatorNode, executor: SingleThreadedExecutor) -> None:
    """Takes in what still waits in the queues: the end is told on a topic of its own, and may overtake."""
    quiet_since = time.monotonic()
    while rclpy.ok() and time.monotonic() < quiet_since + QUIET:
        before = node.received
        executor.spin_once(timeout_sec=0.1)
        if node.received != before:
            quiet_since = time.monotonic()


def main() -> None:
    """`ros2 run wpt_planner evaluator --ros-args -p json:=FILE`; Ctrl-C reports early."""
    rclpy.init()
    node = EvaluatorNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while rclpy.ok() and not node.done:
            executor.spin_once(timeout_sec=0.5)
        _drain(node, executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    node.report(Console())
    rclpy.try_shutdown()
    sys.exit(0 if node.plans else 1)


if __name__ == "__main__":
    main()
