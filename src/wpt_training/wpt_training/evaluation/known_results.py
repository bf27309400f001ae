"""Figures that an earlier reproduce.json holds: what made them is known, so they need not be made again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wpt_training.evaluation.experiments import EXPERIMENTS
from wpt_training.models.config import ConfigError, TrainingConfig
from wpt_training.training.checkpoint import config_identity
from wpt_training.training.recipes import described

# The others measure the machine: minutes and milliseconds of two cannot be compared.
ELSEWHERE = (1, 2, 3, 4, 5, 6, 7)


class KnownResults:
    """The rows of a reproduce.json. Raises ConfigError if it is none."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._tables: dict[str, Any] = {}
        if path is None:
            return
        try:
            self._tables = json.loads(path.read_text())["tables"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: no reproduce.json ({error}): give one of `wpt reproduce`") from None

    def of(
        self, number: int, name: str, config: TrainingConfig, seeds: Sequence[int], measured_on: str
    ) -> list[dict[str, Any]] | None:
        """A row's results, one a seed, if they are of exactly these configurations, seeds and drives or
        routes; None if one is missing."""
        table = self._tables.get(str(number), {})
        if number not in ELSEWHERE or table.get("made_by", {}).get("measured_on") != measured_on:
            return None
        wanted = [_identity(name, config, seed) for seed in seeds]
        found: dict[str, dict[str, Any]] = {
            each["made_by"]["config"]: each
            for row in table["rows"]
            for each in row["made_by"]
            if row["name"] == name and "made_by" in each
        }
        return [found[one] for one in wanted] if all(one in found for one in wanted) else None


def _identity(name: str, config: TrainingConfig, seed: int) -> str:
    """As a run has it in what it is traced to."""
    experiment = EXPERIMENTS[name]
    changed = experiment.change(config).model_copy(update={"seed": seed})
    return config_identity(described(changed, experiment.recipe), config.data.train)
