"""Between arrays and messages: pure functions, no node."""

from __future__ import annotations

import array
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, TransformStamped
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray
from wpt_msgs.msg import (
    AgentBox,
    AgentBoxes,
    CandidateTrajectories,
    PlannedTrajectory,
    RewardBreakdown,
    StageLatency,
    TrajectoryPoint,
)

from wpt_planner.calibration import CalibrationError, CameraCalibration, check_intrinsics
from wpt_planner.ego_motion import OdometrySample
from wpt_planner.geometry import Array, quaternion_from_rotation, quaternion_from_yaw
from wpt_planner.image_decoding import EncodedImage
from wpt_planner.plan_guard import PLAN_TIMES, STEP_SECONDS
from wpt_planner.policy_runtime import REWARDS, Candidates
from wpt_planner.stage_latency import StageSummary

NANOSECONDS = 1_000_000_000


def stamp_of(time: Time) -> int:
    """A message's stamp in ns."""
    return time.sec * NANOSECONDS + time.nanosec


def time_of(stamp: int) -> Time:
    """ns to a message's stamp."""
    return Time(sec=stamp // NANOSECONDS, nanosec=stamp % NANOSECONDS)


def header(stamp: int, frame: str) -> Header:
    return Header(stamp=time_of(stamp), frame_id=frame)


def image_of(message: Image | CompressedImage) -> EncodedImage:
    """The message's bytes, not copied."""
    if isinstance(message, CompressedImage):
        return EncodedImage(np.frombuffer(message.data, np.uint8), "compressed")
    return EncodedImage(
        np.frombuffer(message.data, np.uint8),
        message.encoding,
        message.width,
        message.height,
        message.step,
    )


def compressed_image(data: bytes, stamp: int, frame: str) -> CompressedImage:
    # rclpy takes an array.array as it is; bytes it would check element by element.
    return CompressedImage(header=header(stamp, frame), format="jpeg", data=array.array("B", data))


def raw_image(pixels: np.ndarray, stamp: int, frame: str) -> Image:
    """RGB pixels (H, W, 3) uint8 as bgr8, the encoding most drivers publish."""
    height, width = pixels.shape[:2]
    data = array.array("B", np.ascontiguousarray(pixels[..., ::-1]).tobytes())
    return Image(
        header=header(stamp, frame), height=height, width=width, encoding="bgr8", step=width * 3, data=data
    )


def calibration_of(message: CameraInfo, name: str, ego_from_camera: Array) -> CameraCalibration:
    """Raises CalibrationError when the intrinsics cannot be used."""
    intrinsics = np.asarray(message.k, dtype=np.float64).reshape(3, 3)
    problem = check_intrinsics(intrinsics, message.width, message.height)
    if problem:
        raise CalibrationError(problem)
    return CameraCalibration(name, intrinsics, ego_from_camera, message.width, message.height)


def camera_info(calibration: CameraCalibration, stamp: int, frame: str) -> CameraInfo:
    """Undistorted, as nuScenes' images are."""
    k = calibration.intrinsics
    return CameraInfo(
        header=header(stamp, frame),
        width=calibration.width,
        height=calibration.height,
        distortion_model="plumb_bob",
        d=[0.0] * 5,
        k=k.flatten().tolist(),
        r=np.eye(3).flatten().tolist(),
        p=np.hstack([k, np.zeros((3, 1))]).flatten().tolist(),
    )


def odometry_sample(message: Odometry) -> OdometrySample:
    position, orientation = message.pose.pose.position, message.pose.pose.orientation
    return OdometrySample(
        stamp_of(message.header.stamp),
        np.array([position.x, position.y, position.z]),
        np.array([orientation.w, orientation.x, orientation.y, orientation.z]),
        message.twist.twist.linear.x,
        message.twist.twist.angular.z,
    )


def odometry(sample: OdometrySample, frame: str, child_frame: str) -> Odometry:
    message = Odometry(header=header(sample.stamp, frame), child_frame_id=child_frame)
    message.pose.pose = pose(sample.position, sample.quaternion)
    message.twist.twist.linear.x = float(sample.speed)
    message.twist.twist.angular.z = float(sample.yaw_rate)
    return message


def pose(position: Array, quaternion: Array) -> Pose:
    """position (3,) m, quaternion (w, x, y, z)."""
    x, y, z = (float(v) for v in position)
    qw, qx, qy, qz = (float(v) for v in quaternion)
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(w=qw, x=qx, y=qy, z=qz))


def transform(parent_from_child: Array, stamp: int, parent: str, child: str) -> TransformStamped:
    """(4, 4) as TF wants it."""
    message = TransformStamped(header=header(stamp, parent), child_frame_id=child)
    translation, rotation = message.transform.translation, message.transform.rotation
    translation.x, translation.y, translation.z = (float(v) for v in parent_from_child[:3, 3])
    quaternion = quaternion_from_rotation(parent_from_child[:3, :3])
    rotation.w, rotation.x, rotation.y, rotation.z = (float(v) for v in quaternion)
    return message


