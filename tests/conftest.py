"""What the tests share: a tiny bundle, a small drive on disk, and where the real keyframe lies."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from wpt_planner.calibration import CameraCalibration
from wpt_planner.geometry import matrix, quaternion_from_yaw
from wpt_planner.parameters import NUSCENES_CAMERAS
from wpt_planner.policy_bundle import BevGrid, PolicyBundle
from wpt_planner.policy_runtime import PolicyRuntime
from wpt_training.drives.drive import Drive
from wpt_training.drives.ego_track import EgoTrack
from wpt_training.drives.frame import Boxes, CameraView, MapGeometry, StoredImage
from wpt_training.export import export_bundle
from wpt_training.models.config import (
    BackboneConfig,
    DataConfig,
    LossConfig,
    PlannerConfig,
    RecipeConfig,
    RewardConfig,
    StudentConfig,
    TeacherConfig,
    TrainingConfig,
    WorldModelConfig,
)
from wpt_training.models.student import Student
from wpt_training.training.clips import ClipData
from wpt_training.training.store import open_store, pack_drive, packed_names

ROOT = Path(__file__).resolve().parents[1]
KEYFRAME = ROOT.parent / "shared" / "data" / "nuscenes_keyframe"
HEIGHT, WIDTH = 36, 64
START = 1_700_000_000_000_000_000  # ns
SPEED = 5.0  # m/s
SECOND = 1_000_000_000

SMALL = StudentConfig(
    image_height=32,
    image_width=64,
    backbone=BackboneConfig(embedding_size=8, hidden_sizes=[8, 8, 16], depths=[1, 1, 1]),
    bev=BevGrid(cells_x=8, cells_y=8, channels=16, resolution=8.0, x_min=-16.0, y_min=-32.0),
    planner=PlannerConfig(refinements=2, overview=True),
)


QUICK = RecipeConfig(
    epochs=1,
    batch=2,
    learning_rate=1e-3,
    warm_up=2,
    camera_drop=0.0,
    checkpoint_seconds=0.0,
    precision="32-true",
)
CONFIG = TrainingConfig(
    data=DataConfig(train="unused", image_height=HEIGHT, image_width=WIDTH, clip=2, workers=0),
    student=SMALL,
    world=WorldModelConfig(
        queue=2,
        channels=16,
        layers=1,
        heads=2,
        feed_forward=16,
        head_channels=8,
        upsample=2,
        cells_z=2,
        present=8,
        pretext=True,
    ),
    teacher=TeacherConfig(candidates=3, reward=RewardConfig(hidden=16)),
    losses=LossConfig(future_frames=2),
    world_recipe=QUICK,
    teacher_recipe=QUICK,
    baseline_recipe=QUICK,
    student_recipe=QUICK,
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever starts no process is quick: `./wpt test -m quick`."""
    for item in items:
        if item.path.is_relative_to(ROOT / "tests/wpt_planner") or item.path.is_relative_to(
            ROOT / "tests/wpt_training"
        ):
            item.add_marker("quick")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> PolicyBundle:
    """A small student with random weights; says it is untrained."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bundle") / "small"
    return export_bundle(Student(SMALL), SMALL, folder, "student", False, {"data": "none"})


@pytest.fixture(scope="session")
def runtime(bundle: PolicyBundle) -> PolicyRuntime:
    """The small bundle, loaded once: loading takes seconds."""
    return PolicyRuntime(bundle)


def rig() -> tuple[CameraCalibration, ...]:
    """Six cameras around the roof, 64 x 36 pixels."""
    intrinsics = np.array([[40.0, 0, 31.5], [0, 40, 17.5], [0, 0, 1]])
    optical = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])
    cameras = []
    for index, name in enumerate(NUSCENES_CAMERAS):
        pose = matrix(np.array([1.0, 0, 1.5]), quaternion_from_yaw(-index * np.pi / 3))
        pose[:3, :3] = pose[:3, :3] @ optical
        cameras.append(CameraCalibration(name, intrinsics, pose, WIDTH, HEIGHT))
    return tuple(cameras)


def picture(index: int, camera: int) -> np.ndarray:
    """RGB (36, 64, 3), different for every index and camera."""
    generator = np.random.default_rng(index * 10 + camera)
    return cv2.resize(generator.integers(0, 255, (6, 8, 3), dtype=np.uint8), (WIDTH, HEIGHT))


@pytest.fixture(scope="session")
def small_drive(tmp_path_factory: pytest.TempPathFactory) -> Drive:
    """5 s straight on at 5 m/s, six cameras at 10 Hz, two road users, annotated at 2 Hz."""
    folder = tmp_path_factory.mktemp("drive")
    stamps = START - SECOND // 10 + np.arange(270, dtype=np.int64) * 20_000_000
    x = SPEED * (stamps - START) / 1e9
    positions = np.stack([x, np.zeros_like(x), np.zeros_like(x)], axis=1)
    quaternions = np.tile([1.0, 0, 0, 0], (len(x), 1))
    ego = EgoTrack.from_poses(stamps, positions, quaternions)
    streams = []
    for number, camera in enumerate(rig()):
        views = []
        for index in range(50):
            path = folder / f"{camera.name}_{index}.jpg"
            cv2.imwrite(str(path), picture(index, number)[..., ::-1])
            # Cameras fire 5 ms after each other.
            stamp = START + index * SECOND // 10 + number * 5_000_000
            views.append(CameraView(stamp, camera, StoredImage(path), ego.pose_at(stamp)))
        streams.append(tuple(views))
    annotations = tuple((START + step * SECOND // 2, _boxes(SPEED * step / 2 + 20.0)) for step in range(11))
    return Drive(
        "small",
        rig(),
        tuple(streams),
        ego,
        annotations,
        tuple((view.stamp, 2) for view in streams[0]),
        MapGeometry(
            drivable=(np.array([[-50.0, -5], [200, -5], [200, 5], [-50, 5]]),),
            dividers=(np.array([[-50.0, 0], [200, 0]]),),
        ),
    )


def _boxes(x: float) -> Boxes:
    return Boxes(
        centers=np.array([[x, 0.0, 0.8], [40.0, 6.0, 0.9]]),
        sizes=np.array([[4.5, 1.9, 1.6], [0.6, 0.7, 1.8]]),
        yaws=np.array([0.0, 1.25]),
        velocities=np.array([[SPEED, 0.0], [np.nan, np.nan]]),
        classes=("vehicle.car", "human.pedestrian.adult"),
        track_ids=("car-1", "person-1"),
    )


@pytest.fixture(scope="session")
def store(small_drive: Drive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small drive, packed twice."""
    root = tmp_path_factory.mktemp("store")
    grid = CONFIG.labels()
    open_store(root, grid, (HEIGHT, WIDTH))
    for name in ("one", "two"):
        assert pack_drive(dataclasses.replace(small_drive, name=name), root, grid, (HEIGHT, WIDTH))
    return root


@pytest.fixture(scope="session")
def data(store: Path) -> ClipData:
    """Its clips of two samples."""
    return ClipData(store, packed_names(store), CONFIG.labels(), 2)
