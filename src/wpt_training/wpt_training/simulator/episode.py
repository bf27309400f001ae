"""One route, driven: sensors at 10 Hz, a policy's plan, the tracker, and traffic that reacts."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from shapely import Point
from shapely.prepared import prep

from wpt_planner.geometry import Array, box_corners_2d
from wpt_training.drives.frame import COMMANDS
from wpt_training.evaluation.collision import overlaps
from wpt_training.simulator.agents import Actor, Driver
from wpt_training.simulator.paths import Path
from wpt_training.simulator.scenarios import Scenario
from wpt_training.simulator.traffic import RED, STEP, SUBSTEPS
from wpt_training.simulator.vehicle import (
    DRY,
    FRONT_AHEAD,
    LENGTH,
    WIDTH,
    Surface,
    Tracker,
    VehicleState,
    advance,
)

OFF_ROUTE = 30.0  # m beside the route, from which on it has failed
BLOCKED = 60.0  # s without moving
CHECKS = 20  # of the speed, evenly along the route
SURROUNDINGS = 50.0  # m around the ego, whose traffic its speed is compared with
COMMAND_AHEAD = 3.0  # s, as the command of recorded drives


@dataclass(frozen=True)
class LightLine:
    """A stop line on the ego's route, `way` m along its path."""

    axis: str
    way: float


@dataclass(frozen=True)
class Observation:
    """What a policy may look at. Only the expert looks into `scenario`."""

    time: float
    ego: VehicleState
    command: int
    scenario: Scenario
    light_lines: tuple[LightLine, ...]
    stop_ways: tuple[float, ...]


class Policy(Protocol):
    """Gives a plan (6, 2) in base_link for every observation. One instance drives one route."""

    name: str

    def plan(self, observation: Observation) -> Array: ...


@dataclass(frozen=True)
class Infraction:
    """`kind`: pedestrian, vehicle, static, red_light, stop_sign, scenario_timeout, emergency."""

    kind: str
    time: float
    way: float
    detail: str = ""


@dataclass
class RouteLog:
    """What happened on one route; `states` (S, 6): time, x, y, yaw, speed, acceleration at 10 Hz.

    `failure` is why it ended before its end: "" if it did not. `speed_checks` in %.
    """

    name: str
    type_name: str
    policy: str
    completion: float = 0.0
    outside: float = 0.0
    infractions: list[Infraction] = field(default_factory=list)
    speed_checks: list[float] = field(default_factory=list)
    failure: str = ""
    states: Array = field(default_factory=lambda: np.zeros((0, 6)))
    plan_seconds: list[float] = field(default_factory=list)


class PolicyTimeout(RuntimeError):
    """The policy took longer than it may."""


