"""Drives to nuScenes tables, which the devkit itself opens.

Every scene is one part on disk, so that scenes can be written in parallel and a killed run goes on;
`join_scenes` makes the tables of the parts. Tokens are hashes of what they name: same drive, same
bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from wpt_planner.geometry import Array, quaternion_from_rotation
from wpt_training.drives.drive import Drive
from wpt_training.drives.frame import Boxes, CameraView, DriveError
from wpt_training.drives.nuscenes_map import LOCATION, expansion_map, token
from wpt_training.whole_files import written_whole

TABLES = (
    "category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "ego_pose", "log",
    "scene", "sample", "sample_data", "sample_annotation", "map",
)  # fmt: skip
CATEGORIES = (
    "human.pedestrian.adult", "human.pedestrian.child", "vehicle.car", "vehicle.truck",
    "vehicle.bus.rigid", "vehicle.construction", "vehicle.trailer", "vehicle.motorcycle",
    "vehicle.bicycle", "vehicle.emergency.ambulance", "vehicle.emergency.police",
    "movable_object.trafficcone", "movable_object.barrier", "static_object.bicycle_rack",
)  # fmt: skip
ATTRIBUTES = (
    "vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "pedestrian.moving",
    "pedestrian.standing",
)  # fmt: skip
VISIBILITY = {"1": "v0-40", "2": "v40-60", "3": "v60-80", "4": "v80-100"}
PARTS = "scenes"
_MOVING = 0.3  # m/s, from which on a road user is annotated as moving

Record = dict[str, Any]


def has_scene(root: Path, name: str) -> bool:
    """Whether `write_scene` has finished this one."""
    return (root / PARTS / f"{name}.json").is_file()


def write_scene(drive: Drive, root: Path, name: str, offset: Array | None = None) -> None:
    """Images, and a part with every record, of `drive` as scene `name`, moved by `offset` (2,) m so
    that many scenes share one map. Raises DriveError if the folder cannot be written."""
    writer = _SceneWriter(drive, root, name, np.zeros(2) if offset is None else offset)
    try:
        part = writer.write()
        path = root / PARTS / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as partial:
            partial.write_text(json.dumps(part))
    except OSError as error:
        raise DriveError(
            f"{root}: {error.strerror or error}: free some space or choose another folder"
        ) from None


def join_scenes(root: Path, version: str = "v1.0-trainval") -> int:
    """Makes the tables, the map and its expansion of all scenes written; returns how many."""
    parts = [json.loads(path.read_text()) for path in sorted((root / PARTS).glob("*.json"))]
    if not parts:
        raise DriveError(f"{root}: no scene was written")
    tables: dict[str, list[Record]] = {table: [] for table in TABLES}
    tables["category"] = [_named("category", n, name=n, description="") for n in CATEGORIES]
    tables["attribute"] = [_named("attribute", n, name=n, description="") for n in ATTRIBUTES]
    tables["visibility"] = [
        {"token": level, "level": share, "description": ""} for level, share in VISIBILITY.items()
    ]
    geometries = []
    for part in parts:
        for table, records in part["tables"].items():
            known = {record["token"] for record in tables[table]} if table == "sensor" else set()
            tables[table] += [record for record in records if record["token"] not in known]
        geometries.append({k: [np.array(line) for line in v] for k, v in part["map"].items()})
    mask, expansion = expansion_map(geometries)
    logs = [record["token"] for record in tables["log"]]
    tables["map"] = [
        _named("map", LOCATION, category="semantic_prior", filename=f"maps/{token('map', LOCATION)}.png",
               log_tokens=logs)
    ]  # fmt: skip
    (root / "maps" / "expansion").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / tables["map"][0]["filename"]), mask)
    (root / "maps" / "expansion" / f"{LOCATION}.json").write_text(json.dumps(expansion))
    (root / version).mkdir(exist_ok=True)
    for table, records in tables.items():
        (root / version / f"{table}.json").write_text(json.dumps(records, indent=0))
    return len(parts)


def _named(table: str, key: str, /, **values: object) -> Record:
    return {"token": token(table, key), **values}


class _SceneWriter:
    def __init__(self, drive: Drive, root: Path, name: str, offset: Array) -> None:
        self.drive, self.root, self.name = drive, root, name
        self.offset = np.array([*offset, 0.0])
        self.tables: dict[str, list[Record]] = {}

    def write(self) -> Record:
        if not self.drive.annotations:
            raise DriveError(f"{self.drive.name}: no annotations, so no nuScenes samples")
        self._scene_and_samples()
        self._sensors()
        for camera, stream in enumerate(self.drive.streams):
            self._images(camera, stream)
        self._boxes()
        self._can_bus()
        geometry = {}
        if self.drive.map is not None:
            shifted = self.drive.map.shifted(self.offset[:2])
            geometry = {k: [line.tolist() for line in v] for k, v in vars(shifted).items()}
        return {"tables": self.tables, "map": geometry}

    def _add(self, table: str, record: Record) -> None:
        self.tables.setdefault(table, []).append(record)

    def _scene_and_samples(self) -> None:
        log, scene = token("log", self.name), token("scene", self.name)
        stamps = [stamp for stamp, _ in self.drive.annotations]
        self.samples = [token("sample", self.name, stamp) for stamp in stamps]
        self._add(
            "log",
            {"token": log, "logfile": self.name, "vehicle": "simulated", "date_captured": "2026-01-01",
             "location": LOCATION},
        )  # fmt: skip
        self._add(
            "scene",
            {"token": scene, "log_token": log, "nbr_samples": len(stamps), "name": self.name,
             "first_sample_token": self.samples[0], "last_sample_token": self.samples[-1],
             "description": self.drive.name},
        )  # fmt: skip
        for index, stamp in enumerate(stamps):
            self._add(
                "sample",
                {"token": self.samples[index], "timestamp": stamp // 1000, "scene_token": scene,
                 **_neighbours(self.samples, index)},
            )  # fmt: skip

    def _sensors(self) -> None:
        for camera in self.drive.cameras:
            sensor = token("sensor", camera.name)
            self._add("sensor", {"token": sensor, "channel": camera.name, "modality": "camera"})
            self._add(
                "calibrated_sensor",
                {"token": token("calibrated_sensor", self.name, camera.name), "sensor_token": sensor,
                 "translation": camera.ego_from_camera[:3, 3].tolist(),
                 "rotation": quaternion_from_rotation(camera.ego_from_camera[:3, :3]).tolist(),
                 "camera_intrinsic": camera.intrinsics.tolist()},
            )  # fmt: skip

    def _images(self, camera: int, stream: tuple[CameraView, ...]) -> None:
        name = self.drive.cameras[camera].name
        key_stamps = np.array([stamp for stamp, _ in self.drive.annotations], dtype=np.int64)
        stamps = np.array([view.stamp for view in stream], dtype=np.int64)
        keyframes = {int(np.argmin(np.abs(stamps - stamp))) for stamp in key_stamps}
        tokens = [token("sample_data", self.name, name, view.stamp) for view in stream]
        calibration = token("calibrated_sensor", self.name, name)
        for index, view in enumerate(stream):
            key = index in keyframes
            folder = "samples" if key else "sweeps"
            image = view.stored.read()
            if image.encoding != "compressed":
                raise DriveError(
                    f"{self.drive.name}: nuScenes holds JPEG, {name} has {image.encoding} images"
                )
            filename = f"{folder}/{name}/{self.name}__{name}__{view.stamp // 1000}.jpg"
            path = self.root / filename
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(image.data))
            # A sweep belongs to the keyframe that follows it, as in nuScenes.
            follows = min(int(np.searchsorted(key_stamps, view.stamp)), len(key_stamps) - 1)
            sample = int(np.argmin(np.abs(key_stamps - view.stamp))) if key else follows
            self._add(
                "sample_data",
                {"token": tokens[index], "sample_token": self.samples[sample],
                 "ego_pose_token": tokens[index], "calibrated_sensor_token": calibration,
                 "timestamp": view.stamp // 1000, "fileformat": "jpg", "is_key_frame": key,
                 "height": view.calibration.height, "width": view.calibration.width,
                 "filename": filename, **_neighbours(tokens, index)},
            )  # fmt: skip
            self._add(
                "ego_pose",
                {"token": tokens[index], "timestamp": view.stamp // 1000,
                 "translation": (view.map_from_ego[:3, 3] + self.offset).tolist(),
                 "rotation": quaternion_from_rotation(view.map_from_ego[:3, :3]).tolist()},
            )  # fmt: skip

    def _boxes(self) -> None:
        seen: dict[str, list[tuple[int, int]]] = {}
        for sample, (_, boxes) in enumerate(self.drive.annotations):
            for row, track in enumerate(boxes.track_ids):
                seen.setdefault(track, []).append((sample, row))
        for track, places in seen.items():
            instance = token("instance", self.name, track)
            tokens = [token("annotation", self.name, track, sample) for sample, _ in places]
            first = self.drive.annotations[places[0][0]][1]
            category = first.classes[places[0][1]]
            if category not in CATEGORIES:
                raise DriveError(f"{self.drive.name}: {category} is not a category of nuScenes")
            self._add(
                "instance",
                {"token": instance, "category_token": token("category", category),
                 "nbr_annotations": len(tokens), "first_annotation_token": tokens[0],
                 "last_annotation_token": tokens[-1]},
            )  # fmt: skip
            for index, (sample, row) in enumerate(places):
                boxes = self.drive.annotations[sample][1]
                yaw = float(boxes.yaws[row])
                # Without a LiDAR the cameras' pixels say whether anybody could see it.
                hits = 1 if boxes.hits is None else int(boxes.hits[row])
                self._add(
                    "sample_annotation",
                    {"token": tokens[index], "sample_token": self.samples[sample],
                     "instance_token": instance, "visibility_token": "4" if hits else "1",
                     "attribute_tokens": _attributes(boxes, row),
                     "translation": (boxes.centers[row] + self.offset).tolist(),
                     "size": boxes.sizes[row][[1, 0, 2]].tolist(),
                     "rotation": [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)],
                     "num_lidar_pts": hits, "num_radar_pts": 0, **_neighbours(tokens, index)},
                )  # fmt: skip

    def _can_bus(self) -> None:
        """Speed, yaw rate and acceleration at 50 Hz, as `pose` messages of nuScenes' CAN bus."""
        ego = self.drive.ego
        messages = []
        for index, stamp in enumerate(ego.stamps):
            _, acceleration, _ = ego.motion_at(int(stamp))
            messages.append(
                {"utime": int(stamp) // 1000, "pos": (ego.positions[index] + self.offset).tolist(),
                 "orientation": ego.quaternions[index].tolist(),
                 "vel": [float(ego.speeds[index]), 0.0, 0.0],
                 "rotation_rate": [0.0, 0.0, float(ego.yaw_rates[index])],
                 "accel": [acceleration, 0.0, 9.81]}
            )  # fmt: skip
        folder = self.root / "can_bus"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}_pose.json").write_text(json.dumps(messages))


def _neighbours(tokens: list[str], index: int) -> dict[str, str]:
    return {
        "prev": tokens[index - 1] if index else "",
        "next": tokens[index + 1] if index + 1 < len(tokens) else "",
    }


def _attributes(boxes: Boxes, row: int) -> list[str]:
    kind = boxes.classes[row]
    moving = bool(np.hypot(*boxes.velocities[row]) > _MOVING)
    if kind.startswith("human"):
        return [token("attribute", "pedestrian.moving" if moving else "pedestrian.standing")]
    if kind in ("vehicle.bicycle", "vehicle.motorcycle"):
        return [token("attribute", "cycle.with_rider")]
    if kind.startswith("vehicle"):
        return [token("attribute", "vehicle.moving" if moving else "vehicle.stopped")]
    return []
