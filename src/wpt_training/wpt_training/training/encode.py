"""A clip's images to its BEVs, sample after sample, as the vehicle would make them."""

from __future__ import annotations

from operator import itemgetter

import torch
from torch import Tensor

from wpt_training.models.perception import Perception
from wpt_training.models.world_model import WorldModel
from wpt_training.training.clips import Clips


def encode_clips(perception: Perception, clips: Clips) -> list[Tensor]:
    """T BEVs (B, X·Y, C). Gradients reach each sample's images, not the BEV it started from."""
    batch, length = clips.images.shape[:2]
    seen = perception.look(clips.images.flatten(0, 1), clips.intrinsics.flatten(0, 1))
    seen = seen.each(lambda values: values.unflatten(0, (batch, length)))
    bev = perception.initial_bev(batch)
    bevs = []
    for t in range(length):
        bev = perception.step(
            seen.each(itemgetter((slice(None), t))), clips.camera_valid[:, t],
            clips.ego_from_camera[:, t], clips.ego_motion[:, t], bev.detach(), clips.bev_valid[:, t],
        )  # fmt: skip
        bevs.append(bev)
    return bevs


def remember_clips(world: WorldModel, bevs: list[Tensor], clips: Clips) -> Tensor:
    """The memory queue (B, X·Y, queue·C) after the last of a clip's BEVs."""
    queue = torch.zeros_like(bevs[0]).repeat(1, 1, world.config.queue)
    for t, bev in enumerate(bevs):
        # Of what was before the clip nothing is remembered.
        remembered = clips.bev_valid[:, t] if t else torch.zeros_like(clips.bev_valid[:, t])
        queue = world.remember(bev, queue, clips.ego_motion[:, t], remembered)
    return queue
