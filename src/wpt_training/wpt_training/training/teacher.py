"""Recipe: the teacher on a frozen world model, with or without its reward model (Baseline-T)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from wpt_training.losses import (
    imitation_reward_loss,
    nearest_plan_loss,
    plan_loss,
    simulation_reward_loss,
)
from wpt_training.models.config import LossConfig
from wpt_training.models.planner import ego_status, straight_on
from wpt_training.models.reward_model import SIMULATION_REWARDS
from wpt_training.models.teacher import Teacher, TeacherOutput
from wpt_training.rewards import imitation_target, simulation_rewards
from wpt_training.training.bev_cache import BevCache
from wpt_training.training.clips import ClipData, Clips
from wpt_training.training.encode import remember_clips
from wpt_training.training.loop import StepLoss, Task

DECOYS = 1  # trajectories that nobody proposed, so that the reward model knows bad ones too


class TeacherTask(Task):
    """Imitation by the nearest candidate; rewards against what the (predicted) future does to each."""

    trained: Teacher

    def __init__(self, teacher: Teacher, cache: BevCache, losses: LossConfig) -> None:
        super().__init__()
        self.trained, self.losses = teacher, losses
        self.cache = cache

    def forward(self, clips: Clips) -> StepLoss:
        count = max(1, round(len(clips) * self.trained.config.ahead))
        ahead, rest = clips.rows(slice(count)), clips.rows(slice(count, None))
        output, queue = teacher_plans(self.trained, self.cache, ahead)
        loss = teacher_loss(self.trained, output, queue, ahead, self.losses)
        if not len(rest):
            return loss
        proposals = self._proposal_loss(rest)
        return StepLoss(loss.total + proposals, {**loss.parts, "proposals": proposals})

    def _proposal_loss(self, clips: Clips) -> Tensor:
        """The proposals' and their ranks' part, without looking ahead."""
        bev = self.cache.clip(clips.number, 1, clips.future.device)[0]
        motion = ego_status(clips.ego_motion[:, -1], clips.bev_valid[:, -1])
        _, ways, ranks = self.trained.proposals(bev, clips.command[:, -1], motion)
        expert, valid = clips.future[:, -1], clips.future_valid[:, -1]
        plan, score = candidate_losses(ways, ranks, expert, valid, self.losses)
        return plan + score


def teacher_plans(teacher: Teacher, cache: BevCache, clips: Clips) -> tuple[TeacherOutput, Tensor]:
    """The teacher on a clip's last sample, and the memory queue it planned on."""
    queue = remembered(teacher, cache, clips)
    output = teacher.plan(queue, clips.ego_motion[:, -1], clips.command[:, -1], clips.bev_valid[:, -1])
    return output, queue


@torch.no_grad()
def remembered(teacher: Teacher, cache: BevCache, clips: Clips) -> Tensor:
    """The memory queue (B, X·Y, queue·C) at the clips' last samples."""
    bevs = cache.clip(clips.number, clips.length, clips.future.device)
    return remember_clips(teacher.world, bevs, clips)


def teacher_loss(
    teacher: Teacher, output: TeacherOutput, queue: Tensor, clips: Clips, weights: LossConfig
) -> StepLoss:
    """All of the teacher's losses on the last samples of `clips`."""
    expert, valid = clips.future[:, -1], clips.future_valid[:, -1]
    proposed, _ = nearest_plan_loss(output.proposals, expert, valid)
    plan, score = candidate_losses(output.trajectories, output.scores, expert, valid, weights)
    parts = {"plan": weights.plan * proposed + plan, "score": score}
    if teacher.reward is not None:
        parts |= _reward_losses(teacher, output, queue, clips, weights)
    parts["distance"] = plan_loss(chosen(output), expert, valid).detach()
    total = torch.stack([value for name, value in parts.items() if name != "distance"]).sum()
    return StepLoss(total, parts)


def candidate_losses(
    ways: Tensor, scores: Tensor, expert: Tensor, valid: Tensor, weights: LossConfig
) -> tuple[Tensor, Tensor]:
    """Of ways (B, M, 6, 2) and their scores (B, M): the nearest to the expert comes nearer, and so does the
    one that would be driven, or nobody would teach it when it is not the nearest; and the scores learn
    which is nearest."""
    nearest_loss, nearest = nearest_plan_loss(ways, expert, valid)
    driven = ways[torch.arange(len(ways)), scores.argmax(1)]
    plan = weights.plan * (nearest_loss + plan_loss(driven, expert, valid))
    return plan, weights.score * F.cross_entropy(scores, nearest)


