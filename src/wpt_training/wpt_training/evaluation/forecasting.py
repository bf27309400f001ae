"""How well a world model foresees: IoU of movable objects now and later, and flow (Cam4DOcc)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wpt_planner.geometry import Array
from wpt_training.drives.occupancy import CLASSES
from wpt_training.models.world_model import WorldModel
from wpt_training.training.clips import ClipData, Clips, join
from wpt_training.training.encode import encode_clips, remember_clips
from wpt_training.training.world_model import driven_way

_BATCH = 4
_MOVES = 0.5  # m/s
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ForecastingScores:
    """% IoU in voxels: `present`, `future` (mean over frames), `future_weighted` (nearer frames count
    more), of all movable objects, and of each class as (present, future); `unchanged` is the future
    IoU of a forecast that leaves the predicted present as it is. `flow_error` m/s of all that is
    occupied, now and later; `moving` of each class, over the cells that move now: (mean error, mean
    speed) m/s, as `WorldModel.now` has it for whom a trajectory meets."""

    samples: int
    present: float
    future: float
    future_weighted: float
    by_frame: tuple[float, ...]
    by_class: dict[str, tuple[float, float]]
    unchanged: float
    flow_error: float
    moving: dict[str, tuple[float, float]]


@torch.inference_mode()
def score_forecasting(
    world: WorldModel, data: ClipData, every: int = 3, progress: Progress | None = None
) -> ForecastingScores:
    """Over every `every`-th clip, with the expert's way as the action."""
    world.eval()
    frames, kinds = 1 + world.config.future, len(CLASSES)
    both, either = np.zeros((2, frames, kinds)), np.zeros((2, frames, kinds))
    flow_sum, flow_count, samples = 0.0, 0, 0
    moving = np.zeros((len(CLASSES), 3))  # error, speed, cells
    chosen = list(range(0, len(data), every))
    for first in range(0, len(chosen), _BATCH):
        clips = join([data[index] for index in chosen[first : first + _BATCH]])
        target, predicted, flow, now = _forecast(world, clips)
        samples += len(clips)
        still = predicted[:, :1].expand_as(predicted)
        for row, made in enumerate((predicted, still)):
            inside, union = _overlaps(made, target, clips.labels_valid)
            both[row] += inside
            either[row] += union
        occupied = (target != 0).any(2) & clips.labels_valid[..., None, None]
        error = (flow - clips.flow).norm(dim=2)
        flow_sum += float(error[occupied].sum())
        flow_count += int(occupied.sum())
        moving += moving_errors(target[:, 0].amax(1), clips.flow[:, 0], now)
        if progress is not None:
            progress(min(first + _BATCH, len(chosen)), len(chosen))
    return _summary(both, either, samples, flow_sum / max(1, flow_count), moving)


def _forecast(world: WorldModel, clips: Clips) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Target and predicted classes (B, L, Z, X, Y), predicted flow (B, L, 2, X, Y), and that of the present
    alone (B, 2, X, Y)."""
    queue = remember_clips(world, encode_clips(world.perception, clips), clips)
    states = world.states(queue)
    future = world.rollout(states, driven_way(clips.driven, clips.driven_valid))
    view = world.view(torch.cat([states[:, :1], future], dim=1))
    batch = len(clips)
    predicted = view.occupancy.argmax(1).unflatten(0, (batch, -1))
    target = clips.occupancy.permute(0, 1, 4, 2, 3).long()
    return target, predicted, view.flow.unflatten(0, (batch, -1)), world.now(queue).flow


def moving_errors(classes: Tensor, flow: Tensor, predicted: Tensor) -> Array:
    """Of each class's cells that move: sums of error and speed, and their count (classes, 3). classes
    (B, X, Y), flows (B, 2, X, Y)."""
    speed, error = flow.norm(dim=1), (predicted - flow).norm(dim=1)
    found = np.zeros((len(CLASSES), 3))
    for kind in range(1, len(CLASSES)):
        cells = (classes == kind) & (speed > _MOVES)
        found[kind] = float(error[cells].sum()), float(speed[cells].sum()), int(cells.sum())
    return found


def _overlaps(predicted: Tensor, target: Tensor, valid: Tensor) -> tuple[Array, Array]:
    """Voxels in both and in either, (frames, classes); class 0 stands for all movable objects."""
    frames = target.shape[1]
    both, either = np.zeros((frames, len(CLASSES))), np.zeros((frames, len(CLASSES)))
    known = valid[..., None, None, None]
    for kind in range(len(CLASSES)):
        a = (predicted != 0 if kind == 0 else predicted == kind) & known
        b = (target != 0 if kind == 0 else target == kind) & known
        both[:, kind] = (a & b).sum((0, 2, 3, 4)).numpy()
        either[:, kind] = (a | b).sum((0, 2, 3, 4)).numpy()
    return both, either


def _summary(both: Array, either: Array, samples: int, flow_error: float, moving: Array) -> ForecastingScores:
    with np.errstate(invalid="ignore"):
        iou = 100.0 * both / either
    later = iou[0, 1:, 0]
    # Cam4DOcc: the mean of the means over the first 1, 2, … frames.
    weighted = float(np.mean([later[: k + 1].mean() for k in range(len(later))]))
    return ForecastingScores(
        samples=samples,
        present=float(iou[0, 0, 0]),
        future=float(later.mean()),
        future_weighted=weighted,
        by_frame=tuple(float(value) for value in iou[0, :, 0]),
        by_class={
            name: (float(iou[0, 0, kind]), float(np.nanmean(iou[0, 1:, kind])))
            for kind, name in enumerate(CLASSES)
            if kind and either[0, :, kind].sum() > 0
        },
        unchanged=float(iou[1, 1:, 0].mean()),
        flow_error=flow_error,
        moving={
            name: (float(moving[kind, 0] / moving[kind, 2]), float(moving[kind, 1] / moving[kind, 2]))
            for kind, name in enumerate(CLASSES)
            if moving[kind, 2]
        },
    )
