"""Multi-head attention with a feed-forward, the block that world decoder, teacher and planner share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLES_AT_ONCE = 4


class Attention(nn.Module):
    """Queries (B, Q, C) attend to tokens (B, S, D) -> (B, Q, C)."""

    def __init__(self, channels: int, heads: int, token_channels: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(token_channels or channels, 2 * channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        batch, count, channels = queries.shape

        def split(values: Tensor) -> Tensor:
            return values.view(batch, -1, self.heads, channels // self.heads).transpose(1, 2)

        key, value = self.key_value(tokens).chunk(2, dim=-1)
        attended = attend(split(self.query(queries)), split(key), split(value))
        return self.output(attended.transpose(1, 2).reshape(batch, count, channels))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention: (…, Q, D), (…, S, D), (…, S, D) -> (…, Q, D)."""
    if query.dtype == torch.bfloat16 and query.device.type == "cpu":
        # There the fused kernel takes twice as long as its parts, done a few samples at a time in the cache.
        parts = zip(*(part.split(SAMPLES_AT_ONCE) for part in (query, key, value)), strict=True)
        scale = query.shape[-1] ** -0.5
        return torch.cat(
            [((q * scale) @ k.transpose(-1, -2)).softmax(-1).to(v.dtype) @ v for q, k, v in parts]
        )
    return F.scaled_dot_product_attention(query, key, value)


def feed_forward(channels: int, hidden: int) -> nn.Sequential:
    """Two linear layers around a ReLU."""
    return nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
