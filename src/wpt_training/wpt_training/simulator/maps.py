"""The maps: streets, crossroads and T junctions, town blocks, motorways with ramps, roundabouts.

Each is drawn anew by a generator: lengths, bends, widths, numbers of lanes.
"""

from __future__ import annotations

import numpy as np

from wpt_planner.geometry import Array
from wpt_training.simulator.paths import Path
from wpt_training.simulator.road_map import MapBuilder

TOWN_SPEED = 10.0  # m/s
ROAD_SPEED = 13.0
MOTORWAY_SPEED = 18.0
DIRECTIONS = {"E": 0.0, "N": np.pi / 2, "W": np.pi, "S": -np.pi / 2}


def _bends(generator: np.random.Generator, length: float, sharpest: float) -> list[tuple[float, float]]:
    pieces, left = [(40.0, 0.0)], length - 40.0
    while left > 0:
        piece = float(generator.uniform(30, 60))
        pieces.append((min(piece, left), float(generator.uniform(-sharpest, sharpest))))
        left -= piece
    return pieces


def street(
    generator: np.random.Generator,
    forward: int,
    backward: int,
    bays: bool = False,
    length: float = 300.0,
    sharpest: float = 1 / 90,
    speed: float = TOWN_SPEED,
) -> MapBuilder:
    """One winding road `main`."""
    builder = MapBuilder(speed, lane_width=float(generator.uniform(3.4, 3.7)))
    heading = float(generator.uniform(-np.pi, np.pi))
    path = Path.bending(np.zeros(2), heading, _bends(generator, length, sharpest))
    builder.road("main", path, forward, backward, bays)
    return builder


def crossroads(
    generator: np.random.Generator,
    arms: str = "WENS",
    lanes: int = 1,
    priority: str = "",
    speed: float = TOWN_SPEED,
    town: bool = False,
) -> MapBuilder:
    """Arms W, E, N, S that lead outward from the origin: `X-` arrives, `X+` leaves. `priority` names
    the arms that have it. In a `town` the eastern and the northern arm end at further junctions."""
    builder = MapBuilder(speed, lane_width=float(generator.uniform(3.4, 3.7)))
    turn = float(generator.uniform(-np.pi, np.pi))
    reach = lanes * builder.lane_width + 6.0
    for arm in arms:
        heading = DIRECTIONS[arm] + float(generator.uniform(-0.12, 0.12))
        start = reach * np.array([np.cos(heading), np.sin(heading)])
        bends = [(40.0, 0.0), (60.0, float(generator.uniform(-1 / 80, 1 / 80)))]
        path = Path(_turned(Path.bending(start, heading, bends).points, turn))
        builder.road(arm, path, lanes, lanes, priority=1 if arm in priority else 0)
        builder.stop_line(arm, "-", 1.0)
    builder.junction([f"{arm}-" for arm in arms], tuple(f"{arm}-" for arm in priority))
    if town:
        for arm in "EN":
            if arm in arms:
                _block(generator, builder, arm, lanes)
    return builder


def _block(generator: np.random.Generator, builder: MapBuilder, arm: str, lanes: int) -> None:
    """A further junction at the end of an arm."""
    end = builder.roads[arm].path
    heading = float(end.headings[-1])
    reach = lanes * builder.lane_width + 6.0
    center = end.points[-1] + reach * np.array([np.cos(heading), np.sin(heading)])
    ends = [f"{arm}+"]
    for name, side in (("a", 0.0), ("l", np.pi / 2), ("r", -np.pi / 2)):
        way = heading + side
        start = center + reach * np.array([np.cos(way), np.sin(way)])
        bends = [(30.0, 0.0), (30.0, float(generator.uniform(-1 / 70, 1 / 70)))]
        builder.road(f"{arm}{name}", Path.bending(start, way, bends), lanes, lanes)
        ends.append(f"{arm}{name}-")
    builder.junction(ends)