def trajectory_points(trajectory: Array, speed: float) -> list[TrajectoryPoint]:
    """(6, 2) to points with heading, speed, acceleration and yaw rate by finite differences.

    `speed` m/s is the ego's at time 0, the start of the first difference.
    """
    if not np.all(np.isfinite(trajectory)):
        raise ValueError("a trajectory that is not finite must not be published")
    steps = np.diff(np.vstack([np.zeros(2), trajectory]), axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    headings = np.zeros(len(steps))
    heading = 0.0
    for i, (step, length) in enumerate(zip(steps, lengths, strict=True)):
        # A point that hardly moves keeps the heading of the one before.
        heading = math.atan2(step[1], step[0]) if length > 0.1 else heading
        headings[i] = heading
    speeds = lengths / STEP_SECONDS
    accelerations = np.diff(np.concatenate([[speed], speeds])) / STEP_SECONDS
    turns = np.diff(np.concatenate([[0.0], headings]))
    yaw_rates = ((turns + np.pi) % (2 * np.pi) - np.pi) / STEP_SECONDS
    return [
        TrajectoryPoint(
            time_from_start=Duration(sec=int(seconds), nanosec=round((seconds - int(seconds)) * NANOSECONDS)),
            pose=pose(np.array([*point, 0.0]), quaternion_from_yaw(point_heading)),
            longitudinal_velocity=float(point_speed),
            lateral_velocity=0.0,
            acceleration=float(acceleration),
            yaw_rate=float(yaw_rate),
        )
        for seconds, point, point_heading, point_speed, acceleration, yaw_rate in zip(
            PLAN_TIMES, trajectory, headings, speeds, accelerations, yaw_rates, strict=True
        )
    ]


def planned_points(message: PlannedTrajectory) -> Array:
    """(P, 2) x, y of a message's points."""
    return np.array([[p.pose.position.x, p.pose.position.y] for p in message.points]).reshape(-1, 2)


def path(message: PlannedTrajectory) -> Path:
    """The same points as nav_msgs/Path, each with its own time."""
    start = stamp_of(message.header.stamp)
    poses = []
    for point in message.points:
        elapsed = point.time_from_start.sec * NANOSECONDS + point.time_from_start.nanosec
        poses.append(PoseStamped(header=header(start + elapsed, message.header.frame_id), pose=point.pose))
    return Path(header=message.header, poses=poses)


def candidate_trajectories(
    message: PlannedTrajectory, candidates: Candidates, speed: float
) -> CandidateTrajectories:
    """All that the teacher chose from, with `message` as the form of each. Candidates that are not
    finite are left out."""
    finite = [i for i, way in enumerate(candidates.trajectories) if np.isfinite(way).all()]
    final = candidates.rewards[finite, REWARDS.index("final")]
    plans = [
        PlannedTrajectory(
            header=message.header,
            points=trajectory_points(candidates.trajectories[i], speed),
            source=PlannedTrajectory.SOURCE_TEACHER,
            bundle_id=message.bundle_id,
            latency=message.latency,
        )
        for i in finite
    ]
    rewards = [
        RewardBreakdown(
            **{name: float(value) for name, value in zip(REWARDS, candidates.rewards[i], strict=True)}
        )
        for i in finite
    ]
    return CandidateTrajectories(
        header=message.header,
        candidates=plans,
        rewards=rewards,
        selected=int(np.argmax(final)) if finite else 0,
    )


def markers(message: PlannedTrajectory) -> MarkerArray:
    """A line strip for RViz: green for the policy's plan, orange for a fallback."""
    is_fallback = message.source == PlannedTrajectory.SOURCE_FALLBACK
    color = ColorRGBA(r=1.0, g=0.6, b=0.0, a=0.9) if is_fallback else ColorRGBA(r=0.1, g=0.9, b=0.3, a=0.9)
    strip = Marker(
        header=message.header, ns="plan", id=0, type=Marker.LINE_STRIP, action=Marker.ADD, color=color
    )
    strip.scale.x = 0.4
    strip.pose.orientation.w = 1.0
    strip.points = [Point(x=0.0, y=0.0, z=0.0), *(point.pose.position for point in message.points)]
    return MarkerArray(markers=[strip])


def stage_latencies(summaries: Sequence[StageSummary]) -> list[StageLatency]:
    return [
        StageLatency(stage=s.stage, count=s.count, last=s.last, p50=s.p50, p95=s.p95, p99=s.p99)
        for s in summaries
    ]


def diagnostic(name: str, level: bytes, message: str, values: dict[str, Any]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(name=name, hardware_id="wpt_planner", level=level, message=message, values=pairs)


def agent_boxes(
    stamp: int,
    frame: str,
    centers: Array,
    sizes: Array,
    yaws: Array,
    velocities: Array,
    classes: Sequence[str],
    track_ids: Sequence[str],
) -> AgentBoxes:
    """centers and sizes (A, 3) m, yaws (A,) rad, velocities (A, 2) m/s, all in `frame`."""
    boxes = [
        AgentBox(
            class_name=classes[i],
            track_id=track_ids[i],
            pose=pose(centers[i], quaternion_from_yaw(float(yaws[i]))),
            yaw=float(yaws[i]),
            length=float(sizes[i, 0]),
            width=float(sizes[i, 1]),
            height=float(sizes[i, 2]),
            velocity_x=float(velocities[i, 0]),
            velocity_y=float(velocities[i, 1]),
        )
        for i in range(len(classes))
    ]
    return AgentBoxes(header=header(stamp, frame), boxes=boxes)
