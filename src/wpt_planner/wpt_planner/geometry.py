"""Rigid transforms as 4x4 matrices, and poses as position + quaternion (w, x, y, z).

A name says what a matrix does: `a_from_b` takes homogeneous points in frame b to frame a.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def rotation_from_quaternion(quaternion: Array) -> Array:
    """Rotation matrices (..., 3, 3) of quaternions (..., 4) in the order w, x, y, z.

    The quaternion is normalised first. Raises ValueError if its norm is zero or not finite.
    """
    quaternion = np.asarray(quaternion, dtype=np.float64)
    norm = np.linalg.norm(quaternion, axis=-1, keepdims=True)
    if not np.all(np.isfinite(norm)) or np.any(norm < 1e-9):
        raise ValueError(f"not a rotation: quaternion {quaternion.tolist()}")
    w, x, y, z = np.moveaxis(quaternion / norm, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_rotation(rotation: Array) -> Array:
    """Unit quaternion (w, x, y, z), w >= 0, of one rotation matrix (3, 3)."""
    m = np.asarray(rotation, dtype=np.float64)
    # The largest of 4w^2, 4x^2, 4y^2, 4z^2 is the safe one to divide by (Shepperd 1978).
    squares = np.array(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ]
    )
    largest = int(np.argmax(squares))
    root = np.sqrt(squares[largest])
    products = {
        0: [squares[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
        1: [m[2, 1] - m[1, 2], squares[1], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
        2: [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], squares[2], m[1, 2] + m[2, 1]],
        3: [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[3]],
    }[largest]
    quaternion = np.array(products) / (2 * root)
    return -quaternion if quaternion[0] < 0 else quaternion


def quaternion_from_yaw(yaw: float) -> Array:
    """Quaternion (w, x, y, z) of a rotation about z by `yaw` rad."""
    return np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])


def matrix(position: Array, quaternion: Array) -> Array:
    """Transforms (..., 4, 4) from positions (..., 3) in metres and quaternions (..., 4)."""
    rotation = rotation_from_quaternion(quaternion)
    result = np.zeros((*rotation.shape[:-2], 4, 4))
    result[..., :3, :3] = rotation
    result[..., :3, 3] = position
    result[..., 3, 3] = 1.0
    return result


def planar_matrix(x: float, y: float, yaw: float) -> Array:
    """Transform (4, 4) of a pose on the ground plane: metres, rad."""
    return matrix(np.array([x, y, 0.0]), quaternion_from_yaw(yaw))


def inverse(transform: Array) -> Array:
    """Inverse of rigid transforms (..., 4, 4)."""
    rotation = np.swapaxes(transform[..., :3, :3], -1, -2)
    result = np.zeros_like(transform)
    result[..., :3, :3] = rotation
    result[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation, transform[..., :3, 3])
    result[..., 3, 3] = 1.0
    return result


def transform_points(a_from_b: Array, points_b: Array) -> Array:
    """Points (..., 3) in frame b to frame a by one transform (4, 4)."""
    return points_b @ a_from_b[:3, :3].T + a_from_b[:3, 3]


def yaw_of(transform: Array) -> Array:
    """Heading in rad of transforms (..., 4, 4): where their x axis points in the xy plane."""
    return np.arctan2(transform[..., 1, 0], transform[..., 0, 0])


def wrap_angle(angle: Array) -> Array:
    """Angles in rad brought to [-pi, pi)."""
    return (np.asarray(angle) + np.pi) % (2 * np.pi) - np.pi


def slerp(first: Array, second: Array, share: Array) -> Array:
    """Spherical interpolation between quaternions (E, 4); `share` (E,) 0 gives first, 1 second.

    Shares outside [0, 1] extrapolate at the same angular velocity.
    """
    dot = np.sum(first * second, axis=-1, keepdims=True)
    second = np.where(dot < 0, -second, second)
    dot = np.clip(np.abs(dot), 0.0, 1.0)
    angle = np.arccos(dot)
    share = np.asarray(share, dtype=np.float64)[..., None]
    sine = np.sin(angle)
    nearly_equal = sine < 1e-6
    safe = np.where(nearly_equal, 1.0, sine)
    weight_first = np.where(nearly_equal, 1 - share, np.sin((1 - share) * angle) / safe)
    weight_second = np.where(nearly_equal, share, np.sin(share * angle) / safe)
    mixed = weight_first * first + weight_second * second
    return mixed / np.linalg.norm(mixed, axis=-1, keepdims=True)


def box_corners_2d(centers: Array, sizes: Array, yaws: Array) -> Array:
    """Corners (A, 4, 2) of boxes on the ground: centres (A, 2), (length, width) (A, 2), yaws (A,).

    Order: front left, front right, rear right, rear left.
    """
    signs = np.array([[0.5, 0.5], [0.5, -0.5], [-0.5, -0.5], [-0.5, 0.5]])
    local = signs[None] * sizes[:, None, :2]
    cosine, sine = np.cos(yaws), np.sin(yaws)
    rotation = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
    return np.einsum("aij,akj->aki", rotation, local) + centers[:, None, :2]
