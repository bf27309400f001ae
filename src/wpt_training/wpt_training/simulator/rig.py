"""The simulated car's cameras: nuScenes' six by default, any others from a rig file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wpt_planner.calibration import CameraCalibration, load_rig
from wpt_planner.geometry import matrix, quaternion_from_yaw, rotation_from_quaternion
from wpt_planner.parameters import NUSCENES_CAMERAS
from wpt_planner.shared_files import shared_file

HEIGHT, WIDTH = 128, 224
# Yaw (rad) and position (m) of each camera, near those of nuScenes' car.
_MOUNTS = {
    "CAM_FRONT": (0.0, (1.7, 0.0, 1.5)),
    "CAM_FRONT_RIGHT": (-0.96, (1.55, -0.5, 1.5)),
    "CAM_BACK_RIGHT": (-1.92, (1.0, -0.5, 1.55)),
    "CAM_BACK": (np.pi, (0.0, 0.0, 1.55)),
    "CAM_BACK_LEFT": (1.92, (1.0, 0.5, 1.55)),
    "CAM_FRONT_LEFT": (0.96, (1.55, 0.5, 1.5)),
}


def simulated_rig(
    height: int = HEIGHT, width: int = WIDTH, jitter: np.random.Generator | None = None
) -> tuple[CameraCalibration, ...]:
    """Six cameras, 70° wide, 110° at the back. With `jitter` each is mounted a little differently:
    2 cm, 0.6°, 1 % of the focal length."""
    cameras = []
    for name in NUSCENES_CAMERAS:
        yaw, position = _MOUNTS[name]
        half_angle = np.radians(110 if name == "CAM_BACK" else 70) / 2
        focal = width / 2 / np.tan(half_angle)
        optical = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])  # columns: right, down, forward
        pose = matrix(np.array(position), quaternion_from_yaw(yaw))
        pose[:3, :3] = pose[:3, :3] @ optical
        if jitter is not None:
            pose[:3, 3] += jitter.normal(0, 0.02, 3)
            half = jitter.normal(0, np.radians(0.6), 3) / 2
            quaternion = np.array([1.0, *half])
            pose[:3, :3] = pose[:3, :3] @ rotation_from_quaternion(quaternion / np.linalg.norm(quaternion))
            focal *= 1 + jitter.normal(0, 0.01)
        intrinsics = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
        cameras.append(CameraCalibration(name, intrinsics, pose, width, height))
    return tuple(cameras)


def rig_from(path: Path | None = None) -> tuple[CameraCalibration, ...]:
    """Cameras of a rig file; by default `simulated_rig` as config/rig_simulated.yaml holds it.
    Raises CalibrationError."""
    return tuple(load_rig(path or shared_file("config/rig_simulated.yaml")).values())
