"""Where a run stands, on disk: tensors as safetensors, the rest as JSON beside them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wpt_training.models.config import ConfigError, TrainingConfig

CHECKPOINT = "checkpoint"
SCHEMA = 1


@dataclass(frozen=True)
class RunState:
    """What stands beside the tensors: `step` done of `steps`, and what made them. `seconds` of training,
    `waited` of them for data; `finished` when no step is left."""

    recipe: str
    step: int
    steps: int
    config: dict[str, object]
    git_revision: str
    data: str
    seconds: float = 0.0
    waited: float = 0.0
    finished: bool = False
    schema: int = SCHEMA

    def training_config(self) -> TrainingConfig:
        """What the run depended on; the rest as it comes. Raises ConfigError if another version trained it:
        one that had other keys."""
        try:
            return TrainingConfig.model_validate({k: v for k, v in self.config.items() if k != "data"})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigError(
                f"the checkpoint was trained by another version: {where}: {first['msg']}: train again"
            ) from None


def config_identity(config: dict[str, object], data: str) -> str:
    """A hash of all that made a run."""
    text = json.dumps([config, data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def weights_digest(module: torch.nn.Module) -> str:
    """A hash of all weights and statistics: what is made with them is filed under it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def save_checkpoint(folder: Path, tensors: dict[str, Tensor], state: RunState) -> None:
    """Replaces the folder's checkpoint, whole or not at all. Raises ConfigError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f"{CHECKPOINT}.partial"
        unique = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        # One file, so that tensors and step never disagree; the JSON is the same, for people.
        save_file(unique, partial, metadata={"state": json.dumps(asdict(state))})
        partial.replace(folder / f"{CHECKPOINT}.safetensors")
        (folder / f"{CHECKPOINT}.json").write_text(json.dumps(asdict(state), indent=1) + "\n")
    except OSError as error:
        raise ConfigError(
            f"{folder}: {error.strerror or error}: free some space or choose another folder"
        ) from None


def has_checkpoint(folder: Path) -> bool:
    return (folder / f"{CHECKPOINT}.safetensors").is_file()


def read_state(folder: Path) -> RunState:
    """Raises ConfigError if there is no usable checkpoint."""
    from safetensors import SafetensorError, safe_open

    path = folder / f"{CHECKPOINT}.safetensors"
    if not path.is_file():
        raise ConfigError(f"{path}: missing: train it first, `wpt train --help`")
    try:
        with safe_open(path, "pt") as stored:
            content = json.loads(stored.metadata()["state"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise ConfigError(f"{path}: damaged ({error}): remove it and train again") from None
    if content.get("schema", 0) > SCHEMA:
        raise ConfigError(f"{path}: written by a newer version; update this one")
    return RunState(**content)


def load_tensors(folder: Path) -> dict[str, Tensor]:
    """Everything a checkpoint holds."""
    return load_file(folder / f"{CHECKPOINT}.safetensors")


def load_weights(module: torch.nn.Module, folder: Path) -> RunState:
    """The averaged weights of a checkpoint into `module`. Raises ConfigError if they are of another
    configuration."""
    state = read_state(folder)
    tensors = load_tensors(folder)
    weights = {name.removeprefix("ema."): value for name, value in tensors.items() if name.startswith("ema.")}
    own = module.state_dict()
    missing = sorted(set(own) - set(weights))
    wrong = [name for name, value in weights.items() if name in own and own[name].shape != value.shape]
    if missing or wrong or set(weights) - set(own):
        name = (missing + wrong + sorted(set(weights) - set(own)))[0]
        raise ConfigError(
            f"{folder}: trained with another configuration: {name} differs; give the one it was trained "
            f"with (recipe {state.recipe})"
        )
    module.load_state_dict(weights)
    return state
