"""A short drive made on the fly: the demo's default, which needs no data.

A winding street with traffic; the ego follows its lane behind a car that brakes and goes on. The
images are rendered once and kept; same seed, same bytes.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from wpt_planner.calibration import CameraCalibration
from wpt_planner.geometry import Array, matrix, quaternion_from_yaw
from wpt_planner.parameters import NUSCENES_CAMERAS
from wpt_training.drives.drive import Drive
from wpt_training.drives.ego_track import EgoTrack
from wpt_training.drives.frame import Boxes, CameraView, StoredImage
from wpt_training.randomness import seed_everything
from wpt_training.simulator.cameras import BUILDING, PLAIN, VEHICLE, Bodies, Ground, render
from wpt_training.simulator.road import EDGE, LANE_WIDTH, SIDEWALK, Road

SECONDS = 8.0
IMAGE_RATE = 10  # Hz
ANNOTATION_RATE = 2  # Hz
HEIGHT, WIDTH = 162, 288
START_STAMP = 1_700_000_000_000_000_000  # ns
# When the cameras fire after the front one (s), as on nuScenes' car.
FIRING = dict(zip(NUSCENES_CAMERAS, (0.0, 0.008, 0.015, 0.025, 0.035, -0.008), strict=True))
# Yaw (rad) and position (m) of each camera on the simulated car.
_MOUNTS = {
    "CAM_FRONT": (0.0, (1.7, 0.0, 1.5)),
    "CAM_FRONT_RIGHT": (-0.96, (1.55, -0.5, 1.5)),
    "CAM_BACK_RIGHT": (-1.92, (1.0, -0.5, 1.55)),
    "CAM_BACK": (np.pi, (0.0, 0.0, 1.55)),
    "CAM_BACK_LEFT": (1.92, (1.0, 0.5, 1.55)),
    "CAM_FRONT_LEFT": (0.96, (1.55, 0.5, 1.5)),
}
_STEP = 0.01  # s of the traffic's integration


@dataclass(frozen=True)
class _Agent:
    """`way` (S,) m along the road at every step; `offset` m to the left of its centre line."""

    class_name: str
    way: Array
    offset: float
    size: tuple[float, float, float]
    color: tuple[float, float, float]
    against: bool = False


def simulated_rig() -> tuple[CameraCalibration, ...]:
    """Six cameras in nuScenes' places, 70° wide, 110° at the back."""
    cameras = []
    for name in NUSCENES_CAMERAS:
        yaw, position = _MOUNTS[name]
        half_angle = np.radians(110 if name == "CAM_BACK" else 70) / 2
        focal = WIDTH / 2 / np.tan(half_angle)
        intrinsics = np.array([[focal, 0, (WIDTH - 1) / 2], [0, focal, (HEIGHT - 1) / 2], [0, 0, 1.0]])
        optical = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])  # columns: right, down, forward
        pose = matrix(np.array(position), quaternion_from_yaw(yaw))
        pose[:3, :3] = pose[:3, :3] @ optical
        cameras.append(CameraCalibration(name, intrinsics, pose, WIDTH, HEIGHT))
    return tuple(cameras)


