"""Recipe: the world model, pretrained on what the expert's actions led to."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from wpt_training.losses import (
    drivable_loss,
    flow_loss,
    lovasz_loss,
    occupancy_loss,
    present_loss,
    scaling_loss,
)
from wpt_training.models.config import LossConfig
from wpt_training.models.occupancy_head import WorldView
from wpt_training.models.world_model import WorldModel
from wpt_training.training.clips import Clips
from wpt_training.training.encode import encode_clips, remember_clips
from wpt_training.training.imitation import imitation_loss, planned
from wpt_training.training.loop import StepLoss, Task

STRIDE = 17  # every so many cells enter the losses that sort or sum over all of them


class WorldModelTask(Task):
    """Occupancy, flow and drivable area, now and in the predicted future; and occupancy and drivable
    area at the clip's earlier samples, so that every image that is looked at teaches to see."""

    trained: WorldModel

    def __init__(self, world: WorldModel, losses: LossConfig) -> None:
        super().__init__()
        self.trained, self.losses = world, losses

    def forward(self, clips: Clips) -> StepLoss:
        world, weights = self.trained, self.losses
        bevs = encode_clips(world.perception, clips)
        queue = remember_clips(world, bevs, clips)
        states = world.states(queue)
        future = world.rollout(states, driven_way(clips.driven, clips.driven_valid))
        past = [world.state(bev) for bev in bevs[:-1]]
        states = torch.cat([torch.stack([*past, states[:, 0]], dim=1), future], dim=1)
        before, looked_at = len(past), self._looked_at(clips)
        rows = [*range(before), *(before + frame for frame in looked_at)]
        view = world.view(states[:, rows])
        view = WorldView(*(values.float() for values in view))
        valid = F.pad(clips.labels_valid[:, looked_at], (before, 0), value=True).flatten()
        occupancy = torch.cat([clips.past_occupancy, clips.occupancy[:, looked_at]], dim=1)
        target = occupancy.flatten(0, 1).permute(0, 3, 1, 2).long()  # (B·L', Z, X, Y)
        parts = {"occupancy": weights.occupancy * occupancy_loss(
            view.occupancy, target, valid, weights.occupied_weight
        )}  # fmt: skip
        # (cells, classes) of every STRIDE-th cell.
        some = view.occupancy[valid].flatten(2)[..., ::STRIDE].transpose(1, 2).flatten(0, 1).softmax(1)
        some_target = target[valid].flatten(1)[:, ::STRIDE].flatten()
        if weights.scaling:
            parts["scaling"] = weights.scaling * scaling_loss(some, some_target)
        if weights.lovasz:
            parts["lovasz"] = weights.lovasz * lovasz_loss(some, some_target)
        # Flow is labelled at the last sample and after it.
        flow = view.flow.unflatten(0, (len(clips), -1))[:, before:].flatten(0, 1)
        moving = (clips.occupancy[:, looked_at] != 0).any(-1) & clips.labels_valid[:, looked_at, None, None]
        parts["flow"] = weights.flow * flow_loss(
            flow, clips.flow[:, looked_at].flatten(0, 1), moving.flatten(0, 1)
        )
        now = clips.drivable[:, None].expand(-1, len(looked_at), -1, -1)
        drivable = torch.cat([clips.past_drivable, now], dim=1).flatten(0, 1)
        parts["drivable"] = weights.drivable * drivable_loss(view.drivable, drivable)
        if world.present is not None:
            classes = clips.occupancy[:, 0].amax(-1).long()
            seen = world.present(queue)
            parts["present"] = weights.present * present_loss(
                seen.classes.float(), seen.flow.float(), classes, clips.flow[:, 0], weights.flow
            )
        if world.pretext is not None:
            plans = planned(world.pretext, bevs, clips)
            parts["pretext"] = weights.pretext * imitation_loss(plans, clips, weights)
        return StepLoss(torch.stack(list(parts.values())).sum(), parts)

    def _looked_at(self, clips: Clips) -> list[int]:
        """The present and some of the future frames, other ones for other clips: to look at all of them
        every time costs more than the whole network."""
        future = clips.labels_valid.shape[1] - 1
        count = min(self.losses.future_frames or future, future)
        first = int(clips.number.sum()) % future
        return [0, *sorted(1 + (first + future * k // count) % future for k in range(count))]


def driven_way(future: Tensor, valid: Tensor) -> Tensor:
    """Where the ego went (B, 6, 2) as an action; after the recording's end (`valid` (B, 6)) it stands."""
    way = [torch.where(valid[:, :1], future[:, 0], torch.zeros_like(future[:, 0]))]
    for step in range(1, future.shape[1]):
        way.append(torch.where(valid[:, step : step + 1], future[:, step], way[-1]))
    return torch.stack(way, dim=1)
