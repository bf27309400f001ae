"""What makes a planner a driver: it plans as the expert drove, on every sample of a clip."""

from __future__ import annotations

import torch
from torch import Tensor

from wpt_training.losses import plan_loss
from wpt_training.models.config import LossConfig
from wpt_training.models.planner import Planner, PlanOutput
from wpt_training.training.clips import Clips


def planned(planner: Planner, bevs: list[Tensor], clips: Clips) -> list[PlanOutput]:
    """A plan on each of a clip's BEVs (B, X·Y, C)."""
    return [
        planner.plan_on(bev, clips.ego_motion[:, t], clips.command[:, t], clips.bev_valid[:, t])
        for t, bev in enumerate(bevs)
    ]


def imitation_loss(outputs: list[PlanOutput], clips: Clips, losses: LossConfig) -> Tensor:
    """The plans' distance to what the expert did, and their drafts' by the share that `losses` gives them."""
    plans = torch.stack([output.trajectory for output in outputs], dim=1)
    loss = plan_loss(plans, clips.future, clips.future_valid)
    drafts = torch.stack([output.drafts for output in outputs], dim=1)  # (B, T, R, 6, 2)
    if count := drafts.shape[2]:
        driven = clips.future[:, :, None].expand_as(drafts)
        known = clips.future_valid[:, :, None].expand(-1, -1, count, -1)
        loss = loss + losses.draft * count * plan_loss(drafts, driven, known)
    return loss
