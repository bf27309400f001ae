"""A rosbag2 to a Drive, through `rosbags`: no ROS installation needed.

Topics are found by type, so bags recorded elsewhere work: images (compressed or raw), camera_info,
one odometry; extrinsics from /tf_static. Commands, boxes and map where the bag has them.
"""

from __future__ import annotations

import re
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection

from wpt_planner.calibration import CameraCalibration, check_intrinsics
from wpt_planner.geometry import Array, matrix
from wpt_planner.parameters import NUSCENES_CAMERAS
from wpt_training.drives import bag_types
from wpt_training.drives.drive import Drive
from wpt_training.drives.ego_track import EgoTrack
from wpt_training.drives.frame import Boxes, CameraView, DriveError, MapGeometry, StoredImage

_IMAGE_TYPES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
_NOT_A_NAME = re.compile(r"^(camera|cameras|sensor|sensing|image.*|compressed|color|rgb|camera_info|raw)$")


def camera_name(topic: str) -> str:
    """The camera a topic belongs to: /camera/CAM_FRONT/image/compressed -> CAM_FRONT."""
    parts = [part for part in topic.strip("/").split("/") if not _NOT_A_NAME.match(part)]
    return parts[-1] if parts else topic.strip("/")


def read_bag(folder: Path) -> Drive:
    """Raises DriveError when the bag is damaged or lacks images, camera_info or odometry."""
    if not folder.exists():
        raise DriveError(f"{folder}: no such bag")
    try:
        reader = AnyReader([folder], default_typestore=bag_types.typestore())
        reader.open()
    except Exception as error:
        raise DriveError(f"{folder}: not a readable rosbag2: {error}") from None
    try:
        return _Collector(folder).collect(reader)
    finally:
        reader.close()


