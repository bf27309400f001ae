"""`wpt reproduce`: WPT's tables, trained and measured here, beside the published figures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from wpt_training.commands.console import clear_errors, console, progress_bar
from wpt_training.commands.settings import settings_from


def reproduce(
    table: Annotated[list[int] | None, typer.Option(help="1 to 9; default: all")] = None,
    seeds: Annotated[str, typer.Option(help="with commas between")] = "0,1,2",
    config: Annotated[str, typer.Option(help="tiny, small, smoke or a file")] = "tiny",
    store: Annotated[Path | None, typer.Option(help="where packed data lies; default: the config's")] = None,
    routes: Annotated[str, typer.Option(help="of the closed loop")] = "bench220",
    plan_every: Annotated[float, typer.Option(help="s from one plan to the next in closed loop")] = 0.1,
    out: Annotated[Path, typer.Option(help="runs; what is there is not done again")] = Path("out/reproduce"),
    report: Annotated[Path, typer.Option(help="reproduce.md, reproduce.json and plots")] = Path(
        "docs/results"
    ),
    workers: Annotated[int, typer.Option(help="processes of the closed loop, 0: one per core")] = 0,
    ray: Annotated[str | None, typer.Option(help="address of a Ray cluster for the closed loop")] = None,
    strategy: Annotated[str, typer.Option(help="auto, ddp or fsdp, under torchrun")] = "auto",
    known: Annotated[
        Path | None,
        typer.Option(
            help="an earlier reproduce.json: its figures of the same configuration, seeds and drives count"
        ),
    ] = None,
) -> None:
    """Trains what is missing, measures it, and writes the tables with mean and spread over seeds."""
    with clear_errors():
        from wpt_training.evaluation.experiments import TABLES
        from wpt_training.evaluation.known_results import KnownResults
        from wpt_training.evaluation.reproduce import Plan, reproduce_tables
        from wpt_training.models.config import ConfigError
        from wpt_training.report.reproduced import write_report

        wanted = sorted(set(table or TABLES))
        if unknown := [number for number in wanted if number not in TABLES]:
            raise ConfigError(f"--table {unknown[0]}: WPT has tables 1 to 9")
        if not all(part.strip().isdigit() for part in seeds.split(",")):
            raise ConfigError(f"--seeds {seeds}: expected numbers with commas between, e.g. 0,1,2")
        settings = settings_from(config, store)
        plan = Plan(
            wanted, [int(part) for part in seeds.split(",")], settings, config, routes,
            out, plan_every, workers or os.cpu_count() or 1, ray, strategy,
            KnownResults(known),
        )  # fmt: skip
        content = reproduce_tables(plan, progress_bar)
        path = write_report(content, report)
        console.print(f"tables: {path}")
