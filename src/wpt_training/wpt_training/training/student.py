"""Recipe: the student, distilled online from a teacher; without one it is the paper's Baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from wpt_training.losses import policy_distillation_loss, reward_distillation_loss
from wpt_training.models.config import DistillationConfig, LossConfig
from wpt_training.models.planner import PlanOutput, ego_status
from wpt_training.models.student import Student
from wpt_training.models.teacher import Teacher
from wpt_training.training.bev_cache import BevCache
from wpt_training.training.clips import ClipData, Clips
from wpt_training.training.encode import encode_clips
from wpt_training.training.imitation import imitation_loss, planned
from wpt_training.training.lessons import Lessons, is_taught, lesson_of
from wpt_training.training.loop import StepLoss, Task
from wpt_training.training.road_users import RoadUsers
from wpt_training.training.teacher import avoidance_loss, remembered, teacher_loss, teacher_plans


@dataclass(frozen=True)
class Distillation:
    """What a student learns from; `cache` holds the teacher's BEVs of the `data`, `lessons` what it says
    about them if it is frozen, `others` whom the teacher has learned to avoid."""

    teacher: Teacher
    cache: BevCache
    data: ClipData
    config: DistillationConfig
    lessons: Lessons | None = None
    others: RoadUsers | None = None


class StudentTask(Task):
    """Imitation, and avoidance, on every sample; on each clip's last one the teacher's queries and rewards.
    With `seen`, BEVs that were made before, perception stays as it is."""

    trained: Student

    def __init__(
        self,
        student: Student,
        losses: LossConfig,
        distillation: Distillation | None = None,
        seen: BevCache | None = None,
    ) -> None:
        super().__init__()
        self.trained, self.losses, self.seen = student, losses, seen
        student.perception.requires_grad_(seen is None)
        self.distillation = distillation
        if distillation is not None:
            self.teacher = distillation.teacher
            if distillation.config.teacher == "frozen":
                self.teacher.requires_grad_(False)

    def forward(self, clips: Clips) -> StepLoss:
        if self.seen is None:
            bevs = encode_clips(self.trained.perception, clips)
        else:
            bevs = self.seen.clip(clips.number, clips.length, clips.future.device)
        outputs = planned(self.trained, bevs, clips)
        parts = {"plan": self.losses.plan * imitation_loss(outputs, clips, self.losses)}
        if self.distillation is not None:
            parts |= self._distil(outputs, clips, self.distillation)
        return StepLoss(torch.stack(list(parts.values())).sum(), parts)

    def _distil(self, outputs: list[PlanOutput], clips: Clips, given: Distillation) -> dict[str, Tensor]:
        teacher, config, student = given.teacher, given.config, outputs[-1]
        parts, queue = {}, None
        if config.reward and config.simulation and given.others is not None:
            # The one reward that needs nobody to be asked: on every sample.
            plans = torch.stack([output.trajectory for output in outputs], dim=1)
            parts["avoidance"] = avoidance_loss(
                teacher.config, plans.flatten(0, 1)[:, None], clips.samples(), given.others
            )  # fmt: skip
        taught = is_taught(clips.number, config.share)
        if config.teacher == "frozen":
            taught = taught & clips.as_driven  # it was asked about the recorded motion
        if not (config.asks and bool(taught.any())):
            return parts
        clips, student = clips.chosen(taught), PlanOutput(*(part[taught] for part in student))
        if config.teacher == "beside":
            output, queue = teacher_plans(teacher, given.cache, clips)
            parts["teacher"] = teacher_loss(
                teacher, output, queue, clips, self.losses, given.data, None, given.others
            ).total  # fmt: skip
            lesson = lesson_of(output)
        else:
            assert given.lessons is not None
            teacher.eval()
            lesson = given.lessons.at(clips.number, clips.future.device)
        if config.query:
            parts["query"] = config.query * policy_distillation_loss(lesson.query, student.queries[:, 0])
        model = teacher.reward
        if config.reward and model is not None and lesson.rewards is not None:
            motion = ego_status(clips.ego_motion[:, -1], clips.bev_valid[:, -1])
            if queue is None:
                queue = remembered(teacher, given.cache, clips)
            judged = teacher.judge(
                queue, student.trajectory, lesson.expected, lesson.prior, motion, clips.command[:, -1]
            )
            rows = torch.arange(len(lesson.best))
            counted = None if config.simulation else ()
            best = model.final(lesson.rewards, None, counted)[rows, lesson.best]
            # The student's imitation is weighed against the teacher's candidates.
            own = model.final(judged, lesson.rewards.imitation.detach(), counted)[:, 0]
            parts["reward"] = config.reward * reward_distillation_loss(best, own)
        return parts
