"""nuScenes tables to Drives, through the format's own devkit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from nuscenes.nuscenes import NuScenes

from wpt_planner.calibration import CameraCalibration
from wpt_planner.geometry import matrix, rotation_from_quaternion, yaw_of
from wpt_planner.parameters import NUSCENES_CAMERAS
from wpt_training.drives.drive import Drive
from wpt_training.drives.ego_track import EgoTrack
from wpt_training.drives.frame import Boxes, CameraView, DriveError, MapGeometry, StoredImage

VERSIONS = ("v1.0-trainval", "v1.0-mini", "v1.0-test")
MAP_MARGIN = 80.0  # m around the drive


class NuScenesDrives:
    """A nuScenes folder. Raises DriveError if it is none or is incomplete."""

    def __init__(self, root: Path, version: str | None = None) -> None:
        found = [name for name in VERSIONS if (root / name).is_dir()]
        if version is None:
            if not found:
                raise DriveError(
                    f"{root}: holds none of {', '.join(VERSIONS)}: give the folder that nuScenes' "
                    "archives were unpacked into"
                )
            version = found[0]
        try:
            self.tables = NuScenes(version, str(root), verbose=False)
        except AssertionError as error:
            raise DriveError(f"{root}: {error}") from None
        except FileNotFoundError as error:
            raise DriveError(
                f"{error.filename}: missing: unpack the metadata archive of {version} again"
            ) from None
        except (ValueError, KeyError) as error:
            raise DriveError(f"{root / version}: a table is damaged ({error}): unpack it again") from None
        self.root = root

    @property
    def scene_names(self) -> list[str]:
        return [scene["name"] for scene in self.tables.scene]

    def drives(self) -> Iterator[Drive]:
        return (self.drive(name) for name in self.scene_names)

    def drive(self, scene_name: str) -> Drive:
        """One scene. Raises DriveError for an unknown scene or a missing image."""
        scene = next((s for s in self.tables.scene if s["name"] == scene_name), None)
        if scene is None:
            raise DriveError(f"{self.root}: no {scene_name}; there are {', '.join(self.scene_names[:8])} …")
        first = self.tables.get("sample", scene["first_sample_token"])
        names = [name for name in NUSCENES_CAMERAS if name in first["data"]]
        if not names:
            raise DriveError(f"{self.root}: {scene_name} has no camera")
        records = {name: self._chain(first["data"][name]) for name in first["data"]}
        ego = self._ego_track(scene_name, records)
        cameras = tuple(self._calibration(name, records[name][0]) for name in names)
        streams = tuple(
            tuple(self._view(calibration, record) for record in records[calibration.name])
            for calibration in cameras
        )
        stamps = [view.stamp for view in streams[0]]
        return Drive(
            name=scene_name,
            cameras=cameras,
            streams=streams,
            ego=ego,
            annotations=tuple(self._annotations(first)),
            commands=tuple((stamp, ego.command(stamp)) for stamp in stamps),
            map=self._map(scene, ego),
        )

    def _chain(self, token: str) -> list[dict[str, Any]]:
        """A sensor's keyframes and sweeps of one scene, oldest first."""
        record = self.tables.get("sample_data", token)
        while record["prev"]:
            record = self.tables.get("sample_data", record["prev"])
        chain = [record]
        while record["next"]:
            record = self.tables.get("sample_data", record["next"])
            chain.append(record)
        return chain

    def _ego_track(self, scene_name: str, records: dict[str, list[dict[str, Any]]]) -> EgoTrack:
        poses = {}
        for chain in records.values():
            for record in chain:
                pose = self.tables.get("ego_pose", record["ego_pose_token"])
                poses[pose["timestamp"]] = pose
        ordered = [poses[stamp] for stamp in sorted(poses)]
        stamps = np.array([pose["timestamp"] * 1000 for pose in ordered], dtype=np.int64)
        positions = np.array([pose["translation"] for pose in ordered], dtype=np.float64)
        quaternions = np.array([pose["rotation"] for pose in ordered], dtype=np.float64)
        quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
        track = EgoTrack.from_poses(stamps, positions, quaternions)
        measured = self._can_bus(scene_name)
        if measured is None:
            return track
        at, speeds, yaw_rates = measured
        return EgoTrack(
            stamps, positions, quaternions, np.interp(stamps, at, speeds), np.interp(stamps, at, yaw_rates)
        )

    def _can_bus(self, scene_name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        if not (self.root / "can_bus").is_dir():
            return None
        try:
            messages = NuScenesCanBus(dataroot=str(self.root)).get_messages(scene_name, "pose")
        except Exception as error:
            # The devkit raises plain Exception for the few scenes without CAN data.
            if "no CAN bus" in str(error) or isinstance(error, FileNotFoundError):
                return None
            raise
        if not messages:
            return None
        return (
            np.array([m["utime"] * 1000 for m in messages], dtype=np.int64),
            np.array([m["vel"][0] for m in messages]),
            np.array([m["rotation_rate"][2] for m in messages]),
        )

    def _calibration(self, name: str, record: dict[str, Any]) -> CameraCalibration:
        sensor = self.tables.get("calibrated_sensor", record["calibrated_sensor_token"])
        return CameraCalibration(
            name,
            np.array(sensor["camera_intrinsic"], dtype=np.float64),
            matrix(np.array(sensor["translation"]), np.array(sensor["rotation"])),
            record["width"],
            record["height"],
        )

    def _view(self, calibration: CameraCalibration, record: dict[str, Any]) -> CameraView:
        path = self.root / record["filename"]
        if not path.is_file():
            raise DriveError(
                f"{path}: missing: unpack the archive with {path.parent.parent.name}/{calibration.name}"
            )
        pose = self.tables.get("ego_pose", record["ego_pose_token"])
        map_from_ego = matrix(np.array(pose["translation"]), np.array(pose["rotation"]))
        return CameraView(record["timestamp"] * 1000, calibration, StoredImage(path), map_from_ego)

    def _annotations(self, sample: dict[str, Any]) -> Iterator[tuple[int, Boxes]]:
        while True:
            yield sample["timestamp"] * 1000, self._boxes(sample)
            if not sample["next"]:
                return
            sample = self.tables.get("sample", sample["next"])

    def _boxes(self, sample: dict[str, Any]) -> Boxes:
        annotations = [self.tables.get("sample_annotation", token) for token in sample["anns"]]
        if not annotations:
            return Boxes.none()
        rotations = rotation_from_quaternion(np.array([a["rotation"] for a in annotations]))
        sizes = np.array([a["size"] for a in annotations], dtype=np.float64)  # width, length, height
        velocities = np.array([self.tables.box_velocity(a["token"])[:2] for a in annotations])
        return Boxes(
            centers=np.array([a["translation"] for a in annotations], dtype=np.float64),
            sizes=sizes[:, [1, 0, 2]],
            yaws=yaw_of(rotations),
            velocities=velocities.astype(np.float64),
            classes=tuple(a["category_name"] for a in annotations),
            track_ids=tuple(a["instance_token"] for a in annotations),
            hits=np.array([a["num_lidar_pts"] + a["num_radar_pts"] for a in annotations], dtype=np.int64),
        )

    def _map(self, scene: dict[str, Any], ego: EgoTrack) -> MapGeometry | None:
        location = self.tables.get("log", scene["log_token"])["location"]
        if not (self.root / "maps" / "expansion" / f"{location}.json").is_file():
            return None
        from nuscenes.map_expansion.map_api import NuScenesMap

        return _map_around(NuScenesMap(str(self.root), location), ego)


def _map_around(tables: Any, ego: EgoTrack) -> MapGeometry:
    low = ego.positions[:, :2].min(axis=0) - MAP_MARGIN
    high = ego.positions[:, :2].max(axis=0) + MAP_MARGIN
    patch = (low[0], low[1], high[0], high[1])
    layers = ["drivable_area", "lane_divider", "road_divider", "lane", "lane_connector"]
    near = tables.get_records_in_patch(patch, list(layers), mode="intersect")

    def points(tokens: list[str]) -> np.ndarray:
        nodes = [tables.get("node", token) for token in tokens]
        return np.array([[node["x"], node["y"]] for node in nodes])

    drivable, holes = [], []
    for token in near["drivable_area"]:
        for polygon_token in tables.get("drivable_area", token)["polygon_tokens"]:
            polygon = tables.get("polygon", polygon_token)
            drivable.append(points(polygon["exterior_node_tokens"]))
            holes += [points(hole["node_tokens"]) for hole in polygon["holes"]]
    dividers = []
    for layer in ("lane_divider", "road_divider"):
        for token in near[layer]:
            line = tables.get("line", tables.get(layer, token)["line_token"])
            dividers.append(points(line["node_tokens"]))
    lanes = near["lane"] + near["lane_connector"]
    center_lines = [
        np.array(poses)[:, :2] for poses in tables.discretize_lanes(lanes, 1.0).values() if len(poses)
    ]
    return MapGeometry(tuple(drivable), tuple(holes), tuple(dividers), tuple(center_lines))
