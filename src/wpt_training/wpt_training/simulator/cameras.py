"""Cameras of the simulated world: a batched ray renderer in plain torch, CPU or GPU.

A ray hits the ground, which is a picture of the map, or one of the boxes (vehicles, people, buildings,
trees); what it hits nearest it sees. One call renders all cameras of a rig.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

BOXES_PER_CAMERA = 12
FAR = 150.0  # m, beyond it all is haze

# Kinds of boxes, which get different details painted on their faces.
PLAIN, VEHICLE, BUILDING = 0, 1, 2


@dataclass(frozen=True)
class Ground:
    """`picture` (3, rows, columns) float 0..1; row r is at x = x_min + r·resolution, column c at
    y = y_min + c·resolution, m in the map frame."""

    picture: Tensor
    x_min: float
    y_min: float
    resolution: float


@dataclass(frozen=True)
class Bodies:
    """A boxes: `centers`, `sizes` (A, 3) m (length, width, height), `yaws` (A,), `colors` (A, 3)
    0..1, `kinds` (A,), `braking` (A,) 0..1 lights up the rear."""

    centers: Tensor
    sizes: Tensor
    yaws: Tensor
    colors: Tensor
    kinds: Tensor
    braking: Tensor


@dataclass(frozen=True)
class Rendering:
    """`images` (N, h, w, 3) uint8 RGB, `depth` (N, h, w) m along the optical axis, `instance`
    (N, h, w) index of the body seen, -1 for none."""

    images: Tensor
    depth: Tensor
    instance: Tensor


@dataclass(frozen=True)
class _Hits:
    distance: Tensor  # (N, P), inf where nothing is hit
    body: Tensor  # (N, P) index into Bodies
    local: Tensor  # (N, P, 3) where on the box, in units of its half size
    facing: Tensor  # (N, P) cosine between the face's normal and the ray


def camera_rays(intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Directions (N, h·w, 3) in the optical frame, z = 1, of every pixel's centre."""
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=intrinsics.device),
        torch.arange(width, dtype=torch.float32, device=intrinsics.device),
        indexing="ij",
    )
    x = (columns.flatten() - intrinsics[:, 0, 2:3]) / intrinsics[:, 0, :1]
    y = (rows.flatten() - intrinsics[:, 1, 2:3]) / intrinsics[:, 1, 1:2]
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


def render(
    ground: Ground, bodies: Bodies, intrinsics: Tensor, map_from_camera: Tensor, height: int, width: int
) -> Rendering:
    """intrinsics (N, 3, 3), map_from_camera (N, 4, 4)."""
    cameras = len(intrinsics)
    rays = camera_rays(intrinsics, height, width) @ map_from_camera[:, :3, :3].transpose(1, 2)
    origins = map_from_camera[:, :3, 3]
    hits = _hit_bodies(bodies, origins, rays, map_from_camera)
    # Rays keep z = 1 in the camera, so a ray's parameter is the depth along the optical axis.
    to_ground = torch.where(rays[..., 2] < -1e-4, -origins[:, None, 2] / rays[..., 2], torch.inf)
    on_body = hits.distance < to_ground
    depth = torch.minimum(hits.distance, to_ground)
    colors = torch.where(
        on_body[..., None], _body_colors(bodies, hits), _ground_colors(ground, origins, rays, to_ground)
    )
    haze = torch.exp(-depth.clamp(max=1e4) / FAR)[..., None]
    sky = _sky(rays)
    colors = torch.where(torch.isfinite(depth)[..., None], colors * haze + sky * (1 - haze), sky)
    shape = (cameras, height, width)
    return Rendering(
        (colors.clamp(0, 1) * 255).to(torch.uint8).view(*shape, 3),
        depth.view(shape),
        torch.where(on_body, hits.body, -1).view(shape),
    )


def _hit_bodies(bodies: Bodies, origins: Tensor, rays: Tensor, map_from_camera: Tensor) -> _Hits:
    """Slab test of every ray with the bodies its camera may see."""
    chosen = _nearest_in_view(bodies, origins, map_from_camera)  # (N, K)
    cosine, sine = torch.cos(bodies.yaws)[chosen], torch.sin(bodies.yaws)[chosen]
    half = bodies.sizes[chosen] / 2  # (N, K, 3)
    offset = origins[:, None] - bodies.centers[chosen]
    start = torch.stack(
        [
            cosine * offset[..., 0] + sine * offset[..., 1],
            cosine * offset[..., 1] - sine * offset[..., 0],
            offset[..., 2],
        ],
        dim=-1,
    )
    entry = torch.full((*chosen.shape, rays.shape[1]), -torch.inf, device=rays.device)
    exit_ = torch.full_like(entry, torch.inf)
    direction_x = cosine[..., None] * rays[:, None, :, 0] + sine[..., None] * rays[:, None, :, 1]
    direction_y = cosine[..., None] * rays[:, None, :, 1] - sine[..., None] * rays[:, None, :, 0]
    directions = (direction_x, direction_y, rays[:, None, :, 2])
    for axis, direction in enumerate(directions):
        inverse = 1.0 / torch.where(direction.abs() < 1e-9, 1e-9, direction)
        near = (-half[..., axis, None] - start[..., axis, None]) * inverse
        far = (half[..., axis, None] - start[..., axis, None]) * inverse
        entry = torch.maximum(entry, torch.minimum(near, far))
        exit_ = torch.minimum(exit_, torch.maximum(near, far))
    distance = torch.where((entry < exit_) & (entry > 0.05), entry, torch.inf)
    nearest, slot = distance.min(dim=1)  # (N, P)
    camera = torch.arange(len(chosen), device=rays.device)[:, None]
    at = nearest.nan_to_num(posinf=0.0)[..., None]
    pixel = torch.arange(rays.shape[1], device=rays.device)[None]
    seen = torch.stack(
        [
            direction_x[camera, slot, pixel],
            direction_y[camera, slot, pixel],
            rays[..., 2],
        ],
        dim=-1,
    )
    local = (start[camera, slot] + at * seen) / half[camera, slot]
    face = local.abs().argmax(-1, keepdim=True)
    facing = (seen.gather(-1, face)[..., 0] / seen.norm(dim=-1)).abs()
    return _Hits(nearest, chosen[camera, slot], local, facing)


