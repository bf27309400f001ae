"""Recipe: the teacher on a frozen world model, with or without its reward model (Baseline-T)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wpt_planner.plan_guard import PLAN_STEPS
from wpt_training.losses import (
    imitation_reward_loss,
    plan_loss,
    simulation_reward_loss,
)
from wpt_training.models.braking import braked
from wpt_training.models.config import LossConfig, TeacherConfig
from wpt_training.models.planner import Planner, ego_status, straight_on
from wpt_training.models.reward_model import SIMULATION_REWARDS
from wpt_training.models.teacher import Teacher, TeacherOutput
from wpt_training.rewards import imitation_target, intrusion, simulation_rewards
from wpt_training.training.bev_cache import BevCache
from wpt_training.training.clips import ClipData, Clips, Samples
from wpt_training.training.encode import remember_clips
from wpt_training.training.loop import StepLoss, Task
from wpt_training.training.road_users import RoadUsers

# Trajectories a candidate that nobody proposed, so that the reward model knows bad ones too; and how many of
# them are the candidate itself, braked.
DECOYS, BRAKED = 4, 2


class TeacherTask(Task):
    """Imitation by the candidates, on every sample; on the last ones of some clips they look ahead, and
    rewards learn what the (predicted) future does to each."""

    trained: Teacher

    def __init__(self, teacher: Teacher, cache: BevCache, losses: LossConfig, data: ClipData) -> None:
        super().__init__()
        self.trained, self.losses = teacher, losses
        self.cache, self.data = cache, data
        self.others = taught_by(teacher.config, data)

    def forward(self, clips: Clips) -> StepLoss:
        count = max(1, round(len(clips) * self.trained.config.ahead))
        ahead, rest = clips.rows(slice(count)), clips.rows(slice(count, None))
        followed = followed_candidates(self.trained.config, ahead)
        output, queue = teacher_plans(self.trained, self.cache, ahead, followed)
        loss = teacher_loss(
            self.trained, output, queue, ahead, self.losses, self.data, followed, self.others
        )  # fmt: skip
        if not len(rest):
            return loss
        # Each sample counts alike: the few that look ahead must not shake what all of them teach.
        share = count / len(clips)
        proposals = self._proposal_loss(rest)
        return StepLoss(
            share * loss.total + (1 - share) * proposals, {**loss.parts, "proposals": proposals.detach()}
        )

    def _proposal_loss(self, clips: Clips) -> Tensor:
        """The proposals' and their ranks' part on every sample, without looking ahead."""
        bevs = self.cache.clip(clips.number, clips.length, clips.future.device)
        samples = clips.samples()
        motion = ego_status(samples.ego_motion, samples.bev_valid)
        bev = torch.stack(bevs, dim=1).flatten(0, 1)
        _, ways, drafts, ranks = self.trained.proposals(bev, samples.command, motion)
        given = (motion, samples.future, samples.future_valid, self.losses)
        plan, score = candidate_losses(self.trained, ways, ranks, *given)
        plan = plan + draft_loss(self.trained, drafts, *given)
        return plan + score + avoidance_loss(self.trained.config, ways[:, :1], samples, self.others)


def taught_by(config: TeacherConfig, data: ClipData) -> RoadUsers | None:
    """Those whom plans learn to avoid, if rewards teach them."""
    return RoadUsers(data.packed) if config.reward.teaches and "nc" in config.reward.simulation else None


def avoidance_loss(config: TeacherConfig, ways: Tensor, samples: Samples, others: RoadUsers | None) -> Tensor:
    """Softened NC of ways (S, M, 6, 2): how much deeper (m) they are in others than the driver came himself,
    weighted; 0 without `others`."""
    if others is None:
        return ways.new_zeros(())
    boxes = others.at(samples.number, ways.device)
    expert, valid = samples.future[:, None], samples.future_valid[:, None]
    deeper = intrusion(ways, boxes, config.reward.clearance) - intrusion(
        expert, boxes, config.reward.clearance
    )  # fmt: skip
    return config.reward.teaches * (deeper.clamp(min=0.0) * valid).mean()


def followed_candidates(config: TeacherConfig, clips: Clips) -> Tensor | None:
    """Which candidates a training step looks ahead along: the first and some others at random, the same for
    the same clips; None for all."""
    if config.followed is None or config.followed >= config.candidates:
        return None
    generator = torch.Generator().manual_seed(int(clips.number.sum()))
    others = 1 + torch.randperm(config.candidates - 1, generator=generator)[: config.followed - 1]
    return torch.cat([torch.zeros(1, dtype=torch.long), others]).to(clips.future.device)


def teacher_plans(
    teacher: Teacher, cache: BevCache, clips: Clips, followed: Tensor | None = None
) -> tuple[TeacherOutput, Tensor]:
    """The teacher on a clip's last sample, and the memory queue it planned on."""
    queue = remembered(teacher, cache, clips)
    output = teacher.plan(
        queue, clips.ego_motion[:, -1], clips.command[:, -1], clips.bev_valid[:, -1], followed
    )  # fmt: skip
    return output, queue


