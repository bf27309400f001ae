"""Driving routes: what counts as an infraction, and what happens to a policy that fails."""

import time

import numpy as np
import pytest

from wpt_planner.geometry import inverse
from wpt_training.simulator.episode import ConstantVelocityPolicy, Episode, drive_route
from wpt_training.simulator.expert import ExpertPolicy, speed_limits
from wpt_training.simulator.scenarios import build_route
from wpt_training.simulator.traffic import GREEN, RED


class RouteFollower:
    """Follows the route at 6 m/s whatever stands in the way."""

    name = "blind"

    def plan(self, observation):
        path, ego = observation.scenario.route, observation.ego
        way, _ = path.project(ego.position)
        points = path.positions(way + np.arange(1, 7) * 0.5 * 6.0)
        flat = np.column_stack([points, np.zeros(6), np.ones(6)])
        return (inverse(ego.map_from_ego) @ flat.T).T[:, :2]


class Broken:
    name = "broken"

    def __init__(self, after, what):
        self.left, self.what = after, what

    def plan(self, observation):
        self.left -= 1
        return self.what() if self.left < 0 else np.column_stack([np.arange(1, 7) * 2.0, np.zeros(6)])


@pytest.mark.parametrize(
    ("route", "kind"),
    [
        ("ParkedObstacle-0", "vehicle"),
        ("ParkingCrossingPedestrian-0", "pedestrian"),
        ("ConstructionObstacle-0", "static"),
        ("VanillaSignalizedTurnEncounterRedLight-0", "red_light"),
        ("VanillaNonSignalizedTurnEncounterStopsign-0", "stop_sign"),
        ("YieldToEmergencyVehicle-0", "emergency"),
    ],
)
def test_who_follows_the_route_blindly_commits_what_the_scenario_is_about(route, kind):
    log = drive_route(build_route(route), RouteFollower())
    assert log.completion == 1.0
    assert kind in {infraction.kind for infraction in log.infractions}


@pytest.mark.parametrize(
    "route",
    ["ParkedObstacleTwoWays-0", "PedestrianCrossing-0", "VanillaSignalizedTurnEncounterRedLight-0",
     "VanillaNonSignalizedTurnEncounterStopsign-0", "YieldToEmergencyVehicle-0", "EnterActorFlow-3"],
)  # fmt: skip
def test_the_expert_masters_it(route):
    log = drive_route(build_route(route), ExpertPolicy())
    assert (log.completion, log.infractions, log.failure) == (1.0, [], "")
    assert log.outside == 0.0


def test_a_plan_is_followed_until_the_next_is_made():
    log = drive_route(build_route("ParkedObstacle-0"), ExpertPolicy(), plan_every=0.5)
    # States are kept every 0.1 s, from the start on.
    assert len(log.plan_seconds) == -(-(len(log.states) - 1) // 5)
    assert (log.completion, log.infractions, log.failure) == (1.0, [], "")


def test_constant_velocity_leaves_the_road_in_a_bend():
    log = drive_route(build_route("VanillaNonSignalizedTurn-0"), ConstantVelocityPolicy())
    assert log.failure == "off route"
    assert log.completion < 0.9
    assert log.outside > 0.2


def test_who_never_moves_is_blocked_after_a_minute():
    log = drive_route(build_route("ParkingExit-0"), ConstantVelocityPolicy())
    assert log.failure == "blocked"
    assert log.states[-1, 0] == pytest.approx(60.0, abs=0.2)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda: np.full((6, 2), np.nan), "the plan is not 6 finite points"),
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: time.sleep(5), "took longer than 0.3 s"),
    ],
)
def test_a_policy_that_fails_ends_its_route_with_the_cause(what, said):
    log = drive_route(build_route("T_Junction-0"), Broken(10, what), plan_timeout=0.3)
    assert said in log.failure
    assert len(log.states) == 11  # what was driven before is kept


def test_the_same_route_driven_twice_gives_the_same_bytes():
    logs = [drive_route(build_route("InterurbanActorFlow-0"), ExpertPolicy()) for _ in range(2)]
    assert logs[0].states.tobytes() == logs[1].states.tobytes()


def test_drivers_stop_at_red_and_go_at_green():
    scenario = build_route("VanillaSignalizedTurnEncounterRedLight-0")
    traffic = scenario.traffic
    assert traffic.signals.state("ego") == RED
    assert traffic.signals.state("cross") == GREEN
    lane = ("W-", "W-.", 0)
    from wpt_training.simulator.agents import CAR, Driver

    car = Driver(traffic.road, lane, 30.0, 8.0, CAR, "tested", (1, 1, 1), [lane])
    traffic.add(car)
    far = np.array([500.0, 500.0])
    for _ in range(150):
        traffic.step(far, 0.0, 0.0)
    length = traffic.map.lane(lane).length
    way = traffic.map.lane(lane).path.project(car.position)[0]
    assert car.speed < 0.2
    assert length - 12.0 < way < length
    traffic.signals.clearing = 0.0
    for _ in range(60):
        traffic.step(far, 0.0, 0.0)
    assert car.speed > 3.0


def test_a_driver_keeps_its_distance_to_the_ego():
    scenario = build_route("HardBreakRoute-0")
    traffic = scenario.traffic
    episode = Episode(scenario, "standing")
    from wpt_training.simulator.agents import CAR, Driver

    lanes = traffic.map.network.graph["main+"]["main+."]
    car = Driver(traffic.road, ("main+", "main+.", len(lanes) - 1), 2.0, 8.0, CAR, "tested", (1, 1, 1))
    traffic.add(car)
    for _ in range(100):
        traffic.step(episode.ego.middle, episode.ego.yaw, 0.0)
    gap = np.hypot(*(episode.ego.middle - car.position)) - 4.6
    assert car.speed < 0.3
    assert 0.5 < gap < 6.0


def test_bends_are_taken_at_two_metres_per_second_squared_and_braked_for():
    curvature = np.zeros(100)
    curvature[60:70] = 1 / 8  # sqrt(2 · 8) = 4 m/s
    limits = speed_limits(curvature, 10.0)
    assert limits[65] == pytest.approx(4.0)
    # 20 m before: sqrt(4² + 2 · 1.8 · 20) = 9.38 m/s.
    assert limits[40] == pytest.approx(np.sqrt(16 + 72), rel=1e-6)
    assert limits[0] == 10.0
