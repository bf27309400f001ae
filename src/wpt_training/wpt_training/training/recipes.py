"""The recipes by name, and what each needs of the others:

world ──> teacher ──> student
      └─> baseline-t            baseline
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from wpt_training.export import git_revision
from wpt_training.models.config import ConfigError, RecipeConfig, RewardConfig, TrainingConfig
from wpt_training.models.student import Student
from wpt_training.models.teacher import Teacher
from wpt_training.models.world_model import WorldModel
from wpt_training.randomness import seed_everything
from wpt_training.training.batches import batches, steps_of
from wpt_training.training.bev_cache import BevCache, cached_bevs
from wpt_training.training.checkpoint import (
    RunState,
    config_identity,
    has_checkpoint,
    load_weights,
    read_state,
    weights_digest,
)
from wpt_training.training.clips import ClipData, Clips
from wpt_training.training.lessons import taught_lessons
from wpt_training.training.loop import Task, make_fabric, mixed_precision, train
from wpt_training.training.packing import prepare_store
from wpt_training.training.student import Distillation, StudentTask
from wpt_training.training.teacher import TeacherTask, anchors_of, taught_by
from wpt_training.training.world_model import WorldModelTask

# In the order of `all`: first what the student needs, then what it is compared with.
RECIPES = ("world", "teacher", "student", "baseline-t", "baseline")
_SECTIONS = {
    "world": ("student", "world", "losses", "world_recipe"),
    "baseline-t": ("student", "world", "teacher", "losses", "world_recipe", "teacher_recipe"),
    "teacher": ("student", "world", "teacher", "losses", "world_recipe", "teacher_recipe"),
    "baseline": ("student", "world", "losses", "baseline_recipe"),
    "student": (
        "student",
        "world",
        "teacher",
        "distillation",
        "losses",
        "world_recipe",
        "teacher_recipe",
        "student_recipe",
    ),
}
# What a teacher's configuration says of choosing when it drives, not of learning.
_CHOOSING = ("at_inference", "margin")
Progress = Callable[[int, int], None]
Bar = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True)
class Runs:
    """Where things lie: `out/<recipe>` the runs; world model and teacher may come from elsewhere."""

    out: Path
    world: Path
    teacher: Path

    @staticmethod
    def under(out: Path) -> Runs:
        return Runs(out, out / "world", out / "teacher")


def recipe_config(config: TrainingConfig, name: str) -> RecipeConfig:
    """The training run of a recipe; both teachers share one."""
    runs = {
        "world": config.world_recipe, "baseline-t": config.teacher_recipe, "teacher": config.teacher_recipe,
        "baseline": config.baseline_recipe, "student": config.student_recipe,
    }  # fmt: skip
    if name not in runs:
        raise ConfigError(f"recipe {name}: unknown; there are {', '.join(RECIPES)} and all")
    return runs[name]


def without_reward(config: TrainingConfig) -> TrainingConfig:
    """Baseline-T: one candidate, planned on its predicted future, and no reward model."""
    reward = RewardConfig(imitation=False, simulation=[], at_inference=False)
    teacher = config.teacher.model_copy(update={"candidates": 1, "reward": reward})
    return config.model_copy(update={"teacher": teacher})


def training_data(
    config: TrainingConfig,
    bar: Bar | None = None,
    with_images: bool = True,
    split: str = "train",
    with_labels: bool = True,
) -> ClipData:
    """Packs what is missing of `split` (train or validation), and opens it. Raises DriveError."""
    source = config.data.train if split == "train" else config.data.validation
    size = (config.data.image_height, config.data.image_width)
    store, grid = Path(config.data.store), config.labels()
    with _bar(bar, f"packing {source}") as progress:
        names = prepare_store(source, store, grid, size, os.cpu_count() or 1, progress)
    return ClipData(store, names, grid, config.data.clip, with_images, with_labels)


def load_world(config: TrainingConfig, folder: Path) -> WorldModel:
    """A trained world model. Raises ConfigError."""
    world = WorldModel(config.student, config.world)
    load_weights(world, folder)
    return world


def _digest_of_names(data: ClipData) -> str:
    return hashlib.sha256(" ".join(data.names).encode()).hexdigest()[:12]


def load_teacher(config: TrainingConfig, world: WorldModel, folder: Path) -> Teacher:
    """A trained teacher. Raises ConfigError."""
    teacher = Teacher(config.student, config.teacher, world)
    load_weights(teacher, folder)
    return teacher


def run_recipe(
    name: str,
    config: TrainingConfig,
    runs: Runs,
    strategy: str = "auto",
    bar: Bar | None = None,
    folder: Path | None = None,
) -> RunState:
    """Trains one recipe into `folder` (default `out/<name>`), going on where a killed run stopped.

    Raises ConfigError, DriveError, TrainingError.
    """
    recipe = recipe_config(config, name)
    if name == "baseline-t":
        config = without_reward(config)
    folder = folder or runs.out / name
    made_by = described(config, name)
    if has_checkpoint(folder):
        found = read_state(folder)
        if was_made_by(found, config, name):
            if found.finished:
                return found
            made_by = found.config  # it goes on, though it may know fewer keys
    fabric = make_fabric(strategy)
    if recipe.batch % (fabric.world_size * recipe.accumulate):
        raise ConfigError(
            f"{name}: a batch of {recipe.batch} clips cannot be shared by {fabric.world_size} processes "
            f"in {recipe.accumulate} parts"
        )
    if fabric.global_rank == 0:
        training_data(config, bar, split="train")
    fabric.barrier()
    uses_cache = name in ("teacher", "baseline-t") or recipe.perception == "frozen"
    data = training_data(config, None, with_images=not uses_cache, with_labels=name == "world")
    seed_everything(config.seed)
    task = _task(name, config, runs, data, fabric, bar)
    steps = steps_of(data, recipe.epochs, recipe.batch)
    revision = git_revision(Path(__file__).parent)
    state = RunState(name, 0, steps, made_by, revision, config.data.train)

    def stream(first: int) -> Iterator[Clips]:
        for clips in batches(
            data, recipe.batch, config.seed, first, steps, 0.0 if uses_cache else recipe.camera_drop,
            recipe.memory_drop, recipe.slowed, config.data.workers, fabric.global_rank, fabric.world_size,
        ):  # fmt: skip
            yield clips.to(fabric.device)

    with _bar(bar, f"training {name}") as progress:
        return train(task, stream, recipe, folder, state, fabric, progress)


def was_made_by(found: RunState, config: TrainingConfig, name: str) -> bool:
    """Whether a run has this configuration; what could not be configured then counts as its default."""
    try:
        known = described(found.training_config(), name)
    except ConfigError:
        return False
    wanted = described(config, name)
    for each in (known, wanted):
        if name in ("teacher", "baseline-t"):
            for key in _CHOOSING:
                del each["teacher"]["reward"][key]
    return found.data == config.data.train and {**known, "data": found.config["data"]} == wanted


def described(config: TrainingConfig, name: str) -> dict[str, Any]:
    """What a recipe's result depends on, the runs that it begins with included."""
    content = config.model_dump(mode="json")
    kept = {key: content[key] for key in ("seed", *_SECTIONS[name])}
    if name == "baseline" and config.baseline_recipe.perception != "fresh":
        kept["world_recipe"] = content["world_recipe"]
    data = {key: content["data"][key] for key in ("train", "image_height", "image_width", "clip")}
    return {**kept, "data": data}


