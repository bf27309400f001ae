"""`wpt bench`: figures that depend on the machine; benchmarks, not tests."""

from __future__ import annotations

import json as json_module
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from wpt_training.commands.console import clear_errors, console

app = typer.Typer(help="Benchmarks.", no_args_is_help=True)


@dataclass(frozen=True)
class Budget:
    """A figure to reach: `value` of the result must be at most `limit` ms."""

    name: str
    stage: str
    quantile: str
    limit: float


RAW_BUDGETS = (
    Budget("node's own share", "own_share", "p50", 20.0),
    Budget("node's own share", "own_share", "p99", 40.0),
    Budget("policy call", "policy", "p50", 40.0),
)


@app.callback()
def _group() -> None:
    """Benchmarks."""


@app.command()
def node(
    seconds: Annotated[float, typer.Option(help="length of each run")] = 60.0,
    bundle: Annotated[str, typer.Option(help="student, teacher, baseline or a bundle's folder")] = "student",
    threads: Annotated[int, typer.Option(help="CPU threads of the policy")] = 1,
    json: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
) -> None:
    """Six 1600x900 cameras at 10 Hz through DDS between two processes, raw and then JPEG."""
    with clear_errors(), tempfile.TemporaryDirectory() as folder:
        from wpt_planner.shared_files import bundle_folder
        from wpt_training.evaluation.tables import write_json

        results = []
        for raw in (True, False):
            kind = "bgr8" if raw else "JPEG"
            with console.status(f"{kind}: about {seconds + 25:.0f} s …"):
                results.append(_run(str(bundle_folder(bundle)), raw, seconds, threads, Path(folder)))
            _print(results[-1])
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        console.print(f"machine: {machine}; policy threads: {threads}")
        if json is not None:
            write_json(json, {"machine": machine, "threads": threads, "runs": results})