def _nearest_in_view(bodies: Bodies, origins: Tensor, map_from_camera: Tensor) -> Tensor:
    """(N, K) the bodies in front of each camera, nearest first."""
    count = min(BOXES_PER_CAMERA, len(bodies.yaws))
    offset = bodies.centers[None] - origins[:, None]
    ahead = (offset * map_from_camera[:, None, :3, 2]).sum(-1)
    radius = bodies.sizes.norm(dim=-1) / 2
    distance = offset.norm(dim=-1)
    behind = ahead + radius < 0
    aside = ahead < 0.35 * distance - 2 * radius  # outside a cone of 70 degrees to each side
    score = distance - radius + 1e6 * (behind | aside)
    return score.topk(count, dim=1, largest=False).indices


def _body_colors(bodies: Bodies, hits: _Hits) -> Tensor:
    color = bodies.colors[hits.body]
    kind, local = bodies.kinds[hits.body], hits.local
    x, y, z = local[..., 0], local[..., 1], local[..., 2]
    side = (y.abs() > 0.995) & (x.abs() < 0.85)
    front_or_rear = (x.abs() > 0.995) & (y.abs() < 0.85)
    vehicle = kind == VEHICLE
    glass = vehicle & (z > 0.15) & (z < 0.8) & (side | front_or_rear)
    wheels = vehicle & (y.abs() > 0.99) & (z < -0.5) & ((x.abs() - 0.6).abs() < 0.15)
    lamps = vehicle & (x.abs() > 0.99) & (y.abs() > 0.6) & (z > -0.35) & (z < 0.05)
    rear = lamps & (x < 0)
    windows = (kind == BUILDING) & (z.abs() < 0.95) & (torch.sin(z * 14) > 0.2)
    windows = windows & (torch.sin((x + y) * 20) > 0.1)
    braking = bodies.braking[hits.body][..., None]

    def paint(mask: Tensor, value: tuple[float, float, float]) -> None:
        nonlocal color
        color = torch.where(mask[..., None], torch.tensor(value, device=color.device), color)

    paint(glass, (0.12, 0.16, 0.2))
    paint(windows, (0.25, 0.3, 0.38))
    paint(wheels, (0.06, 0.06, 0.06))
    paint(lamps & (x > 0), (1.0, 0.98, 0.85))
    dark, bright = color.new_tensor([0.45, 0.02, 0.02]), color.new_tensor([1.0, 0.1, 0.05])
    color = torch.where(rear[..., None], dark + braking * (bright - dark), color)
    # Light from above and ahead: tops are bright, faces seen at a slant a little darker.
    shade = 0.55 + 0.3 * hits.facing + 0.15 * (z > 0.99)
    return color * torch.where(lamps, 1.0, shade)[..., None]


def _ground_colors(ground: Ground, origins: Tensor, rays: Tensor, to_ground: Tensor) -> Tensor:
    reach = to_ground.clamp(max=10 * FAR).nan_to_num(posinf=0.0)[..., None]
    points = origins[:, None, :2] + rays[..., :2] * reach
    rows, columns = ground.picture.shape[1:]
    row = (points[..., 0] - ground.x_min) / ground.resolution / (rows - 1) * 2 - 1
    column = (points[..., 1] - ground.y_min) / ground.resolution / (columns - 1) * 2 - 1
    grid = torch.stack([column, row], dim=-1)[None]
    sampled = F.grid_sample(ground.picture[None], grid, padding_mode="border", align_corners=True)
    return sampled[0].permute(1, 2, 0)


def _sky(rays: Tensor) -> Tensor:
    height = (rays[..., 2] / rays.norm(dim=-1)).clamp(0, 0.6)[..., None] / 0.6
    low, high = rays.new_tensor([0.80, 0.85, 0.90]), rays.new_tensor([0.35, 0.55, 0.85])
    return low + (high - low) * height