@torch.no_grad()
def remembered(teacher: Teacher, cache: BevCache, clips: Clips) -> Tensor:
    """The memory queue (B, X·Y, queue·C) at the clips' last samples."""
    bevs = cache.clip(clips.number, clips.length, clips.future.device)
    return remember_clips(teacher.world, bevs, clips)


def teacher_loss(
    teacher: Teacher,
    output: TeacherOutput,
    queue: Tensor,
    clips: Clips,
    weights: LossConfig,
    data: ClipData,
    followed: Tensor | None = None,
    others: RoadUsers | None = None,
) -> StepLoss:
    """All of the teacher's losses on the last samples of `clips`, which are of `data`; `output` holds the
    candidates `followed`, `others` are to be avoided."""
    expert, valid = clips.future[:, -1], clips.future_valid[:, -1]
    motion = ego_status(clips.ego_motion[:, -1], clips.bev_valid[:, -1])
    given = (motion, expert, valid, weights, followed)
    before = candidate_losses(teacher, output.proposals, output.ranks, *given)
    after = candidate_losses(teacher, output.trajectories, output.scores, *given)
    drafts = draft_loss(teacher, output.drafts, *given)
    parts = {"plan": drafts + before[0] + after[0], "score": before[1] + after[1]}
    if others is not None:
        # Before and after looking ahead, as the plan's own loss.
        first = torch.cat([output.proposals[:, :1], output.trajectories[:, :1]], dim=1)
        parts["avoidance"] = 2 * avoidance_loss(teacher.config, first, clips.last_samples(), others)
    if teacher.reward is not None:
        parts |= _reward_losses(teacher, output, queue, clips, weights, data)
    parts["distance"] = plan_loss(chosen(output), expert, valid).detach()
    total = torch.stack([value for name, value in parts.items() if name != "distance"]).sum()
    return StepLoss(total, parts)


