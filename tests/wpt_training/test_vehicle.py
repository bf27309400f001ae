import numpy as np
import pytest

from wpt_training.simulator.vehicle import (
    MAX_ACCELERATION,
    MAX_BRAKING,
    MAX_STEERING_RATE,
    WHEELBASE,
    Surface,
    Tracker,
    VehicleState,
    advance,
)  # fmt: skip


def drive(state: VehicleState, plan: np.ndarray, seconds: float) -> VehicleState:
    """Follows a plan that is given anew, relative to the vehicle, every 0.1 s."""
    tracker = Tracker()
    for _ in range(round(seconds * 10)):
        tracker.follow(plan, state)
        for _ in range(2):
            state = advance(state, *tracker.control(state, 0.05), 0.05)
    return state


def test_a_held_steering_angle_drives_the_circle_of_the_kinematic_bicycle():
    # Radius = wheelbase / tan(steering): at 0.2 rad 13.81 m; a full turn ends where it began.
    radius = WHEELBASE / np.tan(0.2)
    state = VehicleState(0.0, 0.0, 0.0, 5.0, 0.0, 0.2)
    dt = 2 * np.pi * radius / 5.0 / 1000
    far = 0.0
    for _ in range(1000):
        state = advance(state, 0.0, 0.2, dt)
        far = max(far, state.y)
    assert far == pytest.approx(2 * radius, rel=1e-3)
    assert np.hypot(state.x, state.y) < 0.02


def test_limits_of_acceleration_braking_and_steering_rate_hold():
    state = VehicleState(0.0, 0.0, 0.0, 10.0)
    for _ in range(100):
        after = advance(state, 99.0, 99.0, 0.05)
        assert after.acceleration <= MAX_ACCELERATION
        assert after.steering - state.steering <= MAX_STEERING_RATE * 0.05 + 1e-9
        state = after
    for _ in range(200):
        state = advance(state, -99.0, 0.0, 0.05)
        assert state.acceleration >= -MAX_BRAKING
    assert state.speed == 0.0  # and it does not reverse


def test_on_a_slippery_road_it_brakes_half_as_hard():
    dry = wet = VehicleState(0.0, 0.0, 0.0, 10.0)
    for _ in range(20):
        dry, wet = advance(dry, -8.0, 0.0, 0.05), advance(wet, -8.0, 0.0, 0.05, Surface(grip=0.5))
    assert 10 - wet.speed == pytest.approx((10 - dry.speed) / 2, rel=0.01)


def test_the_tracker_keeps_a_constant_speed_plan():
    plan = np.column_stack([np.arange(1, 7) * 0.5 * 8.0, np.zeros(6)])
    state = drive(VehicleState(0.0, 0.0, 0.0, 8.0), plan, 5.0)
    assert state.speed == pytest.approx(8.0, abs=0.05)
    assert state.x == pytest.approx(40.0, abs=0.3)
    assert state.y == pytest.approx(0.0, abs=1e-6)


def test_the_tracker_brakes_as_the_plan_does():
    # From 8 m/s at -2 m/s²: 8 t - t².
    times = np.arange(1, 7) * 0.5
    plan = np.column_stack([8 * times - times**2, np.zeros(6)])
    state, tracker = VehicleState(0.0, 0.0, 0.0, 8.0), Tracker()
    tracker.follow(plan, state)
    for _ in range(30):  # one plan, followed for 1.5 s
        state = advance(state, *tracker.control(state, 0.05), 0.05)
    assert state.speed == pytest.approx(5.0, abs=0.35)


def test_the_tracker_turns_towards_a_plan_to_the_left():
    angle = np.arange(1, 7) * 0.5 * 5.0 / 15.0  # an arc of 15 m radius at 5 m/s
    plan = 15.0 * np.column_stack([np.sin(angle), 1 - np.cos(angle)])
    state = drive(VehicleState(0.0, 0.0, 0.0, 5.0), plan, 3.0)
    assert state.yaw == pytest.approx(1.0, abs=0.15)  # 3 s at 5/15 rad/s


@pytest.mark.parametrize("bad", [np.full((6, 2), np.nan), np.zeros((5, 2))])
def test_a_plan_that_is_not_six_finite_points_is_refused(bad):
    with pytest.raises(ValueError, match="the plan is not 6 finite points"):
        Tracker().follow(bad, VehicleState(0.0, 0.0, 0.0, 5.0))
