"""Drives out of the simulated world: the devkit opens them, and labels and pictures agree."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")

import cv2
import numpy as np
import pytest
from nuscenes.map_expansion.map_api import NuScenesMap
from nuscenes.nuscenes import NuScenes

from wpt_planner.calibration import load_rig
from wpt_planner.geometry import inverse, transform_points
from wpt_planner.shared_files import shared_file
from wpt_training.drives.frame import DriveError
from wpt_training.drives.nuscenes_map import LOCATION
from wpt_training.drives.source import open_drive
from wpt_training.simulator.cameras import Weather
from wpt_training.simulator.dataset import simulate_dataset
from wpt_training.simulator.episode import Episode
from wpt_training.simulator.expert import ExpertPolicy
from wpt_training.simulator.rig import rig_from, simulated_rig
from wpt_training.simulator.scenarios import build_route
from wpt_training.simulator.scene import Scene

ROUTES = ["train/ParkedObstacle-0", "train/T_Junction-1"]
SECONDS = 1.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("simulated")
    simulate_dataset(ROUTES, root, workers=1, size=(64, 112), max_seconds=SECONDS)
    return root


def test_the_devkit_opens_draws_and_maps_it(folder, tmp_path):
    tables = NuScenes("v1.0-trainval", str(folder), verbose=False)
    assert len(tables.scene) == 2
    assert [scene["description"] for scene in tables.scene] == ROUTES
    picture = tmp_path / "sample.png"
    tables.render_sample(tables.sample[0]["token"], out_path=str(picture), verbose=False)
    assert cv2.imread(str(picture)).std() > 10
    chart = NuScenesMap(str(folder), LOCATION)
    pose = tables.get(
        "ego_pose", tables.get("sample_data", tables.sample[0]["data"]["CAM_FRONT"])["ego_pose_token"]
    )
    x, y, _ = pose["translation"]
    assert chart.record_on_point(x, y, "drivable_area")
    assert chart.get_closest_lane(x, y, radius=3.0)


def test_it_is_read_as_any_nuscenes_folder(folder):
    drive = open_drive(f"{folder}:scene-2002")
    assert len(drive.streams) == 6
    assert len(drive.streams[0]) == round(SECONDS * 10)
    assert len(drive.annotations) == 3
    assert drive.map.drivable
    # The expert sets off: the CAN bus says how fast.
    assert drive.ego.motion_at(int(drive.anchor_stamps[0]))[0] == pytest.approx(6.0, abs=0.5)


def test_the_same_routes_give_the_same_bytes_and_a_finished_scene_is_kept(folder, tmp_path):
    simulate_dataset(ROUTES[:1], tmp_path, workers=1, size=(64, 112), max_seconds=SECONDS)
    part = "scenes/scene-2001.json"
    assert (tmp_path / part).read_bytes() == (folder / part).read_bytes()
    image = next((tmp_path / "samples" / "CAM_FRONT").glob("*.jpg"))
    assert image.read_bytes() == (folder / image.relative_to(tmp_path)).read_bytes()
    before = image.stat().st_mtime_ns
    simulate_dataset(ROUTES, tmp_path, workers=1, size=(64, 112), max_seconds=SECONDS)
    assert image.stat().st_mtime_ns == before
    assert len(NuScenes("v1.0-trainval", str(tmp_path), verbose=False).scene) == 2


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DriveError, match="choose another folder"):
        simulate_dataset(ROUTES[:1], tmp_path / "file", size=(64, 112))


@pytest.mark.parametrize("route", ["ParkedObstacleTwoWays-0", "PedestrianCrossing-0", "HighwayExit-0"])
def test_a_projected_box_covers_the_pixels_the_instance_image_gives_it(route):
    """Calibration, poses and rendering agree: IoU of the 2-D boxes is at least 0.8 on average."""
    scenario = build_route(route)
    scene = Scene(scenario, simulated_rig(128, 224), Weather(sight=1e6))
    episode, policy = Episode(scenario, "expert"), ExpertPolicy()
    overlaps = []
    for step in range(60):
        if step % 6 == 0:
            overlaps += _overlaps(scene, episode)
        episode.step(policy.plan(episode.observe()))
    assert len(overlaps) >= 6
    assert np.mean(overlaps) >= 0.8


def _overlaps(scene: Scene, episode: Episode) -> list[float]:
    rendering = scene.look(episode.ego.map_from_ego)
    boxes = episode.scenario.traffic.boxes()
    found = []
    for index, camera in enumerate(scene.cameras):
        camera_from_map = inverse(episode.ego.map_from_ego @ camera.ego_from_camera)
        for body, corners in enumerate(boxes.corners()):
            seen = transform_points(camera_from_map, corners)
            if (seen[:, 2] < 1.0).any():
                continue
            pixels = seen @ camera.intrinsics.T
            pixels = pixels[:, :2] / pixels[:, 2:]
            low, high = pixels.min(axis=0), pixels.max(axis=0)
            inside = (low >= 0).all() and high[0] < camera.width and high[1] < camera.height
            rows, columns = np.nonzero(rendering.instance[index].numpy() == body)
            # Cut off, hidden or tiny ones say nothing about calibration.
            whole = (high - low).prod()
            if not inside or whole < 60 or len(rows) < 0.5 * whole:
                continue
            mask_low = np.array([columns.min(), rows.min()]) - 0.5
            mask_high = np.array([columns.max(), rows.max()]) + 0.5
            common = np.clip(np.minimum(high, mask_high) - np.maximum(low, mask_low), 0, None).prod()
            found.append(common / (whole + (mask_high - mask_low).prod() - common))
    return found


def test_the_rig_file_is_the_simulated_rig():
    for ours, theirs in zip(simulated_rig(), rig_from(), strict=True):
        assert ours.name == theirs.name
        np.testing.assert_allclose(ours.intrinsics, theirs.intrinsics)
        np.testing.assert_allclose(ours.ego_from_camera, theirs.ego_from_camera, atol=1e-12)


def test_a_rig_of_two_sizes_is_refused():
    cameras = (*simulated_rig(64, 112)[:1], *load_rig(shared_file("config/rig_nuscenes.yaml")).values())
    with pytest.raises(DriveError, match="must have one size"):
        Scene(build_route("Accident-0"), cameras)


def test_the_demos_drive_is_a_route_and_is_rendered_once(tmp_path):
    first = open_drive("simulated:PedestrianCrossing-0", tmp_path)
    stamps = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.jpg")}
    again = open_drive("simulated:PedestrianCrossing-0", tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.jpg")} == stamps
    assert first.ego.positions.tobytes() == again.ego.positions.tobytes()
