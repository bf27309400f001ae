"""Sizes of the networks, read from config/training/*.yaml; unknown keys are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wpt_planner.parameters import NUSCENES_CAMERAS
from wpt_planner.policy_bundle import BevGrid
from wpt_training.drives.occupancy import OccupancyGrid


class ConfigError(ValueError):
    """A configuration file that cannot be used: file, key and what is wrong."""


class TrainingError(RuntimeError):
    """A run that must not go on: why, and where what it saw lies."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BackboneConfig(_Strict):
    """A Hugging Face backbone: `name` from the hub, or `resnet` sizes for one made here."""

    name: str = Field("", description="hub name, e.g. microsoft/resnet-50; empty: made from sizes")
    embedding_size: int = 24
    hidden_sizes: list[int] = [24, 48, 64]
    depths: list[int] = [1, 1, 1]
    layer_type: str = "basic"
    levels: int = Field(1, ge=1, description="of the FPN, finest first; beyond the stages by strides of two")


class BevEncoderConfig(_Strict):
    """Eq. 1's encoder: `layers` of temporal self- and spatial cross-attention."""

    layers: int = 1
    heads: int = 4
    points: int = Field(1, description="sampled points per pillar point, level and head")
    views: int = Field(2, description="cameras each cell looks into: those that see it best")
    temporal_points: int = 2
    heights: list[float] = Field([0.0, 1.0, 2.0], description="m, pillar points above the ground")
    feed_forward: int = 128
    motion: int = Field(0, ge=0, description="channels that compare cells with before; 0: none")


class PlannerConfig(_Strict):
    """Eq. 2-3's decoder: `queries` plan queries cross-attend to the BEV; not in the paper: they can begin
    with an overview of it, and look along the plans they draft."""

    layers: int = 2
    heads: int = 4
    queries: int = 1
    feed_forward: int = 128
    refinements: int = Field(0, ge=0, description="times that a draft looks around itself and is made anew")
    overview: bool = Field(False, description="queries begin with the whole BEV in one vector")


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
    recompute: bool = Field(False, description="perception's activations, instead of keeping them in memory")


class WorldModelConfig(_Strict):
    """Eq. 4-7. One token of a state is `merge` x `merge` BEV cells; labels have `upsample` x `upsample`
    cells a BEV cell, and `cells_z` of height."""

    queue: int = Field(3, ge=1, description="past BEVs that are remembered, the present one included")
    merge: int = 2
    channels: int = 128
    layers: int = 2
    heads: int = 4
    feed_forward: int = 256
    head_channels: int = 64
    future: int = Field(6, ge=1, le=6, description="states ahead, 0.5 s apart")
    upsample: float = Field(4, gt=0, description="label cells a BEV cell and side; 2.56 makes 512 of 200")
    cells_z: int = 4
    z_min: float = -1.0
    z_max: float = 3.0
    present: int = Field(
        0,
        ge=0,
        description="channels of a head that reads off the remembered BEVs, cell by cell, who is where "
        "now and how he moves, for those who look at the present (teacher.reward.cells); 0: states say it",
    )
    pretext: bool = Field(
        False,
        description="learn to plan beside it, so that BEVs hold lights and signs as well: for those who keep "
        "its perception, and for teachers that begin with this planner (teacher.begin)",
    )


class RewardConfig(_Strict):
    """Eq. 9-14 and 17-23: which rewards there are, what they are computed from, and their weights."""

    imitation: bool = True
    simulation: list[Literal["nc", "dac", "ep", "ttc", "comfort"]] = ["nc", "dac", "ep", "ttc", "comfort"]
    source: Literal["wm", "gt"] = Field("wm", description="occupancy of the world model, or the true one")
    at_inference: bool = Field(True, description="choose by reward; else by the planner's own score")
    weights: tuple[float, float, float, float] = (0.1, 0.5, 0.5, 1.0)
    ttc_extension: float = Field(5.0, description="m, Eq. 21; the paper's number is lost")
    hidden: int = 128
    margin: float = Field(
        0.0,
        ge=0,
        description="final reward by which another candidate must be better than the first, the plan to be "
        "expected, to be chosen: small differences are chance",
    )
    teaches: float = Field(
        0.0,
        ge=0,
        description="loss a metre that a plan is in somebody's box, or nearer than `clearance`: rewards that "
        "teach the teacher's first candidate, and the student where they are distilled",
    )
    clearance: float = Field(0.5, ge=0, description="m")
    cells: int = Field(
        0,
        ge=0,
        description="cells of the present, the likeliest occupied, that are carried on at their own velocity "
        "to see whom a trajectory meets; 0: none, the predicted future alone is looked at",
    )


