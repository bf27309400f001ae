import threading
import time

import numpy as np
import pytest
from test_planner_core import camera_set

from wpt_planner.camera_rig import CameraImage
from wpt_planner.ego_motion import OdometrySample
from wpt_planner.parameters import PlannerParameters
from wpt_planner.plan_guard import GuardLimits
from wpt_planner.planner_core import PlannerCore
from wpt_planner.planner_worker import PlannerWorker

from conftest import SECOND, SPEED, rig


class Bench:
    """A worker with a clock that stands where the test puts it."""

    def __init__(self, runtime, **parameters) -> None:
        self.now = 0
        self.outcomes = []
        self.arrived = threading.Condition()
        self.worker = PlannerWorker(
            PlannerParameters(**parameters),
            lambda camera_rig: PlannerCore(runtime, camera_rig, GuardLimits(), 1.0),
            self._publish,
            lambda: self.now,
        )
        self.worker.start()
        self.worker.active = True
        for camera in rig():
            self.worker.store_calibration(camera)

    def _publish(self, outcome, latency) -> None:
        with self.arrived:
            self.outcomes.append(outcome)
            self.arrived.notify()

    def send(self, index: int, **replaced):
        """One set and its odometry; returns what came of it."""
        chosen = camera_set(index, **replaced)
        self.now = chosen.stamp
        position = np.array([SPEED * index / 10, 0, 0])
        self.worker.store_odometry(
            OdometrySample(chosen.stamp, position, np.array([1.0, 0, 0, 0]), SPEED, 0.0)
        )
        wanted = len(self.outcomes) + 1
        for number, image in enumerate(chosen.images):
            if image is not None:
                arrival = time.monotonic_ns()
                self.worker.store_image(number, CameraImage(image.stamp, arrival, image.image))
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.outcomes) >= wanted, 20)
        return self.outcomes[-1]


@pytest.fixture
def make_bench(runtime):
    made = []

    def make(**parameters):
        made.append(Bench(runtime, **({"allow_untrained": True} | parameters)))
        return made[-1]

    yield make
    for bench in made:
        bench.worker.stop()


def test_every_set_gives_a_plan_and_counts(make_bench):
    bench = make_bench()
    for index in range(4):
        assert bench.send(index).planned is not None
    assert bench.worker.latency.passes >= 3
    assert bench.worker.rig.sets_dropped == 0


def test_an_untrained_bundle_plans_only_when_allowed(make_bench):
    outcome = make_bench(allow_untrained=False).send(0)
    assert outcome.planned is None
    assert "allow_untrained" in outcome.reason


def test_a_bag_without_use_sim_time_is_told_so(make_bench):
    bench = make_bench()
    bench.worker._clock = lambda: 1000 * SECOND
    outcome = bench.send(0)
    assert outcome.planned is None
    assert "use_sim_time" in outcome.reason


def test_a_pass_that_raises_publishes_the_fallback_and_goes_on(make_bench):
    bench = make_bench()
    bench.send(0)
    bench.send(1)
    run = bench.worker.core.runtime.run
    bench.worker.core.runtime.run = lambda *args: 1 / 0
    broken = bench.send(2)
    assert broken.error
    assert "ZeroDivisionError" in broken.planned.reason
    bench.worker.core.runtime.run = run
    assert bench.send(3).planned.reason == "" or bench.send(4).planned.reason == ""


def test_an_odometry_jump_clears_the_recurrent_state(make_bench):
    bench = make_bench()
    for index in range(3):
        bench.send(index)
    bench.worker.store_odometry(
        OdometrySample(bench.now + 1, np.array([500.0, 0, 0]), np.array([1.0, 0, 0, 0]), SPEED, 0.0)
    )
    # The next odometry lies at the old place again: another jump, and the state is new.
    assert bench.send(3).planned.warming_up
    assert bench.worker.core.state_resets >= 1


def test_images_going_back_in_time_start_over(make_bench):
    bench = make_bench()
    for index in (50, 51):
        bench.send(index)
    assert bench.send(0).planned.warming_up
    assert bench.worker.core.state_resets == 1


def test_odometry_that_is_not_finite_is_dropped_and_named(make_bench):
    bench = make_bench()
    bench.send(0)
    bench.worker.store_odometry(
        OdometrySample(bench.now + 1, np.full(3, np.nan), np.array([1.0, 0, 0, 0]), SPEED, 0.0)
    )
    assert "not finite" in bench.worker.problems.odometry
    bench.send(1)
    assert bench.worker.problems.odometry == ""


def test_an_unknown_command_is_refused_and_the_last_one_kept(make_bench):
    bench = make_bench()
    bench.worker.store_command(0, 0, 3)
    bench.worker.store_command(5, 9, 3)
    assert "command 9" in bench.worker.problems.command
    assert bench.worker.command_at(10) == 0


def test_a_bundle_that_cannot_load_raises_where_the_worker_is_started():
    def fail(camera_rig):
        raise ValueError("bad bundle")

    worker = PlannerWorker(PlannerParameters(), fail, lambda *a: None, lambda: 0)
    with pytest.raises(ValueError, match="bad bundle"):
        worker.start()
