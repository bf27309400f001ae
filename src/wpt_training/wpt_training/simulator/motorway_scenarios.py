"""Scenario types on a motorway: cutting in, merging, leaving."""

from __future__ import annotations

import numpy as np

from wpt_training.simulator.agents import CAR, VAN
from wpt_training.simulator.maps import motorway
from wpt_training.simulator.paths import Path
from wpt_training.simulator.scenarios import Scenario, Stage, scenario_type

Generator = np.random.Generator


def _main(lane: int) -> list[tuple[str, str, int]]:
    return [
        ("before+", "before+.", lane), ("before+.", "beside+", lane), ("beside+", "beside+.", lane),
        ("beside+.", "after+", lane), ("after+", "after+.", lane),
    ]  # fmt: skip


def _through(lane: int) -> list[str]:
    return ["beside+", "beside+.", "after+", "after+."]


@scenario_type("HighwayCutIn", "M")
def highway_cut_in(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = Stage(name, type_name, motorway(generator, 2, "on"), generator)
    stage.take(_main(1))
    # From the ramp into the ego's lane, slower than the ego.
    ramp = stage.map.lane(("ramp+", "ramp+.", 0)).path
    beside = stage.map.lane(("beside+", "beside+.", 2)).path
    moves = float(generator.uniform(12, 30))
    cuts = Path.joined([ramp, beside]).shifted(
        [(ramp.length + moves, ramp.length + moves + 30.0, stage.width)]
    )
    onward = Path.joined([cuts, stage.map.lane(("after+", "after+.", 1)).path.part(5.0, 100.0)])
    behind = float(generator.uniform(38, 48))
    car = stage.actor(onward, 10.0, CAR if index % 2 else VAN, way=ramp.length - behind)
    stage.when(38.0, car.go)
    car.acceleration = 4.0
    stage.flow(("before+", "before+.", 0), 15.0, 2, (45, 60), 70.0, _through(0))
    return stage.scenario(15.0, 250.0, speed=13.0, limit=15.0, zone=(60.0, 220.0))


@scenario_type("HighwayExit", "M")
def highway_exit(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    stage = Stage(name, type_name, motorway(generator, 2, "off"), generator)
    width = stage.width
    first = 80.0 + float(generator.uniform(0, 20))
    lanes = [("before+", "before+.", 0), ("before+.", "beside+", 0), ("beside+", "beside+.", 0)]
    stage.take(lanes, [(first, first + 38.0, -width), (first + 55.0, first + 90.0, -2 * width)])
    ramp = stage.map.lane(("ramp+", "ramp+.", 0)).path
    cut = stage.route.project(ramp.points[0])[0] - 1.0
    stage.route = Path.joined([stage.route.part(0.0, cut), ramp])
    stage.path = stage.route
    stage.lanes = [*lanes, ("beside+.", "ramp+", 0), ("ramp+", "ramp+.", 0)]
    foremost = 75.0 + float(generator.uniform(-15, 15))
    stage.flow(("before+", "before+.", 1), 13.0, 4, (34, 48), foremost, _through(1), CAR)
    return stage.scenario(15.0, cut + 80.0, speed=12.0, limit=14.0, zone=(first, cut))


def _merge_into_slow(name: str, type_name: str, generator: Generator, version_two: bool) -> Scenario:
    if version_two:
        return _slow_before_exit(name, type_name, generator)
    stage = Stage(name, type_name, motorway(generator, 2, "on"), generator)
    lanes = [("ramp+", "ramp+.", 0), ("ramp+.", "beside+", 0), ("beside+", "beside+.", 2)]
    ramp = stage.map.lane(lanes[0]).path.length
    at = ramp + float(generator.uniform(45, 60))
    stage.take(lanes, [(at, at + 35.0, stage.width)])
    after = stage.map.lane(("after+", "after+.", 1)).path
    stage.route = Path.joined([stage.route.part(0.0, stage.route.length - 3.0), after])
    stage.path = stage.route
    stage.lanes = [*lanes, ("beside+.", "after+", 1), ("after+", "after+.", 1)]
    stage.flow(("before+", "before+.", 1), 6.0, 6, (17, 26), 108.0, _through(1))
    stage.flow(("before+", "before+.", 0), 9.0, 2, (30, 45), 100.0, _through(0))
    start = ramp - 60.0
    return stage.scenario(start, ramp + 190.0, speed=8.0, limit=12.0, zone=(ramp, ramp + 130.0))


def _slow_before_exit(name: str, type_name: str, generator: Generator) -> Scenario:
    stage = Stage(name, type_name, motorway(generator, 2, "off"), generator)
    lanes = [("before+", "before+.", 1), ("before+.", "beside+", 1), ("beside+", "beside+.", 1)]
    first = 118.0 + float(generator.uniform(0, 15))
    stage.take(lanes, [(first, first + 35.0, -stage.width)])
    ramp = stage.map.lane(("ramp+", "ramp+.", 0)).path
    cut = stage.route.project(ramp.points[0])[0] - 1.0
    stage.route = Path.joined([stage.route.part(0.0, cut), ramp])
    stage.path = stage.route
    stage.lanes = [*lanes, ("beside+.", "ramp+", 0), ("ramp+", "ramp+.", 0)]
    # A slow column stands in front of the exit.
    stage.flow(("beside+", "beside+.", 2), 5.0, 4, (14, 22), 110.0, ["ramp+", "ramp+."])
    stage.flow(("before+", "before+.", 0), 14.0, 2, (45, 60), 80.0, _through(0))
    return stage.scenario(20.0, cut + 80.0, speed=11.0, limit=14.0, zone=(first - 40.0, cut + 30.0))


@scenario_type("MergerIntoSlowTraffic", "M")
def merge_into_slow(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _merge_into_slow(name, type_name, generator, False)


@scenario_type("MergerIntoSlowTrafficV2", "M")
def merge_into_slow_before_exit(name: str, type_name: str, generator: Generator, index: int) -> Scenario:
    return _merge_into_slow(name, type_name, generator, True)
