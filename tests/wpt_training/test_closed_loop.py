"""Scores against hand calculations of metrics.md §4."""

import json

import numpy as np
import pytest

from wpt_training.evaluation.closed_loop import RouteScore, comfortness, score_route, summarise
from wpt_training.simulator.episode import Infraction, RouteLog


def log(type_name="Accident", completion=1.0, outside=0.0, kinds=(), checks=(), failure="") -> RouteLog:
    return RouteLog(
        f"{type_name}-0", type_name, "tested", completion, outside,
        [Infraction(kind, 1.0, 2.0) for kind in kinds], list(checks), failure, states(60),
    )  # fmt: skip


def states(count: int, speed=8.0, yaw=0.0) -> np.ndarray:
    time = np.arange(count) * 0.1
    speeds = np.broadcast_to(speed, count)
    return np.column_stack(
        [time, np.cumsum(speeds) * 0.1, np.zeros(count), np.broadcast_to(yaw, count), speeds, np.zeros(count)]
    )


@pytest.mark.parametrize(
    ("kinds", "completion", "outside", "expected"),
    [
        ((), 1.0, 0.0, 100.0),
        (("vehicle", "red_light"), 0.8, 0.0, 80 * 0.6 * 0.7),
        (("pedestrian", "pedestrian"), 1.0, 0.0, 25.0),
        (("static", "stop_sign", "scenario_timeout", "emergency"), 1.0, 0.0, 100 * 0.65 * 0.8 * 0.7 * 0.7),
        ((), 1.0, 0.25, 75.0),
    ],
)
def test_driving_score_is_completion_times_penalties_times_the_share_inside(
    kinds, completion, outside, expected
):
    score = score_route(log(kinds=kinds, completion=completion, outside=outside))
    assert score.driving_score == pytest.approx(expected)
    assert score.success == (expected == 100.0)


def test_a_route_that_was_not_finished_is_no_success():
    assert not score_route(log(completion=0.99, failure="blocked")).success


def test_efficiency_drops_checks_over_1000_percent_and_routes_without_any():
    scores = [score_route(log(checks=c)) for c in ((50.0, 150.0, 5000.0), (60.0,), ())]
    assert scores[0].efficiency == pytest.approx(100.0)
    assert np.isnan(scores[2].efficiency)
    assert summarise(scores).efficiency == pytest.approx(80.0)


def test_abilities_are_success_rates_of_their_types():
    # PedestrianCrossing counts for emergency brake and traffic sign, Accident for overtaking only.
    scores = [
        score_route(log("PedestrianCrossing")),
        score_route(log("PedestrianCrossing", kinds=("pedestrian",))),
        score_route(log("Accident")),
    ]
    summary = summarise(scores)
    assert summary.abilities == {"Overtaking": 100.0, "Emergency Brake": 50.0, "Traffic Sign": 50.0}
    assert summary.mean_ability == pytest.approx(200 / 3)
    assert summary.success == pytest.approx(200 / 3)


def test_steady_driving_is_comfortable_and_a_rest_of_a_segment_is_dropped():
    assert comfortness(states(60)) == 1.0
    assert np.isnan(comfortness(states(19)))


def test_hard_braking_makes_its_segment_uncomfortable():
    speed = np.full(60, 12.0)
    speed[20:40] = 12.0 - 0.5 * np.arange(20)  # -5 m/s², beyond -4.05
    speed[40:] = 2.5
    assert comfortness(states(60, speed)) == pytest.approx(2 / 3)


def test_the_published_code_tests_the_yaw_rate_where_it_says_yaw_acceleration():
    # yaw = A sin(w t), w = 8 rad/s, A = 0.05: its rate is at most A·w = 0.4 (limit 0.95), its
    # acceleration A·w² = 3.2, beyond 1.93. At 0.5 m/s nothing else matters.
    time = np.arange(20) * 0.1
    swaying = states(20, 0.5, 0.05 * np.sin(8 * time))
    assert comfortness(swaying) == 0.0
    assert comfortness(swaying, as_published=True) == 1.0


def test_a_score_survives_json():
    driven = log(kinds=("vehicle",), checks=(80.0,))
    driven.plan_seconds = [0.01]
    score = score_route(driven)
    assert RouteScore.from_json(json.loads(json.dumps(score.to_json()))) == score
