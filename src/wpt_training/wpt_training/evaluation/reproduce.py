"""From experiments to the rows of WPT's tables, mean and spread over seeds, beside what was published."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wpt_training.evaluation.comparison import (
    DriveSums,
    Interval,
    Metric,
    difference_over_routes,
    ratio_over_drives,
)
from wpt_training.evaluation.experiments import (
    CLOSED_LOOP,
    EXPERIMENTS,
    blind_results,
    closed_loop_result,
    drive_policy,
    exported_once,
    open_loop_result,
    table_names,
    train_experiment,
)
from wpt_training.evaluation.known_results import KnownResults
from wpt_training.evaluation.policy_latency import time_bundles
from wpt_training.export import git_revision
from wpt_training.models.config import TrainingConfig
from wpt_training.models.reward_model import SIMULATION_REWARDS
from wpt_training.training.checkpoint import read_state
from wpt_training.training.recipes import Bar, recipe_config, training_data

TITLES = {
    1: "Open-loop planning", 2: "Closed loop", 3: "The reward model, in training and at inference",
    4: "Each simulation reward left out", 5: "Rewards on the true and on the predicted occupancy",
    6: "Parts of the distillation", 7: "Closed-loop abilities", 8: "Training cost", 9: "Latency",
}  # fmt: skip
# Published, nuScenes or Bench2Drive: avg. L2 (m), avg. collision (%); or driving score, success (%).
PUBLISHED: dict[int, dict[str, tuple[float | None, ...]]] = {
    1: {
        "baseline": (0.88, 1.06), "baseline-t": (0.72, 0.71), "student": (0.66, 0.24),
        "teacher": (0.61, 0.11),
    },
    2: {"baseline": (65.23, 34.10), "student": (72.61, 45.45), "teacher": (79.23, 54.54)},
    3: {
        "baseline-t": (0.72, 0.71), "teacher by score": (0.62, 0.14), "teacher by imitation": (0.69, 0.22),
        "teacher": (0.61, 0.11),
    },
    5: {"teacher gt-occ": (0.65, 0.11), "teacher wm-occ": (0.61, 0.11)},
    6: {
        "baseline on the world model": (0.88, 1.06), "student, query": (0.69, 0.86),
        "student, query and imitation": (0.68, 0.25), "student": (0.66, 0.24),
    },
    7: {"baseline": (39.36,), "student": (49.25,), "teacher": (57.80,)},
    8: {
        "baseline-t": (464.0, None), "teacher": (248.0, None), "baseline": (488.0, None),
        "student": (168.0, None),
    },
    9: {"baseline-t": (286.0,), "teacher by score": (286.0,), "teacher": (312.0,), "baseline": (64.0,),
        "student": (64.0,)},
}  # fmt: skip
COLUMNS = {
    2: ("driving score", "success (%)"), 7: ("mean ability (%)",),
    8: ("training (min)", "epochs"), 9: ("latency (ms)",),
}  # fmt: skip
PUBLISHED_UNITS = {"training (min)": "training (GPU h)"}  # where they are not ours
# (figure, whose, against whose): ratios in open loop, differences in closed loop.
COMPARED: dict[int, tuple[tuple[str, str, str], ...]] = {
    1: (
        ("collision", "student", "baseline"), ("L2", "student", "baseline"),
        ("collision", "student", "baseline on the world model"),
        ("L2", "student", "baseline on the world model"),
        ("collision", "teacher", "baseline-t"), ("L2", "teacher", "baseline-t"),
        ("obb", "student", "baseline"), ("obb", "teacher", "baseline-t"),
    ),
    2: (
        ("driving score", "student", "baseline"), ("driving score", "teacher", "baseline"),
    ),
    3: (
        ("collision", "teacher by score", "baseline-t"), ("collision", "teacher", "teacher by score"),
        ("collision", "teacher by imitation", "teacher by score"),
        ("collision", "teacher", "teacher by imitation"),
    ),
    4: tuple(
        (figure, f"teacher without {name}", "teacher")
        for figure in ("collision", "L2")
        for name in SIMULATION_REWARDS
    ),
    6: (
        ("collision", "student, query", "student, not distilled"),
        ("collision", "student, query and imitation", "student, query"),
        ("collision", "student", "student, query and imitation"),
        ("L2", "student, query", "student, not distilled"),
        ("L2", "student", "student, query and imitation"),
    ),
}  # fmt: skip
_METRICS: dict[str, Metric] = {"L2": "l2", "collision": "collision", "obb": "obb"}
OPEN_LOOP_COLUMNS = ("avg. L2 (m)", "avg. collision (%)")
LATENCY_ROUNDS, LATENCY_SIZE = 60, (900, 1600)


@dataclass(frozen=True)
class Plan:
    """What `wpt reproduce` was asked for."""

    tables: Sequence[int]
    seeds: Sequence[int]
    config: TrainingConfig
    config_path: str
    routes: str
    out: Path
    plan_every: float = 0.1
    workers: int = 1
    ray: str | None = None
    strategy: str = "auto"
    known: KnownResults = field(default_factory=KnownResults)


def reproduce_tables(plan: Plan, bar: Bar) -> dict[str, Any]:
    """Trains and measures; the content of reproduce.json: every number with what made it."""
    shown = [(number, name) for number in plan.tables for name in table_names(number, plan.config)]
    names = list(dict.fromkeys(name for number, name in shown if _known(plan, number, name) is None))
    validation = training_data(plan.config, bar, False, "validation", with_labels=False)
    runs = {
        (name, seed): train_experiment(EXPERIMENTS[name], plan.config, plan.out, seed, plan.strategy, bar)
        for seed in plan.seeds
        for name in names
    }
    tables = {str(number): _table(plan, number, runs, validation, bar) for number in plan.tables}
    content: dict[str, Any] = {"tables": tables}
    if any(columns(number) == OPEN_LOOP_COLUMNS for number in plan.tables):
        content["blind"] = blind_results(validation, training_data(plan.config), plan.seeds[0])
    return content


def _known(plan: Plan, number: int, name: str) -> list[dict[str, Any]] | None:
    return plan.known.of(number, name, plan.config, plan.seeds, _measured_on(plan, number))


def _measured_on(plan: Plan, number: int) -> str:
    if number in CLOSED_LOOP:
        return f"{plan.routes}, a plan every {plan.plan_every:g} s"
    if number == 9:
        return f"six images of {LATENCY_SIZE[1]} x {LATENCY_SIZE[0]}, {LATENCY_ROUNDS} rounds, one thread"
    return plan.config.data.validation


def _made_by(plan: Plan, number: int) -> dict[str, Any]:
    """What a table can be made with again."""
    command = f"./wpt reproduce --table {number} --config {plan.config_path}"
    command += f" --seeds {','.join(map(str, plan.seeds))}"
    if number in CLOSED_LOOP:
        command += f" --routes {plan.routes} --plan-every {plan.plan_every:g}"
    known = [name for name in table_names(number, plan.config) if _known(plan, number, name) is not None]
    if known:
        command += f" --known {plan.known.path}"
    return {
        "command": command, "known": known, "train": plan.config.data.train,
        "measured_on": _measured_on(plan, number), "seeds": list(plan.seeds),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "git_revision": git_revision(Path(__file__).parent),
    }  # fmt: skip


def columns(number: int) -> tuple[str, ...]:
    """What a table measures."""
    return COLUMNS.get(number, OPEN_LOOP_COLUMNS)


REFERENCES = ("constant-velocity", "expert")


def _reference_rows(plan: Plan, number: int, bar: Bar) -> list[dict[str, Any]]:
    """Who brackets every policy in closed loop."""
    rows = []
    for policy in REFERENCES:
        result = drive_policy(
            policy, policy, plan.routes, plan.plan_every, plan.out / "routes", plan.workers, plan.ray, bar
        )
        rows.append({**_row(number, policy, np.array([_driven(number, result)])), "made_by": [result]})
    return rows


def _driven(number: int, result: dict[str, Any]) -> tuple[float, ...]:
    if number == 2:
        return result["driving_score"], result["success"]
    return (result["mean_ability"],)


def _table(
    plan: Plan, number: int, runs: dict[tuple[str, int], Path], validation: Any, bar: Bar
) -> dict[str, Any]:
    made_by = _made_by(plan, number)
    if number == 8:
        return {"made_by": made_by, "rows": _cost_rows(plan, runs)}
    if number == 9:
        return {"made_by": made_by, "rows": _latency_rows(plan, runs, bar)}
    results = {
        name: _known(plan, number, name)
        or [_result(plan, number, name, runs[name, seed], validation, bar) for seed in plan.seeds]
        for name in table_names(number, plan.config)
    }
    rows = _reference_rows(plan, number, bar) if number in CLOSED_LOOP else []
    for name, measured in results.items():
        values = np.array([_figures(number, result) for result in measured])
        origins = [_without_sums(result, validation.names) for result in measured]
        rows.append({**_row(number, name, values), "made_by": origins})
    return {"made_by": made_by, "rows": rows, "compared": _compared(number, results)}


def _without_sums(result: dict[str, Any], drives: Sequence[str]) -> dict[str, Any]:
    """The sums behind a comparison stay with the run, for they are long; but for in which of the `drives` it
    collides."""
    short = {key: value for key, value in result.items() if key != "by_drive"}
    if "by_drive" in result:
        each = DriveSums.from_dict(result["by_drive"]).collision.sum(axis=1).astype(int).tolist()
        # The last drives, if nothing in them counted, have no sums.
        short["where"] = {name: count for name, count in zip(drives, each, strict=False) if count}
    return short


def _result(plan: Plan, number: int, name: str, run: Path, validation: Any, bar: Bar) -> dict[str, Any]:
    experiment = EXPERIMENTS[name]
    if number in CLOSED_LOOP:
        return closed_loop_result(
            experiment, run, plan.routes, plan.plan_every, plan.out / "routes", plan.workers, plan.ray, bar
        )  # fmt: skip
    return open_loop_result(experiment, run, validation, plan.config.data.validation, bar)


def _figures(number: int, result: dict[str, Any]) -> tuple[float, ...]:
    """A result's columns in a table."""
    if number in CLOSED_LOOP:
        return _driven(number, result)
    return result["l2"][3], result["collision"][3]


