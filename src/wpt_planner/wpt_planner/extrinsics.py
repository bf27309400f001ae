"""Where each camera sits: from TF where tf2_ros is installed and knows it, else from a rig file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rclpy.node import Node
from rclpy.time import Time

from wpt_planner.calibration import CameraCalibration, load_rig
from wpt_planner.geometry import Array, matrix
from wpt_planner.parameters import PlannerParameters

try:
    import tf2_ros
except ImportError:
    tf2_ros = None


class ExtrinsicsError(ValueError):
    """No pose for a camera: says which and what to do."""


class Extrinsics:
    """Raises ExtrinsicsError when made with `extrinsics: tf` and tf2_ros is not installed."""

    def __init__(self, node: Node, parameters: PlannerParameters, default_rig: Path) -> None:
        self._mode = parameters.extrinsics
        self._base_frame = parameters.base_frame
        if self._mode == "tf" and tf2_ros is None:
            raise ExtrinsicsError("extrinsics: tf, but tf2_ros is not installed: install it or use file")
        self._rig: dict[str, CameraCalibration] = {}
        if self._mode != "tf":
            self._rig = load_rig(Path(parameters.rig_file) if parameters.rig_file else default_rig)
        self._buffer = None
        if self._mode != "file" and tf2_ros is not None:
            self._buffer = tf2_ros.Buffer()
            self._listener = tf2_ros.TransformListener(self._buffer, node)

    def ego_from_camera(self, name: str, frame: str) -> Array:
        """(4, 4) of camera `name`, whose messages carry `frame`."""
        if self._buffer is not None:
            pose = self._from_tf(frame)
            if pose is not None:
                return pose
        if name in self._rig:
            return self._rig[name].ego_from_camera
        if self._mode == "tf":
            raise ExtrinsicsError(f"waiting for TF {self._base_frame} <- {frame}")
        raise ExtrinsicsError(
            f"neither TF {self._base_frame} <- {frame} nor the rig file has {name}: set rig_file"
        )

    def _from_tf(self, frame: str) -> Array | None:
        assert self._buffer is not None
        assert tf2_ros is not None
        try:
            transform = self._buffer.lookup_transform(self._base_frame, frame, Time()).transform
        except tf2_ros.TransformException:
            return None
        t, q = transform.translation, transform.rotation
        return matrix(np.array([t.x, t.y, t.z]), np.array([q.w, q.x, q.y, q.z]))
