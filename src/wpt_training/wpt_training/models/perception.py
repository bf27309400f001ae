"""Cameras to BEV (Eq. 1): preprocessing, image encoder and BEV encoder; student and teacher have one each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wpt_training.models.bev_encoder import BevEncoder
from wpt_training.models.config import StudentConfig
from wpt_training.models.image_encoder import ImageEncoder
from wpt_training.models.preprocessing import ImagePreprocessing


class CameraFeatures(NamedTuple):
    """`maps` (B, N, C, h, w), one a level, finest first, and the intrinsics (B, N, 3, 3) of the resized
    images."""

    maps: tuple[Tensor, ...]
    intrinsics: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> CameraFeatures:
        """`change` done to all of them."""
        return CameraFeatures(tuple(change(level) for level in self.maps), change(self.intrinsics))


class Perception(nn.Module):
    """Looks at images in any batch, then makes BEVs one after the other in time."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.image_size = (config.image_height, config.image_width)
        self.recompute = config.recompute
        self.preprocessing = ImagePreprocessing(config.image_height, config.image_width)
        self.image_encoder = ImageEncoder(config.backbone, config.bev.channels)
        self.bev_encoder = BevEncoder(config.bev, config.encoder, config.backbone.levels, config.recompute)

    def look(self, images: Tensor, intrinsics: Tensor) -> CameraFeatures:
        """images (B, N, H, W, 3) uint8, intrinsics (B, N, 3, 3)."""
        pixels, resized_intrinsics = self.preprocessing(images, intrinsics)
        maps = self._encoded(pixels)
        return CameraFeatures(tuple(m.unflatten(0, images.shape[:2]) for m in maps), resized_intrinsics)

    def _encoded(self, pixels: Tensor) -> list[Tensor]:
        if not (self.recompute and torch.is_grad_enabled()):
            return self.image_encoder(pixels)
        each: list[list[Tensor]] = [
            checkpoint(self.image_encoder, image, use_reentrant=False) for image in pixels.split(1)
        ]
        return [torch.cat(level) for level in zip(*each, strict=True)]

    def forward(
        self,
        images: Tensor,
        camera_valid: Tensor,
        intrinsics: Tensor,
        ego_from_camera: Tensor,
        ego_motion: Tensor,
        bev: Tensor,
        bev_valid: Tensor,
    ) -> Tensor:
        """Inputs as in `wpt_planner.policy_bundle.POLICY_INPUTS` -> BEV (B, X·Y, C)."""
        seen = self.look(images, intrinsics)
        return self.step(seen, camera_valid, ego_from_camera, ego_motion, bev, bev_valid)

    def step(
        self,
        seen: CameraFeatures,
        camera_valid: Tensor,
        ego_from_camera: Tensor,
        ego_motion: Tensor,
        bev: Tensor,
        bev_valid: Tensor,
    ) -> Tensor:
        """One BEV (B, X·Y, C) from what was seen and the last BEV."""
        return self.bev_encoder(
            seen.maps, camera_valid, seen.intrinsics, ego_from_camera, self.image_size, ego_motion, bev,
            bev_valid,
        )  # fmt: skip

    def initial_bev(self, batch: int = 1) -> Tensor:
        """A cleared recurrent state (B, X·Y, C)."""
        queries = self.bev_encoder.queries
        return torch.zeros(batch, *queries.shape, device=queries.device)
