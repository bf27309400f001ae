"""The student (Eq. 1-3): cameras to BEV to plan queries to one trajectory, in one forward pass.

WPT, arXiv 2511.20095. Unlike the paper's, its head predicts the change to carrying the ego's motion on.
"""

from __future__ import annotations

from torch import Tensor

from wpt_training.models.config import StudentConfig
from wpt_training.models.perception import Perception
from wpt_training.models.planner import Planner, PlanOutput


class Student(Planner):
    """A camera-only, single-mode planner. The paper's Baseline is the same network, not distilled."""

    def __init__(self, config: StudentConfig) -> None:
        perception = Perception(config)
        super().__init__(config.bev, len(config.commands), config.planner)
        self.config, self.perception = config, perception

    def plan(
        self,
        images: Tensor,
        camera_valid: Tensor,
        intrinsics: Tensor,
        ego_from_camera: Tensor,
        ego_motion: Tensor,
        command: Tensor,
        bev: Tensor,
        bev_valid: Tensor,
    ) -> PlanOutput:
        """Inputs as `wpt_planner.policy_bundle.POLICY_INPUTS`, with any batch size B."""
        next_bev = self.perception(
            images, camera_valid, intrinsics, ego_from_camera, ego_motion, bev, bev_valid
        )  # Eq. 1
        return self.plan_on(next_bev, ego_motion, command, bev_valid)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """What a bundle exports: trajectory (B, 6, 2) and next BEV (B, X·Y, C)."""
        output = self.plan(*inputs)
        return output.trajectory, output.bev

    def initial_bev(self, batch: int = 1) -> Tensor:
        """A cleared recurrent state (B, X·Y, C)."""
        return self.perception.initial_bev(batch)
