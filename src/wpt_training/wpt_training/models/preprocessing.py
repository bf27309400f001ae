"""From raw camera pixels to the backbone's input, inside the exported program."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# ImageNet's channel statistics in 0..255, what pretrained backbones expect.
_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)
ROWS_PER_ROW = 3


class ImagePreprocessing(nn.Module):
    """Resizes to (height, width) and normalises.

    The resize works on uint8, where it is fastest on CPUs, and looks at ROWS_PER_ROW rows for each
    row it makes: reading the others would cost more than the rest of a tiny policy. Intrinsics
    follow the scale.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, N, H, W, 3) uint8, intrinsics (B, N, 3, 3) ->
        (B·N, 3, h, w) float, intrinsics of the resized images (B, N, 3, 3)."""
        height, width = images.shape[2], images.shape[3]
        batch = images.shape[0] * images.shape[1]
        taken = self.height * ROWS_PER_ROW
        row = ((torch.arange(taken, device=images.device) + 0.5) * (height / taken)).to(torch.int64)
        row = (torch.arange(batch, device=images.device)[:, None] * height + row).flatten()
        # As a table of whole rows: index_select along the first dimension is a plain copy.
        table = images.reshape(batch * height, width * 3)
        pixels = table.index_select(0, row).view(batch, taken, width, 3).permute(0, 3, 1, 2)
        resized = F.interpolate(pixels, size=(self.height, self.width), mode="bilinear", antialias=True)
        normalised = (resized.float() - self.mean) / self.std
        # Pixel centres are at whole numbers: u' + ½ = (u + ½)·scale.
        scale = torch.stack(
            [
                torch.full((), 1.0, device=intrinsics.device) * self.width / width,
                torch.full((), 1.0, device=intrinsics.device) * self.height / height,
                torch.ones((), device=intrinsics.device),
            ]
        )
        shift = torch.zeros_like(intrinsics)
        shift[..., :2, 2] = 0.5
        resized_intrinsics = (intrinsics + shift) * scale[:, None] - shift
        return normalised, resized_intrinsics