class Episode:
    """Steps a scenario. `log` is filled as it goes; `done` when the route has ended.

    `sway` rad: slow waves of the steering that the policy has to correct. Demonstrations driven so
    show how to come back to the lane; the benchmark's routes are driven without.
    """

    def __init__(self, scenario: Scenario, policy_name: str, sway: float = 0.0) -> None:
        self.scenario = scenario
        self.sway = sway
        route = scenario.route
        at = route.positions(np.array(scenario.start))
        self.ego = VehicleState(
            float(at[0]), float(at[1]), float(route.heading(scenario.start)), scenario.start_speed
        )
        self.log = RouteLog(scenario.name, scenario.type_name, policy_name)
        self.done = False
        self.time = 0.0
        self._tracker = Tracker()
        self._allowed = prep(scenario.allowed)
        self._generator = np.random.default_rng(scenario.seed + 1)
        self._phase = self._generator.uniform(0, 2 * np.pi, 3)
        self._states: list[list[float]] = []
        self._way = scenario.start
        self._driven, self._outside = 0.0, 0.0
        self._touching: set[str] = set()
        self._standing = 0.0
        self._zone_since: float | None = None
        self._zone_left = False
        self._since_check: list[float] = []
        self._checks_made = 0
        self._slowest_before_stop: dict[int, float] = {}
        self._light_lines = tuple(self._lines_on(scenario.path))
        self._route_lines = tuple(self._lines_on(route))
        self._stop_ways = tuple(scenario.path.project(s.stop)[0] for s in scenario.stop_signs)
        scenario.traffic.ego.place(self.ego.middle, self.ego.yaw, self.ego.speed)
        self._record()

    def observe(self) -> Observation:
        return Observation(
            self.time, self.ego, self.command(), self.scenario, self._light_lines, self._stop_ways
        )

    def command(self) -> int:
        """From where the route leads in 3 s, as on recorded drives."""
        path = self.scenario.path
        way, _ = path.project(self.ego.position)
        target = path.positions(np.array(way + COMMAND_AHEAD * max(self.ego.speed, 5.0)))
        dx, dy = target - self.ego.position
        left = np.cos(self.ego.yaw) * dy - np.sin(self.ego.yaw) * dx
        if left >= 2.0:
            return COMMANDS.index("turn_left")
        return COMMANDS.index("turn_right" if left <= -2.0 else "keep_forward")

    def step(self, plan: Array | None) -> None:
        """Follows the plan, or the one before if it is None, for 0.1 s. Raises ValueError if the plan
        is not finite."""
        if plan is not None:
            self._tracker.follow(plan, self.ego)
        dt = STEP / SUBSTEPS
        before = self.ego
        for _ in range(SUBSTEPS):
            acceleration, steering = self._tracker.control(self.ego, dt)
            self.ego = advance(self.ego, acceleration, steering, dt, self._surface())
        self.scenario.traffic.step(self.ego.middle, self.ego.yaw, self.ego.speed)
        self.time += STEP
        self._record()
        self._judge(before)

    def fail(self, cause: str) -> None:
        """Ends the route before its end."""
        self.log.failure = cause
        self._finish()

    def _surface(self) -> Surface:
        slippery = self.scenario.slippery
        on_ice = slippery is not None and slippery[0] <= self._way <= slippery[1]
        if not on_ice and not self.sway:
            return DRY
        # Gusts and ruts: three slow waves, the same for every policy.
        waves = float(np.sin(np.array([1.7, 2.9, 4.3]) * self.time + self._phase).sum())
        return Surface(0.5, 0.02 * waves) if on_ice else Surface(1.0, self.sway * waves)

    def _record(self) -> None:
        e = self.ego
        self._states.append([self.time, e.x, e.y, e.yaw, e.speed, e.acceleration])

    def _judge(self, before: VehicleState) -> None:
        scenario = self.scenario
        way, offset = scenario.route.project(self.ego.position)
        if abs(offset) < 8.0 and way < self._way + 15.0:
            self._way = max(self._way, way)
        moved = float(np.hypot(*(self.ego.position - before.position)))
        self._driven += moved
        if not self._allowed.contains(Point(*self.ego.middle)):
            self._outside += moved
        self._collisions()
        self._lines(before)
        self._zone()
        self._speed_check()
        self._standing = self._standing + STEP if self.ego.speed < 0.1 else 0.0
        length = scenario.end - scenario.start
        self.log.completion = float(np.clip((self._way - scenario.start) / length, 0.0, 1.0))
        if self._way >= scenario.end:
            self.log.completion = 1.0
            self._finish()
        elif abs(offset) > OFF_ROUTE:
            self.fail("off route")
        elif self._standing >= BLOCKED:
            self.fail("blocked")
        elif self.time >= scenario.time_limit:
            self.fail("time is up")

    def _finish(self) -> None:
        scenario = self.scenario
        ambulance = scenario.emergency
        if ambulance is not None and ambulance.moving:
            ahead = (
                scenario.route.project(ambulance.position)[0] > scenario.route.project(self.ego.position)[0]
            )
            if not ahead and ambulance in scenario.traffic.road.vehicles:
                self._add("emergency", "the emergency vehicle could not pass")
        self.log.outside = self._outside / self._driven if self._driven > 0 else 0.0
        self.log.states = np.array(self._states)
        self.done = True

    def _add(self, kind: str, detail: str = "") -> None:
        self.log.infractions.append(Infraction(kind, round(self.time, 2), round(self._way, 2), detail))

    def _collisions(self) -> None:
        agents = self.scenario.traffic.agents
        middles = np.array([a.position for a in agents]).reshape(-1, 2)
        near = np.flatnonzero(np.hypot(*(middles - self.ego.middle).T) < 9.0)
        touching = set()
        if len(near):
            own = box_corners_2d(
                self.ego.middle[None], np.array([[LENGTH, WIDTH]]), np.array([self.ego.yaw])
            )[0]
            sizes = np.array([agents[i].kind.size[:2] for i in near])
            yaws = np.array([agents[i].heading for i in near])
            for i, hit in zip(near, overlaps(own, box_corners_2d(middles[near], sizes, yaws)), strict=True):
                if hit:
                    touching.add(agents[i].track_id)
                    if agents[i].track_id not in self._touching:
                        self._add(_collision_kind(agents[i].kind.class_name), agents[i].kind.class_name)
        self._touching = touching

    def _lines(self, before: VehicleState) -> None:
        route, traffic = self.scenario.route, self.scenario.traffic
        was = route.project(before.position)[0] + FRONT_AHEAD
        now = route.project(self.ego.position)[0] + FRONT_AHEAD
        for line in self._route_lines:
            if was <= line.way < now and traffic.signals.state(line.axis) == RED:
                self._add("red_light")
        for number, sign in enumerate(self.scenario.stop_signs):
            way = route.project(sign.stop)[0]
            if way - 8.0 < now <= way + 0.5:
                slowest = self._slowest_before_stop.get(number, np.inf)
                self._slowest_before_stop[number] = min(slowest, self.ego.speed)
            if was <= way < now and self._slowest_before_stop.get(number, np.inf) > 0.1:
                self._add("stop_sign")

    def _zone(self) -> None:
        low, high = self.scenario.zone
        if self._zone_left:
            return
        if self._zone_since is None:
            if self._way >= low:
                self._zone_since = self.time
        elif self._way > high:
            self._zone_left = True
        elif self.time - self._zone_since > self.scenario.zone_seconds:
            self._zone_left = True
            self._add("scenario_timeout")

    def _speed_check(self) -> None:
        self._since_check.append(self.ego.speed)
        length = self.scenario.end - self.scenario.start
        due = self.scenario.start + length * (self._checks_made + 1) / CHECKS
        if self._way < due:
            return
        self._checks_made += 1
        around = [
            a.speed
            for a in self.scenario.traffic.agents
            if isinstance(a, Driver | Actor)
            and a.kind.is_vehicle
            and np.hypot(*(a.position - self.ego.middle)) < SURROUNDINGS
        ]
        mean = float(np.mean(around)) if around else 0.0
        if mean > 0.1:
            self.log.speed_checks.append(100.0 * float(np.mean(self._since_check)) / mean)
        self._since_check = []

    def _lines_on(self, path: Path) -> Iterator[LightLine]:
        for light in self.scenario.traffic.signals.lights:
            way, offset = path.project(light.stop)
            turned = abs((float(path.heading(way)) - light.heading + np.pi) % (2 * np.pi) - np.pi)
            if abs(offset) < 6.0 and turned < 0.6 and light.axis == "ego" and 0 < way < path.length:
                yield LightLine(light.axis, way)