def _compared(number: int, results: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Who does better than whom, and how sure that is."""
    found = []
    for figure, ours, others in COMPARED.get(number, ()):
        pair = (results[ours if ours in results else f"{ours} by score"], results[others])
        if number in CLOSED_LOOP:
            scores = [np.mean([result["by_route"] for result in each], axis=0) for each in pair]
            interval = difference_over_routes(*scores)
        elif not all("by_drive" in result for each in pair for result in each):
            # Known from elsewhere, without the drives' sums.
            figures = [np.mean([result[_METRICS[figure]][3] for result in each]) for each in pair]
            interval = Interval(float(figures[0] / figures[1]), None, None)
        else:
            one, other = (
                DriveSums.over_seeds([DriveSums.from_dict(result["by_drive"]) for result in each])
                for each in pair
            )
            interval = ratio_over_drives(one, other, _METRICS[figure])
        found.append({"figure": figure, "ours": ours, "others": others, **asdict(interval)})
    return found


def _cost_rows(plan: Plan, runs: dict[tuple[str, int], Path]) -> list[dict[str, Any]]:
    rows = []
    for name in table_names(8, plan.config):
        states = [read_state(runs[name, seed]) for seed in plan.seeds]
        changed = EXPERIMENTS[name].change(plan.config)
        values = [(state.seconds / 60, recipe_config(changed, state.recipe).epochs) for state in states]
        origins = [
            {"run": str(runs[name, seed]), "steps": state.step}
            for seed, state in zip(plan.seeds, states, strict=True)
        ]
        rows.append({**_row(8, name, np.array(values)), "made_by": origins})
    return rows


def _latency_rows(plan: Plan, runs: dict[tuple[str, int], Path], bar: Bar) -> list[dict[str, Any]]:
    seed, names = plan.seeds[0], table_names(9, plan.config)
    folders = [exported_once(runs[name, seed], EXPERIMENTS[name].choice.by_score) for name in names]
    with bar("latency") as progress:
        results = time_bundles(folders, LATENCY_SIZE, LATENCY_ROUNDS, threads=1, progress=progress)
    return [
        {**_row(9, name, np.array([[result.p50]])), "made_by": [str(folder)]}
        for name, folder, result in zip(names, folders, results, strict=True)
    ]


def _row(number: int, name: str, values: np.ndarray) -> dict[str, Any]:
    """values (seeds, columns)."""
    published = PUBLISHED.get(number, {})
    return {
        "name": name,
        "mean": values.mean(axis=0).tolist(),
        "spread": values.std(axis=0, ddof=1).tolist() if len(values) > 1 else [0.0] * values.shape[1],
        "values": values.tolist(),
        "published": list(published.get(name, published.get(name.removesuffix(" by score"), ()))),
    }
