"""`wpt train`: one recipe, or all of them in their order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from wpt_training.commands.console import clear_errors, console, progress_bar
from wpt_training.commands.settings import settings_from


def train(
    recipe: Annotated[str, typer.Argument(help="world, baseline-t, teacher, baseline, student, or all")],
    config: Annotated[str, typer.Option(help="sizes and runs, tiny, small, smoke or a file")] = "tiny",
    data: Annotated[
        str | None,
        typer.Option(help="nuScenes folder, folder of bags, simulated:ROUTES; else the config's"),
    ] = None,
    store: Annotated[Path | None, typer.Option(help="where packed data lies; default: the config's")] = None,
    out: Annotated[Path, typer.Option(help="checkpoints and logs; a run that was killed goes on")] = Path(
        "out/train"
    ),
    seed: Annotated[int | None, typer.Option(help="default: the config's")] = None,
    strategy: Annotated[str, typer.Option(help="auto, ddp or fsdp, under torchrun")] = "auto",
) -> None:
    """Trains. On many processes: torchrun --nproc-per-node 8 -m wpt_training.cli train student …"""
    with clear_errors():
        from wpt_training.training.recipes import RECIPES, Runs, recipe_config, run_recipe

        settings = settings_from(config, store, data, seed=seed)
        names = RECIPES if recipe == "all" else (recipe,)
        for name in names:
            recipe_config(settings, name)
        for name in names:
            state = run_recipe(name, settings, Runs.under(out), strategy, progress_bar)
            if os.environ.get("RANK", "0") != "0":
                continue
            waited = state.waited / max(state.seconds, 1e-9)
            console.print(
                f"{out / name}: {state.step} steps, {state.seconds / 60:.1f} min, "
                f"{waited:.1%} of it waiting for data"
            )
