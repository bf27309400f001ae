"""Closed-loop scores of Bench2Drive: driving score, success, efficiency, comfortness, abilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.signal import savgol_filter

from wpt_planner.geometry import Array
from wpt_training.simulator.episode import Infraction, RouteLog
from wpt_training.simulator.scenarios import ABILITIES, abilities_of

PENALTIES = {
    "pedestrian": 0.50,
    "vehicle": 0.60,
    "static": 0.65,
    "red_light": 0.70,
    "stop_sign": 0.80,
    "scenario_timeout": 0.70,
    "emergency": 0.70,
}
MAX_EFFICIENCY = 1000.0  # %, checks above are dropped
SEGMENT = 20  # steps of the 10 Hz log
_STEP = 0.1  # s
_WINDOW, _ORDER = 7, 2  # of the Savitzky-Golay filter
# Limits that a comfortable segment keeps: m/s², m/s³, rad/s², rad/s.
_LONGITUDINAL, _LATERAL = (-4.05, 2.40), 4.89
_JERK, _LONGITUDINAL_JERK = 8.37, 4.13
_YAW_ACCELERATION, _YAW_RATE = 1.93, 0.95


@dataclass(frozen=True)
class RouteScore:
    """One route. `completion` and `outside` are shares, `driving_score` 0..100; `efficiency` % and
    `comfortness` (share) are NaN where nothing could be checked."""

    name: str
    type_name: str
    abilities: tuple[str, ...]
    policy: str
    completion: float
    outside: float
    driving_score: float
    success: bool
    efficiency: float
    comfortness: float
    comfortness_as_published: float
    seconds: float
    plan_milliseconds: float
    failure: str
    infractions: tuple[Infraction, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(content: dict[str, Any]) -> RouteScore:
        infractions = tuple(Infraction(**entry) for entry in content["infractions"])
        return RouteScore(**{**content, "abilities": tuple(content["abilities"]), "infractions": infractions})


@dataclass(frozen=True)
class ClosedLoopScores:
    """Over all routes: `driving_score` 0..100, the others in %; `abilities` by name, and their mean."""

    policy: str
    routes: int
    driving_score: float
    success: float
    efficiency: float
    comfortness: float
    abilities: dict[str, float]
    mean_ability: float
    infractions: dict[str, int]
    failures: dict[str, int]


def score_route(log: RouteLog) -> RouteScore:
    """Driving score of a route: completion × penalty per infraction × (1 − share outside its lanes).

    Successful is a route completed with no infraction at all, nor any of it outside its lanes.
    """
    penalty = float(np.prod([PENALTIES[infraction.kind] for infraction in log.infractions] or [1.0]))
    checks = [check for check in log.speed_checks if check <= MAX_EFFICIENCY]
    return RouteScore(
        name=log.name,
        type_name=log.type_name,
        abilities=tuple(abilities_of(log.type_name)),
        policy=log.policy,
        completion=log.completion,
        outside=log.outside,
        driving_score=100.0 * log.completion * penalty * (1.0 - log.outside),
        success=log.completion >= 1.0 and not log.infractions and log.outside == 0 and not log.failure,
        efficiency=float(np.mean(checks)) if checks else float("nan"),
        comfortness=comfortness(log.states),
        comfortness_as_published=comfortness(log.states, as_published=True),
        seconds=float(log.states[-1, 0]) if len(log.states) else 0.0,
        plan_milliseconds=1e3 * float(np.median(log.plan_seconds)) if log.plan_seconds else float("nan"),
        failure=log.failure,
        infractions=tuple(log.infractions),
    )


def comfortness(states: Array, as_published: bool = False) -> float:
    """Share of comfortable segments of SEGMENT steps; a shorter rest is dropped, NaN without any.

    `states` (S, 6) at 10 Hz: time, x, y, yaw, speed, acceleration. The published code compares the
    filtered yaw *rate* with the limit of the yaw acceleration; `as_published` does so too.
    """
    segments = [states[i : i + SEGMENT] for i in range(0, len(states) - SEGMENT + 1, SEGMENT)]
    if not segments:
        return float("nan")
    return float(np.mean([_comfortable(segment, as_published) for segment in segments]))


def _comfortable(segment: Array, as_published: bool) -> bool:
    yaw, speed = np.unwrap(segment[:, 3]), segment[:, 4]

    def smooth(values: Array, derivative: int = 0) -> Array:
        filtered: Array = savgol_filter(values, _WINDOW, _ORDER, deriv=derivative, delta=_STEP)
        return filtered

    yaw_rate = smooth(yaw, 1)
    longitudinal, lateral = smooth(speed, 1), speed * yaw_rate
    longitudinal_jerk, lateral_jerk = smooth(longitudinal, 1), smooth(lateral, 1)
    yaw_acceleration = yaw_rate if as_published else smooth(yaw_rate, 1)
    return bool(
        (longitudinal > _LONGITUDINAL[0]).all()
        and (longitudinal < _LONGITUDINAL[1]).all()
        and (np.abs(lateral) < _LATERAL).all()
        and (np.hypot(longitudinal_jerk, lateral_jerk) < _JERK).all()
        and (np.abs(longitudinal_jerk) < _LONGITUDINAL_JERK).all()
        and (np.abs(yaw_acceleration) < _YAW_ACCELERATION).all()
        and (np.abs(yaw_rate) < _YAW_RATE).all()
    )


def summarise(scores: Sequence[RouteScore], as_published: bool = False) -> ClosedLoopScores:
    """The figures of the benchmark. Raises ValueError without any route."""
    if not scores:
        raise ValueError("no route was driven")
    comfort = [s.comfortness_as_published if as_published else s.comfortness for s in scores]
    abilities = {}
    for ability in ABILITIES.values():
        successes = [score.success for score in scores if ability in score.abilities]
        if successes:
            abilities[ability] = 100.0 * float(np.mean(successes))
    kinds = [infraction.kind for score in scores for infraction in score.infractions]
    failures = [score.failure for score in scores if score.failure]
    return ClosedLoopScores(
        policy=scores[0].policy,
        routes=len(scores),
        driving_score=float(np.mean([score.driving_score for score in scores])),
        success=100.0 * float(np.mean([score.success for score in scores])),
        efficiency=_mean([score.efficiency for score in scores]),
        comfortness=100.0 * _mean(comfort),
        abilities=abilities,
        mean_ability=float(np.mean(list(abilities.values()))),
        infractions={kind: kinds.count(kind) for kind in PENALTIES if kind in kinds},
        failures={failure: failures.count(failure) for failure in sorted(set(failures))},
    )


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