class _Collector:
    """Reads once through the bag; image bytes go to one spool file, not to memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images: dict[str, list[tuple[int, StoredImage]]] = {}
        self.infos: dict[str, tuple[Any, str]] = {}
        self.odometry: list[Any] = []
        self.static: dict[str, Array] = {}
        self.commands: list[tuple[int, int]] = []
        self.annotations: list[tuple[int, Boxes]] = []
        self.map: MapGeometry | None = None
        self.spool = tempfile.NamedTemporaryFile(prefix="wpt-bag-", delete=False)

    def collect(self, reader: AnyReader) -> Drive:
        self._check_topics(reader.connections)
        for connection, _, data in reader.messages():
            self._take(connection, reader.deserialize(data, connection.msgtype))
        self.spool.close()
        drive = self._drive()
        # The spool goes when the last view that reads from it does.
        weakref.finalize(drive.streams[0][0].stored, Path(self.spool.name).unlink, missing_ok=True)
        return drive

    def _check_topics(self, connections: list[Connection]) -> None:
        types = {connection.msgtype for connection in connections}
        listed = ", ".join(sorted(f"{c.topic} ({c.msgtype})" for c in connections)) or "nothing"
        for wanted, example in (
            (_IMAGE_TYPES, bag_types.IMAGE_TOPIC),
            (("sensor_msgs/msg/CameraInfo",), bag_types.CAMERA_INFO_TOPIC),
            (("nav_msgs/msg/Odometry",), bag_types.ODOMETRY_TOPIC),
        ):
            if not types & set(wanted):
                raise DriveError(
                    f"{self.folder}: no topic of type {' or '.join(wanted)} (e.g. "
                    f"{example.format(name='CAM_FRONT')}): record it; the bag has {listed}"
                )

    def _take(self, connection: Connection, message: Any) -> None:
        kind = connection.msgtype
        if kind in _IMAGE_TYPES:
            self._take_image(camera_name(connection.topic), kind, message)
        elif kind == "sensor_msgs/msg/CameraInfo":
            self.infos[camera_name(connection.topic)] = (message, message.header.frame_id)
        elif kind == "nav_msgs/msg/Odometry":
            self.odometry.append(message)
        elif connection.topic == bag_types.TF_STATIC_TOPIC:
            for transform in message.transforms:
                self.static[transform.child_frame_id] = _matrix_of(transform.transform)
        elif kind == "wpt_msgs/msg/DrivingCommand":
            self.commands.append((_stamp(message), int(message.command)))
        elif kind == "wpt_msgs/msg/AgentBoxes":
            self.annotations.append((_stamp(message), _boxes_of(message)))
        elif connection.topic == bag_types.MAP_TOPIC:
            self.map = _map_of(message)

    def _take_image(self, name: str, kind: str, message: Any) -> None:
        data = np.asarray(message.data, dtype=np.uint8)
        offset = self.spool.tell()
        self.spool.write(data.tobytes())
        raw = {} if kind == _IMAGE_TYPES[0] else {
            "encoding": message.encoding, "width": message.width,
            "height": message.height, "step": message.step,
        }  # fmt: skip
        stored = StoredImage(Path(self.spool.name), offset, data.size, **raw)
        self.images.setdefault(name, []).append((_stamp(message), stored))

    def _drive(self) -> Drive:
        ego = self._ego()
        known = [name for name in NUSCENES_CAMERAS if name in self.images]
        names = known + sorted(set(self.images) - set(known))
        cameras = tuple(self._calibration(name) for name in names)
        streams = tuple(
            tuple(
                CameraView(stamp, camera, stored, ego.pose_at(stamp))
                for stamp, stored in sorted(self.images[camera.name], key=lambda entry: entry[0])
            )
            for camera in cameras
        )
        commands = self.commands or [(view.stamp, ego.command(view.stamp)) for view in streams[0]]
        return Drive(
            name=self.folder.name,
            cameras=cameras,
            streams=streams,
            ego=ego,
            annotations=tuple(sorted(self.annotations, key=lambda entry: entry[0])),
            commands=tuple(sorted(commands)),
            map=self.map,
        )

    def _ego(self) -> EgoTrack:
        samples = {_stamp(message): message for message in self.odometry}
        ordered = [samples[stamp] for stamp in sorted(samples)]
        poses = [message.pose.pose for message in ordered]
        return EgoTrack(
            np.array(sorted(samples), dtype=np.int64),
            np.array([[p.position.x, p.position.y, p.position.z] for p in poses]),
            np.array([[p.orientation.w, p.orientation.x, p.orientation.y, p.orientation.z] for p in poses]),
            np.array([message.twist.twist.linear.x for message in ordered]),
            np.array([message.twist.twist.angular.z for message in ordered]),
        )

    def _calibration(self, name: str) -> CameraCalibration:
        if name not in self.infos:
            raise DriveError(f"{self.folder}: camera {name} has images but no camera_info: record it")
        info, frame = self.infos[name]
        intrinsics = np.asarray(info.k, dtype=np.float64).reshape(3, 3)
        problem = check_intrinsics(intrinsics, info.width, info.height)
        if problem:
            raise DriveError(f"{self.folder}: camera {name}: {problem}")
        if frame not in self.static:
            raise DriveError(
                f"{self.folder}: /tf_static has no frame {frame} of camera {name}: record /tf_static"
            )
        return CameraCalibration(name, intrinsics, self.static[frame], info.width, info.height)


def _stamp(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _matrix_of(transform: Any) -> Array:
    t, q = transform.translation, transform.rotation
    return matrix(np.array([t.x, t.y, t.z]), np.array([q.w, q.x, q.y, q.z]))


def _boxes_of(message: Any) -> Boxes:
    boxes = message.boxes
    if not boxes:
        return Boxes.none()
    centers = [box.pose.position for box in boxes]
    return Boxes(
        np.array([[p.x, p.y, p.z] for p in centers]),
        np.array([[box.length, box.width, box.height] for box in boxes]),
        np.array([box.yaw for box in boxes]),
        np.array([[box.velocity_x, box.velocity_y] for box in boxes]),
        tuple(box.class_name for box in boxes),
        tuple(box.track_id for box in boxes),
    )


def _map_of(message: Any) -> MapGeometry:
    layers: dict[str, list[Array]] = {}
    for marker in message.markers:
        line = np.array([[point.x, point.y] for point in marker.points]).reshape(-1, 2)
        layers.setdefault(marker.ns, []).append(line)
    return MapGeometry(
        **{attribute: tuple(layers.get(layer, ())) for attribute, (layer, _) in bag_types.MAP_LAYERS.items()}
    )
