"""Scenario types on a street: obstacles, cyclists, doors, people who step out, braking, bends."""

from __future__ import annotations

import numpy as np

from wpt_training.simulator.agents import AMBULANCE, BARRIER, CAR, CONE, CYCLIST, DOOR, TRUCK, VAN
from wpt_training.simulator.maps import street
from wpt_training.simulator.paths import Path
from wpt_training.simulator.scenarios import Scenario, Stage, scenario_type

Generator = np.random.Generator
START = 15.0  # m of the route where the ego starts


def _street(
    name: str, type_name: str, generator: Generator, forward: int, backward: int, lane: int,
    bays: bool = False, **kwargs: float,
) -> Stage:  # fmt: skip
    stage = Stage(
        name, type_name, street(generator, forward, backward, bays, **kwargs), generator
    )  # fmt: skip
    stage.take([("main+", "main+.", lane)])
    stage.pedestrians(
        stage.map.roads["main"], forward * stage.width + (2.6 if bays else 0.5), backward * stage.width + 0.5
    )
    return stage


def _oncoming(stage: Stage, count: int, first: float, gap: tuple[float, float] = (30, 60)) -> None:
    """Drivers on the other side; `first` m along the ego's route the foremost starts."""
    lanes = stage.map.network.graph.get("main-", {}).get("main-.", [])
    for number in range(len(lanes)):
        way = lanes[number].length - first
        stage.flow(("main-", "main-.", number), stage.builder.speed_limit * 0.8, count, gap, way)


def _blocked(name: str, type_name: str, generator: Generator, two_way: bool, what: str) -> Scenario:
    lane = 0 if two_way else 1
    stage = _street(name, type_name, generator, lane + 1, 1, lane)
    way = START + float(generator.uniform(60, 80))
    length = _obstacle(stage, way, what)
    width = stage.width
    out = (way - 32.0, way - 11.0, width)
    back = (way + length + 9.0, way + length + 30.0, 0.0)
    stage.detour([out, back], two_way)
    if two_way:
        # A few cars come against, then there is time enough.
        _oncoming(stage, int(generator.integers(1, 4)), way + float(generator.uniform(20, 50)), (18, 30))
    else:
        speed = stage.builder.speed_limit * float(generator.uniform(0.7, 0.95))
        stage.flow(("main+", "main+.", 0), speed, 3, (28, 45), START + float(generator.uniform(10, 40)))
        _oncoming(stage, 3, 150.0)
    return stage.scenario(START, way + length + 85.0, zone=(way - 45.0, way + length + 35.0))


def _obstacle(stage: Stage, way: float, what: str) -> float:
    """Puts it on the ego's lane from `way` m on; returns its length."""
    route, generator = stage.route, stage.generator
    if what == "accident":
        stage.thing(route, way + 2, -0.3, CAR, float(generator.uniform(0.25, 0.6)))
        stage.thing(route, way + 8, -0.4, VAN, float(generator.uniform(-0.4, 0.3)))
        stage.person(Path(route.positions(np.array([way + 4, way + 4.5]), -2.4)), 0.1)
        return 11.0
    if what == "construction":
        for step in range(6):
            stage.thing(route, way + step * 2.2, -1.5 + step * 0.5, CONE)
        stage.thing(route, way + 14, -0.2, BARRIER)
        for step in range(4):
            stage.thing(route, way + 16 + step * 2.5, 1.2, CONE)
        stage.thing(route, way + 20, -0.4, TRUCK)
        return 27.0
    stage.thing(route, way + 3, -0.5, VAN if generator.random() < 0.5 else CAR)
    return 6.0


