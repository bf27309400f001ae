"""Scenario types at junctions: turns across and into flows, lights, signs, rule breakers."""

from __future__ import annotations

from functools import partial

import numpy as np

from wpt_training.simulator.agents import CAR, CYCLIST, VAN
from wpt_training.simulator.maps import crossroads, roundabout
from wpt_training.simulator.paths import Path
from wpt_training.simulator.scenarios import Scenario, Stage, scenario_type
from wpt_training.simulator.traffic import GREEN, RED

Generator = np.random.Generator
FROM_JUNCTION = 62.0  # m before it the ego starts
BEYOND = 70.0  # m after it the route ends


def _at(
    name: str, type_name: str, generator: Generator, turn: str, arms: str = "WENS", lanes: int = 1,
    priority: str = "", town: bool = False, start_arm: str = "W",
) -> Stage:  # fmt: skip
    """The ego comes from `start_arm` and leaves by the arm `turn`."""
    stage = Stage(name, type_name, crossroads(generator, arms, lanes, priority, town=town), generator)
    number = 0 if _is_left(start_arm, turn) else lanes - 1
    out = stage.map.network.graph[f"{start_arm}-."][f"{turn}+"]
    connector = min(number, len(out) - 1)
    arriving = number
    leaving = 0 if _is_left(start_arm, turn) else lanes - 1
    stage.take(
        [(f"{start_arm}-", f"{start_arm}-.", arriving), (f"{start_arm}-.", f"{turn}+", connector),
         (f"{turn}+", f"{turn}+.", leaving)]
    )  # fmt: skip
    for arm in arms:
        path = stage.map.roads[arm]
        half = lanes * stage.width + 0.5
        stage.pedestrians(path.part(8.0, path.length), half, half, 1)
    return stage


def _is_left(arm: str, turn: str) -> bool:
    return arm + turn in ("WN", "NE", "ES", "SW")


def _drive(stage: Stage, zone_after: float = 25.0, limit: float | None = None) -> Scenario:
    """From FROM_JUNCTION before the junction to BEYOND after it."""
    before, after = float(stage.marks[1]), float(stage.marks[2])
    start = max(3.0, before - FROM_JUNCTION)
    return stage.scenario(
        start, after + BEYOND, limit=limit, zone=(before - 20.0, after + zone_after), zone_seconds=75.0
    )


def _flow(
    stage: Stage, arm: str, to: str, count: int, gap: tuple[float, float], first: float, speed: float = 8.0
) -> None:  # fmt: skip
    """Drivers from one arm to another; the foremost starts `first` m before the junction."""
    lane = (f"{arm}-", f"{arm}-.", 0)
    length = stage.map.lane(lane).length
    stage.flow(lane, speed, count, gap, length - first, [f"{to}+", f"{to}+."])


def _dense(generator: Generator) -> tuple[float, float]:
    low = float(generator.uniform(16, 22))
    return low, low + 10.0


@scenario_type("InterurbanActorFlow", "M")
def left_across_flow(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "N", priority="WE", town=index % 5 == 4)
    _flow(stage, "E", "W", 6, _dense(generator), 35.0)
    return _drive(stage)


@scenario_type("InterurbanAdvancedActorFlow", "M")
def left_across_and_into_flow(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "N", priority="WE", town=index % 5 == 4)
    _flow(stage, "E", "W", 4, _dense(generator), 35.0)
    _flow(stage, "E", "N", 2, (30.0, 45.0), 130.0, 6.0)
    _flow(stage, "S", "N", 3, (24.0, 34.0), 75.0, 7.0)
    return _drive(stage)


