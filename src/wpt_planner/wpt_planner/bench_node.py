"""Six cameras for the benchmark: publishes images at a fixed rate and watches the planner."""

from __future__ import annotations

import array
import json
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import rclpy
from nav_msgs.msg import Odometry
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from wpt_msgs.msg import PlannedTrajectory, PlannerStatus

from wpt_planner import messages
from wpt_planner.calibration import load_rig
from wpt_planner.ego_motion import OdometrySample
from wpt_planner.replay_node import IMAGE_QOS, LATCHED_QOS, RELIABLE_QOS
from wpt_planner.shared_files import shared_file

RATE = 10.0  # Hz
SPEED = 5.0  # m/s
SETTLED = 10.0  # s after which the memory must stay flat


class BenchNode(Node):
    """Publishes for `seconds`, then writes what it saw to `json`."""

    def __init__(self) -> None:
        super().__init__("bench")
        self.seconds = float(self.declare_parameter("seconds", 60.0).value)
        self.raw = bool(self.declare_parameter("raw", True).value)
        self.json_file = Path(self.declare_parameter("json", "bench.json").value)
        self.planner = psutil.Process(self.declare_parameter("planner_pid", 0).value)
        self.status: PlannerStatus | None = None
        self.plans: dict[int, float] = {}
        self.memory: list[tuple[float, int]] = []
        self.cameras = load_rig(shared_file("config/rig_nuscenes.yaml"))
        kind = Image if self.raw else CompressedImage
        self.images = {
            name: self.create_publisher(kind, f"planner/input/{name}/image", IMAGE_QOS)
            for name in self.cameras
        }
        self.infos = {
            name: self.create_publisher(CameraInfo, f"planner/input/{name}/camera_info", IMAGE_QOS)
            for name in self.cameras
        }
        self.odometry = self.create_publisher(Odometry, "planner/input/odometry", RELIABLE_QOS)
        self.create_subscription(PlannerStatus, "planner/status", self._on_status, LATCHED_QOS)
        self.create_subscription(PlannedTrajectory, "planner/output/trajectory", self._on_plan, RELIABLE_QOS)
        self.payloads = self._payloads()

    def _on_status(self, status: PlannerStatus) -> None:
        self.status = status

    def _on_plan(self, plan: PlannedTrajectory) -> None:
        self.plans[messages.stamp_of(plan.header.stamp)] = plan.latency

    def _payloads(self) -> list[dict[str, array.array]]:
        """Two different sets, so that no camera looks frozen. Blots and grain over a gradient: as
        JPEG they take as long to decode as nuScenes' images."""
        generator = np.random.default_rng(0)
        sets = []
        for _ in range(2):
            payload = {}
            for name, camera in self.cameras.items():
                base = np.linspace(40, 200, camera.width, dtype=np.float32)[None, :, None]
                coarse = generator.normal(0, 30, (camera.height // 4, camera.width // 4, 3))
                blots = cv2.resize(coarse.astype(np.float32), (camera.width, camera.height))
                grain = generator.normal(0, 1, (camera.height, camera.width, 3))
                pixels = (base + blots + grain).clip(0, 255).astype(np.uint8)
                data = pixels if self.raw else cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
                payload[name] = array.array("B", data.tobytes())
            sets.append(payload)
        return sets

    def run(self) -> None:
        self._wait_until_ready()
        start, sent, late = time.monotonic(), [], []
        period = 1.0 / RATE
        for index in range(round(self.seconds * RATE)):
            deadline = start + index * period
            while (remaining := deadline - time.monotonic()) > 0:
                rclpy.spin_once(self, timeout_sec=remaining)
            stamp = self.get_clock().now().nanoseconds
            sent.append(stamp)
            late.append(time.monotonic() - deadline)
            self._publish_set(index, stamp)
            if index % round(RATE) == 0:
                self.memory.append((time.monotonic() - start, self.planner.memory_info().rss))
        self._spin(1.5)
        self._write(sent, late)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + 120
        while not (self.status and self.status.ready):
            if time.monotonic() > deadline:
                raise TimeoutError("the planner was not ready after 120 s")
            self._publish_infos(self.get_clock().now().nanoseconds)
            self._spin(0.2)

    def _publish_infos(self, stamp: int) -> None:
        for name, camera in self.cameras.items():
            self.infos[name].publish(messages.camera_info(camera, stamp, f"{name}_optical"))

    def _publish_set(self, index: int, stamp: int) -> None:
        position = np.array([SPEED * index / RATE, 0.0, 0.0])
        sample = OdometrySample(stamp, position, np.array([1.0, 0, 0, 0]), SPEED, 0.0)
        self.odometry.publish(messages.odometry(sample, "map", "base_link"))
        payload = self.payloads[index % 2]
        for name, camera in self.cameras.items():
            header = messages.header(stamp, f"{name}_optical")
            if self.raw:
                image = Image(
                    header=header, height=camera.height, width=camera.width, encoding="bgr8",
                    step=camera.width * 3, data=payload[name],
                )  # fmt: skip
            else:
                image = CompressedImage(header=header, format="jpeg", data=payload[name])
            self.images[name].publish(image)

    def _spin(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            rclpy.spin_once(self, timeout_sec=remaining)

    def _copy_floor(self) -> float:
        """Median s to copy one set's raw bytes from one buffer to another."""
        camera = next(iter(self.cameras.values()))
        source = np.zeros((len(self.cameras), camera.height, camera.width, 3), np.uint8)
        target = np.zeros_like(source)
        times = []
        for _ in range(30):
            begin = time.perf_counter()
            np.copyto(target, source)
            times.append(time.perf_counter() - begin)
        return float(np.median(times))

    def _write(self, sent: list[int], late: list[float]) -> None:
        assert self.status is not None
        planned = [stamp for stamp in sent if stamp in self.plans]
        settled = [rss for at, rss in self.memory if at >= SETTLED] or [0]
        self.json_file.write_text(
            json.dumps(
                {
                    "images": "bgr8" if self.raw else "jpeg",
                    "seconds": self.seconds,
                    "sets_sent": len(sent),
                    "sets_planned": len(planned),
                    # A set sent late comes right before the next one and is superseded by it.
                    "unplanned_sets_sent_late_ms": [
                        round(late[i] * 1e3) for i, stamp in enumerate(sent) if stamp not in self.plans
                    ],
                    "sets_dropped_by_planner": self.status.sets_dropped,
                    "fallbacks": self.status.fallbacks,
                    "memory_mib_settled": settled[0] / 2**20,
                    "memory_mib_end": settled[-1] / 2**20,
                    "copy_floor_ms": self._copy_floor() * 1e3,
                    "stages_ms": {
                        s.stage: {"p50": s.p50 * 1e3, "p95": s.p95 * 1e3, "p99": s.p99 * 1e3}
                        for s in self.status.latencies
                    },
                },
                indent=2,
            )
            + "\n"
        )


def main() -> None:
    """Started by `wpt bench node`."""
    rclpy.init()
    try:
        BenchNode().run()
    except TimeoutError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
