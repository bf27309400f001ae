"""Camera calibration: what one camera is, where it sits, and the YAML file that lists a rig."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wpt_planner.geometry import Array, matrix, quaternion_from_rotation


class CalibrationError(ValueError):
    """A calibration that cannot be used: says which camera, what is wrong and what to do."""


@dataclass(frozen=True)
class CameraCalibration:
    """One camera: `intrinsics` (3, 3) in pixels, `ego_from_camera` (4, 4), image size in pixels."""

    name: str
    intrinsics: Array
    ego_from_camera: Array
    width: int
    height: int


class _CameraEntry(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    intrinsics: Annotated[list[float], Field(min_length=4, max_length=4)]  # fx, fy, cx, cy
    position: Annotated[list[float], Field(min_length=3, max_length=3)]
    rotation: Annotated[list[float], Field(min_length=4, max_length=4)]  # w, x, y, z


class _RigFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    cameras: Annotated[list[_CameraEntry], Field(min_length=1)]


def check_intrinsics(intrinsics: Array, width: int, height: int) -> str | None:
    """Why a 3x3 intrinsic matrix cannot be used, or None if it can."""
    if intrinsics.shape != (3, 3) or not np.all(np.isfinite(intrinsics)):
        return "intrinsics hold a value that is not finite: recalibrate or fix camera_info.k"
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0:
        return (
            f"focal lengths are {intrinsics[0, 0]:g}, {intrinsics[1, 1]:g} px, expected > 0: "
            "the camera driver publishes no calibration; fix camera_info.k"
        )
    if not (0 < intrinsics[0, 2] < width and 0 < intrinsics[1, 2] < height):
        return (
            f"principal point ({intrinsics[0, 2]:g}, {intrinsics[1, 2]:g}) lies outside the "
            f"{width}x{height} image: camera_info belongs to another resolution"
        )
    return None


def load_rig(path: Path) -> dict[str, CameraCalibration]:
    """Reads a rig file; raises CalibrationError naming file and field."""
    try:
        content = yaml.safe_load(path.read_text())
        rig = _RigFile.model_validate(content)
    except FileNotFoundError:
        raise CalibrationError(f"{path}: no such rig file; set rig_file to an existing one") from None
    except yaml.YAMLError as error:
        raise CalibrationError(f"{path}: not YAML: {error}".replace("\n", " ")) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CalibrationError(f"{path}: {where}: {first['msg']}") from None
    cameras = {}
    for index, entry in enumerate(rig.cameras):
        fx, fy, cx, cy = entry.intrinsics
        intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        problem = check_intrinsics(intrinsics, entry.width, entry.height)
        if problem:
            raise CalibrationError(f"{path}: cameras.{index} ({entry.name}): {problem}")
        try:
            pose = matrix(np.array(entry.position), np.array(entry.rotation))
        except ValueError as error:
            raise CalibrationError(f"{path}: cameras.{index} ({entry.name}): {error}") from None
        cameras[entry.name] = CameraCalibration(entry.name, intrinsics, pose, entry.width, entry.height)
    return cameras


def save_rig(path: Path, cameras: list[CameraCalibration]) -> None:
    """Writes a rig file that `load_rig` reads back to the same numbers."""
    entries = [
        {
            "name": camera.name,
            "width": camera.width,
            "height": camera.height,
            "intrinsics": [float(camera.intrinsics[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2))],
            "position": [float(v) for v in camera.ego_from_camera[:3, 3]],
            "rotation": [float(v) for v in quaternion_from_rotation(camera.ego_from_camera[:3, :3])],
        }
        for camera in cameras
    ]
    header = (
        "# A camera rig. intrinsics: fx, fy, cx, cy in pixels. position (m) and rotation (w, x, y, z):\n"
        "# the camera's optical frame (z forward, x right, y down) in base_link.\n"
    )
    path.write_text(header + yaml.safe_dump({"cameras": entries}, sort_keys=False, default_flow_style=None))
