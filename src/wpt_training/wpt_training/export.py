"""A network to a policy bundle: the folder that `wpt_planner` runs."""

from __future__ import annotations

import copy
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from wpt_planner.plan_guard import PLAN_TIMES
from wpt_planner.policy_bundle import (
    GOLDEN_FILE,
    MANIFEST_FILE,
    POLICY_FILE,
    POLICY_INPUTS,
    SCHEMA_VERSION,
    BevGrid,
    Manifest,
    PolicyBundle,
    file_sha256,
    open_bundle,
)
from wpt_training.models.config import ConfigError, StudentConfig, TrainingConfig
from wpt_training.models.image_encoder import ImageEncoder
from wpt_training.models.student import Student
from wpt_training.models.teacher import Teacher, TeacherPolicy
from wpt_training.models.world_model import WorldModel
from wpt_training.training.checkpoint import RunState, load_weights, read_state

GOLDEN_HEIGHT, GOLDEN_WIDTH = 72, 128  # small, so that a bundle stays small
FLOAT_BITS = 23  # a 32-bit float's, after the first


def export_bundle(
    policy: nn.Module,
    config: StudentConfig,
    folder: Path,
    role: Literal["student", "teacher", "baseline"],
    trained: bool,
    training: dict[str, Any],
    state: BevGrid | None = None,
    weight_bits: int = FLOAT_BITS,
) -> PolicyBundle:
    """Writes the bundle and opens it once, so that what is left on disk is known to be readable.

    `policy` takes `POLICY_INPUTS` with B = 1 and gives (trajectory, next BEV), a teacher its candidates
    (1, M, 6, 2) and their rewards (1, M, 7) as well; `state` is the shape of
    its recurrent BEV, the configuration's if None. With fewer `weight_bits` each weight is rounded to so many
    bits after its first: they stay 32-bit floats, but take less room on disk.
    """
    state = state or config.bev
    folder.mkdir(parents=True, exist_ok=True)
    policy = copy.deepcopy(policy).eval()
    for module in policy.modules():
        if isinstance(module, ImageEncoder):
            module.fuse()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(rounded(parameter, weight_bits))
    inputs = golden_inputs(config, state)
    height = torch.export.Dim("height", min=32, max=4096)
    width = torch.export.Dim("width", min=32, max=8192)
    dynamic: tuple[Any, ...] = ({2: height, 3: width}, *([None] * (len(inputs) - 1)))
    with torch.no_grad():
        program = torch.export.export(_Positional(policy), tuple(inputs), dynamic_shapes=(dynamic,))
        trajectory = program.module()(*inputs)[0]
    _strip(program)
    torch.export.save(program, folder / POLICY_FILE)
    _deflate(folder / POLICY_FILE)
    arrays = {name: value.numpy() for name, value in zip(POLICY_INPUTS, inputs, strict=True)}
    np.savez_compressed(folder / GOLDEN_FILE, trajectory=trajectory.numpy(), **arrays)  # type: ignore[arg-type]
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        role=role,
        cameras=config.cameras,
        commands=config.commands,
        image_height=config.image_height,
        image_width=config.image_width,
        history=config.history,
        interval=config.interval,
        horizon=[float(t) for t in PLAN_TIMES],
        bev=state,
        trained=trained,
        training=training,
        files={name: file_sha256(folder / name) for name in (POLICY_FILE, GOLDEN_FILE)},
    )
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest.model_dump(), indent=2) + "\n")
    return open_bundle(folder)


def export_checkpoint(
    checkpoint: Path,
    folder: Path,
    metrics: dict[str, Any] | None = None,
    by_score: bool = False,
    weight_bits: int = FLOAT_BITS,
) -> PolicyBundle:
    """The averaged weights of a training run (student, baseline, teacher, baseline-t) as a bundle; with
    `by_score` a teacher chooses by its planner's own scores, not by rewards; `weight_bits` as in
    `export_bundle`. Raises ConfigError."""
    state, config, policy = trained_policy(checkpoint, by_score)
    training = {
        "recipe": state.recipe, "config": state.config, "data": state.data, "steps": state.step,
        "finished": state.finished, "seconds": round(state.seconds), "git_revision": state.git_revision,
        "metrics": metrics or {}, "chooses_by_score": by_score, "weight_bits": weight_bits,
    }  # fmt: skip
    if isinstance(policy, Student):
        role: Literal["student", "baseline"] = "student" if state.recipe == "student" else "baseline"
        return export_bundle(policy, config.student, folder, role, True, training, None, weight_bits)
    bev = config.student.bev
    queue = bev.model_copy(update={"channels": bev.channels * config.world.queue})
    teacher = TeacherPolicy(policy)
    return export_bundle(teacher, config.student, folder, "teacher", True, training, queue, weight_bits)


