"""The student (Eq. 1-3): cameras to BEV to plan queries to one trajectory, in one forward pass.

WPT, arXiv 2511.20095. Unlike the paper's, its head predicts the change to carrying the ego's motion on.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from wpt_training.models.config import StudentConfig
from wpt_training.models.perception import Perception
from wpt_training.models.planner import PlanDecoder, PlanHead, ego_status


class StudentOutput(NamedTuple):
    """`trajectory` (B, 6, 2) m; `bev` (B, X·Y, C), the next pass's input; `queries` (B, K, C); `drafts`
    (B, R, 6, 2) m, of which the trajectory was made."""

    trajectory: Tensor
    bev: Tensor
    queries: Tensor
    drafts: Tensor


class Student(nn.Module):
    """A camera-only, single-mode planner. The paper's Baseline is the same network, not distilled."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        grid = config.bev
        self.config = config
        self.perception = Perception(config)
        self.plan_decoder = PlanDecoder(grid, len(config.commands), config.planner)
        self.plan_head = PlanHead(grid.channels)

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
    ) -> StudentOutput:
        """Inputs as `wpt_planner.policy_bundle.POLICY_INPUTS`, with any batch size B."""
        next_bev = self.perception(
            images, camera_valid, intrinsics, ego_from_camera, ego_motion, bev, bev_valid
        )  # Eq. 1
        return self.plan_on(next_bev, ego_motion, command, bev_valid)

    def plan_on(self, bev: Tensor, ego_motion: Tensor, command: Tensor, bev_valid: Tensor) -> StudentOutput:
        """The plan on the present BEV (B, X·Y, C)."""
        motion = ego_status(ego_motion, bev_valid)
        queries, drafts = self.plan_decoder(bev, command, motion)  # Eq. 2
        trajectory = self.plan_head(queries, motion)[:, 0]  # Eq. 3
        return StudentOutput(trajectory, bev, queries, drafts[:, :, 0])

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """What a bundle exports: trajectory (B, 6, 2) and next BEV (B, X·Y, C)."""
        output = self.plan(*inputs)
        return output.trajectory, output.bev

    def initial_bev(self, batch: int = 1) -> Tensor:
        """A cleared recurrent state (B, X·Y, C)."""
        return self.perception.initial_bev(batch)
