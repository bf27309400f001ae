import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wpt_planner import geometry

finite = st.floats(-100, 100)
quaternions = arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 0.1)


@given(arrays(np.float64, 3, elements=finite), quaternions)
def test_a_transform_and_its_inverse_cancel(position, quaternion):
    transform = geometry.matrix(position, quaternion)
    assert np.allclose(geometry.inverse(transform) @ transform, np.eye(4), atol=1e-9)


@given(quaternions)
def test_a_quaternion_survives_the_way_through_a_matrix(quaternion):
    unit = quaternion / np.linalg.norm(quaternion)
    back = geometry.quaternion_from_rotation(geometry.rotation_from_quaternion(quaternion))
    # q and -q are the same rotation.
    assert min(np.abs(back - unit).max(), np.abs(back + unit).max()) < 1e-9


@given(quaternions, quaternions)
def test_slerp_begins_and_ends_at_its_ends(a, b):
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    for share, end in ((0.0, a), (1.0, b)):
        mixed = geometry.slerp(a[None], b[None], np.array([share]))[0]
        assert abs(np.dot(mixed, end)) == pytest.approx(1.0, abs=1e-6)


def test_slerp_turns_at_constant_rate():
    quarter = geometry.quaternion_from_yaw(np.pi / 2)
    third = geometry.slerp(geometry.quaternion_from_yaw(0.0)[None], quarter[None], np.array([1 / 3]))
    assert geometry.yaw_of(geometry.matrix(np.zeros(3), third[0])) == pytest.approx(np.pi / 6)


def test_a_zero_quaternion_is_refused():
    with pytest.raises(ValueError, match="not a rotation"):
        geometry.rotation_from_quaternion(np.zeros(4))


def test_box_corners_of_a_car_turned_left():
    # 4 x 2 m at (10, 5), heading +y: its front left corner is 2 m up and 1 m to the -x side.
    corners = geometry.box_corners_2d(np.array([[10.0, 5.0]]), np.array([[4.0, 2.0]]), np.array([np.pi / 2]))
    assert np.allclose(corners[0], [[9, 7], [11, 7], [11, 3], [9, 3]])


@given(st.floats(-50, 50))
def test_wrapped_angles_lie_in_one_turn(angle):
    wrapped = float(geometry.wrap_angle(angle))
    assert -np.pi <= wrapped < np.pi
    assert np.cos(wrapped) == pytest.approx(np.cos(angle), abs=1e-9)
