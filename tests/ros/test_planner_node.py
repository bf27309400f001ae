"""The planner node between processes, over DDS: what it publishes, and that bad input leaves it alive."""

from __future__ import annotations

import pytest
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from sensor_msgs.msg import CompressedImage
from wpt_msgs.msg import CameraStatus, PlannedTrajectory, PlannerStatus

from wpt_planner import messages
from wpt_planner.calibration import save_rig

from conftest import SECOND, rig
from harness import RELIABLE, Harness, run_planner

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def rig_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rig") / "rig.yaml"
    save_rig(path, list(rig()))
    return path


@pytest.fixture(scope="module")
def harness(bundle, rig_file, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "planner.log"
    harness = Harness(
        log, rig_file, bundle=bundle.folder, allow_untrained=True, threads=1, max_wait=0.1,
        guard_max_age=5.0, max_input_age=3.0,
    )  # fmt: skip
    harness.make_ready()
    yield harness
    harness.close()


def camera(harness, name: str) -> CameraStatus:
    return next(c for c in harness.status.cameras if c.name == name)


def test_before_any_image_the_node_says_what_it_waits_for(harness):
    harness.wait_for(lambda: "CAM_FRONT/image" in harness.status.reason)
    assert harness.status.state == PlannerStatus.WAITING


def test_each_set_gives_a_plan_with_the_anchors_stamp(harness, bundle):
    stamps = harness.drive(8)
    harness.wait_for(lambda: harness.planned(stamps[-1]), what="last plan")
    plan = harness.planned(stamps[-1])
    assert plan.header.frame_id == "base_link"
    assert len(plan.points) == 6
    assert plan.bundle_id == bundle.short_identity
    assert plan.source == PlannedTrajectory.SOURCE_STUDENT
    assert 0 < plan.latency < 5
    path = harness.paths[-1]
    assert messages.stamp_of(path.poses[-1].header.stamp) - messages.stamp_of(path.header.stamp) == 3 * SECOND
    assert harness.status.trained is False
    assert "untrained" in harness.status.reason


def test_a_dead_side_camera_is_masked_and_reported(harness):
    stamps = harness.drive(6, leave_out="CAM_BACK")
    harness.wait_for(lambda: harness.planned(stamps[-1]), what="plan without CAM_BACK")
    harness.wait_for(lambda: camera(harness, "CAM_BACK").masked)
    assert camera(harness, "CAM_BACK").state == CameraStatus.LATE
    assert camera(harness, "CAM_FRONT").state == CameraStatus.OK
    stamps = harness.drive(3)
    harness.wait_for(lambda: harness.planned(stamps[-1]))
    harness.wait_for(lambda: not camera(harness, "CAM_BACK").masked, what="CAM_BACK back")


def test_a_truncated_jpeg_is_masked_with_its_cause_and_the_node_lives(harness):
    stamps = harness.drive(2, CAM_BACK=b"\xff\xd8" + bytes(300))
    harness.wait_for(lambda: harness.planned(stamps[-1]))
    harness.wait_for(lambda: "truncated" in camera(harness, "CAM_BACK").detail)
    stamps = harness.drive(2)
    harness.wait_for(lambda: harness.planned(stamps[-1]))


def test_an_odometry_jump_clears_the_state_and_planning_goes_on(harness):
    before = harness.status.state_resets
    harness.position += 1000.0
    stamps = harness.drive(3)
    harness.wait_for(lambda: harness.planned(stamps[-1]))
    harness.wait_for(lambda: harness.status.state_resets > before, what="state reset")


def test_stamps_of_a_bag_without_sim_time_are_refused_with_the_remedy(harness):
    harness.send_set(0, stamp=harness.now() - 100 * SECOND)
    harness.wait_for(lambda: "use_sim_time" in harness.status.reason)
    assert harness.status.state == PlannerStatus.REFUSING
    harness.position += 1.0
    stamps = harness.drive(6)
    harness.wait_for(lambda: harness.planned(stamps[-1]), what="back to normal")


def test_zero_intrinsics_are_rejected_and_the_good_ones_kept(harness):
    info = messages.camera_info(rig()[3], harness.now(), "x")
    info.k = [0.0] * 9
    harness.infos["CAM_BACK"].publish(info)
    harness.wait_for(lambda: "focal lengths" in camera(harness, "CAM_BACK").detail)
    stamps = harness.drive(2)
    harness.wait_for(lambda: harness.planned(stamps[-1]))
    harness.infos["CAM_BACK"].publish(messages.camera_info(rig()[3], harness.now(), "x"))
    harness.wait_for(lambda: "focal" not in camera(harness, "CAM_BACK").detail)


def test_two_publishers_on_one_camera_are_reported(harness):
    second = harness.node.create_publisher(CompressedImage, "/planner/input/CAM_BACK/image", RELIABLE)
    harness.wait_for(lambda: "2 publishers" in camera(harness, "CAM_BACK").detail)
    harness.node.destroy_publisher(second)
    harness.wait_for(lambda: "2 publishers" not in camera(harness, "CAM_BACK").detail)


def test_odometry_that_stops_is_named_and_planning_resumes(harness):
    stamp = harness.now()
    for c in rig():
        import cv2

        from conftest import picture

        data = cv2.imencode(".jpg", picture(3, 1))[1].tobytes()
        late = stamp + 2 * SECOND
        harness.images[c.name].publish(messages.compressed_image(data, late, f"{c.name}_optical"))
    harness.wait_for(lambda: "odometry" in harness.status.reason)
    harness.wait_for(lambda: harness.now() > stamp + 2 * SECOND)
    stamps = harness.drive(3)
    harness.wait_for(lambda: harness.planned(stamps[-1]))


def test_parameters_cannot_change_under_a_running_node(harness):
    client = AsyncParameterClient(harness.node, "planner")
    harness.wait_for(client.services_are_ready)
    future = client.set_parameters([Parameter("tolerance", value=0.01)])
    harness.wait_for(future.done)
    assert not future.result().results[0].successful
    assert "restart" in future.result().results[0].reason


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"tolerance": 5.0}, "tolerance is 5.0, expected 0.0 to 1.0"),
        ({"wheels": 4}, "wheels is unknown"),
        ({"anchor_camera": "CAM_TOP"}, "anchor_camera is 'CAM_TOP'"),
        ({"cameras": "[CAM_FRONT,'']"}, "cameras[1] is empty"),
        ({"bundle": "/nowhere"}, "no such bundle folder"),
        ({"bundle": "GOOD", "cameras": "[CAM_FRONT]"}, "made for 6 cameras"),
        ({"bundle": "GOOD", "synchroniser": "message_filters"}, "message_filters is not installed"),
    ],
)
def test_what_cannot_start_ends_with_one_clear_line(bundle, parameters, said):
    parameters = {k: bundle.folder if v == "GOOD" else v for k, v in parameters.items()}
    result = run_planner(**parameters)
    assert result.returncode == 1
    assert said in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_build_only_checks_the_bundle_prints_the_latency_and_exits(bundle):
    result = run_planner(bundle=bundle.folder, build_only=True)
    assert result.returncode == 0, result.stderr
    assert "is good on cpu" in result.stdout
    assert "p50" in result.stdout