@app.command()
def simulator(
    frames: Annotated[int, typer.Option(help="camera sets per route")] = 60,
    workers: Annotated[int, typer.Option(help="processes, 0: one per core")] = 0,
    json: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
) -> None:
    """Six 224x128 cameras with the expert driving: frames per second, traffic and rendering."""
    import time
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from wpt_training.evaluation.tables import write_json
    from wpt_training.simulator.benchmark import ROUTES, time_route
    from wpt_training.simulator.dataset import one_thread

    workers = workers or os.cpu_count() or 1
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=one_thread) as pool:
        with console.status("warming up …"):
            list(pool.map(time_route, ROUTES[:1] * workers, [3] * workers))
        with console.status(f"{len(ROUTES)} routes, {frames} frames each …"):
            started = time.perf_counter()
            timings = list(pool.map(time_route, ROUTES, [frames] * len(ROUTES)))
            seconds = time.perf_counter() - started
    rate = len(ROUTES) * frames / seconds
    look, step = (sorted(values)[len(values) // 2] for values in zip(*timings, strict=True))
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    console.print(
        f"{rate:.1f} frames/s of six 224x128 cameras with {workers} processes (setting up included); "
        f"in one process: rendering {look * 1e3:.0f} ms, everything else {step * 1e3:.0f} ms a frame"
    )
    console.print(f"machine: {machine}")
    console.print(
        f"limit 10 frames/s on two cores: {'[green]reached[/]' if rate >= 10 else '[red]missed[/]'}"
    )
    if json is not None:
        content = {"machine": machine, "workers": workers, "frames_per_second": rate,
                   "render_ms": look * 1e3, "step_ms": step * 1e3}  # fmt: skip
        write_json(json, content)


@app.command()
def size(
    config: Annotated[str, typer.Option(help="tiny, small, paper, smoke or a file")] = "paper",
    batch: Annotated[int, typer.Option(help="clips of the training step")] = 1,
    clip: Annotated[int, typer.Option(help="samples a clip; 0: the configuration's")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    json: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
) -> None:
    """What a configuration takes: parameters, shapes, one training step and an export, with their memory."""
    with clear_errors(), tempfile.TemporaryDirectory() as folder:
        from dataclasses import asdict

        from rich.table import Table

        from wpt_training.evaluation.model_size import measure_size
        from wpt_training.evaluation.tables import write_json
        from wpt_training.models.config import load_training_config

        settings = load_training_config(config)
        with console.status("building") as status:
            result = measure_size(
                settings, batch, clip or settings.data.clip, Path(folder), device, status.update
            )
        table = Table(title=f"{config}, {platform.machine()}, {os.cpu_count()} cores, {device}")
        table.add_column("part")
        table.add_column("parameters", justify="right")
        for name, count in result.parameters.items():
            table.add_row(name, f"{count / 1e6:.2f} M")
        console.print(table)
        for name, shape in result.shapes.items():
            console.print(f"{name}: {' x '.join(map(str, shape))}")
        console.print(
            f"one training step: {result.step_seconds:.1f} s, loss {result.loss:.2f}; "
            f"export: {result.export_seconds:.1f} s; memory at most {result.peak_gib:.1f} GiB"
        )
        if json is not None:
            measured = {"batch": batch, "clip": clip or settings.data.clip, "device": device}
            write_json(json, {"config": config, **measured, **asdict(result)})


def _run(bundle: str, raw: bool, seconds: float, threads: int, folder: Path) -> dict[str, object]:
    environment = dict(os.environ, ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    environment["ROS_DOMAIN_ID"] = str(os.getpid() % 100 + 1)
    report, log = folder / "bench.json", folder / "planner.log"
    report.unlink(missing_ok=True)
    compressed = "false" if raw else "true"

    def command(module: str, *parameters: str) -> list[str]:
        arguments = [part for parameter in parameters for part in ("-p", parameter)]
        return [sys.executable, "-m", f"wpt_planner.{module}", "--ros-args", *arguments]

    with log.open("w") as stream:
        planner = subprocess.Popen(
            command(
                "planner_node", f"bundle:={bundle}", "allow_untrained:=true",
                f"compressed:={compressed}", f"threads:={threads}", "max_wait:=0.08",
            ),
            env=environment, stdout=stream, stderr=stream,
        )  # fmt: skip
        try:
            subprocess.run(
                command(
                    "bench_node", f"seconds:={seconds}", f"raw:={'true' if raw else 'false'}",
                    f"json:={report}", f"planner_pid:={planner.pid}",
                ),
                env=environment, check=False,
            )  # fmt: skip
        finally:
            planner.terminate()
            planner.wait(20)
    if not report.is_file():
        console.print(f"[bold red]error:[/] no figures came out; the planner said:\n{log.read_text()}")
        raise typer.Exit(1)
    result: dict[str, object] = json_module.loads(report.read_text())
    return result


def _print(result: dict[str, object]) -> None:
    from rich.table import Table

    stages: dict[str, dict[str, float]] = result["stages_ms"]  # type: ignore[assignment]
    table = Table(title=f"six 1600x900 cameras at 10 Hz, {result['images']}, {result['seconds']:.0f} s")
    table.add_column("stage (ms)")
    for quantile in ("p50", "p95", "p99"):
        table.add_column(quantile, justify="right")
    for stage, values in stages.items():
        table.add_row(stage, *(f"{values[q]:.1f}" for q in ("p50", "p95", "p99")))
    console.print(table)
    console.print(
        f"sets: {result['sets_planned']} planned of {result['sets_sent']} sent, "
        f"{result['sets_dropped_by_planner']} superseded, {result['fallbacks']} by the fallback; "
        f"copying one set's bytes takes {result['copy_floor_ms']:.1f} ms; resident memory "
        f"{result['memory_mib_settled']:.0f} MiB after 10 s, {result['memory_mib_end']:.0f} MiB at the end"
    )
    if late := result["unplanned_sets_sent_late_ms"]:
        console.print(f"the sets not planned had left the sender {late} ms late, at the heels of the next")
    for budget in RAW_BUDGETS if result["images"] == "bgr8" else ():
        value = stages[budget.stage][budget.quantile]
        verdict = "[green]reached[/]" if value <= budget.limit else "[red]missed[/]"
        console.print(
            f"{budget.name} {budget.quantile}: {value:.1f} ms, limit {budget.limit:.0f} ms: {verdict}"
        )