def motorway(generator: np.random.Generator, lanes: int = 2, ramp: str = "on") -> MapBuilder:
    """Roads `before`, `beside` (one lane more, on the right) and `after`; `ramp` "on" leads into the
    additional lane, "off" out of it."""
    builder = MapBuilder(MOTORWAY_SPEED, lane_width=float(generator.uniform(3.5, 3.75)))
    heading = float(generator.uniform(-np.pi, np.pi))
    bend = float(generator.uniform(-1 / 400, 1 / 400))
    whole = Path.bending(np.zeros(2), heading, [(360.0, bend)])
    first, second = 110.0, 230.0
    builder.road("before", whole.part(0, first), lanes, 0)
    builder.road("beside", whole.part(first + 4.0, second - 4.0), lanes + 1, 0)
    builder.road("after", whole.part(second, whole.length), lanes, 0)
    for lane in range(lanes):
        builder.connect(("before+", "before+.", lane), ("beside+", "beside+.", lane), 1)
        builder.connect(("beside+", "beside+.", lane), ("after+", "after+.", lane), 1)
    # The ramp lies beside the lane that it leads into or out of, and bends away from it.
    outer = whole.beside(-lanes * builder.lane_width)
    if ramp == "on":
        tip = outer.positions(np.array(first))
        away = Path.bending(tip, float(outer.heading(first)) + np.pi, [(20.0, 0.0), (90.0, 1 / 130)])
        builder.road("ramp", away.reversed(), 1, 0, speed_limit=12.0)
        builder.connect(("ramp+", "ramp+.", 0), ("beside+", "beside+.", lanes))
    else:
        tip = outer.positions(np.array(second))
        away = Path.bending(tip, float(outer.heading(second)), [(20.0, 0.0), (90.0, -1 / 130)])
        builder.road("ramp", away, 1, 0, speed_limit=12.0)
        builder.connect(("beside+", "beside+.", lanes), ("ramp+", "ramp+.", 0))
    return builder


def roundabout(generator: np.random.Generator) -> MapBuilder:
    """A ring with four arms as at crossroads; who is on the ring has priority."""
    builder = MapBuilder(TOWN_SPEED, lane_width=float(generator.uniform(3.6, 3.9)))
    turn = float(generator.uniform(-np.pi, np.pi))
    radius = float(generator.uniform(15, 18))
    opening = 10.0 / radius  # rad between an arm's axis and the ring's segments
    order = ["W", "S", "E", "N"]  # counterclockwise
    for arm in order:
        heading = DIRECTIONS[arm]
        start = (radius + 12.0) * np.array([np.cos(heading), np.sin(heading)])
        path = Path.bending(start, heading, [(30.0, 0.0), (60.0, float(generator.uniform(-1 / 90, 1 / 90)))])
        builder.road(arm, Path(_turned(path.points, turn)), 1, 1)
    for index, arm in enumerate(order):
        begin = DIRECTIONS[arm] + opening
        until = DIRECTIONS[order[(index + 1) % 4]] - opening
        angles = begin + np.linspace(0, 1, 30) * ((until - begin) % (2 * np.pi))
        # The ring is one-way: its only lane lies to the right of the path that describes it.
        ring = (radius - builder.lane_width / 2) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        builder.road(f"ring{arm}", Path(_turned(ring, turn)), 1, 0, priority=1, speed_limit=7.0)
    for index, arm in enumerate(order):
        behind, ahead = f"ring{order[index - 1]}", f"ring{arm}"
        builder.connect((f"{behind}+", f"{behind}+.", 0), (f"{ahead}+", f"{ahead}+.", 0), 1)
        builder.connect((f"{behind}+", f"{behind}+.", 0), (f"{arm}+", f"{arm}+.", 0), 1)
        builder.connect((f"{arm}-", f"{arm}-.", 0), (f"{ahead}+", f"{ahead}+.", 0))
    return builder


def _turned(points: Array, angle: float) -> Array:
    cosine, sine = np.cos(angle), np.sin(angle)
    return points @ np.array([[cosine, sine], [-sine, cosine]])
