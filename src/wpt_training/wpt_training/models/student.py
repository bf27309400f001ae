"""The student (Eq. 1-3): cameras to BEV to plan queries to one trajectory, in one forward pass.

WPT, arXiv 2511.20095. Unlike the paper's, its head predicts the change to carrying the ego's motion on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wpt_training.models.bev_encoder import BevEncoder
from wpt_training.models.config import StudentConfig
from wpt_training.models.image_encoder import ImageEncoder
from wpt_training.models.planner import PlanDecoder, PlanHead, ego_velocity
from wpt_training.models.preprocessing import ImagePreprocessing


class StudentOutput(NamedTuple):
    """`trajectory` (B, 6, 2) m; `bev` (B, X·Y, C), the next pass's input; `queries` (B, K, C)."""

    trajectory: Tensor
    bev: Tensor
    queries: Tensor


class Student(nn.Module):
    """A camera-only, single-mode planner."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        grid = config.bev
        self.config = config
        self.preprocessing = ImagePreprocessing(config.image_height, config.image_width)
        self.image_encoder = ImageEncoder(config.backbone, grid.channels)
        self.bev_encoder = BevEncoder(grid, config.encoder)
        self.plan_decoder = PlanDecoder(
            grid.channels, grid.cells_x * grid.cells_y, len(config.commands), config.planner
        )
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
        pixels, resized_intrinsics = self.preprocessing(images, intrinsics)
        features = self.image_encoder(pixels)[0]
        features = features.view(*camera_valid.shape, *features.shape[1:])
        size = (self.config.image_height, self.config.image_width)
        next_bev = self.bev_encoder(
            features, camera_valid, resized_intrinsics, ego_from_camera, size, ego_motion, bev, bev_valid
        )  # Eq. 1
        motion = ego_velocity(ego_motion, bev_valid)
        queries = self.plan_decoder(next_bev, command, motion)  # Eq. 2
        trajectory = self.plan_head(queries, motion)[:, 0]  # Eq. 3
        return StudentOutput(trajectory, next_bev, queries)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """What a bundle exports: trajectory (B, 6, 2) and next BEV (B, X·Y, C)."""
        output = self.plan(*inputs)
        return output.trajectory, output.bev

    def initial_bev(self, batch: int = 1) -> Tensor:
        """A cleared recurrent state (B, X·Y, C)."""
        grid = self.config.bev
        return torch.zeros(batch, grid.cells_x * grid.cells_y, grid.channels)
