import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wpt_planner.plan_guard import PLAN_TIMES
from wpt_training.drives.frame import Boxes
from wpt_training.evaluation.comparison import DriveSums, difference_over_routes, ratio_over_drives
from wpt_training.evaluation.open_loop import GroundTruth, OpenLoopScores


def sums(per_drive: list[float], count: int = 4) -> DriveSums:
    """Drives of `count` samples with so many collisions at each second, and as many metres of L2."""
    values = np.repeat(np.array(per_drive, float)[:, None], 3, axis=1)
    return DriveSums(np.full_like(values, count), values, values, values)


def test_sums_by_drive_give_the_same_figures_as_the_row_of_all_samples():
    truth = GroundTruth(np.column_stack([5 * PLAN_TIMES, np.zeros(6)]), np.ones(6, bool), (Boxes.none(),) * 6)
    shorter = GroundTruth(truth.future, np.array([1, 1, 1, 1, 0, 0], bool), truth.boxes)
    scores = OpenLoopScores("x")
    for drive, metres, given_truth in ((0, 1.0, truth), (2, 2.0, truth), (2, 4.0, shorter)):
        scores.add(truth.future + [0.0, metres], given_truth, drive)
    found = scores.by_drive()
    assert found.count.tolist() == [[1, 1, 1], [0, 0, 0], [2, 2, 1]]
    assert found.l2.tolist() == [[1, 1, 1], [0, 0, 0], [6, 6, 2]]
    figure = (found.l2.sum(0) / found.count.sum(0)).mean()
    assert figure == pytest.approx(scores.row("uniad").l2[3])
    assert np.array_equal(DriveSums.from_dict(found.as_dict()).l2, found.l2)


def test_collisions_of_each_kind_are_summed_by_drive():
    # At 10 m/s the plan is where a car stands at 2 s, and 10 m before and behind it at 1 and 3 s.
    car = Boxes(
        np.array([[20.0, 0.0, 0.8]]),
        np.array([[4.0, 2.0, 1.6]]),
        np.zeros(1),
        np.zeros((1, 2)),
        ("vehicle.car",),
        ("a",),
    )
    plan = np.column_stack([10 * PLAN_TIMES, np.zeros(6)])
    scores = OpenLoopScores("x")
    scores.add(plan, GroundTruth(plan + [0.0, 8.0], np.ones(6, bool), (car,) * 6), 0)
    # Where the driver collides as well, the test by cells does not count; that by oriented boxes does.
    scores.add(plan, GroundTruth(plan, np.ones(6, bool), (car,) * 6), 1)
    assert scores.by_drive().collision.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert scores.by_drive().obb.tolist() == [[0, 1, 0], [0, 1, 0]]


def test_a_ratio_is_that_of_the_pooled_samples():
    # 2 + 0 + 1 + 3 = 6 against 4 + 2 + 2 + 4 = 12 of as many samples.
    interval = ratio_over_drives(sums([2, 0, 1, 3]), sums([4, 2, 2, 4]), "collision")
    assert interval.value == pytest.approx(0.5)
    assert interval.low < 0.5 < interval.high


def test_a_ratio_that_is_the_same_in_every_drive_is_certain():
    interval = ratio_over_drives(sums([2, 1, 3]), sums([4, 2, 6]), "l2")
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.5, 0.5, 0.5))


def test_a_ratio_that_hangs_on_one_drive_is_uncertain():
    # Without the first drive ours is better, with it twice as bad.
    interval = ratio_over_drives(sums([20] + [1] * 19), sums([1] * 20), "collision")
    assert interval.value == pytest.approx(39 / 20)
    assert interval.low == pytest.approx(1.0)
    assert interval.high > 3.0


def test_seeds_are_pooled():
    both = DriveSums.over_seeds([sums([2, 0]), sums([4, 2])])
    assert ratio_over_drives(both, sums([4, 4], 8), "collision").value == pytest.approx(1.0)


def test_other_drives_are_refused():
    with pytest.raises(ValueError, match="same drives"):
        ratio_over_drives(sums([1, 2]), sums([1, 2, 3]), "l2")


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.floats(-50, 50))
def test_a_score_that_is_higher_by_the_same_everywhere_is_higher_by_just_that(scores, more):
    ours = np.array(scores) + more
    interval = difference_over_routes(ours, np.array(scores))
    assert (interval.value, interval.low, interval.high) == pytest.approx((more,) * 3, abs=1e-9)
