"""Every parameter of the planner node: name, default, range and description, in one place.

The node declares them from here, `config/planner.yaml` lists them with the same defaults.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

NUSCENES_CAMERAS = [
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_BACK_RIGHT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_FRONT_LEFT",
]


class PlannerParameters(BaseModel):
    """Read once at configuration; unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str = Field(
        "student",
        description="folder of a policy bundle, or student, teacher or baseline: those that come along",
    )
    device: str = Field("auto", description="auto (CUDA if there is one), cpu, cuda, cuda:N")
    threads: int = Field(
        1,
        ge=0,
        le=256,
        description="CPU threads of the policy: more for a large one, on cores that nothing else uses; "
        "0: torch's choice",
    )
    decode_threads: int = Field(2, ge=1, le=64, description="threads that decode images")
    allow_untrained: bool = Field(False, description="publish plans of a bundle with random weights")
    autostart: bool = Field(True, description="configure and activate without a lifecycle manager")
    build_only: bool = Field(
        False, description="load, warm up, check the golden output, print the latency and exit"
    )
    cameras: list[str] = Field(
        NUSCENES_CAMERAS, description="camera names in the bundle's order; each has its topics"
    )
    anchor_camera: str = Field("CAM_FRONT", description="the camera whose images pace the planner")
    compressed: bool = Field(
        True, description="subscribe to sensor_msgs/CompressedImage, else sensor_msgs/Image"
    )
    synchroniser: Literal["newest", "message_filters"] = Field(
        "newest", description="newest: own buffer; message_filters: where it is installed"
    )
    tolerance: float = Field(0.04, gt=0.0, le=1.0, description="s between a camera's image and the anchor's")
    staleness: float = Field(
        0.5, gt=0.0, le=60.0, description="s without an image after which a camera counts as late"
    )
    max_wait: float = Field(0.05, ge=0.0, le=1.0, description="s a set waits for missing cameras or odometry")
    max_input_age: float = Field(
        1.0, gt=0.0, le=3600.0, description="s between an image's stamp and the node's clock"
    )
    max_gap: float = Field(
        1.0, gt=0.0, le=60.0, description="s between sets after which the recurrent state is cleared"
    )
    frozen_after: int = Field(
        10, ge=0, le=10000, description="identical images until a camera is frozen, 0: never"
    )
    base_frame: str = Field("base_link", description="frame of the trajectories")
    rig_file: str = Field("", description="extrinsics where there is no TF; empty: rig_nuscenes.yaml")
    extrinsics: Literal["auto", "tf", "file"] = Field(
        "auto", description="tf, file, or auto: TF where tf2_ros is installed and knows the camera"
    )
    default_command: Literal["turn_left", "turn_right", "keep_forward"] = Field(
        "keep_forward", description="driving command before one has arrived"
    )
    max_speed: float = Field(70.0, gt=0.0, le=200.0, description="m/s, faster odometry is a jump")
    max_yaw_rate: float = Field(3.0, gt=0.0, le=20.0, description="rad/s, faster odometry is a jump")
    odometry_timeout: float = Field(
        0.5, gt=0.0, le=5.0, description="s odometry may be extrapolated before passes are refused"
    )
    guard_start_distance: float = Field(
        2.0, gt=0.0, le=20.0, description="m between the first point and speed x 0.5 s"
    )
    guard_max_acceleration: float = Field(6.0, gt=0.0, le=30.0, description="m/s^2")
    guard_max_deceleration: float = Field(9.0, gt=0.0, le=30.0, description="m/s^2")
    guard_max_lateral_acceleration: float = Field(7.0, gt=0.0, le=30.0, description="m/s^2")
    guard_max_curvature: float = Field(0.3, gt=0.0, le=2.0, description="1/m")
    guard_max_reverse: float = Field(2.0, ge=0.0, le=50.0, description="m a plan may reverse")
    guard_max_age: float = Field(0.5, gt=0.0, le=10.0, description="s from reference time to plan")
    guard_hold: float = Field(
        1.0, ge=0.0, le=2.5, description="s the last accepted plan may stand in for a refused one"
    )

    @property
    def identity(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of all values."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


def bounds(name: str) -> tuple[float | int | None, float | int | None]:
    """The closed range (lowest, highest) of a numeric parameter, None where it has none."""
    lowest: Any = None
    highest: Any = None
    for constraint in PlannerParameters.model_fields[name].metadata:
        lowest = getattr(constraint, "ge", getattr(constraint, "gt", lowest))
        highest = getattr(constraint, "le", getattr(constraint, "lt", highest))
    return lowest, highest