def candidate_losses(
    teacher: Teacher,
    ways: Tensor,
    scores: Tensor,
    motion: Tensor,
    expert: Tensor,
    valid: Tensor,
    weights: LossConfig,
    followed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Of ways (B, M, 6, 2) and their scores (B, M): the first one comes nearer to every expert, each of the
    others to those experts whom it answers for; and the scores learn Eq. 11. `followed` (M,) says which
    candidates they are, if not all."""
    plan = _candidates_plan_loss(teacher, ways[:, None], motion, expert, valid, followed)
    score = imitation_reward_loss(scores, imitation_target(ways.detach(), expert, valid))
    return weights.plan * plan, weights.score * score


def draft_loss(
    teacher: Teacher,
    drafts: Tensor,
    motion: Tensor,
    expert: Tensor,
    valid: Tensor,
    weights: LossConfig,
    followed: Tensor | None = None,
) -> Tensor:
    """Drafts (B, R, M, 6, 2) learn what the candidates refined from them do."""
    if not drafts.shape[1]:
        return drafts.new_zeros(())
    plan = _candidates_plan_loss(teacher, drafts, motion, expert, valid, followed)
    return weights.plan * weights.draft * drafts.shape[1] * plan


def _candidates_plan_loss(
    teacher: Teacher, ways: Tensor, motion: Tensor, expert: Tensor, valid: Tensor, followed: Tensor | None
) -> Tensor:
    """Of ways (B, R, M, 6, 2), a mean over R."""
    count, candidates = ways.shape[1:3]
    every, known = expert[:, None].expand(-1, count, -1, -1), valid[:, None].expand(-1, count, -1)
    plan = plan_loss(ways[:, :, 0], every, known)
    if candidates > 1:
        # Who begins with a planner knows what to expect; else straight on is.
        usual = (
            ways[:, -1, 0].detach() if teacher.config.begin else straight_on(motion, teacher.plan_head.times)
        )
        answering = answering_candidate(teacher.anchors, usual, expert, valid)
        there = torch.arange(candidates, device=ways.device) if followed is None else followed
        found = answering[:, None] == there  # (B, M), at most one a row
        one = (ways * found[:, None, :, None, None]).sum(2)
        plan = plan + plan_loss(one, every, known & found.any(1)[:, None, None])
    return plan


def answering_candidate(anchors: Tensor, usual: Tensor, expert: Tensor, valid: Tensor) -> Tensor:
    """Which candidate (B,) answers for an expert: its anchor, one of `anchors` (M, 6, 2), is nearest to how
    he departs from the `usual` way (B, 6, 2). expert (B, 6, 2), valid (B, 6)."""
    departure = expert - usual
    distance = (departure[:, None] - anchors[1:]).norm(dim=-1) * valid[:, None]
    return 1 + distance.sum(-1).argmin(1)


def chosen(output: TeacherOutput) -> Tensor:
    """The best candidates (B, 6, 2)."""
    return output.trajectories[torch.arange(len(output.best)), output.best]


def _reward_losses(
    teacher: Teacher,
    output: TeacherOutput,
    queue: Tensor,
    clips: Clips,
    weights: LossConfig,
    data: ClipData,
) -> dict[str, Tensor]:
    assert teacher.reward is not None
    config = teacher.config.reward
    motion = ego_status(clips.ego_motion[:, -1], clips.bev_valid[:, -1])
    candidates = output.trajectories.detach()
    ways = _with_decoys(candidates)
    prior = output.scores.detach().repeat_interleave(1 + DECOYS, dim=1)
    predicted = teacher.reward(
        teacher.world, ways, output.futures, candidates[:, :1], prior, motion, clips.command[:, -1],
        teacher.cells(queue),
    )  # fmt: skip
    parts = {}
    if config.imitation:
        target = imitation_target(ways, clips.future[:, -1], clips.future_valid[:, -1])
        loss = imitation_reward_loss(predicted.imitation, target)
        parts["imitation_reward"] = weights.imitation_reward * loss
    if config.simulation:
        used = [SIMULATION_REWARDS.index(name) for name in config.simulation]
        occupied, drivable = future_occupancy(teacher, output.futures, queue, clips, data)
        if occupied.shape[1] > 1:
            occupied = occupied.repeat_interleave(1 + DECOYS, dim=1)
        with torch.no_grad():
            target = simulation_rewards(
                ways, occupied, drivable, teacher.world.label_grid, clips.speed[:, -1], config.ttc_extension,
                candidates,
            ).stacked()  # fmt: skip
        parts["simulation_reward"] = weights.simulation_reward * simulation_reward_loss(
            predicted.simulation[..., used], target[..., used]
        )
    return parts


@torch.no_grad()
def future_occupancy(
    teacher: Teacher, futures: Tensor, queue: Tensor, clips: Clips, data: ClipData
) -> tuple[Tensor, Tensor]:
    """Occupied (B, M or 1, 6, X, Y) and drivable (B, X, Y): true, the same for all, or as the world model
    sees them in each candidate's own future (B, M, 6, S, C')."""
    if teacher.config.reward.source == "gt":
        occupancy, drivable = data.labels(clips.number, futures.device)
        return (occupancy[:, None, 1:] != 0).any(-1), drivable
    drivable = teacher.world.view(teacher.world.states(queue)[:, :1]).drivable > 0
    each = []
    for own in futures.unbind(1):
        view = teacher.world.view(own)
        each.append((view.occupancy.argmax(1) != 0).any(1).unflatten(0, own.shape[:2]))
    return torch.stack(each, dim=1), drivable


def _with_decoys(candidates: Tensor) -> Tensor:
    """Candidates (B, M, 6, 2) -> (B, M·(1 + DECOYS), 6, 2): each followed by itself, stretched and swayed,
    and braked, at random, the same for the same candidates."""
    seed = int(candidates.double().abs().sum().mul(1e3).long() % (2**31))
    generator = torch.Generator().manual_seed(seed)
    shape = (*candidates.shape[:2], DECOYS - BRAKED, 1)
    stretch = torch.empty(shape).uniform_(0.3, 1.6, generator=generator).to(candidates.device)
    sway = torch.randn(shape, generator=generator).to(candidates.device) * 1.5
    share = torch.linspace(1 / 6, 1, PLAN_STEPS, device=candidates.device) ** 2
    decoys = candidates[:, :, None] * stretch[..., None]
    decoys = decoys + torch.stack([torch.zeros_like(sway * share), sway * share], dim=-1)
    rates = torch.empty(*candidates.shape[:2], BRAKED).uniform_(0.1, 0.8, generator=generator)
    slower = braked(candidates[:, :, None].expand(-1, -1, BRAKED, -1, -1), rates.to(candidates.device))
    return torch.cat([candidates[:, :, None], decoys, slower], dim=2).flatten(1, 2)


@torch.no_grad()
def anchors_of(data: ClipData, count: int, seed: int, planner: Planner | None, cache: BevCache) -> Tensor:
    """How experts depart from the plans of a `planner` that knows one candidate, or without one from driving
    straight on: after a zero for the plan to be expected the centres of k-means over all samples with a whole
    future, ordered by how common they are: (M, 6, 2)."""
    from sklearn.cluster import KMeans

    if count == 1:
        return torch.zeros(1, 6, 2)
    changes: list[NDArray[np.float32]] = []
    first = 0
    for drive, packed in enumerate(data.packed):
        rows = np.flatnonzero(packed.future_valid.all(axis=1))
        if planner is None:
            speed = torch.from_numpy(packed.motion[rows, :1])
            usual = straight_on(speed, torch.arange(1, 7) * 0.5)
        else:
            numbers = first + torch.from_numpy(rows)
            motion = [data.motion_into(drive, int(row)) for row in rows]
            usual = planner.plan_on(
                cache.clip(numbers, 1, torch.device("cpu"))[0],
                torch.from_numpy(np.concatenate([moved for moved, _ in motion])),
                torch.from_numpy(packed.command[rows]),
                torch.from_numpy(np.concatenate([valid for _, valid in motion])),
            ).trajectory
        changes.append(packed.future[rows] - usual.numpy())
        first += len(packed)
    table = np.concatenate(changes).reshape(-1, 12)
    clusters = KMeans(min(count - 1, len(table)), n_init=4, random_state=seed).fit(table)
    common = np.argsort(-np.bincount(clusters.labels_))
    centers = np.zeros((count, 12), np.float32)
    centers[1 : 1 + len(common)] = clusters.cluster_centers_[common]
    return torch.from_numpy(centers).view(count, 6, 2)
