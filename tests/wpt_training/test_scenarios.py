"""The routes: all there, each determined by its name, none shared between sets."""

from collections import Counter

import numpy as np
import pytest

from wpt_training.drives.frame import DriveError
from wpt_training.simulator.scenarios import abilities_of, build_route, route_names, type_names


def test_there_are_44_types_with_bench2drives_abilities():
    names = type_names()
    assert len(names) == 44
    # Counted by hand in scenarios.md: O 9, M 16, E 12, G 2, T 19.
    counted = Counter(ability for name in names for ability in abilities_of(name))
    assert counted == {
        "Overtaking": 9, "Merging": 16, "Emergency Brake": 12, "Give Way": 2, "Traffic Sign": 19,
    }  # fmt: skip


def test_all_220_routes_are_built_and_100_to_300_m_long():
    names = route_names("bench220")
    assert len(set(names)) == 220
    for name in names[::2]:
        scenario = build_route(name)
        assert 90 <= scenario.end - scenario.start <= 300, name
        assert scenario.traffic.agents or "Turn" in name, name


def _fingerprint(name):
    scenario = build_route(name)
    return scenario.route.points.tobytes() + scenario.traffic.boxes().centers.tobytes()


def test_a_name_determines_its_route_and_sets_share_none():
    assert _fingerprint("Accident-1") == _fingerprint("Accident-1")
    prints = {_fingerprint(f"{group}Accident-1") for group in ("", "train/", "val/")}
    assert len(prints) == 3


def test_sets_take_the_types_in_turn():
    names = route_names("train:46")
    assert names[0] == "train/Accident-0"
    assert names[44] == "train/Accident-1"
    assert len(route_names("bench44")) == 44


@pytest.mark.parametrize("bad", ["Acident-0", "Accident", "Accident-x", "train:many", "no where:3"])
def test_an_unknown_route_is_one_clear_line(bad):
    with pytest.raises(DriveError, match=r"route"):
        route_names(bad)


@pytest.mark.parametrize("name", ["Accident-0", "SignalizedJunctionLeftTurn-0", "HighwayExit-2"])
def test_the_route_lies_on_the_road_and_inside_where_driving_is_allowed(name):
    from shapely import Point

    scenario = build_route(name)
    for way in np.arange(scenario.start, scenario.end, 2.0):
        point = Point(*scenario.route.positions(np.array(way)))
        assert scenario.traffic.map.asphalt.contains(point)
        assert scenario.allowed.contains(point)
