"""Recipe: the student, distilled online from a teacher; without one it is the paper's Baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wpt_training.losses import plan_loss, policy_distillation_loss, reward_distillation_loss
from wpt_training.models.config import DistillationConfig, LossConfig
from wpt_training.models.planner import ego_status
from wpt_training.models.student import Student, StudentOutput
from wpt_training.models.teacher import Teacher
from wpt_training.training.bev_cache import BevCache
from wpt_training.training.clips import Clips
from wpt_training.training.encode import encode_clips
from wpt_training.training.loop import StepLoss, Task
from wpt_training.training.teacher import teacher_loss, teacher_plans


@dataclass(frozen=True)
class Distillation:
    """What a student learns from; `cache` holds the teacher's BEVs of the same data."""

    teacher: Teacher
    cache: BevCache
    config: DistillationConfig


class StudentTask(Task):
    """Imitation on every sample; on each clip's last one the teacher's queries and rewards as well."""

    trained: Student

    def __init__(
        self, student: Student, losses: LossConfig, distillation: Distillation | None = None
    ) -> None:
        super().__init__()
        self.trained, self.losses = student, losses
        self.distillation = distillation
        if distillation is not None:
            self.teacher = distillation.teacher
            if distillation.config.teacher == "frozen":
                self.teacher.requires_grad_(False)

    def forward(self, clips: Clips) -> StepLoss:
        outputs = [
            self.trained.plan_on(bev, clips.ego_motion[:, t], clips.command[:, t], clips.bev_valid[:, t])
            for t, bev in enumerate(encode_clips(self.trained.perception, clips))
        ]
        plans = torch.stack([output.trajectory for output in outputs], dim=1)
        parts = {"plan": self.losses.plan * plan_loss(plans, clips.future, clips.future_valid)}
        if self.distillation is not None:
            parts |= self._distil(outputs[-1], clips, self.distillation)
        return StepLoss(torch.stack(list(parts.values())).sum(), parts)

    def _distil(self, student: StudentOutput, clips: Clips, given: Distillation) -> dict[str, Tensor]:
        teacher, config = given.teacher, given.config
        beside = config.teacher == "beside"
        if not beside:
            teacher.eval()
        with torch.set_grad_enabled(beside and torch.is_grad_enabled()):
            output, queue = teacher_plans(teacher, given.cache, clips)
        parts = {}
        if beside:
            parts["teacher"] = teacher_loss(teacher, output, queue, clips, self.losses).total
        rows = torch.arange(len(output.best))
        if config.query:
            query = output.queries[rows, output.best]
            parts["query"] = config.query * policy_distillation_loss(query, student.queries[:, 0])
        model = teacher.reward
        if config.reward and model is not None and output.rewards is not None:
            motion = ego_status(clips.ego_motion[:, -1], clips.bev_valid[:, -1])
            judged = teacher.judge(
                teacher.world.states(queue), student.trajectory, motion, clips.command[:, -1]
            )
            best = model.final(output.rewards, None, config.simulation)[rows, output.best]
            # The student's imitation is weighed against the teacher's candidates.
            own = model.final(judged, output.rewards.imitation.detach(), config.simulation)[:, 0]
            parts["reward"] = config.reward * reward_distillation_loss(best, own)
        return parts
