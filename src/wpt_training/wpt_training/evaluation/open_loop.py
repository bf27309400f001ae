"""Open-loop planning scores (metrics.md §1): L2 and collision, in the two published conventions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wpt_planner.geometry import Array, inverse
from wpt_planner.plan_guard import PLAN_STEPS, PLAN_TIMES
from wpt_training.drives.frame import Boxes
from wpt_training.evaluation.collision import (
    exact_collisions,
    grid_collisions,
    metric_from_ego,
    rasterise,
)
from wpt_training.evaluation.comparison import DriveSums

Convention = Literal["uniad", "stp3"]
CONVENTIONS: tuple[Convention, ...] = ("uniad", "stp3")
HORIZONS = (1, 2, 3)  # s
_HORIZON_STEPS = [int(np.searchsorted(PLAN_TIMES, horizon - 1e-6)) for horizon in HORIZONS]


@dataclass(frozen=True)
class GroundTruth:
    """What a plan is compared with: `future` (6, 2) in base_link, `valid` (6,), and the road users
    at each step as `boxes` (6 Boxes in base_link at the reference time; None: not annotated), and with their
    velocities `now` (None: not known, and no collision counts as foreseeable)."""

    future: Array
    valid: NDArray[np.bool_]
    boxes: tuple[Boxes | None, ...]
    now: Boxes | None = None

    @staticmethod
    def from_map(
        future: Array,
        valid: NDArray[np.bool_],
        map_from_ego: Array,
        boxes_map: list[Boxes | None],
        now_map: Boxes | None = None,
    ) -> GroundTruth:
        """Boxes given in the map frame."""
        ego_from_map = inverse(map_from_ego)
        *moved, now = (None if b is None else b.moved(ego_from_map) for b in (*boxes_map, now_map))
        return GroundTruth(future, valid, tuple(moved), now)


@dataclass(frozen=True)
class Row:
    """One convention's figures at 1, 2, 3 s and their mean."""

    name: str
    convention: Convention
    l2: tuple[float, float, float, float]  # m
    collision: tuple[float, float, float, float]  # %, box on the grid
    point_collision: tuple[float, float, float, float]  # %, the plan point's cell
    obb: tuple[float, float, float, float]  # %, oriented boxes, exact
    foreseeable: float | None  # %, of the box collisions at 1, 2, 3 s; None without any
    samples: int
    steps_left_out: int

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass
class OpenLoopScores:
    """Collects one policy's plans; every array grows by a row of 6 steps per plan, and `drives` by the number
    of the drive that it belongs to."""

    name: str
    drives: list[int] = field(default_factory=list)
    l2: list[Array] = field(default_factory=list)
    valid: list[NDArray[np.bool_]] = field(default_factory=list)
    box: list[NDArray[np.bool_]] = field(default_factory=list)
    point: list[NDArray[np.bool_]] = field(default_factory=list)
    obb: list[NDArray[np.bool_]] = field(default_factory=list)
    foreseeable: list[NDArray[np.bool_]] = field(default_factory=list)

    def add(self, plan: Array, truth: GroundTruth, drive: int = 0) -> None:
        """One plan (6, 2) in base_link at its reference time."""
        if plan.shape != (PLAN_STEPS, 2):
            raise ValueError(f"plan has shape {plan.shape}, expected ({PLAN_STEPS}, 2)")
        annotated = np.array([boxes is not None for boxes in truth.boxes])
        boxes = [boxes if boxes is not None else Boxes.none() for boxes in truth.boxes]
        occupancy = np.stack([rasterise(step) for step in boxes])
        point, box = grid_collisions(metric_from_ego(plan), occupancy)
        _, expert_box = grid_collisions(metric_from_ego(truth.future), occupancy)
        self.drives.append(drive)
        self.l2.append(np.linalg.norm(plan - truth.future, axis=1) * truth.valid)
        self.valid.append(truth.valid & annotated)
        # A step at which the recorded driver collides by this test says more of the test.
        hits = box & ~expert_box
        self.box.append(hits)
        self.foreseeable.append(hits & (hits.any() and _hits_who_keeps_on(plan, truth.now)))
        self.point.append(point & ~expert_box)
        self.obb.append(exact_collisions(plan, boxes))

    def row(self, convention: Convention, as_published: bool = False) -> Row:
        """`as_published`: steps without ground truth count as 0 and in the denominator, as UniAD's
        code has it; else they are left out and counted."""
        valid = np.array(self.valid, dtype=bool).reshape(-1, PLAN_STEPS)
        counted = np.ones_like(valid) if as_published else valid
        return Row(
            name=self.name,
            convention=convention,
            l2=_over_horizons(np.array(self.l2), counted, convention, 1.0),
            collision=_over_horizons(np.array(self.box), counted, convention, 100.0),
            point_collision=_over_horizons(np.array(self.point), counted, convention, 100.0),
            obb=_over_horizons(np.array(self.obb), counted, convention, 100.0),
            foreseeable=self._foreseeable(counted),
            samples=len(valid),
            steps_left_out=int((~counted).sum()),
        )

    def _foreseeable(self, counted: NDArray[np.bool_]) -> float | None:
        found = [
            (np.array(hits, bool).reshape(-1, PLAN_STEPS) & counted)[:, _HORIZON_STEPS].sum()
            for hits in (self.foreseeable, self.box)
        ]
        return 100.0 * float(found[0] / found[1]) if found[1] else None

    def by_drive(self) -> DriveSums:
        """The sums behind `row("uniad")`, drive by drive."""
        which = np.array(self.drives, dtype=int)
        valid = np.array(self.valid, dtype=bool).reshape(-1, PLAN_STEPS)[:, _HORIZON_STEPS]

        def summed(values: NDArray[Any]) -> Array:
            sums = np.zeros((which.max(initial=-1) + 1, len(HORIZONS)))
            np.add.at(sums, which, values.reshape(-1, PLAN_STEPS)[:, _HORIZON_STEPS] * valid)
            return sums

        return DriveSums(
            count=summed(np.ones((len(which), PLAN_STEPS))),
            l2=summed(np.array(self.l2)),
            collision=summed(np.array(self.box)),
            obb=summed(np.array(self.obb)),
        )


