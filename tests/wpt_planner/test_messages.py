import numpy as np
import pytest

from wpt_planner import messages
from wpt_planner.calibration import CalibrationError
from wpt_planner.ego_motion import OdometrySample
from wpt_planner.geometry import matrix

from conftest import START, rig


def test_points_carry_speed_acceleration_and_yaw_rate_by_hand():
    # 5 m/s for a second, then a step of 5 m to the left: 10 m/s, 10 m/s², a quarter turn.
    plan = np.array([[2.5, 0], [5, 0], [5, 5], [5, 10], [5, 15], [5, 20.0]])
    points = messages.trajectory_points(plan, 5.0)
    assert points[1].longitudinal_velocity == pytest.approx(5.0)
    assert points[2].longitudinal_velocity == pytest.approx(10.0)
    assert points[2].acceleration == pytest.approx(10.0)
    assert points[2].yaw_rate == pytest.approx(np.pi / 2 / 0.5)
    assert (points[2].time_from_start.sec, points[2].time_from_start.nanosec) == (1, 500_000_000)


def test_a_plan_that_is_not_finite_is_never_published():
    with pytest.raises(ValueError, match="not finite"):
        messages.trajectory_points(np.full((6, 2), np.nan), 0.0)


def test_camera_info_and_odometry_survive_the_way_through_messages():
    camera = rig()[2]
    info = messages.camera_info(camera, START, "x")
    back = messages.calibration_of(info, camera.name, camera.ego_from_camera)
    assert np.array_equal(back.intrinsics, camera.intrinsics)
    sample = OdometrySample(START, np.array([1.0, 2, 3]), np.array([0.5, 0.5, 0.5, 0.5]), 4.0, 0.1)
    read = messages.odometry_sample(messages.odometry(sample, "map", "base_link"))
    assert read.stamp == START
    assert np.array_equal(read.position, sample.position)
    assert np.array_equal(read.quaternion, sample.quaternion)


def test_camera_info_without_calibration_is_refused():
    info = messages.camera_info(rig()[0], START, "x")
    info.k = [0.0] * 9
    with pytest.raises(CalibrationError, match="focal lengths"):
        messages.calibration_of(info, "CAM_FRONT", np.eye(4))


def test_a_transform_message_is_the_matrix():
    camera = rig()[1]
    message = messages.transform(camera.ego_from_camera, START, "base_link", "CAM")
    t, q = message.transform.translation, message.transform.rotation
    back = matrix(np.array([t.x, t.y, t.z]), np.array([q.w, q.x, q.y, q.z]))
    assert np.allclose(back, camera.ego_from_camera)