def simulate_short_drive(seed: int, folder: Path | None = None) -> Drive:
    """Renders into `folder` (a temporary one if None) unless it holds this drive already."""
    generator = seed_everything(seed)
    road = Road(SECONDS * 12 + 160, generator)
    ego_way, agents = _traffic(generator)
    ego = _ego_track(road, ego_way)
    cameras = simulated_rig()
    folder = folder or Path(tempfile.gettempdir()) / f"wpt-simulated-{seed}"
    streams = tuple(_stream(camera, ego, folder) for camera in cameras)
    stamp_list = [START_STAMP + i * 1_000_000_000 // ANNOTATION_RATE for i in range(_annotation_count())]
    drive = Drive(
        name=f"simulated-{seed}",
        cameras=cameras,
        streams=streams,
        ego=ego,
        annotations=tuple((stamp, _boxes(road, agents, stamp)) for stamp in stamp_list),
        commands=tuple((view.stamp, ego.command(view.stamp)) for view in streams[0]),
        map=road.geometry(),
    )
    done = folder / "done.json"
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _render_all(drive, road, agents, generator)
        done.write_text(json.dumps({"seed": seed, "seconds": SECONDS}) + "\n")
    return drive


def _annotation_count() -> int:
    return int(SECONDS * ANNOTATION_RATE) + 1


def _traffic(generator: np.random.Generator) -> tuple[Array, list[_Agent]]:
    """The ego's way along the road, and everyone else's, every _STEP from 1 s before the start."""
    steps = int((SECONDS + 2) / _STEP)
    time = np.arange(steps) * _STEP
    # The car ahead: cruises, brakes, goes on.
    lead_speed = np.interp(time, [0, 5, 7, 9.5, 12, 20], [9, 9, 3.5, 3.5, 8, 8])
    lead = 58 + np.cumsum(lead_speed) * _STEP
    ego = _follow(lead, lead_speed, start=28.0, speed=9.0)
    palette = generator.uniform(0.1, 0.9, (64, 3))
    agents = [_Agent("vehicle.car", lead, -LANE_WIDTH / 2, (4.6, 1.9, 1.6), (0.75, 0.1, 0.1))]

    def color(index: int) -> tuple[float, float, float]:
        r, g, b = (float(v) for v in palette[index % 64])
        return r, g, b

    for i in range(3):  # the lane beside, on the outside
        way = 15 + 30 * i + generator.uniform(-4, 4) + time * generator.uniform(6.5, 8.5)
        agents.append(_Agent("vehicle.car", way, -1.5 * LANE_WIDTH, (4.4, 1.85, 1.55), color(i)))
    for i in range(7):  # oncoming
        big = i % 3 == 1
        size = (9.0, 2.6, 3.2) if big else (4.5, 1.85, 1.6)
        way = 70 + 36 * i + generator.uniform(-6, 6) - time * generator.uniform(7, 10)
        name = "vehicle.truck" if big else "vehicle.car"
        lane = LANE_WIDTH * (0.5 + i % 2)
        agents.append(_Agent(name, way, lane, size, color(10 + i), against=True))
    for i in range(8):  # people on the pavement
        side = 1 if i % 2 else -1
        way = 20 + i * 22 + generator.uniform(-5, 5) + time * generator.uniform(-1.4, 1.4)
        offset = side * (EDGE + generator.uniform(0.8, 2.4))
        agents.append(_Agent("human.pedestrian.adult", way, offset, (0.6, 0.7, 1.75), color(30 + i)))
    return ego, agents


def _follow(lead: Array, lead_speed: Array, start: float, speed: float) -> Array:
    """Way of a car that follows by the Intelligent Driver Model (Treiber et al. 2000)."""
    desired, gap_min, headway, accelerate, brake = 10.0, 3.0, 1.4, 1.5, 2.0
    way = np.empty(len(lead))
    for i in range(len(lead)):
        gap = max(0.5, lead[i] - start - 6.0)
        wanted = gap_min + max(
            0.0, speed * headway + speed * (speed - lead_speed[i]) / (2 * np.sqrt(accelerate * brake))
        )
        speed += accelerate * (1 - (speed / desired) ** 4 - (wanted / gap) ** 2) * _STEP
        speed = max(0.0, speed)
        start += speed * _STEP
        way[i] = start
    return way


def _at(values: Array, stamp: int) -> float:
    seconds = (stamp - START_STAMP) / 1e9 + 1.0
    return float(np.interp(seconds, np.arange(len(values)) * _STEP, values))


def _ego_track(road: Road, way: Array) -> EgoTrack:
    count = int((SECONDS + 0.2) * 50)
    stamps = START_STAMP - 100_000_000 + np.arange(count, dtype=np.int64) * 20_000_000
    along = np.array([_at(way, int(stamp)) for stamp in stamps])
    positions, headings = road.pose(along, np.full_like(along, -LANE_WIDTH / 2))
    quaternions = np.stack(
        [np.cos(headings / 2), np.zeros(count), np.zeros(count), np.sin(headings / 2)], axis=1
    )
    return EgoTrack.from_poses(stamps, np.column_stack([positions, np.zeros(count)]), quaternions)


def _stream(camera: CameraCalibration, ego: EgoTrack, folder: Path) -> tuple[CameraView, ...]:
    views = []
    for index in range(int(SECONDS * IMAGE_RATE)):
        stamp = START_STAMP + index * 1_000_000_000 // IMAGE_RATE + round(FIRING[camera.name] * 1e9)
        path = folder / f"{camera.name}_{index:04d}.jpg"
        views.append(CameraView(stamp, camera, StoredImage(path), ego.pose_at(stamp)))
    return tuple(views)


def _boxes(road: Road, agents: list[_Agent], stamp: int) -> Boxes:
    """Road users on the road at `stamp`, in the map frame."""
    rows = []
    for index, agent in enumerate(agents):
        way = _at(agent.way, stamp)
        if not 1.0 < way < road.way[-1] - 1.0:
            continue
        later = _at(agent.way, stamp + 50_000_000)
        here, heading = road.pose(np.array(way), np.array(agent.offset))
        there, _ = road.pose(np.array(later), np.array(agent.offset))
        backward = agent.against or later < way
        rows.append((index, here, heading + (np.pi if backward else 0.0), (there - here) / 0.05))
    chosen = [agents[index] for index, *_ in rows]
    sizes = np.array([agent.size for agent in chosen]).reshape(-1, 3)
    centers = np.column_stack([np.array([p for _, p, _, _ in rows]).reshape(-1, 2), sizes[:, 2] / 2])
    return Boxes(
        centers,
        sizes,
        np.array([(yaw + np.pi) % (2 * np.pi) - np.pi for _, _, yaw, _ in rows]),
        np.array([velocity for *_, velocity in rows]).reshape(-1, 2),
        tuple(agent.class_name for agent in chosen),
        tuple(f"agent-{index}" for index, *_ in rows),
    )


def _surroundings(road: Road, generator: np.random.Generator) -> list[tuple[Array, ...]]:
    """Houses and trees along both sides: (center, size, yaw, color, kind)."""
    result: list[tuple[Array, ...]] = []
    for side in (-1, 1):
        way = 0.0
        while way < road.way[-1] - 20:
            house = np.array([generator.uniform(10, 22), generator.uniform(8, 14), generator.uniform(5, 16)])
            offset = side * (EDGE + SIDEWALK + 5 + house[1] / 2)
            point, heading = road.pose(np.array(way + house[0] / 2), np.array(offset))
            color = generator.uniform(0.45, 0.8) * np.array(
                [1.0, generator.uniform(0.85, 1), generator.uniform(0.7, 1)]
            )
            result.append((np.array([*point, house[2] / 2]), house, heading, color, np.array(BUILDING)))
            point, heading = road.pose(np.array(way), np.array(side * (EDGE + SIDEWALK + 1.5)))
            crown = np.array([2.6, 2.6, 3.0])
            trunk = np.array([0.4, 0.4, 2.4])
            green = np.array([0.16, generator.uniform(0.3, 0.42), 0.14])
            result.append((np.array([*point, 3.8]), crown, heading + 0.5, green, np.array(PLAIN)))
            brown = np.array([0.35, 0.25, 0.18])
            result.append((np.array([*point, 1.2]), trunk, heading, brown, np.array(PLAIN)))
            way += house[0] + generator.uniform(3, 14)
    return result


def _render_all(drive: Drive, road: Road, agents: list[_Agent], generator: np.random.Generator) -> None:
    ground: Ground = road.ground(generator)
    still = _surroundings(road, generator)
    intrinsics = torch.from_numpy(np.stack([c.intrinsics for c in drive.cameras])).float()
    by_id = {f"agent-{index}": agent for index, agent in enumerate(agents)}
    for index in range(len(drive.streams[0])):
        for number, stream in enumerate(drive.streams):
            view = stream[index]
            bodies = _bodies(_boxes(road, agents, view.stamp), by_id, still, view.stamp)
            pose = torch.from_numpy(view.map_from_ego @ view.calibration.ego_from_camera).float()
            rendering = render(ground, bodies, intrinsics[number : number + 1], pose[None], HEIGHT, WIDTH)
            pixels = rendering.images[0].numpy()[..., ::-1]
            cv2.imwrite(str(view.stored.path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])


def _bodies(boxes: Boxes, agents: dict[str, _Agent], still: list[tuple[Array, ...]], stamp: int) -> Bodies:
    colors, kinds, braking = [], [], []
    for track in boxes.track_ids:
        agent = agents[track]
        colors.append(agent.color)
        kinds.append(VEHICLE if agent.class_name.startswith("vehicle") else PLAIN)
        ways = [_at(agent.way, stamp + shift) for shift in (-100_000_000, 0, 100_000_000)]
        braking.append(float(abs(ways[2] - ways[1]) < abs(ways[1] - ways[0]) - 0.005))

    def tensor(values: Array) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.float32))

    return Bodies(
        tensor(np.vstack([boxes.centers, *(entry[0][None] for entry in still)])),
        tensor(np.vstack([boxes.sizes, *(entry[1][None] for entry in still)])),
        tensor(np.concatenate([boxes.yaws, [float(entry[2]) for entry in still]])),
        tensor(np.vstack([np.reshape(colors, (-1, 3)), *(entry[3][None] for entry in still)])),
        torch.tensor(kinds + [int(entry[4]) for entry in still]),
        tensor(np.array(braking + [0.0] * len(still))),
    )
