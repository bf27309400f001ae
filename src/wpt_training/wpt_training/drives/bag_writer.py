"""A Drive to a rosbag2 (MCAP, CDR) that `ros2 bag play --clock-topics-all` plays.

JPEG bytes stay as they are; every message carries its sensor's own stamp, and is stored under it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from wpt_planner.calibration import CameraCalibration
from wpt_planner.geometry import Array, quaternion_from_rotation, quaternion_from_yaw
from wpt_planner.plan_guard import PLAN_STEPS
from wpt_training.drives import bag_types
from wpt_training.drives.drive import Drive
from wpt_training.drives.frame import Boxes, CameraView, DriveError, MapGeometry

_INFINITE = QosTime(2147483647, 4294967295)
_LATCHED = [
    Qos(
        QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL,
        _INFINITE, _INFINITE, QosLiveliness.AUTOMATIC, _INFINITE, False,
    )
]  # fmt: skip


class _Messages:
    """Builds messages of the bag's types, short to write."""

    def __init__(self) -> None:
        self.store = bag_types.typestore()

    def make(self, kind: str, **fields: Any) -> Any:
        return self.store.types[kind](**fields)

    def header(self, stamp: int, frame: str) -> Any:
        time = self.make(
            "builtin_interfaces/msg/Time", sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000
        )
        return self.make("std_msgs/msg/Header", stamp=time, frame_id=frame)

    def point(self, position: Array) -> Any:
        x, y, z = (float(v) for v in position)
        return self.make("geometry_msgs/msg/Point", x=x, y=y, z=z)

    def vector(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Any:
        return self.make("geometry_msgs/msg/Vector3", x=float(x), y=float(y), z=float(z))

    def quaternion(self, wxyz: Array) -> Any:
        w, x, y, z = (float(v) for v in wxyz)
        return self.make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)

    def pose(self, position: Array, wxyz: Array) -> Any:
        return self.make(
            "geometry_msgs/msg/Pose", position=self.point(position), orientation=self.quaternion(wxyz)
        )


