"""What a command trains or measures with: a configuration, and what its command line says instead."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch and pydantic take seconds that `--help` should not
    from wpt_training.models.config import TrainingConfig


def settings_from(
    config: str,
    store: Path | None = None,
    train: str | None = None,
    validation: str | None = None,
    seed: int | None = None,
) -> TrainingConfig:
    """Reads a configuration by its name or path; this process calculates on its threads from here on.
    Raises ConfigError."""
    import torch

    from wpt_training.models.config import load_training_config

    settings = load_training_config(config)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    said = {"train": train, "validation": validation, "store": None if store is None else str(store)}
    data = settings.data.model_copy(update={key: value for key, value in said.items() if value is not None})
    return settings.model_copy(update={"data": data, "seed": settings.seed if seed is None else seed})
