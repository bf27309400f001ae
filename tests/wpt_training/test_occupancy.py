"""Labels against hand calculations: cells of 1 m, x from -8, y from -8, in base_link."""

import dataclasses

import numpy as np
import pytest

from wpt_planner.policy_bundle import BevGrid
from wpt_training.drives.drive import Drive
from wpt_training.drives.ego_track import EgoTrack
from wpt_training.drives.frame import Boxes, MapGeometry
from wpt_training.drives.occupancy import CLASSES, OccupancyGrid, class_index, occupancy_labels

from conftest import KEYFRAME, SECOND

GRID = OccupancyGrid(
    BevGrid(cells_x=32, cells_y=16, channels=1, resolution=1.0, x_min=-8.0, y_min=-8.0),
    cells_z=4, z_min=0.0, z_max=4.0, history=1, future=2, interval=0.5,
)  # fmt: skip


def boxes(time: float) -> Boxes:
    """A car 10 m ahead of where the ego was at 0, driving 4 m/s to the left, and a person."""
    return Boxes(
        centers=np.array([[10.4, -3.4 + 4.0 * time, 0.75], [3.5, 3.5, 0.9]]),
        sizes=np.array([[4.0, 2.0, 1.5], [0.5, 0.5, 1.8]]),
        yaws=np.array([np.pi / 2, 0.0]),
        velocities=np.array([[0.0, 4.0], [0.0, 0.0]]),
        classes=("vehicle.car", "human.pedestrian.adult"),
        track_ids=("car", "person"),
    )


@pytest.fixture(scope="module")
def drive() -> Drive:
    """The ego stands at the origin for 3 s, looking along x; annotated at 2 Hz."""
    stamps = np.arange(31, dtype=np.int64) * SECOND // 10
    ego = EgoTrack(
        stamps, np.zeros((31, 3)), np.tile([1.0, 0, 0, 0], (31, 1)), np.zeros(31), np.zeros(31)
    )  # fmt: skip
    annotations = tuple((step * SECOND // 2, boxes(step / 2)) for step in range(7))
    road = MapGeometry(
        drivable=(np.array([[-50.0, -5], [50, -5], [50, 5], [-50, 5]]),),
        holes=(np.array([[4.0, -1], [6, -1], [6, 1], [4, 1]]),),
    )
    return Drive("hand-made", (), ((),), ego, annotations, (), road)


@pytest.fixture(scope="module")
def labels(drive):
    return occupancy_labels(drive, SECOND, GRID)


def test_a_box_occupies_the_cells_whose_middle_it_covers(labels):
    # Present (index 1, t = 1 s): the car's middle is at (10.4, 0.6), 2 m along x, 4 m along y: x from
    # 9.4 to 11.4, so the cells centred at 9.5 and 10.5; y from -1.4 to 2.6, so -0.5 … 2.5.
    car = labels.occupancy[1, :, :, 0] == CLASSES.index("vehicle")
    x, y = np.nonzero(car)
    assert (x.min() - 8 + 0.5, x.max() - 8 + 0.5) == (9.5, 10.5)
    assert (y.min() - 8 + 0.5, y.max() - 8 + 0.5) == (-0.5, 2.5)
    assert car.sum() == 2 * 4


def test_heights_are_filled_as_far_as_the_box_reaches(labels):
    # The car reaches from 0 to 1.5 m: levels 0 and 1 of 1 m; the person to 1.8 m: the same.
    cell = labels.occupancy[1, 18, 8]
    assert cell.tolist() == [1, 1, 0, 0]


def test_someone_thinner_than_a_cell_occupies_the_one_he_stands_in(labels):
    person = labels.occupancy[1, :, :, 0] == CLASSES.index("person")
    assert np.argwhere(person).tolist() == [[11, 11]]  # x = 3.5, y = 3.5


def test_flow_points_back_to_where_it_came_from(labels):
    # Driving 4 m/s to the left it came from the right: (0, -4) m/s.
    car = labels.occupancy[1, :, :, 0] == CLASSES.index("vehicle")
    np.testing.assert_allclose(labels.flow[1][car], np.tile([0.0, -4.0], (car.sum(), 1)), atol=1e-5)
    assert not labels.flow[1][~car].any()


def test_a_road_user_keeps_its_number_through_all_frames(labels):
    for index, middle in enumerate((-1.4, 0.6, 2.6, 4.6)):
        column = int(np.floor(middle + 8))
        assert labels.instance[index, 18, column] == labels.instance[1, 18, 8] > 0
    assert len(np.unique(labels.instance)) == 3


def test_drivable_area_has_its_holes(labels):
    assert labels.drivable[10, 8]  # (2.5, 0.5)
    assert not labels.drivable[12, 8]  # (4.5, 0.5), in the hole
    assert not labels.drivable[10, 14]  # y = 6.5, beside the road


def test_frames_beyond_the_annotations_are_not_valid(drive):
    late = occupancy_labels(drive, 3 * SECOND, GRID)
    assert late.valid.tolist() == [True, True, False, False]
    assert not late.occupancy[2:].any()


def test_labels_turn_with_the_ego(drive):
    turned = Drive(
        drive.name, drive.cameras, drive.streams,
        EgoTrack(
            drive.ego.stamps, drive.ego.positions, np.tile([np.sqrt(0.5), 0, 0, np.sqrt(0.5)], (31, 1)),
            drive.ego.speeds, drive.ego.yaw_rates,
        ),
        drive.annotations, drive.commands, drive.map,
    )  # fmt: skip
    # Looking to the left, the car ahead (10.4, 0.6) is at (0.6, -10.4): beyond the grid; the person
    # (3.5, 3.5) is at (3.5, -3.5).
    labels = occupancy_labels(turned, SECOND, GRID)
    assert np.argwhere(labels.instance[1] > 0).tolist() == [[11, 4]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("vehicle.bus.rigid", "vehicle"), ("vehicle.bicycle", "cycle"), ("human.pedestrian.child", "person"),
     ("movable_object.barrier", "movable"), ("static_object.bicycle_rack", "free")],
)  # fmt: skip
def test_nuscenes_categories_have_their_class(name, expected):
    assert CLASSES[class_index(name)] == expected


@pytest.mark.skipif(not KEYFRAME.is_dir(), reason="nuScenes' licence keeps it out of the project")
def test_the_real_keyframe_has_labels_too():
    from wpt_training.drives.source import open_drive

    real = open_drive(str(KEYFRAME))
    labels = occupancy_labels(real, real.annotations[0][0], OccupancyGrid(GRID.bev))
    assert labels.valid.sum() == 1
    assert (labels.occupancy[2] == CLASSES.index("vehicle")).any()


def test_who_met_nothing_for_a_second_is_not_labelled(drive):
    # The person is hidden from 0.5 s on; the car never.
    annotations = tuple(
        (stamp, dataclasses.replace(found, hits=np.array([9, 5 if stamp == 0 else 0])))
        for stamp, found in drive.annotations
    )
    hidden = dataclasses.replace(drive, annotations=annotations)
    person = CLASSES.index("person")
    # A second later it may still be known that it is there; then no longer, in the future neither.
    assert (occupancy_labels(hidden, SECOND, GRID).occupancy == person).any()
    later = occupancy_labels(hidden, SECOND * 3 // 2, GRID).occupancy
    assert not (later == person).any()
    assert (later == CLASSES.index("vehicle")).any()
