"""Do two oriented boxes touch? Separating axes, for whole arrays of poses at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wpt_planner.geometry import Array

Half = Array | float


def touching(
    first: Array, first_half: tuple[Half, Half], second: Array, second_half: tuple[Half, Half]
) -> NDArray[np.bool_]:
    """Poses (…, 3) x, y, yaw of the boxes' middles, and half lengths and widths; broadcasting."""
    dx, dy = second[..., 0] - first[..., 0], second[..., 1] - first[..., 1]
    turned = second[..., 2] - first[..., 2]
    c, s = np.abs(np.cos(turned)), np.abs(np.sin(turned))
    apart = np.zeros(np.broadcast(dx, c).shape, bool)
    for yaw, (length, width), (other_length, other_width) in (
        (first[..., 2], first_half, second_half),
        (second[..., 2], second_half, first_half),
    ):
        cosine, sine = np.cos(yaw), np.sin(yaw)
        apart = apart | (np.abs(cosine * dx + sine * dy) >= length + other_length * c + other_width * s)
        apart = apart | (np.abs(cosine * dy - sine * dx) >= width + other_length * s + other_width * c)
    return ~apart
