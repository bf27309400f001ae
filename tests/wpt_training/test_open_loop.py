from dataclasses import replace

import numpy as np
import pytest

from wpt_planner.plan_guard import PLAN_TIMES
from wpt_training.drives.frame import Boxes
from wpt_training.evaluation.baselines import constant_velocity
from wpt_training.evaluation.open_loop import GroundTruth, OpenLoopScores

ALL = np.ones(6, bool)


def car(x: float) -> Boxes:
    return Boxes(
        np.array([[x, 0.0, 0.8]]),
        np.array([[4.0, 2.0, 1.6]]),
        np.zeros(1),
        np.zeros((1, 2)),
        ("vehicle.car",),
        ("a",),
    )


def truth(valid=ALL, boxes: Boxes | None = None) -> GroundTruth:
    return GroundTruth(constant_velocity(10.0), valid, (boxes or Boxes.none(),) * 6)


def aside(metres: np.ndarray) -> np.ndarray:
    plan = constant_velocity(10.0)
    plan[:, 1] = metres
    return plan


def test_l2_of_a_worked_example_in_both_conventions():
    # One plan is off by 0.1, 0.2 … 0.6 m, the other by twice that.
    scores = OpenLoopScores("x")
    for factor in (1, 2):
        scores.add(aside(0.1 * factor * np.arange(1, 7)), truth())
    # uniad: at steps 2, 4, 6: (0.2 + 0.4)/2, (0.4 + 0.8)/2, (0.6 + 1.2)/2.
    assert scores.row("uniad").l2 == pytest.approx((0.3, 0.6, 0.9, 0.6))
    # stp3: means up to there of 0.15·(1 … 6): 0.15·1.5, 0.15·2.5, 0.15·3.5.
    assert scores.row("stp3").l2 == pytest.approx((0.225, 0.375, 0.525, 0.375))


def test_missing_steps_are_left_out_or_counted_as_zero_as_published():
    valid = np.array([1, 1, 1, 1, 0, 0], bool)
    scores = OpenLoopScores("x")
    scores.add(aside(np.full(6, 1.0)), truth())
    scores.add(aside(np.full(6, 1.0)), truth(valid))
    assert scores.row("uniad").l2[2] == pytest.approx(1.0)
    assert scores.row("uniad").steps_left_out == 2
    # UniAD's code multiplies the missing step by 0 and divides by both samples.
    assert scores.row("uniad", as_published=True).l2[2] == pytest.approx(0.5)


def test_collisions_are_rates_in_percent_at_the_step():
    # The plan stops at 10 m after one step of 10 m/s²… a car stands at 25 m: the expert passes
    # it sideways, the plan drives into it at 2.5 s and 3 s only.
    expert = np.stack([10.0 * PLAN_TIMES, np.full(6, 6.0)], axis=1)
    boxes = (car(26.0),) * 6
    scores = OpenLoopScores("x")
    scores.add(constant_velocity(10.0), GroundTruth(expert, ALL, boxes))
    scores.add(expert, GroundTruth(expert, ALL, boxes))
    # Box at 20 m: 18.5 to 22.5 m ahead of the LiDAR; car: 23.06 to 27.06. At 25 m it overlaps, at
    # 30 m (28.5 …) it has passed through.
    row = scores.row("stp3")
    assert row.collision[:2] == (0.0, 0.0)
    assert row.collision[2] == pytest.approx(100 * (1 / 6) / 2)
    assert scores.row("uniad").collision[2] == 0.0


def test_a_step_at_which_the_recorded_driver_collides_is_not_counted():
    scores = OpenLoopScores("x")
    scores.add(constant_velocity(10.0), truth(boxes=car(21.5)))
    assert scores.row("uniad").collision == (0.0, 0.0, 0.0, 0.0)
    assert scores.row("uniad").obb[1] == 100.0


def test_a_collision_is_foreseeable_if_it_happens_too_when_all_keep_on():
    expert = np.zeros((6, 2))  # stays where it is
    # A car 20 m ahead at 3 s, by the grid hit by a plan of 10 m/s at 2 s. It stood there all the time; or it
    # goes as fast as the plan, and then stands; or nobody knows.
    standing = car(22.0)
    leading = replace(car(12.0), velocities=np.array([[10.0, 0.0]]))
    shares = []
    for now in (standing, leading, None):
        scores = OpenLoopScores("x")
        scores.add(constant_velocity(10.0), GroundTruth(expert, ALL, (standing,) * 6, now))
        assert scores.row("uniad").collision[1] == 100.0
        shares.append(scores.row("uniad").foreseeable)
    assert shares == [100.0, 0.0, 0.0]
    assert OpenLoopScores("x").row("uniad").foreseeable is None


def test_steps_without_annotation_are_left_out():
    scores = OpenLoopScores("x")
    boxes = (Boxes.none(),) * 4 + (None, None)
    scores.add(constant_velocity(10.0), GroundTruth(constant_velocity(10.0), ALL, boxes))
    assert scores.row("uniad").steps_left_out == 2
    assert np.isnan(scores.row("uniad").l2[2])


def test_no_plans_give_no_figures_instead_of_an_error():
    assert np.isnan(OpenLoopScores("x").row("uniad").l2[0])


def test_a_plan_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="shape"):
        OpenLoopScores("x").add(np.zeros((5, 2)), truth())
