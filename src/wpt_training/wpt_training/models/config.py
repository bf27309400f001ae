"""Sizes of the networks, read from config/training/*.yaml; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wpt_planner.parameters import NUSCENES_CAMERAS
from wpt_planner.policy_bundle import BevGrid


class ConfigError(ValueError):
    """A configuration file that cannot be used: file, key and what is wrong."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BackboneConfig(_Strict):
    """A Hugging Face backbone: `name` from the hub, or `resnet` sizes for one made here."""

    name: str = Field("", description="hub name, e.g. microsoft/resnet-50; empty: made from sizes")
    embedding_size: int = 24
    hidden_sizes: list[int] = [24, 48, 64]
    depths: list[int] = [1, 1, 1]
    layer_type: str = "basic"


class BevEncoderConfig(_Strict):
    """Eq. 1's encoder: `layers` of temporal self- and spatial cross-attention."""

    layers: int = 1
    heads: int = 4
    points: int = Field(1, description="sampled points per pillar point, level and head")
    views: int = Field(2, description="cameras each cell looks into: those that see it best")
    temporal_points: int = 2
    heights: list[float] = Field([0.0, 1.0, 2.0], description="m, pillar points above the ground")
    feed_forward: int = 128


class PlannerConfig(_Strict):
    """Eq. 2-3's decoder: `queries` plan queries cross-attend to the BEV."""

    layers: int = 2
    heads: int = 4
    queries: int = 1
    feed_forward: int = 128


class StudentConfig(_Strict):
    """Everything a Student is built from."""

    cameras: list[str] = NUSCENES_CAMERAS
    commands: list[str] = ["turn_left", "turn_right", "keep_forward"]
    image_height: int = 96
    image_width: int = 160
    history: int = 3
    interval: float = Field(0.5, description="s between frames in training")
    backbone: BackboneConfig = BackboneConfig()
    bev: BevGrid = BevGrid(cells_x=32, cells_y=32, channels=64, resolution=2.0, x_min=-16.0, y_min=-32.0)
    encoder: BevEncoderConfig = BevEncoderConfig()
    planner: PlannerConfig = PlannerConfig()


class TrainingConfig(_Strict):
    """One file of config/training."""

    student: StudentConfig = StudentConfig()


def load_training_config(path: Path) -> TrainingConfig:
    """Raises ConfigError naming the file and the key."""
    try:
        content = yaml.safe_load(path.read_text()) or {}
        return TrainingConfig.model_validate(content)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; config/training holds the sizes") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}".replace("\n", " ")) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}") from None
