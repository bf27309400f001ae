"""The one training loop, on Lightning Fabric: from one core to many machines under torchrun."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from tensorboardX import SummaryWriter
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from wpt_training.models.config import RecipeConfig, TrainingError
from wpt_training.training.checkpoint import (
    RunState,
    has_checkpoint,
    load_tensors,
    read_state,
    save_checkpoint,
)
from wpt_training.training.clips import Clips

Progress = Callable[[int, int], None]
LOG_FILE = "log.jsonl"
LOG_EVERY = 10  # steps


class StepLoss(NamedTuple):
    """`total` is what is minimised; `parts` are shown beside it."""

    total: Tensor
    parts: dict[str, Tensor]


class Task(nn.Module):
    """What a recipe trains: `forward` gives the loss of a batch, `trained` is what is kept of it."""

    trained: nn.Module

    def forward(self, clips: Clips) -> StepLoss:
        raise NotImplementedError


def make_fabric(strategy: str = "auto") -> Fabric:
    """Processes and nodes as torchrun made them, one without it; `strategy`: auto, ddp or fsdp."""
    processes = int(os.environ.get("WORLD_SIZE", 1))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if strategy == "auto" and processes > 1:
        strategy = "ddp"
    fabric = Fabric(
        accelerator="auto", devices=here, num_nodes=processes // here, strategy=strategy
    )  # fmt: skip
    fabric.launch()
    return fabric


def mixed_precision(config: RecipeConfig) -> bool:
    """Whether to calculate in bfloat16 where that is safe; `auto`: on GPUs, and on processors that have
    instructions for it. Not Fabric's: it would round the inputs as well, calibration and ego motion."""
    if config.precision == "auto":
        return torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()
    return config.precision == "bf16-mixed"


def train(
    task: Task,
    batches: Callable[[int], Iterable[Clips]],
    config: RecipeConfig,
    folder: Path,
    state: RunState,
    fabric: Fabric,
    progress: Progress | None = None,
) -> RunState:
    """Trains from the folder's checkpoint, or from the start, to `state.steps`.

    `batches(step)` gives the batches from a step on. Raises TrainingError on a loss that is not
    finite (with the batch saved) and when memory runs out, ConfigError if the folder cannot be
    written.
    """
    run = _Run(task, config, folder, state, fabric)
    run.resume()
    if progress is not None:
        progress(run.state.step, state.steps)
    started = waiting_since = time.perf_counter()
    waited, saved = 0.0, started
    before = run.state
    for clips in batches(run.state.step) if run.state.step < state.steps else ():
        waited += time.perf_counter() - waiting_since
        run.step(clips)
        now = time.perf_counter()
        run.state = replace(run.state, seconds=before.seconds + now - started, waited=before.waited + waited)
        # All processes save together, and their clocks differ.
        if fabric.broadcast(now - saved > config.checkpoint_seconds):
            run.save()
            saved = time.perf_counter()
        if progress is not None:
            progress(run.state.step, state.steps)
        waiting_since = time.perf_counter()
    if not run.state.finished:
        run.state = replace(run.state, finished=True)
        run.save()
    return run.state


