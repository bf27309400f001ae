"""The tables people see, and the same figures as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from wpt_planner.plan_guard import PLAN_STEPS
from wpt_planner.stage_latency import StageSummary
from wpt_training.evaluation.closed_loop import ClosedLoopScores, RouteScore
from wpt_training.evaluation.forecasting import ForecastingScores
from wpt_training.evaluation.open_loop import CONVENTIONS, OpenLoopScores, Row
from wpt_training.evaluation.policy_latency import PolicyLatency

# nuScenes validation, `uniad` convention: L2 (m) and collision (%) at 1, 2, 3 s and their mean.
PUBLISHED = (
    ("WPT-Student, nuScenes", (0.24, 0.58, 1.17, 0.66), (0.14, 0.16, 0.42, 0.24)),
    ("Baseline, nuScenes", (0.29, 0.79, 1.56, 0.88), (0.70, 0.76, 1.71, 1.06)),
)

# Bench2Drive: driving score, success rate (%), mean ability (%).
PUBLISHED_CLOSED_LOOP = (
    ("VAD *", 42.35, 15.00, None),
    ("WoTE *", 61.71, 31.36, None),
    ("Baseline *", 65.23, 34.10, 39.36),
    ("WPT-Student *", 72.61, 45.45, 49.25),
    ("WPT-Teacher *", 79.23, 54.54, 57.80),
)
_WORST = 12  # routes listed one by one

METRICS = (
    ("l2", "L2 (m)"),
    ("collision", "collision (%)"),
    ("point_collision", "obj_col (%)"),
    ("obb", "obb (%)"),
)


def open_loop_rows(scores: Sequence[OpenLoopScores], as_published: bool = False) -> list[Row]:
    return [score.row(convention, as_published) for convention in CONVENTIONS for score in scores]


def print_open_loop(rows: Sequence[Row], console: Console, reference: bool = True) -> None:
    """One table per convention; `reference` adds the published nuScenes figures to the first."""
    for convention in CONVENTIONS:
        chosen = [row for row in rows if row.convention == convention]
        if not chosen:
            continue
        explained = "value at" if convention == "uniad" else "mean up to"
        table = Table(title=f"Open loop, convention {convention} ({explained} 1, 2, 3 s)")
        table.add_column("metric")
        table.add_column("policy")
        for column in ("1 s", "2 s", "3 s", "avg."):
            table.add_column(column, justify="right")
        for metric, title in METRICS:
            for row in chosen:
                table.add_row(title, row.name, *_cells(getattr(row, metric)))
            if reference and convention == "uniad" and metric in ("l2", "collision"):
                for name, l2, collision in PUBLISHED:
                    values = l2 if metric == "l2" else collision
                    table.add_row(title, name, *_cells(values), style="dim")
            table.add_section()
        console.print(table)
        console.print(
            f"{chosen[0].samples} plans; {chosen[0].steps_left_out} of "
            f"{chosen[0].samples * PLAN_STEPS} steps have no ground truth and are left out"
        )
    known = {row.name: row.foreseeable for row in rows if row.foreseeable is not None}
    if known:
        listed = ", ".join(f"{name} {share:.0f} %" for name, share in known.items())
        console.print(f"Collisions that also happen if all others keep on as they move: {listed}")


def print_latency(summaries: Sequence[StageSummary], console: Console) -> None:
    table = Table(title="Latency (ms)")
    table.add_column("stage")
    for column in ("p50", "p95", "p99", "passes"):
        table.add_column(column, justify="right")
    for summary in summaries:
        quantiles = (f"{value * 1e3:.1f}" for value in (summary.p50, summary.p95, summary.p99))
        table.add_row(summary.stage, *quantiles, str(summary.count))
    console.print(table)


def print_closed_loop(summary: ClosedLoopScores, scores: Sequence[RouteScore], console: Console) -> None:
    """The benchmark's table, the abilities, and the routes that went worst."""
    table = Table(title=f"Closed loop, {summary.routes} routes of the simulated world")
    table.add_column("policy")
    for column in ("driving\nscore", "success\n(%)", "ability\n(%)", "efficiency\n(%)", "comfort\n(%)"):
        table.add_column(column, justify="right", no_wrap=True)
    values = (
        summary.driving_score, summary.success, summary.mean_ability, summary.efficiency,
        summary.comfortness,
    )  # fmt: skip
    table.add_row(summary.policy, *_cells(values))
    table.add_section()
    for name, driving, success, ability in PUBLISHED_CLOSED_LOOP:
        cells = _cells((driving, success, float("nan") if ability is None else ability))
        table.add_row(name, *cells, "–", "–", style="dim")
    console.print(table)
    console.print("* published, on Bench2Drive's routes in CARLA: another world, for orientation only")
    console.print(
        "abilities (success, %): " + ", ".join(f"{name} {v:.0f}" for name, v in summary.abilities.items())
    )
    console.print(
        f"infractions: {summary.infractions or 'none'}; routes not finished: {summary.failures or 'none'}"
    )
    worst = sorted((score for score in scores if not score.success), key=lambda score: score.driving_score)
    for score in worst[:_WORST]:
        causes = [f"{entry.kind} {entry.detail} at {entry.time:.1f} s" for entry in score.infractions]
        causes += [score.failure] if score.failure else []
        causes += [f"{score.outside:.1%} outside its lanes"] if score.outside else []
        console.print(f"  {score.name}: {score.driving_score:.1f}: {'; '.join(causes)}", highlight=False)
    if len(worst) > _WORST:
        console.print(f"  … and {len(worst) - _WORST} more without success: --json FILE has all")


def print_forecasting(scores: ForecastingScores, console: Console) -> None:
    table = Table(title=f"Forecasting, {scores.samples} samples: IoU of voxels (%)")
    table.add_column("")
    for column in ("now", "future", "weighted"):
        table.add_column(column, justify="right")
    table.add_row("movable objects", *_cells((scores.present, scores.future, scores.future_weighted)))
    table.add_row("  if nothing moved", *_cells((scores.present, scores.unchanged, float("nan"))))
    for name, (present, future) in scores.by_class.items():
        table.add_row(f"  {name}", *_cells((present, future, float("nan"))))
    console.print(table)
    steps = ", ".join(f"{value:.1f}" for value in scores.by_frame)
    console.print(f"by frame of 0.5 s: {steps}; flow error {scores.flow_error:.2f} m/s")
    moving = [f"{name} {error:.2f} at {speed:.2f}" for name, (error, speed) in scores.moving.items()]
    console.print(f"of who moves now, flow error at a mean speed (m/s): {', '.join(moving)}")


def print_policy_latency(results: Sequence[PolicyLatency], machine: str, console: Console) -> None:
    table = Table(title="Policy call, six raw images in, plan out (ms)")
    table.add_column("policy")
    for column in ("p50", "p95", "ratio"):
        table.add_column(column, justify="right")
    for result in results:
        table.add_row(result.name, *_cells((result.p50, result.p95, result.p50 / results[0].p50)))
    console.print(table)
    console.print(f"machine: {machine}; {results[0].rounds} calls each, in turns")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Figures to a file, its folder made if missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, default=str) + "\n")


def _cells(values: Sequence[float]) -> tuple[str, ...]:
    return tuple("–" if value != value else f"{value:.2f}" for value in values)
