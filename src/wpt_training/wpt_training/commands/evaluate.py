"""`wpt evaluate`: policies against the benchmark's routes."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from wpt_training.commands.console import clear_errors, console, progress_bar

app = typer.Typer(help="Policies against the benchmark's routes.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Policies against the benchmark's routes."""


@app.command("closed-loop")
def closed_loop(
    policy: Annotated[str, typer.Option(help="expert, constant-velocity or a bundle's folder")],
    routes: Annotated[
        str, typer.Option(help="bench220, bench44, SET:COUNT such as train:88, or names with commas")
    ] = "bench44",
    out: Annotated[Path, typer.Option(help="finished routes are kept here")] = Path("out/closed_loop"),
    workers: Annotated[int, typer.Option(help="processes, 0: one per core")] = 0,
    ray: Annotated[str | None, typer.Option(help="address of a Ray cluster")] = None,
    plan_timeout: Annotated[float, typer.Option(help="s a plan may take")] = 30.0,
    as_published: Annotated[
        bool, typer.Option("--as-published", help="comfortness as the published code computes it")
    ] = False,
    rig: Annotated[Path | None, typer.Option(help="cameras; default config/rig_simulated.yaml")] = None,
    video: Annotated[Path | None, typer.Option(help="write an MP4 of every route to this folder")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
) -> None:
    """Drives routes of the simulated world: driving score, success, abilities, infractions."""
    with clear_errors():
        from wpt_training.evaluation.closed_loop import summarise
        from wpt_training.evaluation.route_runner import RunOptions, evaluate_routes
        from wpt_training.evaluation.tables import print_closed_loop, write_json
        from wpt_training.simulator.scenarios import route_names

        names = route_names(routes)
        options = RunOptions(plan_timeout, video, rig)
        workers = workers or os.cpu_count() or 1
        with progress_bar(f"{policy}, {len(names)} routes") as progress:
            scores = evaluate_routes(names, policy, out, workers, ray, options, progress)
        summary = summarise(scores, as_published)
        print_closed_loop(summary, scores, console)
        if json is not None:
            content = {"summary": asdict(summary), "routes": [score.to_json() for score in scores]}
            write_json(json, content)
