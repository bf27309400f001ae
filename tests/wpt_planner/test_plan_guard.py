import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wpt_planner.ego_motion import EgoState
from wpt_planner.geometry import planar_matrix
from wpt_planner.plan_guard import PLAN_TIMES, GuardLimits, PlanGuard, check_plan, soft_stop

LIMITS = GuardLimits()
SECOND = 1_000_000_000


def straight(speed: float) -> np.ndarray:
    return np.stack([speed * PLAN_TIMES, np.zeros(6)], axis=1)


def state(speed: float, x: float = 0.0, yaw_rate: float = 0.0, acceleration: float = 0.0) -> EgoState:
    return EgoState(planar_matrix(x, 0, 0), speed, acceleration, yaw_rate)


def with_point(index: int, point) -> np.ndarray:
    plan = straight(10.0)
    plan[index] = point
    return plan


@given(st.floats(0, 40))
def test_driving_straight_on_is_sane_at_any_speed(speed):
    assert check_plan(straight(speed), speed, 0.0, LIMITS) is None


@pytest.mark.parametrize(
    ("plan", "speed", "age", "said"),
    [
        (with_point(3, [np.nan, 0]), 10.0, 0.0, "not finite"),
        (straight(10.0)[:5], 10.0, 0.0, "shape"),
        (straight(10.0), 5.0, 0.0, "first point is 2.5 m"),
        (straight(10.0), 10.0, 0.6, "0.60 s old"),
        (straight(-3.0), 0.0, 0.0, "reverses 9.0 m"),
        # 5 m, then 9 m in the next half second: 10 -> 18 m/s, 16 m/s².
        (np.array([[5, 0], [14, 0], [23, 0], [32, 0], [41, 0], [50, 0.0]]), 10.0, 0.0, "acceleration 16.0"),
        # 10 -> 4 m/s in half a second: 12 m/s².
        (np.array([[5, 0], [7, 0], [9, 0], [11, 0], [13, 0], [15, 0.0]]), 10.0, 0.0, "deceleration 12.0"),
        # A right angle between two steps of 2 m: 1.57 rad / 2 m.
        (np.array([[2, 0], [2, 2], [2, 4], [2, 6], [2, 8], [2, 10.0]]), 4.0, 0.0, "curvature 0.79"),
        # 15 m/s on a circle of 20 m: 11 m/s².
        (
            np.stack([20 * np.sin(15 * PLAN_TIMES / 20), 20 - 20 * np.cos(15 * PLAN_TIMES / 20)], 1),
            15.0, 0.0, "lateral acceleration",
        ),
    ],
)  # fmt: skip
def test_a_plan_that_must_not_be_driven_says_why(plan, speed, age, said):
    assert said in check_plan(plan, speed, age, LIMITS)


def test_a_refused_plan_is_replaced_by_the_last_accepted_one_retimed():
    guard = PlanGuard(LIMITS)
    guard.accept_or_replace(0, straight(10.0), state(10.0), 0.0)
    held = guard.accept_or_replace(SECOND // 2, with_point(0, [np.nan, 0]), state(10.0, x=5.0), 0.0)
    assert held.is_fallback
    assert "held" in held.reason
    # Half a second and 5 m on, the old plan still reads 10 m/s ahead.
    assert np.allclose(held.trajectory, straight(10.0))


def test_a_held_plan_stands_where_it_would_turn_back():
    guard = PlanGuard(LIMITS)
    # It stops after 4.5 m and rolls back 1.5 m, which is still accepted.
    rolling_back = np.column_stack([[2.0, 3.5, 4.5, 4.0, 3.5, 3.0], np.zeros(6)])
    assert not guard.accept_or_replace(0, rolling_back, state(5.0), 0.0).is_fallback
    # 0.5 s later and 2 m on.
    held = guard.fallback(SECOND // 2, state(3.0, x=2.0), "nothing came")
    assert "held" in held.reason
    assert held.trajectory[:, 0].tolist() == pytest.approx([1.5, 2.5, 2.5, 2.5, 2.5, 2.5])


def test_a_plan_that_no_longer_fits_is_not_held():
    guard = PlanGuard(LIMITS)
    guard.accept_or_replace(0, straight(10.0), state(10.0), 0.0)
    # It stands: the old plan's next point is 10 m away from where it will be.
    stopped = guard.fallback(SECOND // 2, state(0.0), "nothing came")
    assert "soft stop" in stopped.reason


def test_after_the_hold_time_it_stops_softly():
    guard = PlanGuard(LIMITS)
    guard.accept_or_replace(0, straight(10.0), state(10.0), 0.0)
    stopped = guard.fallback(2 * SECOND, state(10.0, x=20.0), "nothing came")
    assert "soft stop" in stopped.reason


def test_a_soft_stop_from_10_metres_per_second_by_hand():
    # Jerk 1 m/s³ for 1 s: v(1) = 10 - 1/2 = 9.5, x(1) = 10 - 1/6 = 9.83; then -1 m/s² for 2 s:
    # x(3) = 9.83 + 9.5·2 - 2 = 26.83.
    plan = soft_stop(state(10.0))
    assert plan[1, 0] == pytest.approx(9.83, abs=0.05)
    assert plan[5, 0] == pytest.approx(26.83, abs=0.1)


@given(st.floats(0, 30), st.floats(-0.3, 0.3))
def test_a_soft_stop_is_always_accepted_and_never_reverses(speed, yaw_rate):
    yaw_rate = min(max(yaw_rate, -6.0 / max(speed, 1.0)), 6.0 / max(speed, 1.0))
    plan = soft_stop(state(speed, yaw_rate=yaw_rate))
    assert check_plan(plan, speed, 0.0, LIMITS) is None
    assert np.all(np.diff(np.linalg.norm(plan, axis=1)) >= -1e-6) or abs(yaw_rate) > 0
