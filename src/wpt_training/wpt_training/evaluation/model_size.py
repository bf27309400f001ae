"""What a configuration takes: parameters, shapes, one training step and one export on this machine."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from wpt_training.drives.occupancy import CLASSES
from wpt_training.export import export_bundle, golden_inputs
from wpt_training.models.config import TrainingConfig
from wpt_training.models.student import Student
from wpt_training.models.teacher import Teacher
from wpt_training.models.world_model import WorldModel
from wpt_training.training.clips import Clips
from wpt_training.training.loop import mixed_precision, parameter_groups
from wpt_training.training.world_model import WorldModelTask

SHARE_OCCUPIED = 0.02
Say = Callable[[str], None]


@dataclass
class ModelSize:
    """`parameters` by part; `shapes` of what the networks pass on; `loss` and `step_seconds` of one training
    step of the world model, `export_seconds` of the student's bundle, `peak_gib` of memory over both (the
    process's own on a CPU, the device's on a GPU)."""

    parameters: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, list[int]] = field(default_factory=dict)
    loss: float = 0.0
    step_seconds: float = 0.0
    export_seconds: float = 0.0
    peak_gib: float = 0.0


def measure_size(
    config: TrainingConfig, batch: int, clip: int, folder: Path, device: str, say: Say
) -> ModelSize:
    """Builds all networks, trains the world model one step on `batch` clips of `clip` random samples, and
    exports an untrained student to `folder`."""
    size = ModelSize()
    torch.manual_seed(config.seed)
    say("building")
    student, world = Student(config.student), WorldModel(config.student, config.world)
    teacher = Teacher(config.student, config.teacher, world)
    parts: dict[str, nn.Module] = {
        "student": student, "  image backbone": student.perception.image_encoder.backbone,
        "  image neck": nn.ModuleList(
            m for name, m in student.perception.image_encoder.named_children() if name != "backbone"
        ),
        "  BEV encoder": student.perception.bev_encoder, "  planner": student.plan_decoder,
        "world model": world, "  world decoder": world.layers, "  occupancy head": world.head,
        "teacher": teacher,
    }  # fmt: skip
    size.parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    if teacher.reward is not None:
        size.parameters["  reward model"] = sum(p.numel() for p in teacher.reward.parameters())
    del teacher
    world.requires_grad_(True)
    say("one training step")
    _train_step(size, config, world.to(device), random_clips(config, batch, clip).to(torch.device(device)))
    if device == "cuda":
        size.peak_gib = torch.cuda.max_memory_allocated() / 2**30
    del world
    say("exporting")
    started = time.perf_counter()
    export_bundle(student, config.student, folder, "student", False, {})
    size.export_seconds = time.perf_counter() - started
    if device != "cuda":
        size.peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return size


def _train_step(size: ModelSize, config: TrainingConfig, world: WorldModel, clips: Clips) -> None:
    task = WorldModelTask(world, config.losses).train()
    recipe = config.world_recipe
    optimizer = torch.optim.AdamW(parameter_groups(task, recipe), lr=recipe.learning_rate)
    started = time.perf_counter()
    with torch.autocast(clips.images.device.type, torch.bfloat16, enabled=mixed_precision(recipe)):
        loss = task(clips)
    loss.total.backward()
    norm = nn.utils.clip_grad_norm_(task.parameters(), recipe.clip_norm)
    optimizer.step()
    size.loss = float(loss.total.detach())
    if not (torch.isfinite(norm) and torch.isfinite(loss.total)):
        raise ArithmeticError(f"loss {size.loss}, gradient norm {float(norm)}")
    size.step_seconds = time.perf_counter() - started
    grid, labels = config.student.bev, world.label_grid
    size.shapes = {
        "images": list(clips.images.shape), "BEV": [grid.cells_x, grid.cells_y, grid.channels],
        "world state": [*world.tokens, config.world.channels],
        "occupancy": [labels.cells_x, labels.cells_y, config.world.cells_z],
    }  # fmt: skip


def random_clips(config: TrainingConfig, batch: int, clip: int) -> Clips:
    """Clips of the configuration's shapes with nothing to learn in them; same seed, same bytes."""
    generator = torch.Generator().manual_seed(config.seed)
    _, valid, intrinsics, poses, motion, command, _, _ = golden_inputs(config.student)
    cameras, grid = valid.shape[1], config.labels()
    cells = (grid.bev.cells_x, grid.bev.cells_y)
    height, width = config.data.image_height, config.data.image_width
    frames = 1 + config.world.future

    def repeated(values: Tensor) -> Tensor:
        return values[:, None].repeat(batch, clip, *([1] * (values.dim() - 1)))

    def occupancy(count: int) -> Tensor:
        shape = (batch, count, *cells, grid.cells_z)
        kinds = torch.randint(1, len(CLASSES), shape, generator=generator, dtype=torch.uint8)
        return kinds * (torch.rand(shape, generator=generator) < SHARE_OCCUPIED)

    return Clips(
        images=torch.randint(
            256, (batch, clip, cameras, height, width, 3), generator=generator, dtype=torch.uint8
        ),
        camera_valid=repeated(valid), intrinsics=repeated(intrinsics), ego_from_camera=repeated(poses),
        ego_motion=repeated(motion), bev_valid=torch.ones(batch, clip), command=repeated(command),
        future=torch.linspace(1, 15, 6)[:, None].repeat(batch, clip, 1, 2),
        future_valid=torch.ones(batch, clip, 6, dtype=torch.bool),
        driven=torch.linspace(1, 15, 6)[:, None].repeat(batch, 1, 2),
        driven_valid=torch.ones(batch, 6, dtype=torch.bool), speed=torch.full((batch, clip), 5.0),
        past_occupancy=occupancy(clip - 1),
        past_drivable=torch.ones(batch, clip - 1, *cells, dtype=torch.bool),
        occupancy=occupancy(frames), flow=torch.zeros(batch, frames, 2, *cells),
        drivable=torch.ones(batch, *cells, dtype=torch.bool),
        labels_valid=torch.ones(batch, frames, dtype=torch.bool), number=torch.zeros(batch, dtype=torch.long),
        as_driven=torch.ones(batch, dtype=torch.bool),
    )  # fmt: skip
