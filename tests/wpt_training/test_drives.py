import shutil

import numpy as np
import pytest

from wpt_planner.geometry import inverse
from wpt_training.drives.bag_reader import camera_name, read_bag
from wpt_training.drives.bag_writer import write_bag
from wpt_training.drives.ego_track import EgoTrack
from wpt_training.drives.frame import DriveError
from wpt_training.drives.nuscenes_drive import NuScenesDrives
from wpt_training.drives.source import open_drive

from conftest import KEYFRAME, SECOND, SPEED, START

real_keyframe = pytest.mark.skipif(
    not KEYFRAME.is_dir(), reason="nuScenes' licence keeps it out of the project"
)


def assert_equal(a, b):
    assert np.array_equal(a.anchor_stamps, b.anchor_stamps)
    assert np.array_equal(a.ego.stamps, b.ego.stamps)
    for name in ("positions", "quaternions", "speeds", "yaw_rates"):
        assert np.array_equal(getattr(a.ego, name), getattr(b.ego, name)), name
    assert a.commands == b.commands
    for camera, other in zip(a.cameras, b.cameras, strict=True):
        assert camera.name == other.name
        assert np.array_equal(camera.intrinsics, other.intrinsics)
        assert np.allclose(camera.ego_from_camera, other.ego_from_camera, atol=1e-12)
    for stream, other in zip(a.streams, b.streams, strict=True):
        assert [v.stamp for v in stream] == [v.stamp for v in other]
        assert all(
            bytes(v.stored.read().data) == bytes(w.stored.read().data)
            for v, w in zip(stream, other, strict=True)
        )
    for (stamp, boxes), (other_stamp, other_boxes) in zip(a.annotations, b.annotations, strict=True):
        assert stamp == other_stamp
        assert boxes.track_ids == other_boxes.track_ids
        assert boxes.classes == other_boxes.classes
        for name in ("centers", "sizes", "yaws", "velocities"):
            assert np.array_equal(getattr(boxes, name), getattr(other_boxes, name), equal_nan=True)
    if a.map is not None:
        for name in ("drivable", "holes", "dividers", "center_lines"):
            for line, other in zip(getattr(a.map, name), getattr(b.map, name), strict=True):
                assert np.array_equal(line, other)


def test_a_drive_written_to_a_bag_and_read_back_is_equal(small_drive, tmp_path):
    write_bag(small_drive, tmp_path / "bag")
    assert_equal(small_drive, read_bag(tmp_path / "bag"))


@real_keyframe
def test_the_real_keyframe_survives_a_bag(tmp_path):
    drive = open_drive(str(KEYFRAME))
    write_bag(drive, tmp_path / "bag")
    assert_equal(drive, read_bag(tmp_path / "bag"))


@real_keyframe
def test_the_real_keyframe_reads_as_its_tables_say():
    drive = open_drive(str(KEYFRAME))
    assert drive.name == "scene-0061"
    frame = drive.frame(0)
    assert frame.stamp == 1532402927612460000
    assert len(frame.boxes) == 68
    assert all(view is not None for view in frame.views)
    assert frame.views[0].image().shape == (900, 1600, 3)
    # Without next keyframes nothing of the future is known.
    assert not frame.future_valid.any()


@real_keyframe
def test_boxes_project_where_the_devkit_puts_them():
    from nuscenes.utils.geometry_utils import view_points

    drives = NuScenesDrives(KEYFRAME)
    frame = drives.drive("scene-0061").frame(0)
    view = frame.views[0]
    sample = drives.tables.sample[0]
    _, expected, k = drives.tables.get_sample_data(sample["data"]["CAM_FRONT"])
    camera_from_map = inverse(view.map_from_ego @ view.calibration.ego_from_camera)
    centers = {}
    for center, track in zip(frame.boxes.centers, frame.boxes.track_ids, strict=True):
        centers[track] = camera_from_map[:3, :3] @ center + camera_from_map[:3, 3]
    assert expected
    for box in expected:
        track = drives.tables.get("sample_annotation", box.token)["instance_token"]
        ours = view.calibration.intrinsics @ centers[track]
        theirs = view_points(box.center[:, None], k, normalize=True)[:2, 0]
        assert np.allclose(ours[:2] / ours[2], theirs, atol=0.05)