def write_bag(drive: Drive, folder: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Writes the bag. `progress(done, total)` counts messages. Raises DriveError if it exists."""
    if folder.exists():
        raise DriveError(f"{folder}: exists already; remove it or choose another name")
    messages = _Messages()
    entries = sorted(_timeline(drive), key=lambda entry: entry[0])
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections: dict[str, Any] = {}

        def put(topic: str, kind: str, stamp: int, message: Any, latched: bool = False) -> None:
            if topic not in connections:
                qos = _LATCHED if latched else []
                connections[topic] = writer.add_connection(
                    topic, kind, typestore=messages.store, offered_qos_profiles=qos
                )
            data = messages.store.serialize_cdr(message, kind)
            writer.write(connections[topic], stamp, data)

        first = entries[0][0] if entries else 0
        put(
            bag_types.TF_STATIC_TOPIC,
            "tf2_msgs/msg/TFMessage",
            first,
            _static_tf(messages, drive, first),
            True,
        )
        if drive.map is not None:
            kind = "visualization_msgs/msg/MarkerArray"
            put(bag_types.MAP_TOPIC, kind, first, _map_markers(messages, drive.map, first), True)
        for done, (stamp, build) in enumerate(entries):
            for topic, kind, message in build(messages):
                put(topic, kind, stamp, message)
            if progress is not None:
                progress(done + 1, len(entries))


def _timeline(drive: Drive) -> list[tuple[int, Callable[[_Messages], list[tuple[str, str, Any]]]]]:
    """(stamp, builder) of everything; at equal stamps odometry and command come before images."""
    entries: list[tuple[int, Callable[[_Messages], list[tuple[str, str, Any]]]]] = []
    for index, stamp in enumerate(drive.ego.stamps):
        entries.append((int(stamp), partial(_ego, drive=drive, index=index)))
    for stamp, command in drive.commands:
        entries.append((stamp, partial(_command, stamp=stamp, command=command)))
    for stamp in drive.anchor_stamps:
        entries.append((int(stamp), partial(_expert, drive=drive, stamp=int(stamp))))
    for stamp, boxes in drive.annotations:
        entries.append((stamp, partial(_agents, stamp=stamp, boxes=boxes)))
    for stream in drive.streams:
        for view in stream:
            entries.append((view.stamp, partial(_image, view=view)))
    return entries


def _ego(m: _Messages, drive: Drive, index: int) -> list[tuple[str, str, Any]]:
    ego = drive.ego
    stamp, position, quaternion = int(ego.stamps[index]), ego.positions[index], ego.quaternions[index]
    twist = m.make(
        "geometry_msgs/msg/Twist",
        linear=m.vector(x=ego.speeds[index]),
        angular=m.vector(z=ego.yaw_rates[index]),
    )
    odometry = m.make(
        "nav_msgs/msg/Odometry",
        header=m.header(stamp, "map"),
        child_frame_id="base_link",
        pose=m.make(
            "geometry_msgs/msg/PoseWithCovariance", pose=m.pose(position, quaternion), covariance=np.zeros(36)
        ),
        twist=m.make("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
    )
    transform = _transform(m, stamp, "map", "base_link", position, quaternion)
    tf = m.make("tf2_msgs/msg/TFMessage", transforms=[transform])
    return [
        (bag_types.ODOMETRY_TOPIC, "nav_msgs/msg/Odometry", odometry),
        (bag_types.TF_TOPIC, "tf2_msgs/msg/TFMessage", tf),
    ]


def _transform(m: _Messages, stamp: int, parent: str, child: str, position: Array, quaternion: Array) -> Any:
    return m.make(
        "geometry_msgs/msg/TransformStamped",
        header=m.header(stamp, parent),
        child_frame_id=child,
        transform=m.make(
            "geometry_msgs/msg/Transform",
            translation=m.vector(*position),
            rotation=m.quaternion(quaternion),
        ),
    )


def _static_tf(m: _Messages, drive: Drive, stamp: int) -> Any:
    transforms = [
        _transform(
            m,
            stamp,
            "base_link",
            optical_frame(camera),
            camera.ego_from_camera[:3, 3],
            quaternion_from_rotation(camera.ego_from_camera[:3, :3]),
        )
        for camera in drive.cameras
    ]
    return m.make("tf2_msgs/msg/TFMessage", transforms=transforms)


def optical_frame(camera: CameraCalibration) -> str:
    """The frame id of a camera's images."""
    return f"{camera.name}_optical"


def _image(m: _Messages, view: CameraView) -> list[tuple[str, str, Any]]:
    camera = view.calibration
    header = m.header(view.stamp, optical_frame(camera))
    encoded = view.stored.read()
    if encoded.encoding != "compressed":
        raise DriveError(f"{view.stored.path}: raw {encoded.encoding} images: only JPEG can be written")
    image = m.make(
        "sensor_msgs/msg/CompressedImage",
        header=header,
        format="jpeg",
        data=np.frombuffer(encoded.data, dtype=np.uint8),
    )
    info = m.make(
        "sensor_msgs/msg/CameraInfo",
        header=header,
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=camera.intrinsics.flatten(),
        r=np.eye(3).flatten(),
        p=np.hstack([camera.intrinsics, np.zeros((3, 1))]).flatten(),
        binning_x=0,
        binning_y=0,
        roi=m.make(
            "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
        ),
    )
    return [
        (bag_types.CAMERA_INFO_TOPIC.format(name=camera.name), "sensor_msgs/msg/CameraInfo", info),
        (bag_types.IMAGE_TOPIC.format(name=camera.name), "sensor_msgs/msg/CompressedImage", image),
    ]


def _command(m: _Messages, stamp: int, command: int) -> list[tuple[str, str, Any]]:
    kind = "wpt_msgs/msg/DrivingCommand"
    message = m.make(kind, header=m.header(stamp, "base_link"), command=command)
    return [(bag_types.COMMAND_TOPIC, kind, message)]


def _expert(m: _Messages, drive: Drive, stamp: int) -> list[tuple[str, str, Any]]:
    kind = "wpt_msgs/msg/ExpertTrajectory"
    future, valid = drive.ego.future(stamp)
    message = m.make(
        kind,
        header=m.header(stamp, "base_link"),
        x=future[:, 0].copy(),
        y=future[:, 1].copy(),
        valid=np.asarray(valid, dtype=np.bool_),
    )
    assert len(future) == PLAN_STEPS
    return [(bag_types.EXPERT_TOPIC, kind, message)]


def _agents(m: _Messages, stamp: int, boxes: Boxes) -> list[tuple[str, str, Any]]:
    kind = "wpt_msgs/msg/AgentBoxes"
    entries = [
        m.make(
            "wpt_msgs/msg/AgentBox",
            class_name=boxes.classes[i],
            track_id=boxes.track_ids[i],
            pose=m.pose(boxes.centers[i], quaternion_from_yaw(float(boxes.yaws[i]))),
            yaw=float(boxes.yaws[i]),
            length=float(boxes.sizes[i, 0]),
            width=float(boxes.sizes[i, 1]),
            height=float(boxes.sizes[i, 2]),
            velocity_x=float(boxes.velocities[i, 0]),
            velocity_y=float(boxes.velocities[i, 1]),
        )
        for i in range(len(boxes))
    ]
    return [(bag_types.AGENTS_TOPIC, kind, m.make(kind, header=m.header(stamp, "map"), boxes=entries))]


def _map_markers(m: _Messages, geometry: MapGeometry, stamp: int) -> Any:
    """Line strips by layer (namespace): RViz shows them, the reader reads them back."""
    duration = m.make("builtin_interfaces/msg/Duration", sec=0, nanosec=0)
    markers = [
        m.make(
            "visualization_msgs/msg/Marker",
            header=m.header(stamp, "map"),
            ns=layer,
            id=index,
            type=4,  # LINE_STRIP
            action=0,
            pose=m.pose(np.zeros(3), np.array([1.0, 0, 0, 0])),
            scale=m.vector(x=0.15),
            color=m.make("std_msgs/msg/ColorRGBA", r=color[0], g=color[1], b=color[2], a=1.0),
            lifetime=duration,
            frame_locked=False,
            points=[m.point(np.array([x, y, 0.0])) for x, y in line],
            colors=[],
            texture_resource="",
            texture=m.make(
                "sensor_msgs/msg/CompressedImage",
                header=m.header(0, ""),
                format="",
                data=np.zeros(0, np.uint8),
            ),
            uv_coordinates=[],
            text="",
            mesh_resource="",
            mesh_file=m.make("visualization_msgs/msg/MeshFile", filename="", data=np.zeros(0, np.uint8)),
            mesh_use_embedded_materials=False,
        )
        for attribute, (layer, color) in bag_types.MAP_LAYERS.items()
        for index, line in enumerate(getattr(geometry, attribute))
    ]
    return m.make("visualization_msgs/msg/MarkerArray", markers=markers)