class TeacherConfig(_Strict):
    """Eq. 8: `candidates` plans, refined by `layers` of attention to their own futures."""

    candidates: int = 6
    layers: int = 1
    ahead: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of a training batch whose futures are imagined; the rest teaches the proposals "
        "alone, at a hundredth of the cost",
    )
    followed: int | None = Field(
        None, ge=2, description="candidates whose futures a training step imagines, some at random; null: all"
    )
    braking: list[float] = Field(
        [],
        description="1/s: the first candidate with its speed falling by such shares each second is weighed "
        "as well where rewards choose",
    )
    begin: bool = Field(
        False, description="with the planner that the world model was pretrained beside (world.pretext)"
    )
    reward: RewardConfig = RewardConfig()

    @property
    def has_reward(self) -> bool:
        return self.reward.imitation or bool(self.reward.simulation)


class DistillationConfig(_Strict):
    """Eq. 15-16: weights of the plan-query and of the reward distillation; 0 leaves a part out."""

    query: float = 1.0
    reward: float = 0.3
    simulation: bool = Field(True, description="simulation rewards count too; else imitation alone")
    begin: bool = Field(
        False,
        description="the student's planner begins as the teacher's is before it looks ahead, of the same "
        "perception (student_recipe.perception: world or frozen)",
    )
    teacher: Literal["frozen", "beside"] = Field("frozen", description="beside: it trains on as well")
    share: float = Field(
        1.0, gt=0, le=1, description="of the samples that the teacher speaks about; the rest is imitation"
    )

    @property
    def asks(self) -> bool:
        """Whether the teacher is asked anything; else the student may begin as it, and that is all."""
        return bool(self.query or self.reward) or self.teacher == "beside"


class DataConfig(_Strict):
    """Where training data comes from: a nuScenes folder, a folder of bags, or simulated:ROUTES."""

    train: str = "simulated:train:264"
    validation: str = "simulated:validation:44"
    store: str = Field("out/store", description="folder for the packed data")
    image_height: int = Field(128, description="rows of the packed images; larger ones are reduced")
    image_width: int = 224
    clip: int = Field(3, ge=1, description="samples of one drive that are trained on together")
    workers: int = 2


class RecipeConfig(_Strict):
    """One training run. An epoch sees every sample once, in clips."""

    epochs: float = 4.0
    batch: int = Field(8, description="clips a step, over all processes and accumulated passes")
    learning_rate: float = 4e-4
    backbone_factor: float = Field(0.5, description="of the learning rate, for the image backbone")
    weight_decay: float = 0.01
    warm_up: int = Field(100, description="steps")
    clip_norm: float = 35.0
    ema: float = Field(0.998, description="decay of the averaged weights; 0: none")
    accumulate: int = 1
    perception: Literal["fresh", "world", "frozen"] = Field(
        "fresh",
        description="what baseline and student see with: learned anew, learned on from the world model's, "
        "or the world model's as it is, which makes a run far cheaper",
    )
    memory_drop: float = Field(
        0.1, description="chance that a clip's last sample has no past, as a drive's first"
    )
    slowed: float = Field(
        0.0, ge=0, le=1, description="chance that a clip counts as if the ego came slower; for planners"
    )
    camera_drop: float = Field(0.1, description="chance that a clip lacks one camera, the front one apart")
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    checkpoint_seconds: float = 120.0


