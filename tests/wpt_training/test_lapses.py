"""The driver who sometimes brakes late: closer calls, no contact, and what he should have done."""

import numpy as np
import pytest

from wpt_planner.geometry import inverse, transform_points
from wpt_training.simulator.episode import drive_route
from wpt_training.simulator.expert import ExpertPolicy
from wpt_training.simulator.lapses import AWAKE, LapsingExpert
from wpt_training.simulator.recording import record_route, stamp_of
from wpt_training.simulator.rig import simulated_rig
from wpt_training.simulator.scenarios import build_route, route_seed
from wpt_training.simulator.traffic import STEP

# The driver of this seed looks away on ROUTE.
SEED = 0
ROUTE, RECORDED = "train/OppositeVehicleRunningRedLight-1", "train/DynamicObjectCrossing-3"


def driven(seed=SEED, route=ROUTE):
    driver = LapsingExpert(seed)
    return driver, drive_route(build_route(route), driver)


@pytest.fixture(scope="module")
def lapsed():
    driver, log = driven()
    assert driver.lapses
    return driver, log


def test_who_looks_away_brakes_harder_than_the_expert_and_hits_nobody(lapsed):
    _, log = lapsed
    careful = drive_route(build_route(ROUTE), ExpertPolicy())
    assert log.states[:, 5].min() < careful.states[:, 5].min() - 1.0
    assert not log.infractions
    assert not log.failure


def test_what_he_meant_to_do_is_slower_than_what_he_did(lapsed):
    driver, log = lapsed
    time = driver.lapses[0]
    row = round(time / STEP)
    meant = driver.differs(time)
    # 1 s later, from where he was.
    moved = np.hypot(*(log.states[row + 10, 1:3] - log.states[row, 1:3]))
    assert np.hypot(*meant[1]) < moved - 0.1


def test_he_is_awake_for_a_while_after_each_lapse(lapsed):
    driver, _ = lapsed
    times = np.array(driver.lapses)
    gaps = np.diff(times)
    assert np.all((gaps < 1.5 * STEP) | (gaps > AWAKE - 1e-6))


def test_three_seconds_before_a_lapse_and_after_it_he_means_what_he_does(lapsed):
    driver, _ = lapsed
    first = driver.lapses[0]
    assert driver.differs(first - 3.0 + 0.2) is not None
    assert driver.differs(first - 3.0 - 0.2) is None
    assert driver.differs(driver.lapses[-1] + STEP) is None


def test_the_same_seed_drives_the_same(lapsed):
    assert np.array_equal(driven()[1].states, lapsed[1].states)


def test_frames_hold_what_he_meant_and_elsewhere_what_he_did(tmp_path):
    cameras = simulated_rig(16, 28)[:1]
    drive, log = record_route(RECORDED, tmp_path, cameras, every=5, lapses=True)
    driver, _ = driven(route_seed(RECORDED) + 5, RECORDED)
    assert drive.meant
    assert set(drive.meant) < {stamp_of(t) for t, _ in driver.meant[::5] if driver.differs(t) is not None}
    for frame in drive.frames():
        time = (frame.stamp - stamp_of(0.0)) / 1e9
        if frame.stamp in drive.meant:
            assert np.array_equal(frame.future, driver.differs(time))
            assert frame.future_valid.all()
            # Only where it is the more careful.
            done, known = drive.ego.future(frame.stamp)
            assert not known.all() or np.hypot(*frame.future[-1]) < np.hypot(*done[-1])
        elif frame.future_valid.all():
            row = round(time / STEP)
            later = np.append(log.states[row + 10, 1:3], 0.0)
            at = transform_points(inverse(frame.map_from_ego), later[None])[0, :2]
            assert frame.future[1] == pytest.approx(at, abs=1e-6)