def test_an_incomplete_nuscenes_folder_is_named(tmp_path):
    with pytest.raises(DriveError, match=r"holds none of v1\.0-trainval"):
        NuScenesDrives(tmp_path)
    (tmp_path / "v1.0-mini").mkdir()
    with pytest.raises(DriveError, match=r"\.json: missing"):
        NuScenesDrives(tmp_path)


@real_keyframe
def test_a_missing_image_names_file_and_archive(tmp_path):
    shutil.copytree(KEYFRAME, tmp_path / "copy", ignore=shutil.ignore_patterns("CAM_BACK"))
    with pytest.raises(DriveError, match="CAM_BACK.*missing"):
        open_drive(str(tmp_path / "copy"))


def test_a_bag_without_the_topics_lists_what_it_has(small_drive, tmp_path):
    from rosbags.rosbag2 import StoragePlugin, Writer

    from wpt_training.drives.bag_types import typestore

    store = typestore()
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/hello", "std_msgs/msg/Empty", typestore=store)
        message = store.types["std_msgs/msg/Empty"]()
        writer.write(connection, 0, store.serialize_cdr(message, "std_msgs/msg/Empty"))
    with pytest.raises(DriveError, match=r"no topic of type sensor_msgs/msg/CompressedImage.*/hello"):
        read_bag(tmp_path / "bag")


def test_a_damaged_bag_and_a_missing_one_are_named(small_drive, tmp_path):
    with pytest.raises(DriveError, match="no such bag"):
        read_bag(tmp_path / "none")
    write_bag(small_drive, tmp_path / "bag")
    for path in (tmp_path / "bag").glob("*.mcap"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DriveError, match="not a readable rosbag2"):
        read_bag(tmp_path / "bag")


def test_a_bag_is_not_overwritten(small_drive, tmp_path):
    (tmp_path / "bag").mkdir()
    with pytest.raises(DriveError, match="exists already"):
        write_bag(small_drive, tmp_path / "bag")


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("/camera/CAM_FRONT/image/compressed", "CAM_FRONT"),
        ("/CAM_BACK/image_rect_compressed", "CAM_BACK"),
        ("/sensing/camera/camera0/image_raw", "camera0"),
        ("/sensing/camera/camera0/camera_info", "camera0"),
    ],
)
def test_cameras_of_other_bags_are_recognised_by_their_topics(topic, name):
    assert camera_name(topic) == name


def test_the_future_is_in_the_ego_frame_and_ends_with_the_recording(small_drive):
    future, valid = small_drive.ego.future(START)
    assert valid.all()
    assert np.allclose(future, np.stack([SPEED * np.arange(1, 7) / 2, np.zeros(6)], axis=1))
    _, valid = small_drive.ego.future(START + 4 * SECOND)
    assert valid.tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize(("yaw_rate", "command"), [(0.0, 2), (0.25, 0), (-0.25, 1)])
def test_the_command_is_the_lateral_offset_at_three_seconds(yaw_rate, command):
    # 5 m/s for 3 s on a circle of 20 m: 20·(1 - cos 0.75) = 5.4 m to the side.
    stamps = np.arange(0, 5 * SECOND, SECOND // 50, dtype=np.int64)
    yaw = yaw_rate * stamps / 1e9
    turned = yaw_rate or 1.0
    x = SPEED / turned * np.sin(yaw) if yaw_rate else SPEED * stamps / 1e9
    y = SPEED / turned * (1 - np.cos(yaw)) if yaw_rate else np.zeros(len(stamps))
    quaternions = np.stack([np.cos(yaw / 2), 0 * yaw, 0 * yaw, np.sin(yaw / 2)], axis=1)
    track = EgoTrack.from_poses(stamps, np.stack([x, y, 0 * x], axis=1), quaternions)
    assert track.command(0) == command
    assert track.motion_at(SECOND)[0] == pytest.approx(SPEED, rel=0.01)
    assert track.motion_at(SECOND)[2] == pytest.approx(yaw_rate, abs=0.01)


def test_boxes_between_annotations_are_interpolated_by_track(small_drive):
    boxes = small_drive.boxes_at(START + SECOND // 4)
    car = boxes.track_ids.index("car-1")
    assert boxes.centers[car, 0] == pytest.approx(20 + SPEED / 4)


def test_a_source_that_is_nothing_known_says_what_is(tmp_path):
    with pytest.raises(DriveError, match="neither a nuScenes folder nor a bag"):
        open_drive(str(tmp_path / "nothing"))