@scenario_type("Accident", "O")
def accident(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _blocked(name, type_name, generator, False, "accident")


@scenario_type("ConstructionObstacle", "O")
def construction(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _blocked(name, type_name, generator, False, "construction")


@scenario_type("ParkedObstacle", "O")
def parked(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _blocked(name, type_name, generator, False, "parked")


@scenario_type("AccidentTwoWays", "O")
def accident_two_ways(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _blocked(name, type_name, generator, True, "accident")


@scenario_type("ConstructionObstacleTwoWays", "O")
def construction_two_ways(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _blocked(name, type_name, generator, True, "construction")


@scenario_type("ParkedObstacleTwoWays", "O")
def parked_two_ways(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _blocked(name, type_name, generator, True, "parked")


def _slow_cyclists(name: str, type_name: str, generator: Generator, two_way: bool) -> Scenario:
    lane = 0 if two_way else 1
    stage = _street(name, type_name, generator, lane + 1, 1, lane)
    way = START + float(generator.uniform(45, 55))
    edge = stage.route.beside(-1.2)
    for number in range(int(generator.integers(2, 4))):
        stage.actor(edge, float(generator.uniform(1.8, 2.2)), CYCLIST, way=way + number * 4.0, moving=True)
    aside = stage.width if not two_way else 2.2
    stage.detour([(way - 25.0, way - 5.0, aside), (way + 60.0, way + 80.0, 0.0)], two_way)
    if two_way:
        _oncoming(stage, 2, way + float(generator.uniform(10, 30)), (18, 30))
    else:
        stage.flow(("main+", "main+.", 0), 8.0, 2, (30, 45), START + float(generator.uniform(10, 40)))
    return stage.scenario(START, way + 120.0, zone=(way - 35.0, way + 90.0))


@scenario_type("HazardAtSideLane", "O")
def hazard(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _slow_cyclists(name, type_name, generator, False)


@scenario_type("HazardAtSideLaneTwoWays", "O")
def hazard_two_ways(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _slow_cyclists(name, type_name, generator, True)


def _parked_row(stage: Stage, ways: list[float], nearer: float = 0.0) -> None:
    """Cars in the bays at these ways of the route."""
    for way in ways:
        kind = CAR if stage.generator.random() < 0.75 else VAN
        stage.thing(stage.route, way, -stage.width / 2 - 1.35 + nearer, kind)


@scenario_type("VehicleOpensDoorTwoWays", "O")
def opened_door(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _street(name, type_name, generator, 1, 1, 0, bays=True)
    way = START + float(generator.uniform(60, 80))
    _parked_row(stage, [way - 22, way - 14.5, way + 8, way + 16])
    side = -stage.width / 2 - 1.35 + 0.35
    stage.thing(stage.route, way, side, CAR)
    stage.when(way - 30.0, lambda: stage.thing(stage.route, way + 0.3, side + 1.45, DOOR))
    stage.detour([(way - 20.0, way - 6.0, 1.6), (way + 6.0, way + 20.0, 0.0)], True)
    _oncoming(stage, 2, way + float(generator.uniform(0, 30)), (20, 30))
    return stage.scenario(START, way + 80.0, zone=(way - 35.0, way + 25.0))


@scenario_type("HardBreakRoute", "E")
def hard_brake(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    lanes = 1 + index % 2
    stage = _street(name, type_name, generator, lanes, 1, lanes - 1, speed=12.0)
    lead = stage.actor(
        stage.route, 11.0, CAR if index % 3 else TRUCK, way=START + 24.0, moving=True, acceleration=2.5,
        holds=[(START + float(generator.uniform(105, 125)), 3.0)],
    )  # fmt: skip

    def brake() -> None:
        lead.holds = []
        lead.target_speed = 0.0
        stage.after(4.0, go_on)

    def go_on() -> None:
        lead.target_speed = 11.0

    lead.holds = []
    stage.when(START + float(generator.uniform(50, 70)), brake)
    _oncoming(stage, 3, 120.0)
    return stage.scenario(START, START + 200.0, speed=9.0, limit=12.0)


def _steps_out(stage: Stage, way: float, hidden_at: float, child: bool) -> None:
    """Somebody crosses the route at `way` m just when the ego would get there."""
    speed = float(stage.generator.uniform(1.6, 2.0))
    line = Path(stage.route.positions(np.full(2, way), np.array([-hidden_at, stage.width * 2.4])))
    walker = stage.person(line, speed, child)
    stage.when_meeting(way, hidden_at / speed, walker.go)


@scenario_type("DynamicObjectCrossing", "E")
def steps_out(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _street(name, type_name, generator, 1, 1, 0)
    way = START + float(generator.uniform(60, 90))
    # A shelter on the pavement hides who steps out.
    stage.thing(stage.route, way - 3.0, -stage.width / 2 - 2.2, TRUCK if index % 2 else VAN)
    _steps_out(stage, way, stage.width / 2 + 2.0, index % 2 == 0)
    _oncoming(stage, 2, way + 60.0)
    return stage.scenario(START, way + 70.0, limit=9.0, zone=(way - 30.0, way + 15.0))


@scenario_type("ParkingCrossingPedestrian", "E")
def steps_out_of_parking(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _street(name, type_name, generator, 1, 1, 0, bays=True)
    way = START + float(generator.uniform(60, 90))
    _parked_row(stage, [way - 18, way - 11, way - 4, way + 4.5, way + 12])
    _steps_out(stage, way, stage.width / 2 + 1.6, index % 2 == 1)
    _oncoming(stage, 2, way + 60.0)
    return stage.scenario(START, way + 70.0, limit=9.0, zone=(way - 30.0, way + 15.0))


@scenario_type("PedestrianCrossing", "ET")
def group_on_crossing(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    builder = street(generator, 1, 1)
    way = START + float(generator.uniform(60, 80))
    builder.crossing("main", way)
    builder.stop_line("main", "+", way - 3.5)
    stage = Stage(name, type_name, builder, generator)
    stage.take([("main+", "main+.", 0)])
    stage.pedestrians(stage.map.roads["main"], stage.width + 0.5, stage.width + 0.5, 4)
    walkers = []
    for number in range(int(generator.integers(3, 5))):
        at = way - 1.2 + number * 0.8
        line = stage.route.positions(np.full(2, at), np.array([-3.4, stage.width * 1.5 + 2.0]))
        if number % 2:
            line = stage.route.positions(np.full(2, at), np.array([stage.width * 1.5 + 1.5, -3.6]))
        walkers.append(stage.person(Path(line), float(generator.uniform(1.1, 1.5))))
    for number, walker in enumerate(walkers):
        stage.when(way - 34.0 + number * 1.5, walker.go)
    _oncoming(stage, 1, way + 120.0)
    return stage.scenario(START, way + 70.0, limit=9.0, zone=(way - 30.0, way + 15.0))


def _cuts_in(stage: Stage, leaves: Path, start: float, way: float) -> None:
    """A car leaves its place at `way` m in front of the ego, slowly, and then goes on as others do."""
    car = stage.actor(leaves, 3.5, CAR, way=start)

    def hurry() -> None:
        car.target_speed = 8.0

    # 12 m to the middle of the lane: 1.75 s at 2 m/s² to 3.5 m/s, then 2.6 s.
    stage.when_meeting(way + 9.0, 4.2, car.go)
    stage.when(way + 6.0, hurry)


@scenario_type("ParkingCutIn", "E")
def parking_cut_in(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _street(name, type_name, generator, 1, 1, 0, bays=True)
    way = START + float(generator.uniform(55, 75))
    _parked_row(stage, [way - 16, way - 8, way + 9, way + 17])
    bay = -stage.width / 2 - 1.35
    leaves = stage.route.shifted([(0.0, 1.0, bay), (way + 1.0, way + 11.0, 0.0)])
    start = leaves.project(stage.route.positions(np.array(way), bay))[0]
    _cuts_in(stage, leaves, start, way)
    _oncoming(stage, 3, way + 50.0)
    return stage.scenario(START, way + 110.0, zone=(way - 30.0, way + 40.0))


@scenario_type("StaticCutIn", "E")
def static_cut_in(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _street(name, type_name, generator, 2, 1, 0)
    way = START + float(generator.uniform(60, 80))
    for number in range(5):
        if number != 2:
            stage.thing(stage.route, way + (number - 2) * 8.0, -stage.width, CAR if number % 2 else VAN)
    leaves = stage.route.shifted([(0.0, 1.0, -stage.width), (way, way + 12.0, 0.0)])
    start = leaves.project(stage.route.positions(np.array(way), -stage.width))[0]
    _cuts_in(stage, leaves, start, way)
    _oncoming(stage, 3, way + 50.0)
    return stage.scenario(START, way + 110.0, zone=(way - 30.0, way + 40.0))


@scenario_type("ParkingExit", "M")
def parking_exit(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _street(name, type_name, generator, 1, 1, 0, bays=True)
    bay = -stage.width / 2 - 1.35
    way = 45.0
    stage.take([("main+", "main+.", 0)], [(0.0, 1.0, bay), (way, way + 14.0, 0.0)])
    _parked_row_at = [way - 8.0, way + 15.0, way + 23.0]
    lane = stage.reference
    for at in _parked_row_at:
        stage.thing(lane, at, bay, CAR)
    stage.flow(("main+", "main+.", 0), 8.0, int(generator.integers(2, 4)), (20, 32), way - 12.0)
    _oncoming(stage, 3, 120.0)
    return stage.scenario(way, way + 120.0, speed=0.0, zone=(way, way + 40.0))


@scenario_type("SequentialLaneChange", "M")
def sequential_lane_change(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    builder = street(generator, 4, 0, length=320.0, sharpest=1 / 200, speed=14.0)
    stage = Stage(name, type_name, builder, generator)
    width, first = stage.width, START + 40.0
    changes = [(first + i * 45.0, first + i * 45.0 + 28.0, (i + 1) * width) for i in range(3)]
    stage.take([("main+", "main+.", 3)], changes)
    for lane in range(3):
        stage.flow(
            ("main+", "main+.", lane), float(generator.uniform(10, 12)), 3, (35, 55),
            START + float(generator.uniform(20, 60)), kind=CAR,
        )  # fmt: skip
    return stage.scenario(START, first + 200.0, speed=9.0, zone=(first, first + 135.0))


@scenario_type("ControlLoss", "E")
def control_loss(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _street(name, type_name, generator, 1, 1, 0, sharpest=1 / 70)
    stage.slippery = (START + 30.0, START + 110.0)
    _oncoming(stage, 4, 100.0, (25, 40))
    return stage.scenario(START, START + 160.0, speed=8.0, zone=stage.slippery)


@scenario_type("InvadingTurn", "G")
def invading_turn(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    builder = street(generator, 1, 1, sharpest=1 / 60)
    stage = Stage(name, type_name, builder, generator)
    stage.take([("main+", "main+.", 0)])
    stage.pedestrians(stage.map.roads["main"], stage.width + 0.5, stage.width + 0.5)
    way = START + float(generator.uniform(60, 80))
    # They cut the bend: their middle lies 0.35 m inside the middle line's own side.
    invades = stage.map.roads["main"].beside(0.45).reversed()
    for number in range(3):
        at = invades.length - (way + 60.0 + 22.0 * number)
        stage.actor(invades, 7.0, CAR, way=at, moving=True, follows=False)
    for step in range(5):
        stage.thing(stage.map.roads["main"], way - 10 + step * 6.0, stage.width + 0.9, CONE)
    stage.detour([(way - 45.0, way - 25.0, -0.75), (way + 45.0, way + 65.0, 0.0)])
    return stage.scenario(START, way + 100.0, limit=9.0, zone=(way - 40.0, way + 60.0))


@scenario_type("YieldToEmergencyVehicle", "G")
def yield_to_emergency(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = _street(name, type_name, generator, 2, 1, 0, speed=10.0, length=360.0)
    way = START + 40.0
    ambulance = stage.actor(
        stage.route, 14.0, AMBULANCE, way=1.0, moving=False, acceleration=3.0, follows=True
    )  # fmt: skip
    stage.emergency = ambulance
    stage.when(START + 8.0, ambulance.go)
    stage.detour([(way, way + 24.0, -stage.width), (way + 120.0, way + 145.0, 0.0)])
    stage.flow(("main+", "main+.", 1), 9.0, 1, (40, 60), START + 110.0)
    _oncoming(stage, 3, 150.0)
    return stage.scenario(START, way + 190.0, zone=(START + 8.0, way + 150.0))
