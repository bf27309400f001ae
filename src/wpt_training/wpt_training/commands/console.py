"""What all commands share: the console, progress bars, and errors as one clear line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# No emoji: "simulated:train:88" is a data source.
console = Console(emoji=False)


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """A function (done, total) that draws the bar and the time left."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turns errors about the user's input into one line and exit code 1; others keep their trace."""
    from wpt_planner.calibration import CalibrationError
    from wpt_planner.policy_bundle import BundleError
    from wpt_training.drives.frame import DriveError
    from wpt_training.models.config import ConfigError, TrainingError

    try:
        yield
    except (BundleError, CalibrationError, ConfigError, DriveError, TrainingError) as error:
        console.print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