@scenario_type("EnterActorFlow", "MT")
def enter_flow(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    if index % 5 >= 3:
        return _enter_roundabout(name, type_name, generator)
    # From the side road into a flow that has priority.
    stage = _at(name, type_name, generator, "E", priority="WE", start_arm="S")
    _flow(stage, "W", "E", 6, _dense(generator), 30.0)
    return _drive(stage)


def _enter_roundabout(name: str, type_name: str, generator: Generator) -> Scenario:
    stage = Stage(name, type_name, roundabout(generator), generator)
    stage.take(
        [("W-", "W-.", 0), ("W-.", "ringW+", 0), ("ringW+", "ringW+.", 0), ("ringW+.", "ringS+", 0),
         ("ringS+", "ringS+.", 0), ("ringS+.", "E+", 0), ("E+", "E+.", 0)]
    )  # fmt: skip
    lane = ("N-", "N-.", 0)
    stage.flow(
        lane, 6.0, 5, _dense(generator), stage.map.lane(lane).length - 8.0,
        ["ringN+", "ringN+.", "ringW+", "ringW+.", "S+", "S+."],
    )  # fmt: skip
    before, after = float(stage.marks[1]), float(stage.marks[6])
    return stage.scenario(
        max(3.0, before - FROM_JUNCTION),
        after + 50.0,
        limit=8.0,
        zone=(before - 20, after),
        zone_seconds=75.0,
    )


@scenario_type("CrossingBicycleFlow", "MT")
def across_cyclists(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "S" if index % 2 else "N")
    out = stage.map.roads["S" if index % 2 else "N"]
    # A track for cyclists crosses the arm that the ego turns into.
    line = out.positions(np.full(2, 6.0), np.array([-22.0, 30.0]))
    track = Path(line if index % 2 == 0 else line[::-1]).resampled()
    for number in range(int(generator.integers(4, 7))):
        cyclist = stage.actor(track, float(generator.uniform(3.4, 4.2)), CYCLIST, stays=False)
        stage.when(float(stage.marks[1]) - 30.0, partial(stage.after, number * 1.6, cyclist.go))
    return _drive(stage)


@scenario_type("SignalizedJunctionLeftTurn", "MT")
def signal_left(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "N", priority="E")
    stage.signals(RED if index % 2 else GREEN)
    _flow(stage, "E", "W", 4, _dense(generator), 40.0)
    return _drive(stage)


@scenario_type("SignalizedJunctionLeftTurnEnterFlow", "MT")
def signal_left_into_flow(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "N", priority="E")
    stage.signals(GREEN)
    _flow(stage, "E", "N", 5, _dense(generator), 35.0, 6.5)
    return _drive(stage)


@scenario_type("SignalizedJunctionRightTurn", "MT")
def signal_right(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "S", priority="E")
    stage.signals(RED if index % 2 else GREEN)
    _flow(stage, "E", "S", 4, _dense(generator), 35.0, 6.5)
    return _drive(stage)


@scenario_type("NonSignalizedJunctionLeftTurn", "MT")
def left(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "N", priority="E", town=index % 5 == 4)
    _flow(stage, "E", "W", 4, _dense(generator), 40.0)
    return _drive(stage)


@scenario_type("NonSignalizedJunctionLeftTurnEnterFlow", "MT")
def left_into_flow(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "N", priority="ES")
    _flow(stage, "S", "N", 5, _dense(generator), 35.0, 7.0)
    return _drive(stage)


@scenario_type("NonSignalizedJunctionRightTurn", "MT")
def right(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "S", priority="NE")
    _flow(stage, "N", "S", 5, _dense(generator), 35.0, 7.0)
    return _drive(stage)


def _crosses_after_turn(
    name: str, type_name: str, generator: Generator, index: int, person: bool
) -> Scenario:
    turn = "N" if index % 2 else "S"
    stage = _at(name, type_name, generator, turn)
    after = float(stage.marks[2])
    side = stage.width * 2.2
    at = after + float(generator.uniform(9, 14))
    ends = (
        np.array([-stage.width / 2 - 1.8, side]) if person else np.array([-stage.width / 2 - 5.0, side + 3])
    )
    line = Path(stage.route.positions(np.full(2, at), ends)).resampled()
    who = stage.person(line, 1.6) if person else stage.actor(line, 3.2, CYCLIST)
    # Called while the ego is still in the turn.
    stage.when(after - float(generator.uniform(3, 6)), who.go)
    return _drive(stage, 30.0)


@scenario_type("VehicleTurningRoute", "ET")
def cyclist_after_turn(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _crosses_after_turn(name, type_name, generator, index, False)


@scenario_type("VehicleTurningRoutePedestrian", "ET")
def person_after_turn(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _crosses_after_turn(name, type_name, generator, index, True)


@scenario_type("BlockedIntersection", "ET")
def blocked_exit(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "N" if index % 2 else "E")
    after = float(stage.marks[2])
    way = after + float(generator.uniform(2, 5))
    blocker = stage.actor(stage.route, 8.0, VAN if index % 2 else CAR, way=way)
    stage.when(
        float(stage.marks[1]) - 25.0,
        lambda: stage.after(float(generator.uniform(8, 11)), blocker.go),
    )
    return _drive(stage, 30.0)


def _takes_it(name: str, type_name: str, generator: Generator, index: int, lights: bool) -> Scenario:
    stage = _at(name, type_name, generator, "E", lanes=1, priority="WE")
    if lights:
        stage.signals(GREEN)
    arm = "N" if index % 2 else "S"
    other = "S" if arm == "N" else "N"
    lanes = [(f"{arm}-", f"{arm}-.", 0), (f"{arm}-.", f"{other}+", 0), (f"{other}+", f"{other}+.", 0)]
    line = Path.joined([stage.map.lane(lane).path for lane in lanes])
    speed = float(generator.uniform(7.5, 9.0))
    car = stage.actor(line, speed, CAR, way=stage.map.lane(lanes[0]).length - 42.0, acceleration=5.0)
    # Where the two ways cross, and how long it takes to get there.
    ways = [stage.route.project(point) for point in line.points]
    crossing = int(np.argmin([abs(offset) for _, offset in ways]))
    seconds = (float(line.way[crossing]) - car.way) / speed + speed / 5.0 / 2
    stage.when_meeting(ways[crossing][0], seconds - 0.4, car.go)
    return _drive(stage, limit=9.0)


@scenario_type("OppositeVehicleRunningRedLight", "ET")
def runs_red_light(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _takes_it(name, type_name, generator, index, True)


@scenario_type("OppositeVehicleTakingPriority", "ET")
def takes_priority(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _takes_it(name, type_name, generator, index, False)


@scenario_type("T_Junction", "T")
def t_junction(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    # From the stem into the through road.
    stage = _at(name, type_name, generator, "E" if index % 2 else "W", "WES", priority="WE", start_arm="S")
    _flow(stage, "W", "E", 2, (30.0, 45.0), 50.0)
    _flow(stage, "E", "W", 2, (30.0, 45.0), 60.0)
    return _drive(stage)


@scenario_type("VanillaNonSignalizedTurn", "T")
def plain_turn(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "N" if index % 2 else "S", town=index % 5 == 4)
    return _drive(stage)


@scenario_type("VanillaNonSignalizedTurnEncounterStopsign", "T")
def turn_at_stop_sign(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "N" if index % 2 else "S", priority="NS")
    stage.stop_sign("W")
    _flow(stage, "N" if index % 2 == 0 else "S", "S" if index % 2 == 0 else "N", 2, (30.0, 40.0), 60.0)
    return _drive(stage)


@scenario_type("VanillaSignalizedTurnEncounterGreenLight", "T")
def turn_at_green(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "N" if index % 2 else "S")
    stage.signals(GREEN)
    return _drive(stage)


@scenario_type("VanillaSignalizedTurnEncounterRedLight", "T")
def turn_at_red(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _at(name, type_name, generator, "N" if index % 2 else "S")
    stage.signals(RED)
    _flow(stage, "S", "N", 2, (25.0, 35.0), 45.0)
    return _drive(stage)
