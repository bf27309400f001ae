"""What can be driven with: the expert, constant velocity, or a bundle through the node's own core."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wpt_planner.calibration import CameraCalibration
from wpt_planner.camera_rig import CameraImage, CameraRig, CameraSet
from wpt_planner.ego_motion import EgoMotion, OdometrySample
from wpt_planner.geometry import Array, quaternion_from_yaw
from wpt_planner.image_decoding import EncodedImage
from wpt_planner.parameters import PlannerParameters
from wpt_planner.plan_guard import GuardLimits
from wpt_planner.planner_core import PlannerCore
from wpt_planner.policy_bundle import open_bundle
from wpt_planner.policy_runtime import PolicyRuntime
from wpt_planner.shared_files import bundle_folder
from wpt_training.simulator.episode import ConstantVelocityPolicy, Observation, Policy
from wpt_training.simulator.expert import ExpertPolicy
from wpt_training.simulator.recording import stamp_of
from wpt_training.simulator.rig import rig_from
from wpt_training.simulator.scene import Scene

_SIMPLE: dict[str, Callable[[], Policy]] = {
    ExpertPolicy.name: ExpertPolicy,
    ConstantVelocityPolicy.name: ConstantVelocityPolicy,
}


def make_policy(name: str, rig_file: Path | None = None) -> Policy:
    """`expert`, `constant-velocity`, `student`, `teacher`, `baseline` or a bundle's folder; one instance
    drives one route. Raises BundleError, CalibrationError."""
    if name in _SIMPLE:
        return _SIMPLE[name]()
    return BundlePolicy(bundle_folder(name), rig_from(rig_file))


def policy_identity(name: str) -> str:
    """What results are filed under: the bundle's hash, not where it lies. Raises BundleError."""
    if name in _SIMPLE:
        return name
    bundle = open_bundle(bundle_folder(name))
    return f"{bundle.manifest.role}-{bundle.short_identity}"


@lru_cache(maxsize=2)
def _runtime(folder: Path, cameras: int) -> PolicyRuntime:
    return PolicyRuntime(open_bundle(folder, expected_cameras=cameras), "cpu", 1)


class BundlePolicy:
    """Renders what the cameras see and plans as the node does: same core, same guard, same plans."""

    def __init__(self, folder: Path, cameras: tuple[CameraCalibration, ...]) -> None:
        self.cameras = cameras
        names = [camera.name for camera in cameras]
        parameters = PlannerParameters(cameras=names, anchor_camera=names[0])
        runtime = _runtime(folder, len(names))
        self.name = f"{runtime.bundle.manifest.role}-{runtime.bundle.short_identity}"
        rig = CameraRig(names, names[0], parameters.tolerance, parameters.max_wait)
        self.core = PlannerCore(runtime, rig, GuardLimits(), parameters.max_gap, parameters.decode_threads)
        self.core.prepare(cameras[0].height, cameras[0].width, compressed=False)
        self._calibrations = {camera.name: camera for camera in cameras}
        self._motion = EgoMotion()
        self.scene: Scene | None = None
        self.images: NDArray[np.uint8] | None = None
        self.candidates: Array | None = None

    def plan(self, observation: Observation) -> Array:
        """(6, 2) in base_link. Raises PassRefused."""
        if self.scene is None:
            self.scene = Scene(observation.scenario, self.cameras)
        stamp = stamp_of(observation.time)
        self.images = self.scene.look(observation.ego.map_from_ego).images.cpu().numpy()
        self._motion.add(odometry_sample(observation))
        images = tuple(
            CameraImage(stamp, stamp, raw_image(self.images[index])) for index in range(len(self.cameras))
        )
        planned = self.core.plan(
            CameraSet(stamp, stamp, images), self._calibrations, self._motion, observation.command, 0.0
        )
        self.candidates = planned.candidates.trajectories if planned.candidates is not None else None
        return planned.trajectory


def raw_image(pixels: NDArray[np.uint8]) -> EncodedImage:
    """RGB pixels (H, W, 3) as a camera driver would send them."""
    height, width = pixels.shape[:2]
    return EncodedImage(np.ascontiguousarray(pixels).reshape(-1), "rgb8", width, height, width * 3)


def odometry_sample(observation: Observation) -> OdometrySample:
    ego = observation.ego
    return OdometrySample(
        stamp_of(observation.time),
        np.array([ego.x, ego.y, 0.0]),
        quaternion_from_yaw(ego.yaw),
        ego.speed,
        ego.yaw_rate,
    )