class LossConfig(_Strict):
    """Weights of the losses' parts."""

    occupancy: float = 1.0
    future_frames: int = Field(0, description="future frames a step that occupancy is compared in; 0: all")
    occupied_weight: float = Field(4.0, description="of occupied cells in the cross-entropy")
    scaling: float = Field(0.2, description="semantic and geometric scaling")
    lovasz: float = 0.5
    flow: float = 0.05
    drivable: float = 0.5
    present: float = 1.0
    pretext: float = 1.0
    plan: float = 1.0
    draft: float = Field(0.3, description="share of `plan` that each of a plan's drafts counts")
    score: float = 0.2
    imitation_reward: float = 0.5
    simulation_reward: float = 0.5


def finer(grid: BevGrid, scale: float) -> BevGrid:
    """The same area with `scale` x `scale` cells for each. Raises ConfigError if that is no whole number
    of cells."""
    cells = (round(grid.cells_x * scale), round(grid.cells_y * scale))
    if abs(cells[0] - grid.cells_x * scale) + abs(cells[1] - grid.cells_y * scale) > 1e-6:
        raise ConfigError(
            f"world.upsample {scale:g}: makes no whole cells of {grid.cells_x} x {grid.cells_y}"
        )
    return grid.model_copy(
        update={
            "cells_x": cells[0],
            "cells_y": cells[1],
            "resolution": grid.resolution / scale,
        }
    )


class TrainingConfig(_Strict):
    """One file of config/training."""

    seed: int = 0
    threads: int = Field(
        0,
        ge=0,
        description="torch's on a CPU, 0: one a core. Small networks wait more for each other's threads than "
        "these save, by far where somebody else uses a core",
    )
    data: DataConfig = DataConfig()
    student: StudentConfig = StudentConfig()
    world: WorldModelConfig = WorldModelConfig()
    teacher: TeacherConfig = TeacherConfig()
    distillation: DistillationConfig = DistillationConfig()
    losses: LossConfig = LossConfig()
    world_recipe: RecipeConfig = RecipeConfig()
    teacher_recipe: RecipeConfig = RecipeConfig()
    baseline_recipe: RecipeConfig = RecipeConfig()
    student_recipe: RecipeConfig = RecipeConfig()

    @model_validator(mode="after")
    def _beginning(self) -> TrainingConfig:
        if self.distillation.begin and (
            self.student_recipe.perception == "fresh" or self.student.planner.queries != 1
        ):
            raise ValueError(
                "distillation.begin needs student_recipe.perception world or frozen, and one planner query"
            )
        return self

    @model_validator(mode="after")
    def _pretrained(self) -> TrainingConfig:
        if self.teacher.begin and not self.world.pretext:
            raise ValueError("teacher.begin needs world.pretext: it begins with that planner")
        return self

    @model_validator(mode="after")
    def _as_driven(self) -> TrainingConfig:
        if self.world_recipe.slowed:
            raise ValueError("world_recipe.slowed: the world model learns what was driven; set it to 0")
        return self

    def labels(self) -> OccupancyGrid:
        """The cells that labels are made on."""
        world = self.world
        return OccupancyGrid(
            finer(self.student.bev, world.upsample), world.cells_z, world.z_min, world.z_max, history=0,
            future=world.future,
            interval=self.student.interval,
        )  # fmt: skip


def config_file(name: str) -> Path:
    """`tiny`, `small`, `smoke`: those of config/training; everything else is a path."""
    if "/" in name or name.endswith(".yaml"):
        return Path(name)
    here = Path(__file__).resolve()
    # In a checkout, and where colcon installs to.
    for folder in (here.parents[2] / "config", here.parents[5] / "share/wpt_training/config"):
        if (found := folder / "training" / f"{name}.yaml").is_file():
            return found
    return Path(name)


def load_training_config(name: str | Path) -> TrainingConfig:
    """A size by its name or a file. Raises ConfigError naming the file and the key."""
    path = config_file(str(name))
    try:
        content = yaml.safe_load(path.read_text()) or {}
        return TrainingConfig.model_validate(content)
    except OSError:
        raise ConfigError(
            f"{path}: no such file; config/training holds tiny, small, paper and smoke"
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}".replace("\n", " ")) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}") from None
