"""`wpt data`: driving data out of the simulated world."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from wpt_training.commands.console import clear_errors, console, progress_bar

app = typer.Typer(help="Driving data out of the simulated world.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Driving data out of the simulated world."""


@app.command()
def simulate(
    out: Annotated[Path, typer.Option(help="folder for the data; a run that was killed goes on")],
    routes: Annotated[
        str, typer.Option(help="SET:COUNT such as train:88, bench220, bench44, or names with commas")
    ] = "train:44",
    workers: Annotated[int, typer.Option(help="processes, 0: one per core")] = 0,
    size: Annotated[str, typer.Option(help="HEIGHTxWIDTH of the cameras")] = "128x224",
    max_seconds: Annotated[float, typer.Option(help="s of a route that are kept")] = 60.0,
    bags: Annotated[bool, typer.Option("--bags", help="one rosbag2 per route, not nuScenes tables")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
) -> None:
    """Drives routes with the expert and writes nuScenes tables, or bags."""
    with clear_errors():
        import time

        from wpt_training.evaluation.tables import write_json
        from wpt_training.simulator.dataset import simulate_dataset
        from wpt_training.simulator.scenarios import route_names

        pixels = image_size(size)
        names = route_names(routes)
        started = time.monotonic()
        with progress_bar("routes") as progress:
            count = simulate_dataset(
                names, out, workers or os.cpu_count() or 1, pixels, bags, max_seconds,
                progress,
            )  # fmt: skip
        seconds = time.monotonic() - started
        console.print(f"{out}: {count} {'bags' if bags else 'scenes'}, {seconds:.0f} s")
        if json is not None:
            write_json(json, {"routes": names, "count": count, "seconds": seconds})


@app.command("contact-sheet")
def sheet(
    out: Annotated[Path, typer.Option(help="the picture")] = Path("out/scenarios.jpg"),
) -> None:
    """One frame from each of the 44 scenario types."""
    with clear_errors():
        from wpt_training.report.contact_sheet import contact_sheet

        with progress_bar("scenario types") as progress:
            contact_sheet(out, progress)
        console.print(f"picture: {out}")


def image_size(text: str) -> tuple[int, int]:
    """`HEIGHTxWIDTH` as two numbers. Raises DriveError."""
    from wpt_training.drives.frame import DriveError

    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and 32 <= int(part) <= 4096 for part in parts):
        raise DriveError(f"--size {text}: expected HEIGHTxWIDTH of 32 to 4096 pixels, e.g. 128x224")
    return int(parts[0]), int(parts[1])
