import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wpt_training.drives.frame import Boxes
from wpt_training.evaluation.collision import (
    exact_collisions,
    grid_collisions,
    motion_headings,
    overlaps,
    rasterise,
)

SQUARE = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]], dtype=float)


def car(x: float, y: float, yaw: float = 0.0, name: str = "vehicle.car") -> Boxes:
    return Boxes(
        np.array([[x, y, 0.8]]),
        np.array([[4.0, 2.0, 1.6]]),
        np.array([yaw]),
        np.zeros((1, 2)),
        (name,),
        ("a",),
    )


def test_the_grid_test_by_hand():
    # At the origin the box covers forward cells 97..104 and right cells 98..101 (see _ego_cells:
    # (0.5 - 2.042 + 49.75) / 0.5 = 96.4 and (0.5 + 2.042 + 49.75) / 0.5 = 104.6).
    # A plan point 10 m ahead shifts that by 20 cells to 117..124.
    plan = np.array([[10.0, 0.0]] * 3)
    occupancy = np.zeros((3, 200, 200), bool)
    occupancy[0, 124, 101] = True  # inside
    occupancy[1, 125, 101] = True  # one cell ahead
    occupancy[2, 119, 99] = True  # the plan point's own cell: (10 + 49.75) / 0.5 = 119.5, 99.5
    point, box = grid_collisions(plan, occupancy)
    assert box.tolist() == [True, False, True]
    assert point.tolist() == [False, False, True]


def test_a_plan_that_leaves_the_grid_is_clipped_to_its_edge():
    occupancy = np.zeros((1, 200, 200), bool)
    occupancy[0, 199, 100] = True
    point, box = grid_collisions(np.array([[80.0, 0.0]]), occupancy)
    assert box.tolist() == [True]
    assert point.tolist() == [False]


def test_a_car_is_rasterised_where_it_stands():
    # 4 x 2 m, centre 10.94 m ahead of base_link: 8 to 12 m ahead of the LiDAR, 1 m to each side.
    occupancy = rasterise(car(10.94, 0.0))
    rows, columns = np.nonzero(occupancy)
    assert (rows.min(), rows.max()) == (116, 124)
    assert (columns.min(), columns.max()) == (98, 102)


def test_left_in_the_vehicle_is_a_low_column():
    _, columns = np.nonzero(rasterise(car(10.0, 5.0)))
    assert columns.max() < 100


def test_cones_are_no_road_users():
    assert not rasterise(car(10.0, 0.0, name="movable_object.trafficcone")).any()


def test_the_exact_test_sees_what_the_unrotated_box_misses():
    # Driving to the left (+y), the ego's front is 2 m to the left of its centre line.
    plan = np.array([[0.0, 3.0], [0.0, 6.0]])
    # Centre 1.44 m ahead along +y: the box spans y 6 + 1.44 ± 2.042 at the second step.
    hit = exact_collisions(plan, [car(30, 0), car(0.0, 10.4)])
    assert hit.tolist() == [False, True]
    assert exact_collisions(plan, [car(30, 0), car(0.0, 10.6)]).tolist() == [False, False]


def test_headings_come_from_the_motion_and_stay_when_it_stops():
    plan = np.array([[1.0, 0], [1.0, 1.0], [1.0, 1.0]])
    assert np.allclose(motion_headings(plan), [0, np.pi / 2, np.pi / 2])


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_axis_aligned_squares_overlap_as_their_intervals_do(x, y):
    expected = abs(x) < 2 and abs(y) < 2
    found = bool(overlaps(SQUARE, (SQUARE + [x, y])[None])[0])
    if min(abs(abs(x) - 2), abs(abs(y) - 2)) > 1e-9:
        assert found == expected


@pytest.mark.parametrize(("shift", "expected"), [(2.40, True), (2.43, False)])
def test_a_turned_square_reaches_its_diagonal(shift, expected):
    # Half a diagonal is 1.414: it touches the other square at 1 + 1.414.
    angle = np.pi / 4
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert bool(overlaps(SQUARE, (SQUARE @ turn.T + [shift, 0])[None])[0]) == expected
