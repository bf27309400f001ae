"""`wpt bag`: write, look into and evaluate rosbag2 files, without a ROS graph."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wpt_training.commands.console import clear_errors, console, progress_bar

app = typer.Typer(help="Write, inspect and evaluate rosbag2 files.", no_args_is_help=True)

JsonOption = Annotated[Path | None, typer.Option("--json", help="write the figures to this file")]


@app.command()
def write(
    drive: Annotated[str, typer.Argument(help="nuScenes DIR[:SCENE], a bag, or simulated[:SEED]")],
    bag: Annotated[Path, typer.Argument(help="folder to write, must not exist")],
) -> None:
    """Writes a drive as MCAP that `ros2 bag play --clock-topics-all` plays."""
    with clear_errors():
        from wpt_training.drives.bag_writer import write_bag
        from wpt_training.drives.source import open_drive

        opened = open_drive(drive)
        with progress_bar(f"writing {bag}") as progress:
            write_bag(opened, bag, progress)


@app.command()
def info(
    bag: Annotated[Path, typer.Argument(help="a rosbag2 folder or file")], json: JsonOption = None
) -> None:
    """Says what a bag holds and whether the planner can use it."""
    with clear_errors():
        from rich.table import Table

        from wpt_training.drives.bag_reader import read_bag
        from wpt_training.evaluation.tables import write_json

        drive = read_bag(bag)
        table = Table(title=f"{bag}: {drive.seconds:.1f} s")
        for column in ("camera", "images", "rate (Hz)", "size"):
            table.add_column(column)
        cameras = {}
        for camera, stream in zip(drive.cameras, drive.streams, strict=True):
            span = (stream[-1].stamp - stream[0].stamp) / 1e9
            rate = (len(stream) - 1) / span if span > 0 else 0.0
            cameras[camera.name] = {"images": len(stream), "rate": rate}
            table.add_row(camera.name, str(len(stream)), f"{rate:.1f}", f"{camera.width}x{camera.height}")
        console.print(table)
        facts = {
            "seconds": drive.seconds,
            "cameras": cameras,
            "odometry": len(drive.ego.stamps),
            "annotated_times": len(drive.annotations),
            "commands": len(drive.commands),
            "map": drive.map is not None,
        }
        for name in ("odometry", "annotated_times", "commands", "map"):
            console.print(f"{name.replace('_', ' ')}: {facts[name]}")
        if json is not None:
            write_json(json, facts)


@app.command()
def evaluate(
    bag: Annotated[str, typer.Argument(help="a bag, nuScenes DIR[:SCENE], or simulated[:SEED]")],
    bundle: Annotated[str, typer.Option("--bundle", help="student, teacher, baseline or a bundle's folder")],
    as_published: Annotated[
        bool, typer.Option("--as-published", help="count missing steps as 0, as UniAD's code does")
    ] = False,
    json: JsonOption = None,
) -> None:
    """Plans on every camera set of a bag and prints the open-loop tables."""
    with clear_errors():
        from wpt_planner.shared_files import bundle_folder
        from wpt_training.drives.source import open_drive
        from wpt_training.evaluation.offline import evaluate_drive
        from wpt_training.evaluation.tables import (
            open_loop_rows,
            print_latency,
            print_open_loop,
            write_json,
        )

        drive = open_drive(bag)
        with progress_bar("planning") as progress:
            result = evaluate_drive(drive, bundle_folder(bundle), progress=progress)
        rows = open_loop_rows(result.scores, as_published)
        print_open_loop(rows, console)
        print_latency([s for s in result.latency.summaries() if s.p99 > 0], console)
        fallbacks = sum(bool(planned.reason) for planned in result.passes)
        console.print(
            f"{len(result.passes)} plans, {fallbacks} by the fallback, {len(result.refused)} sets refused"
        )
        for reason in dict.fromkeys(result.refused):
            console.print(f"refused: {reason}")
        if json is not None:
            plans = [
                {"stamp": p.stamp, "trajectory": p.trajectory.tolist(), "reason": p.reason}
                for p in result.passes
            ]
            write_json(json, {"open_loop": [row.as_dict() for row in rows], "plans": plans})
