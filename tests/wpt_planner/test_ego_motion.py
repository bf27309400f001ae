import numpy as np
import pytest

from wpt_planner.ego_motion import EgoMotion, OdometrySample
from wpt_planner.geometry import quaternion_from_yaw, yaw_of

MS = 1_000_000


def sample(ms: int, x: float, yaw: float = 0.0, speed: float = 10.0, yaw_rate: float = 0.0):
    return OdometrySample(ms * MS, np.array([x, 0.0, 0.0]), quaternion_from_yaw(yaw), speed, yaw_rate)


def straight() -> EgoMotion:
    motion = EgoMotion()
    for ms in range(0, 1001, 100):
        motion.add(sample(ms, ms / 100))
    return motion


def test_poses_between_samples_are_interpolated():
    state = straight().state_at(250 * MS)
    assert state.map_from_ego[0, 3] == pytest.approx(2.5)
    assert state.speed == pytest.approx(10.0)


def test_beyond_the_newest_sample_the_motion_is_carried_on():
    motion = EgoMotion()
    motion.add(sample(0, 0.0, speed=10.0, yaw_rate=0.2))
    pose = motion.state_at(400 * MS).map_from_ego
    assert pose[0, 3] == pytest.approx(4.0 * np.cos(0.04), rel=1e-6)
    assert yaw_of(pose) == pytest.approx(0.08)


def test_far_from_all_samples_there_is_no_answer():
    with pytest.raises(ValueError, match="no odometry"):
        straight().state_at(1600 * MS)
    with pytest.raises(ValueError, match="no odometry"):
        EgoMotion().state_at(0)


def test_acceleration_is_the_change_of_speed():
    motion = EgoMotion()
    for ms in range(0, 1001, 20):
        motion.add(sample(ms, 0.0, speed=2.0 * ms / 1000))
    assert motion.state_at(900 * MS).acceleration == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("odometry", "said"),
    [
        (sample(1100, 200.0), "jumped"),
        (sample(1100, 11.0, yaw=2.0), "turned"),
        (sample(500, 5.0), "back in time"),
    ],
)
def test_a_discontinuity_drops_the_past_and_says_so(odometry, said):
    motion = straight()
    assert said in motion.add(odometry)
    assert motion.newest_stamp == odometry.stamp
    assert not motion.reachable(-600 * MS)


def test_what_is_not_finite_is_refused_and_the_past_kept():
    motion = straight()
    with pytest.raises(ValueError, match="not finite"):
        motion.add(sample(1100, float("nan")))
    assert motion.newest_stamp == 1000 * MS


def test_a_snapshot_does_not_see_later_samples():
    motion = straight()
    copy = motion.snapshot()
    motion.add(sample(1100, 11.0))
    assert copy.newest_stamp == 1000 * MS