def _hits_who_keeps_on(plan: Array, now: Boxes | None) -> bool:
    """Whether a plan (6, 2) runs into somebody at any step if all keep on as they move `now` (whose
    motion is not known stands still): such a collision takes no eye for what others are up to."""
    if now is None:
        return False
    moved = np.nan_to_num(now.velocities)
    still = np.zeros((len(now), 1))
    kept = [replace(now, centers=now.centers + np.hstack([moved * t, still])) for t in PLAN_TIMES]
    _, box = grid_collisions(metric_from_ego(plan), np.stack([rasterise(boxes) for boxes in kept]))
    return bool(box.any())


def _over_horizons(
    values: NDArray[Any], counted: NDArray[np.bool_], convention: Convention, scale: float
) -> tuple[float, float, float, float]:
    """At 1, 2, 3 s and the mean of the three; NaN where nothing was counted.

    `uniad`: the mean over samples at that step. `stp3`: the mean over samples of the mean over all
    steps up to there.
    """
    values = values.reshape(-1, PLAN_STEPS).astype(np.float64)
    result = []
    for step in _HORIZON_STEPS:
        if convention == "uniad":
            used = counted[:, step]
            per_sample = values[used, step]
        else:
            weights = counted[:, : step + 1]
            used = weights.any(axis=1)
            sums = (values[:, : step + 1] * weights).sum(axis=1)[used]
            per_sample = sums / weights.sum(axis=1)[used]
        result.append(scale * float(per_sample.mean()) if len(per_sample) else float("nan"))
    one, two, three = result
    return one, two, three, (one + two + three) / 3