def _collision_kind(class_name: str) -> str:
    if class_name.startswith("human."):
        return "pedestrian"
    return "vehicle" if class_name.startswith("vehicle.") else "static"


Watcher = Callable[[Episode, Array | None], None]


def drive_route(
    scenario: Scenario,
    policy: Policy,
    watch: Watcher | None = None,
    plan_timeout: float = 30.0,
    sway: float = 0.0,
    plan_every: float = STEP,
) -> RouteLog:
    """Drives a route to its end. `watch` sees every plan that is about to be followed; one is made
    every `plan_every` s.

    A policy that raises, takes longer than `plan_timeout` s or plans NaN ends the route, with the
    cause in the log.
    """
    episode = Episode(scenario, policy.name, sway)
    steps, held = max(1, round(plan_every / STEP)), 0
    while not episode.done:
        if held:
            episode.step(None)
            held -= 1
            continue
        started = time.perf_counter()
        try:
            with _at_most(plan_timeout):
                plan = np.asarray(policy.plan(episode.observe()), dtype=np.float64)
            episode.log.plan_seconds.append(time.perf_counter() - started)
            if watch is not None:
                watch(episode, plan)
            episode.step(plan)
            held = steps - 1
        except PolicyTimeout:
            episode.fail(f"the policy took longer than {plan_timeout:g} s")
        except Exception as error:
            episode.fail(f"the policy failed: {type(error).__name__}: {error}")
    if watch is not None:
        watch(episode, None)
    return episode.log


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raises PolicyTimeout inside what takes longer; only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise PolicyTimeout

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


class ConstantVelocityPolicy:
    """Straight on, as fast as now: the blind line every table needs."""

    name = "constant-velocity"

    def plan(self, observation: Observation) -> Array:
        times = np.arange(1, 7) * 0.5
        return np.column_stack([times * observation.ego.speed, np.zeros(6)])
