import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wpt_training.simulator.paths import Path


@given(
    curvature=st.floats(-1 / 40, 1 / 40),
    way=st.floats(5.0, 75.0),
    offset=st.floats(-5.0, 5.0),
    heading=st.floats(-3.1, 3.1),
)
def test_projecting_a_point_gives_its_way_and_offset_back(curvature, way, offset, heading):
    path = Path.bending(np.array([3.0, -2.0]), heading, [(80.0, curvature)])
    found_way, found_offset = path.project(path.positions(np.array(way), offset))
    # A polyline's corner shifts a point beside it along the way by at most offset x (angle per metre).
    assert found_way == pytest.approx(way, abs=0.15)
    assert found_offset == pytest.approx(offset, abs=0.02)


def test_beyond_the_ends_a_path_goes_straight_on():
    path = Path.straight(np.array([0.0, 0.0]), np.pi / 2, 10.0)
    assert np.allclose(path.positions(np.array([-2.0, 13.0])), [[0, -2], [0, 13]])
    assert path.project(np.array([-1.0, 12.0])) == pytest.approx((12.0, 1.0))


def test_an_arc_has_its_length_and_curvature():
    # Curvature 1/50 all the way: 100 m turn it by 2 rad.
    path = Path.bending(np.zeros(2), 0.0, [(100.0, 1 / 50)])
    assert path.length == pytest.approx(100.0, rel=1e-3)
    assert path.headings[-1] == pytest.approx(2.0, abs=0.02)
    assert path.curvature(np.array([50.0]))[0] == pytest.approx(1 / 50, rel=0.01)


def test_a_lane_change_reaches_its_offset_and_leaves_the_rest_alone():
    path = Path.straight(np.zeros(2), 0.0, 100.0).shifted([(20.0, 40.0, 3.5), (60.0, 80.0, 0.0)])
    lateral = np.interp([10.0, 30.0, 50.0, 95.0], path.points[:, 0], path.points[:, 1])
    assert lateral == pytest.approx([0.0, 1.75, 3.5, 0.0], abs=0.01)


def test_a_turn_joins_two_poses_without_a_kink():
    turn = Path.joining(np.zeros(2), 0.0, np.array([8.0, 8.0]), np.pi / 2)
    assert np.allclose(turn.points[[0, -1]], [[0, 0], [8, 8]])
    assert np.abs(np.diff(turn.headings)).max() < 0.25
    assert turn.headings[0] == pytest.approx(0.0, abs=0.1)
    assert turn.headings[-1] == pytest.approx(np.pi / 2, abs=0.1)
