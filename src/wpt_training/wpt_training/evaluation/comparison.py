"""How sure a comparison of two policies is: the drives or routes that both were measured on, drawn anew."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from wpt_planner.geometry import Array

DRAWS, COVERED = 2000, 0.90
Metric = Literal["l2", "collision", "obb"]


@dataclass(frozen=True)
class Interval:
    """A figure, and between what it lies in COVERED of the draws; None where that is not known."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class DriveSums:
    """Of D drives: how many samples `count` at 1, 2, 3 s, their distances `l2` (m), `collision`s and those of
    oriented boxes, `obb`, summed; all (D, 3). Samples of one drive resemble each other: it is drives that
    chance has chosen."""

    count: Array
    l2: Array
    collision: Array
    obb: Array

    @staticmethod
    def names() -> set[str]:
        return {field.name for field in fields(DriveSums)}

    def as_dict(self) -> dict[str, Any]:
        return {name: np.round(values, 4).tolist() for name, values in vars(self).items()}

    @staticmethod
    def from_dict(content: dict[str, Any]) -> DriveSums:
        return DriveSums(**{name: np.array(values, dtype=np.float64) for name, values in content.items()})

    @staticmethod
    def over_seeds(parts: list[DriveSums]) -> DriveSums:
        """Several trainings on the same drives, as one policy that was measured more often."""
        return DriveSums(
            **{name: np.sum([getattr(part, name) for part in parts], axis=0) for name in DriveSums.names()}
        )


def ratio_over_drives(ours: DriveSums, others: DriveSums, metric: Metric) -> Interval:
    """`ours` / `others`, of the mean over 1, 2, 3 s. Raises ValueError if they are of other drives."""
    if not np.array_equal(ours.count > 0, others.count > 0):
        raise ValueError("two policies can be compared only on the same drives")
    weights = _draws(len(ours.count))
    figures = [_figure(sums, metric, weights) for sums in (ours, others)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return _interval(figures[0] / figures[1])


def difference_over_routes(ours: Array, others: Array) -> Interval:
    """Mean of ours (R,) - others (R,), the same routes' driving scores."""
    return _interval(_draws(len(ours)) @ (ours - others) / len(ours))


def _draws(count: int) -> Array:
    """(1 + DRAWS, count) how often each is in a draw; the first has each once."""
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(count, np.full(count, 1.0 / count), size=DRAWS)
    return np.concatenate([np.ones((1, count)), drawn])


def _figure(sums: DriveSums, metric: Metric, weights: Array) -> Array:
    """(1 + DRAWS,)"""
    values = getattr(sums, metric)
    figure: Array = ((weights @ values) / (weights @ sums.count)).mean(axis=1)
    return figure


def _interval(draws: Array) -> Interval:
    low, high = np.nanquantile(draws[1:], [(1 - COVERED) / 2, (1 + COVERED) / 2])
    return Interval(float(draws[0]), float(low), float(high))