class _Run:
    def __init__(
        self, task: Task, config: RecipeConfig, folder: Path, state: RunState, fabric: Fabric
    ) -> None:
        self.config, self.folder, self.state, self.fabric = config, folder, state, fabric
        self.mixed = mixed_precision(config)
        groups = parameter_groups(task, config)
        if "FSDP" in type(fabric.strategy).__name__:
            # FSDP makes parameters anew; the backbone's own learning rate goes with the old ones.
            self.task = fabric.setup_module(task)
            groups = [{"params": [p for p in self.task.parameters() if p.requires_grad]}]
            optimizer: Any = fabric.setup_optimizers(_adamw(groups, config))
        else:
            self.task, optimizer = fabric.setup(task, _adamw(groups, config))
        self.optimizer: Any = optimizer
        self.parameters: list[Tensor] = [p for p in self.task.parameters() if p.requires_grad]
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self._adamw(),
            lambda step: learning_rate_factor(step, state.steps, config.warm_up),
        )
        self.writer: SummaryWriter | None = None
        self._sums: dict[str, float] = {}
        self._parts = 0

    def step(self, clips: Clips) -> None:
        """One optimiser step, in `accumulate` parts."""
        self.task.train()
        try:
            for part in _parts(clips, self.config.accumulate):
                with torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=self.mixed):
                    loss: StepLoss = self.task(part)
                if not bool(torch.isfinite(loss.total)):
                    self._refuse(clips, loss)
                self.fabric.backward(loss.total / self.config.accumulate)
                self._note(loss)
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            raise TrainingError(
                f"recipe {self.state.recipe}: out of memory at step {self.state.step} "
                f"({str(error).splitlines()[0]}): take a smaller batch or a larger `accumulate`"
            ) from None
        norm = self.fabric.clip_gradients(
            self.task, self.optimizer, max_norm=self.config.clip_norm, error_if_nonfinite=False
        )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.schedule.step()
        with torch.no_grad():
            # Young averages forget faster.
            decay = min(self.config.ema, (1 + self.state.step) / (10 + self.state.step))
            torch._foreach_lerp_(self.average, self.parameters, 1 - decay)
        self.state = replace(self.state, step=self.state.step + 1)
        if self.state.step % LOG_EVERY == 0 or self.state.step == self.state.steps:
            self._log(norm)

    def save(self) -> None:
        """Called by all processes: FSDP gathers."""
        options = StateDictOptions(full_state_dict=True)
        tensors = {f"model.{k}": v for k, v in self._weights(options).items()}
        tensors |= {f"beside.{k}": v for k, v in self._beside(options).items()}
        with torch.no_grad():
            kept = [parameter.detach().clone() for parameter in self.parameters]
            torch._foreach_copy_(self.parameters, self.average)
            tensors |= {f"ema.{k}": v.clone() for k, v in self._weights(options).items()}
            torch._foreach_copy_(self.parameters, kept)
        optimizer = get_optimizer_state_dict(self._module(), self._adamw(), options=options)
        moments: dict[str, Any] = optimizer["state"]  # type: ignore[assignment]
        for name, of_parameter in moments.items():
            for key, value in of_parameter.items():
                tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
        if self.fabric.global_rank == 0:
            save_checkpoint(self.folder, tensors, self.state)
        self.fabric.barrier()

    def resume(self) -> None:
        if not has_checkpoint(self.folder):
            return
        found = read_state(self.folder)
        for key in ("recipe", "steps", "config", "data"):
            if getattr(found, key) != getattr(self.state, key):
                raise TrainingError(
                    f"{self.folder}: holds a run with another {key}: choose another folder, or remove it"
                )
        tensors = load_tensors(self.folder)
        self._load({k[4:]: v for k, v in tensors.items() if k.startswith("ema.")})
        with torch.no_grad():
            torch._foreach_copy_(self.average, self.parameters)
        self._load({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        self._load({k[7:]: v for k, v in tensors.items() if k.startswith("beside.")}, prefix="")
        options = StateDictOptions(full_state_dict=True)
        stored = get_optimizer_state_dict(self._module(), self._adamw(), options=options)
        moments: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, key, parameter = name.split(".", 2)
                moments.setdefault(parameter, {})[key] = value
        stored["state"] = moments  # type: ignore[assignment]
        set_optimizer_state_dict(self._module(), self._adamw(), stored, options=options)
        self.state = found
        for _ in range(found.step):
            self.schedule.step()

    def _module(self) -> nn.Module:
        return self.task.module if hasattr(self.task, "module") else self.task

    def _adamw(self) -> torch.optim.Optimizer:
        """What Fabric wrapped."""
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def _weights(self, options: StateDictOptions) -> dict[str, Tensor]:
        """Of `trained` alone, without what is frozen elsewhere."""
        whole: dict[str, Any] = get_model_state_dict(self._module(), options=options)
        prefix = "trained."
        return {k.removeprefix(prefix): v for k, v in whole.items() if k.startswith(prefix)}

    def _beside(self, options: StateDictOptions) -> dict[str, Tensor]:
        """What else learns: a teacher beside its student, kept for going on."""
        whole: dict[str, Any] = get_model_state_dict(self._module(), options=options)
        learning = {name for name, value in self._module().named_parameters() if value.requires_grad}
        return {k: v for k, v in whole.items() if k in learning and not k.startswith("trained.")}

    def _load(self, weights: dict[str, Tensor], prefix: str = "trained.") -> None:
        named: dict[str, Any] = {f"{prefix}{k}": v for k, v in weights.items()}
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(self._module(), named, options=options)

    def _note(self, loss: StepLoss) -> None:
        self._parts += 1
        for name, value in {"loss": loss.total, **loss.parts}.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())

    def _log(self, norm: Tensor | None) -> None:
        if self.fabric.global_rank == 0:
            values = {name: value / self._parts for name, value in self._sums.items()}
            values["learning_rate"] = float(self.schedule.get_last_lr()[0])
            if norm is not None:
                values["gradient_norm"] = float(norm)
            if self.writer is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self.writer = SummaryWriter(str(self.folder))
            for name, value in values.items():
                self.writer.add_scalar(name, value, self.state.step)
            line = {"step": self.state.step, **{k: round(v, 6) for k, v in values.items()}}
            with (self.folder / LOG_FILE).open("a") as stream:
                stream.write(json.dumps(line) + "\n")
        self._sums, self._parts = {}, 0

    def _refuse(self, clips: Clips, loss: StepLoss) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"bad_batch_{self.state.step}.pt"
        torch.save(vars(clips), path)
        parts = ", ".join(f"{k} {float(v.detach()):.3g}" for k, v in loss.parts.items())
        raise TrainingError(
            f"recipe {self.state.recipe}: the loss at step {self.state.step} is {loss.total.item()} "
            f"({parts}); the batch is {path}; the last checkpoint is kept"
        )


def _parts(clips: Clips, count: int) -> list[Clips]:
    if count == 1:
        return [clips]
    split = {name: value.chunk(count) for name, value in vars(clips).items()}
    return [Clips(**{name: values[i] for name, values in split.items()}) for i in range(len(split["images"]))]


def _adamw(groups: list[dict[str, object]], config: RecipeConfig) -> torch.optim.AdamW:
    return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)


def parameter_groups(task: nn.Module, config: RecipeConfig) -> list[dict[str, object]]:
    """The backbone learns `backbone_factor` times as fast as the rest."""
    backbone: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in task.named_parameters():
        if parameter.requires_grad:
            (backbone if ".backbone." in name else rest).append(parameter)
    groups: list[dict[str, object]] = [{"params": rest}]
    if backbone:
        groups.append({"params": backbone, "lr": config.learning_rate * config.backbone_factor})
    return groups


def learning_rate_factor(step: int, steps: int, warm_up: int) -> float:
    """Linear warm-up, then a cosine down to a hundredth."""
    warm_up = min(warm_up, max(1, steps // 5))
    if step < warm_up:
        return (step + 1) / warm_up
    share = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))