def trained_policy(
    checkpoint: Path, by_score: bool = False
) -> tuple[RunState, TrainingConfig, Student | Teacher]:
    """A run's state, its configuration, and its network with the averaged weights. Raises ConfigError."""
    state = read_state(checkpoint)
    config = state.training_config()
    if state.recipe in ("student", "baseline"):
        student = Student(config.student)
        load_weights(student, checkpoint)
        return state, config, student
    if state.recipe not in ("teacher", "baseline-t"):
        raise ConfigError(f"{checkpoint}: a {state.recipe} model plans nothing: give one that does")
    teacher = Teacher(config.student, config.teacher, WorldModel(config.student, config.world))
    load_weights(teacher, checkpoint)
    teacher.world.pretext = None  # it plans for nobody, and would double a bundle
    if by_score:
        teacher.choose_by_score()
    return state, config, teacher


def golden_inputs(config: StudentConfig, state: BevGrid | None = None, seed: int = 0) -> list[Tensor]:
    """One plausible input of each kind, in the order of POLICY_INPUTS; same seed, same bytes."""
    generator = torch.Generator().manual_seed(seed)
    cameras, grid = len(config.cameras), state or config.bev
    coarse = torch.rand(cameras, 3, 6, 8, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(GOLDEN_HEIGHT, GOLDEN_WIDTH), mode="bilinear")
    images = (smooth * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    focal = GOLDEN_WIDTH * 0.8
    intrinsics = torch.tensor(
        [[focal, 0, GOLDEN_WIDTH / 2], [0, focal, GOLDEN_HEIGHT / 2], [0, 0, 1.0]]
    ).repeat(1, cameras, 1, 1)
    extrinsics = torch.stack([looking_along(2 * np.pi * i / cameras) for i in range(cameras)])
    return [
        images[None],
        torch.ones(1, cameras),
        intrinsics,
        extrinsics[None],
        torch.tensor([[2.5, 0.05, 0.02, config.interval, 4.8, 5.2, 0.04]]),
        torch.tensor([len(config.commands) - 1]),
        # Of few values: it hardly takes room.
        torch.randint(-3, 4, (1, grid.cells_x * grid.cells_y, grid.channels), generator=generator) / 16,
        torch.ones(1),
    ]


def rounded(weights: Tensor, bits: int) -> Tensor:
    """32-bit floats to the nearest with `bits` of 23 bits after the first."""
    cut = FLOAT_BITS - bits
    if cut <= 0:
        return weights.clone()
    raw = weights.contiguous().view(torch.int32)
    return ((raw + (1 << cut - 1)) >> cut << cut).view(torch.float32)


def git_revision(folder: Path) -> str:
    """The checkout's commit, with `-dirty` if files differ from it, or `unknown`."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return result.stdout.strip()


def _strip(program: torch.export.ExportedProgram) -> None:
    """Takes out what running it does not need: example inputs, and where in our source each step comes
    from: a third of a teacher's file."""
    program._example_inputs = None
    for node in program.graph.nodes:
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack"):
            node.meta.pop(key, None)


def _deflate(path: Path) -> None:
    """torch writes its archives uncompressed, and reads them either way."""
    smaller = path.with_suffix(".partial")
    with (
        zipfile.ZipFile(path) as stored,
        zipfile.ZipFile(smaller, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed,
    ):
        for entry in stored.infolist():
            packed.writestr(zipfile.ZipInfo(entry.filename), stored.read(entry), zipfile.ZIP_DEFLATED, 9)
    smaller.replace(path)


class _Positional(nn.Module):
    """torch.export wants a signature; the contract is an order of inputs."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.policy(*inputs)


def looking_along(yaw: float) -> Tensor:
    """ego_from_camera of a camera 1.5 m above the origin whose optical axis points along `yaw`."""
    cosine, sine = float(np.cos(yaw)), float(np.sin(yaw))
    # Columns: the camera's x (right), y (down), z (forward) axes in base_link.
    return torch.tensor([[sine, 0, cosine, 0], [-cosine, 0, sine, 0], [0, -1, 0, 1.5], [0, 0, 0, 1.0]])
