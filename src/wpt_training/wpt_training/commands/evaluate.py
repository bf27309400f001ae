"""`wpt evaluate`: policies against the benchmark's routes."""

from __future__ import annotations

import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from wpt_training.commands.console import clear_errors, console, progress_bar
from wpt_training.commands.settings import settings_from

app = typer.Typer(help="Policies and world models, measured.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Policies and world models, measured."""


@app.command("closed-loop")
def closed_loop(
    policy: Annotated[
        str, typer.Option(help="expert, constant-velocity, student, teacher, baseline or a bundle")
    ],
    routes: Annotated[
        str, typer.Option(help="bench220, bench44, SET:COUNT such as train:88, or names with commas")
    ] = "bench44",
    out: Annotated[Path, typer.Option(help="finished routes are kept here")] = Path("out/closed_loop"),
    workers: Annotated[int, typer.Option(help="processes, 0: one per core")] = 0,
    ray: Annotated[str | None, typer.Option(help="address of a Ray cluster")] = None,
    plan_timeout: Annotated[float, typer.Option(help="s a plan may take")] = 30.0,
    plan_every: Annotated[float, typer.Option(help="s from one plan to the next, followed meanwhile")] = 0.1,
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
        options = RunOptions(plan_timeout, video, rig, plan_every)
        workers = workers or os.cpu_count() or 1
        with progress_bar(f"{policy}, {len(names)} routes") as progress:
            scores = evaluate_routes(names, policy, out, workers, ray, options, progress)
        summary = summarise(scores, as_published)
        print_closed_loop(summary, scores, console)
        if json is not None:
            content = {"summary": asdict(summary), "routes": [score.to_json() for score in scores]}
            write_json(json, content)


@app.command("open-loop")
def open_loop(
    policies: Annotated[list[Path], typer.Argument(help="bundles, or folders of training runs")],
    config: Annotated[str, typer.Option(help="tiny, small, smoke or a file")] = "tiny",
    data: Annotated[str | None, typer.Option(help="what is driven; default: the config's validation")] = None,
    store: Annotated[Path | None, typer.Option(help="where packed data lies; default: the config's")] = None,
    as_published: Annotated[
        bool, typer.Option("--as-published", help="steps without ground truth as UniAD's code counts them")
    ] = False,
    missing_cameras: Annotated[
        bool, typer.Option("--missing-cameras", help="once more with each single camera dead")
    ] = False,
    json: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
) -> None:
    """L2 and collisions of plans on recorded drives, beside constant velocity and an ego-status MLP."""
    with clear_errors(), tempfile.TemporaryDirectory() as folder:
        from wpt_training.evaluation.packed_open_loop import score_blind, score_bundle
        from wpt_training.evaluation.tables import open_loop_rows, print_open_loop, write_json
        from wpt_training.training.recipes import training_data

        settings = settings_from(config, store, validation=data)
        validation = training_data(settings, progress_bar, split="validation")
        training = training_data(settings, progress_bar)
        scores = score_blind(validation, training)
        for policy in policies:
            bundle = _bundle(policy, Path(folder))
            dead = range(validation.images(0).shape[1]) if missing_cameras else ()
            for camera in (None, *dead):
                name = policy.name if camera is None else f"{policy.name} without {_camera(bundle, camera)}"
                with progress_bar(name) as progress:
                    scores.append(score_bundle(bundle, validation, name, camera, progress))
        rows = open_loop_rows(scores, as_published)
        print_open_loop(rows, console)
        if json is not None:
            write_json(json, {"data": settings.data.validation, "rows": [row.as_dict() for row in rows]})


@app.command()
def forecasting(
    world: Annotated[Path, typer.Argument(help="folder of a world model's training run")],
    config: Annotated[str, typer.Option(help="what it was trained with")] = "tiny",
    data: Annotated[str | None, typer.Option(help="what is driven; default: the config's validation")] = None,
    store: Annotated[Path | None, typer.Option(help="where packed data lies; default: the config's")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
) -> None:
    """IoU of the movable objects that a world model sees and foresees, and its flow's error."""
    with clear_errors():
        from wpt_training.evaluation.forecasting import score_forecasting
        from wpt_training.evaluation.tables import print_forecasting, write_json
        from wpt_training.training.recipes import load_world, training_data

        settings = settings_from(config, store, validation=data)
        model = load_world(settings, world)
        with progress_bar("forecasting") as progress:
            validation = training_data(settings, split="validation")
            scores = score_forecasting(model, validation, progress=progress)
        print_forecasting(scores, console)
        if json is not None:
            write_json(json, {"data": settings.data.validation, **asdict(scores)})


@app.command()
def latency(
    policies: Annotated[list[Path], typer.Argument(help="bundles, or folders of training runs")],
    rounds: Annotated[int, typer.Option(help="calls of each")] = 60,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of the six raw cameras")] = "900x1600",
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads")] = 1,
    json: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
) -> None:
    """Six raw images in, plan out: every policy in turn in one run, and ratios to the first."""
    with clear_errors(), tempfile.TemporaryDirectory() as folder:
        from wpt_training.commands.data import image_size
        from wpt_training.evaluation.policy_latency import time_bundles
        from wpt_training.evaluation.tables import print_policy_latency, write_json

        bundles = [_bundle(policy, Path(folder)) for policy in policies]
        with progress_bar("rounds") as progress:
            results = time_bundles(bundles, image_size(size), rounds, device, threads, progress)
        machine = f"{platform.machine()}, {os.cpu_count()} cores, {device}, {threads} threads"
        print_policy_latency(results, machine, console)
        if json is not None:
            write_json(json, {"machine": machine, "size": size, "policies": [asdict(r) for r in results]})


def _bundle(path: Path, folder: Path) -> Path:
    """The bundle itself, or a training run exported for the moment."""
    from wpt_planner.policy_bundle import MANIFEST_FILE
    from wpt_planner.shared_files import bundle_folder
    from wpt_training.export import export_checkpoint

    if (bundle_folder(str(path)) / MANIFEST_FILE).is_file():
        return bundle_folder(str(path))
    return export_checkpoint(path, folder / path.name).folder


def _camera(bundle: Path, index: int) -> str:
    from wpt_planner.policy_bundle import open_bundle

    return open_bundle(bundle).manifest.cameras[index]