def chosen(output: TeacherOutput) -> Tensor:
    """The best candidates (B, 6, 2)."""
    return output.trajectories[torch.arange(len(output.best)), output.best]


def _reward_losses(
    teacher: Teacher, output: TeacherOutput, queue: Tensor, clips: Clips, weights: LossConfig
) -> dict[str, Tensor]:
    assert teacher.reward is not None
    config = teacher.config.reward
    motion = ego_status(clips.ego_motion[:, -1], clips.bev_valid[:, -1])
    decoys = _decoys(teacher, output, motion)
    states = teacher.world.states(queue)
    ways = torch.cat([output.trajectories.detach(), decoys], dim=1)
    futures = torch.cat([output.futures, teacher.imagine(states, decoys)], dim=1)
    predicted = teacher.reward(teacher.world, ways, futures, motion, clips.command[:, -1])
    parts = {}
    if config.imitation:
        target = imitation_target(ways, clips.future[:, -1], clips.future_valid[:, -1])
        loss = imitation_reward_loss(predicted.imitation, target)
        parts["imitation_reward"] = weights.imitation_reward * loss
    if config.simulation:
        used = [SIMULATION_REWARDS.index(name) for name in config.simulation]
        occupied, drivable = future_occupancy(teacher, futures, states, clips)
        with torch.no_grad():
            target = simulation_rewards(
                ways, occupied, drivable, teacher.world.label_grid, clips.speed[:, -1], config.ttc_extension
            ).stacked()
        parts["simulation_reward"] = weights.simulation_reward * simulation_reward_loss(
            predicted.simulation[..., used], target[..., used]
        )
    return parts


@torch.no_grad()
def future_occupancy(
    teacher: Teacher, futures: Tensor, states: Tensor, clips: Clips
) -> tuple[Tensor, Tensor]:
    """Occupied (B, M or 1, 6, X, Y) and drivable (B, X, Y): true, the same for all, or as the world model
    sees them in each candidate's own future (B, M, 6, S, C')."""
    if teacher.config.reward.source == "gt":
        return (clips.occupancy[:, None, 1:] != 0).any(-1), clips.drivable
    drivable = teacher.world.view(states[:, :1]).drivable > 0
    each = []
    for own in futures.unbind(1):
        view = teacher.world.view(own)
        each.append((view.occupancy.argmax(1) != 0).any(1).unflatten(0, own.shape[:2]))
    return torch.stack(each, dim=1), drivable


def _decoys(teacher: Teacher, output: TeacherOutput, motion: Tensor) -> Tensor:
    """(B, DECOYS, 6, 2): a candidate, stretched and swayed at random, the same for the same candidates."""
    trajectories = output.trajectories.detach()
    seed = int(trajectories.double().abs().sum().mul(1e3).long() % (2**31))
    generator = torch.Generator().manual_seed(seed)
    batch, count = trajectories.shape[:2]
    index = torch.randint(count, (batch, DECOYS), generator=generator).to(trajectories.device)
    stretch = torch.empty(batch, DECOYS, 1, 1).uniform_(0.3, 1.6, generator=generator).to(trajectories.device)
    sway = torch.randn(batch, DECOYS, 1, generator=generator).to(trajectories.device) * 1.5
    picked = trajectories.gather(1, index[..., None, None].expand(-1, -1, *trajectories.shape[2:])) * stretch
    share = torch.linspace(1 / 6, 1, 6, device=trajectories.device) ** 2
    return picked + torch.stack([torch.zeros_like(sway * share), sway * share], dim=-1)


def anchors_of(data: ClipData, count: int, seed: int) -> Tensor:
    """How experts depart from driving straight on: centres (M, 6, 2) of k-means over all samples with a whole
    future, ordered by how common they are."""
    from sklearn.cluster import KMeans

    changes: list[NDArray[np.float32]] = []
    for packed in data.packed:
        rows = np.flatnonzero(packed.future_valid.all(axis=1))
        speed = torch.from_numpy(packed.motion[rows, :1])
        straight = straight_on(speed, torch.arange(1, 7) * 0.5).numpy()
        changes.append(packed.future[rows] - straight)
    table = np.concatenate(changes).reshape(-1, 12)
    if count == 1:
        return torch.zeros(1, 6, 2)
    clusters = KMeans(min(count, len(table)), n_init=4, random_state=seed).fit(table)
    common = np.argsort(-np.bincount(clusters.labels_))
    centers = np.zeros((count, 12), np.float32)
    centers[: len(common)] = clusters.cluster_centers_[common]
    return torch.from_numpy(centers).view(count, 6, 2)
