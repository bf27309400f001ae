"""Drives written as nuScenes tables: the devkit opens them, the reader gives the same drive back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nuscenes.can_bus.can_bus_api import NuScenesCanBus
from nuscenes.map_expansion.map_api import NuScenesMap
from nuscenes.nuscenes import NuScenes

from wpt_planner.geometry import matrix
from wpt_training.drives.frame import DriveError
from wpt_training.drives.nuscenes_drive import NuScenesDrives
from wpt_training.drives.nuscenes_map import LOCATION
from wpt_training.drives.nuscenes_writer import has_scene, join_scenes, write_scene

OFFSET = np.array([100.0, 60.0])


@pytest.fixture(scope="module")
def folder(small_drive, tmp_path_factory):
    root = tmp_path_factory.mktemp("nuscenes")
    for name in ("scene-2001", "scene-2002"):
        write_scene(small_drive, root, name, OFFSET)
    join_scenes(root)
    return root


@pytest.fixture(scope="module")
def read(folder):
    return NuScenesDrives(folder).drive("scene-2002")


def test_keyframes_sweeps_and_poses_come_back(small_drive, read):
    assert len(read.annotations) == 11
    shift = matrix(np.array([*OFFSET, 0.0]), np.array([1.0, 0, 0, 0]))
    for ours, theirs in zip(small_drive.streams, read.streams, strict=True):
        assert len(theirs) == 50  # 10 Hz, although annotated at 2 Hz
        for a, b in zip(ours, theirs, strict=True):
            assert a.stamp == b.stamp
            np.testing.assert_allclose(shift @ a.map_from_ego, b.map_from_ego, atol=1e-9)
            np.testing.assert_allclose(
                a.calibration.ego_from_camera, b.calibration.ego_from_camera, atol=1e-9
            )
            assert a.stored.read().data == b.stored.read().data


def test_boxes_come_back_with_velocities_from_neighbouring_keyframes(small_drive, read):
    for (stamp, ours), (read_stamp, theirs) in zip(small_drive.annotations, read.annotations, strict=True):
        assert stamp == read_stamp
        assert ours.classes == theirs.classes
        np.testing.assert_allclose(ours.centers + [*OFFSET, 0.0], theirs.centers, atol=1e-9)
        np.testing.assert_allclose(ours.sizes, theirs.sizes)
        np.testing.assert_allclose(ours.yaws, theirs.yaws, atol=1e-9)
        # The car drives 5 m/s, the pedestrian stands.
        np.testing.assert_allclose(theirs.velocities, [[5.0, 0.0], [0.0, 0.0]], atol=1e-6)


def test_speed_comes_from_the_can_bus_where_there_is_one(folder, read):
    speed, _, yaw_rate = read.ego.motion_at(int(read.anchor_stamps[20]))
    assert (speed, yaw_rate) == pytest.approx((5.0, 0.0), abs=1e-6)
    path = folder / "can_bus" / "scene-2001_pose.json"
    messages = json.loads(path.read_text())
    for message in messages:
        message["vel"][0] = 7.5
    path.write_text(json.dumps(messages))
    drive = NuScenesDrives(folder).drive("scene-2001")
    assert drive.ego.motion_at(int(drive.anchor_stamps[20]))[0] == pytest.approx(7.5)


def test_the_map_expansion_gives_drivable_area_dividers_and_lanes(small_drive, read):
    np.testing.assert_allclose(read.map.drivable[0], small_drive.map.drivable[0] + OFFSET)
    np.testing.assert_allclose(read.map.dividers[0], small_drive.map.dividers[0] + OFFSET)


def test_the_devkit_opens_tables_map_and_can_bus(folder):
    tables = NuScenes("v1.0-trainval", str(folder), verbose=False)
    assert [scene["name"] for scene in tables.scene] == ["scene-2001", "scene-2002"]
    sample = tables.sample[3]
    data, boxes, intrinsics = tables.get_sample_data(sample["data"]["CAM_FRONT"])
    assert data.endswith(".jpg")
    assert len(boxes) == 2
    assert intrinsics.shape == (3, 3)
    chart = NuScenesMap(str(folder), LOCATION)
    # (100, 60) is the drive's origin: on the road; 20 m to its left is not.
    assert chart.record_on_point(100.0, 60.0, "drivable_area")
    assert not chart.record_on_point(100.0, 80.0, "drivable_area")
    assert len(NuScenesCanBus(str(folder)).get_messages("scene-2002", "pose")) == 270


def test_the_same_drive_gives_the_same_bytes(small_drive, folder, tmp_path):
    write_scene(small_drive, tmp_path, "scene-2002", OFFSET)
    again = (tmp_path / "scenes" / "scene-2002.json").read_bytes()
    assert again == (folder / "scenes" / "scene-2002.json").read_bytes()
    assert has_scene(tmp_path, "scene-2002")
    assert not has_scene(tmp_path, "scene-2001")


def test_a_folder_that_cannot_be_written_is_one_clear_line(small_drive, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DriveError, match="free some space or choose another folder"):
        write_scene(small_drive, tmp_path / "file", "scene-2001")


def test_an_incomplete_folder_names_the_missing_image(small_drive, tmp_path):
    write_scene(small_drive, tmp_path, "scene-2001", OFFSET)
    join_scenes(tmp_path)
    next((tmp_path / "sweeps" / "CAM_BACK").glob("*.jpg")).unlink()
    with pytest.raises(DriveError, match=r"missing: unpack the archive with sweeps/CAM_BACK"):
        NuScenesDrives(tmp_path).drive("scene-2001")
