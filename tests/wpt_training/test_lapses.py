"""The driver who sometimes brakes late: closer calls, no contact, and what he would have done with care."""

import numpy as np
import pytest

from wpt_planner.geometry import inverse, transform_points
from wpt_training.simulator.episode import drive_route
from wpt_training.simulator.expert import ExpertPolicy
from wpt_training.simulator.lapses import AWAKE, LapsingExpert
from wpt_training.simulator.recording import attentive, record_route, stamp_of
from wpt_training.simulator.rig import simulated_rig
from wpt_training.simulator.scenarios import build_route, route_seed
from wpt_training.simulator.traffic import STEP
from wpt_training.training.packing import packed_as
from wpt_training.training.store import open_store, pack_drive, read_packed

from conftest import CONFIG

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


def test_with_attention_he_would_have_been_slower():
    driver, log = driven(route_seed(RECORDED) + 5, RECORDED)
    time = driver.lapses[0]
    row = round(time / STEP)
    way, known = attentive(RECORDED, time, sway=0.0)
    assert known.all()
    moved = np.hypot(*(log.states[row + 10, 1:3] - log.states[row, 1:3]))
    assert np.hypot(*way[1]) < moved - 0.1


def test_awake_from_a_lapse_on_he_drove_the_same_before_it(lapsed):
    driver, log = lapsed
    since = driver.lapses[0]
    awake = LapsingExpert(SEED, awake_from=since)
    careful = drive_route(build_route(ROUTE), awake)
    assert not awake.lapses
    row = round(since / STEP)
    assert np.array_equal(careful.states[: row + 1], log.states[: row + 1])
    assert careful.states[row + 10, 4] < log.states[row + 10, 4] - 0.1


def test_he_is_awake_for_a_while_after_each_lapse(lapsed):
    driver, _ = lapsed
    times = np.array(driver.lapses)
    gaps = np.diff(times)
    assert np.all((gaps < 1.5 * STEP) | (gaps > AWAKE - 1e-6))


def test_a_lapse_counts_for_the_three_seconds_before_it(lapsed):
    driver, _ = lapsed
    first, last = driver.lapses[0], driver.lapses[-1]
    assert driver.looks_away_after(first - 3.0 + 0.2)
    assert not driver.looks_away_after(first - 3.0 - 0.2)
    assert driver.looks_away_after(last)
    assert not driver.looks_away_after(last + STEP)


def test_the_same_seed_drives_the_same(lapsed):
    assert np.array_equal(driven()[1].states, lapsed[1].states)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    cameras = simulated_rig(16, 28)[:1]
    return record_route(RECORDED, tmp_path_factory.mktemp("drive"), cameras, every=5, lapses=True)


def test_frames_hold_what_he_would_have_done_and_elsewhere_what_he_did(recorded):
    drive, log = recorded
    driver, _ = driven(route_seed(RECORDED) + 5, RECORDED)
    times = [(frame.stamp - stamp_of(0.0)) / 1e9 for frame in drive.frames()]
    assert drive.better
    assert set(drive.better) == {stamp_of(time) for time in times if driver.looks_away_after(time)}
    for frame, time in zip(drive.frames(), times, strict=True):
        if frame.stamp in drive.better:
            way, known = attentive(RECORDED, time, sway=0.0)
            assert np.array_equal(frame.future, way)
            assert np.array_equal(frame.future_valid, known)
        elif frame.future_valid.all():
            row = round(time / STEP)
            later = np.append(log.states[row + 10, 1:3], 0.0)
            at = transform_points(inverse(frame.map_from_ego), later[None])[0, :2]
            assert frame.future[1] == pytest.approx(at, abs=1e-6)


def test_packed_samples_hold_what_he_did_beside_what_he_should_have_done(recorded, tmp_path):
    drive, _ = recorded
    grid = CONFIG.labels()
    open_store(tmp_path, grid, (16, 28))
    assert pack_drive(drive, tmp_path, grid, (16, 28))
    packed, _ = read_packed(tmp_path, packed_as(RECORDED))
    lapsed = np.isin(packed.stamps, list(drive.better))
    assert lapsed.any()
    for sample, stamp in enumerate(packed.stamps):
        way, known = drive.ego.future(int(stamp))
        assert packed.driven[sample] == pytest.approx(way, abs=1e-4)
        assert np.array_equal(packed.driven_valid[sample], known)
    assert np.array_equal(packed.future[~lapsed], packed.driven[~lapsed])
    assert np.abs(packed.future[lapsed] - packed.driven[lapsed]).max() > 0.5
