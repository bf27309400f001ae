"""`wpt export`: a policy bundle for the planner node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wpt_training.commands.console import clear_errors, console


def export(
    folder: Annotated[Path, typer.Argument(help="where the bundle goes")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="folder of a training run, such as out/train/student")
    ] = None,
    config: Annotated[str, typer.Option(help="sizes for --untrained, tiny, small, smoke or a file")] = "tiny",
    by_score: Annotated[
        bool, typer.Option("--by-score", help="a teacher chooses by its planner's scores, not by rewards")
    ] = False,
    weight_bits: Annotated[
        int,
        typer.Option(
            min=4, max=23, help="bits kept of each weight after the first; 7, as in bfloat16, halve a bundle"
        ),
    ] = 23,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="random weights: to try the node, not to drive")
    ] = False,
    seed: Annotated[int, typer.Option(help="seed of the random weights")] = 0,
) -> None:
    """Exports a training run, or random weights, as a policy bundle."""
    with clear_errors():
        from wpt_training.models.config import ConfigError

        if untrained == (checkpoint is not None):
            raise ConfigError("give either --checkpoint with a training run's folder, or --untrained")
        if checkpoint is not None:
            from wpt_training.export import export_checkpoint

            identity = export_checkpoint(checkpoint, folder, None, by_score, weight_bits).short_identity
        else:
            identity = export_untrained(folder, config, seed)
        console.print(f"{folder}: bundle {identity}")


def export_untrained(folder: Path, config: str, seed: int = 0) -> str:
    """Writes a bundle with random weights, says so in its manifest; returns its short identity."""
    from wpt_training.export import export_bundle, git_revision
    from wpt_training.models.config import load_training_config
    from wpt_training.models.student import Student
    from wpt_training.randomness import seed_everything

    student_config = load_training_config(config).student
    seed_everything(seed)
    training = {
        "config": config,
        "data": "none: random weights",
        "seed": seed,
        "git_revision": git_revision(Path(__file__).parent),
    }
    bundle = export_bundle(Student(student_config), student_config, folder, "student", False, training)
    return bundle.short_identity