def _task(
    name: str, config: TrainingConfig, runs: Runs, data: ClipData, fabric: Fabric, bar: Bar | None
) -> Task:
    if name == "world":
        return WorldModelTask(WorldModel(config.student, config.world), config.losses)
    if name == "baseline" and config.baseline_recipe.perception == "fresh":
        return StudentTask(Student(config.student), config.losses)
    world = load_world(config, runs.world)
    if name == "baseline":
        recipe, given = config.baseline_recipe, None
    elif name == "student":
        recipe, given = config.student_recipe, _distillation(config, runs, world, data, fabric, bar)
    else:
        cache = _cache(world, data, fabric, bar)
        seed_everything(config.seed)
        teacher = Teacher(config.student, config.teacher, world)
        planner = world.pretext if config.teacher.begin else None
        teacher.anchors.copy_(anchors_of(data, config.teacher.candidates, config.seed, planner, cache))
        if planner is not None:
            teacher.begin_with(planner)
        return TeacherTask(teacher, cache, config.losses, data)
    seed_everything(config.seed)  # student and baseline start alike
    student = Student(config.student)
    if recipe.perception != "fresh":
        student.perception.load_state_dict(world.perception.state_dict())
    if given is not None and config.distillation.begin:
        given.teacher.begin(student)
    seen = _cache(world, data, fabric, bar) if recipe.perception == "frozen" else None
    return StudentTask(student, config.losses, given, seen)


def _distillation(
    config: TrainingConfig,
    runs: Runs,
    world: WorldModel,
    data: ClipData,
    fabric: Fabric,
    bar: Bar | None,
) -> Distillation:
    teacher = load_teacher(config, world, runs.teacher)
    cache = _cache(world, data, fabric, bar)
    lessons = None
    if config.distillation.asks and config.distillation.teacher == "frozen":
        device = torch.device(fabric.device)
        mixed, share = mixed_precision(config.student_recipe), config.distillation.share
        chooses = config_identity(config.teacher.model_dump(mode="json"), f"{share:g}")
        about = f"{weights_digest(teacher)}-{chooses}-{_digest_of_names(data)}"
        if fabric.global_rank == 0:
            with _bar(bar, "the teacher looks at the data") as progress:
                taught_lessons(teacher, about, cache, data, runs.teacher, device, share, mixed, progress)
        fabric.barrier()
        lessons = taught_lessons(teacher, about, cache, data, runs.teacher, device)
    others = taught_by(config.teacher, data)
    return Distillation(teacher, cache, data, config.distillation, lessons, others)


def _cache(world: WorldModel, data: ClipData, fabric: Fabric, bar: Bar | None) -> BevCache:
    if fabric.global_rank == 0:
        with _bar(bar, "the world model looks at the data") as progress:
            cached_bevs(world.perception, data, torch.device(fabric.device), progress)
    fabric.barrier()
    return cached_bevs(world.perception, data, torch.device(fabric.device))


def _bar(bar: Bar | None, title: str) -> AbstractContextManager[Progress | None]:
    return nullcontext(None) if bar is None else bar(title)
