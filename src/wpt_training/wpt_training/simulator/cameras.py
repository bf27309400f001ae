"""Cameras of the simulated world: a batched ray renderer in plain torch, CPU or GPU.

A ray hits the ground, which is a picture of the map, or one of the boxes (vehicles, people, buildings,
trees); what it hits nearest it sees. One call renders all cameras of a rig.
Every image is cut into tiles, and a ray is tested with the boxes that show in its tile only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

TILE_WIDTH, TILE_HEIGHT = 28, 32  # pixels
BOXES_PER_TILE = 24
TILES_AT_ONCE = 12  # on a CPU: what they need stays in the cache
NEAREST = 0.05  # m

# What boxes are, which decides what is painted on their faces.
PLAIN, VEHICLE, BUILDING, PERSON, RIDER, SIGNAL, EMERGENCY = range(7)
# The semantic image's classes.
SEMANTICS = (
    "sky", "terrain", "pavement", "road", "marking", "building", "vegetation", "post", "signal",
    "vehicle", "person", "cycle", "movable",
)  # fmt: skip
SKY = SEMANTICS.index("sky")


@dataclass(frozen=True)
class Ground:
    """`picture` (3, rows, columns) float 0..1, `semantic` (rows, columns) int; row r is at
    x = x_min + r·resolution, column c at y = y_min + c·resolution, m in the map frame."""

    picture: Tensor
    semantic: Tensor
    x_min: float
    y_min: float
    resolution: float

    def to(self, device: torch.device) -> Ground:
        return Ground(
            self.picture.to(device), self.semantic.to(device), self.x_min, self.y_min, self.resolution
        )


@dataclass(frozen=True)
class Bodies:
    """A boxes: `centers`, `sizes` (A, 3) m (length, width, height), `yaws` (A,), `colors` (A, 3)
    0..1, `kinds` and `semantics` (A,), `states` (A,): brake lights 0..1; signals 0 red, 1 yellow,
    2 green."""

    centers: Tensor
    sizes: Tensor
    yaws: Tensor
    colors: Tensor
    kinds: Tensor
    semantics: Tensor
    states: Tensor

    def to(self, device: torch.device) -> Bodies:
        return Bodies(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Weather:
    """`light` scales all, `tint` (3,) colours it, beyond `sight` m all is haze; `noise` of the
    sensor, 0..1; `clouds` 0..1 greys the sky."""

    light: float = 1.0
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    sight: float = 150.0
    noise: float = 0.0
    clouds: float = 0.0
    seed: int = field(default=0)


@dataclass(frozen=True)
class Rendering:
    """`images` (N, h, w, 3) uint8 RGB, `depth` (N, h, w) m along the optical axis (inf: sky),
    `semantic` (N, h, w) index into SEMANTICS, `instance` (N, h, w) the body seen, -1 for none."""

    images: Tensor
    depth: Tensor
    semantic: Tensor
    instance: Tensor


@dataclass(frozen=True)
class _Hits:
    distance: Tensor  # (N, P), inf where nothing is hit
    body: Tensor  # (N, P) index into Bodies
    local: Tensor  # (N, P, 3) where on the box, in units of its half size
    facing: Tensor  # (N, P) cosine between the face's normal and the ray


def camera_rays(intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Directions (N, h, w, 3) in the optical frame, z = 1, of every pixel's centre."""
    device = intrinsics.device
    rows = torch.arange(height, dtype=torch.float32, device=device)
    columns = torch.arange(width, dtype=torch.float32, device=device)
    x = (columns - intrinsics[:, 0, 2:3]) / intrinsics[:, 0, :1]
    y = (rows - intrinsics[:, 1, 2:3]) / intrinsics[:, 1, 1:2]
    rays = torch.ones(len(intrinsics), height, width, 3, device=device)
    rays[..., 0] = x[:, None]
    rays[..., 1] = y[:, :, None]
    return rays


@torch.inference_mode()
def render(
    ground: Ground,
    bodies: Bodies,
    intrinsics: Tensor,
    map_from_camera: Tensor,
    height: int,
    width: int,
    weather: Weather | None = None,
) -> Rendering:
    """intrinsics (N, 3, 3), map_from_camera (N, 4, 4), of one world at one time."""
    weather = weather or Weather()
    cameras = len(intrinsics)
    rotation = map_from_camera[:, :3, :3]
    rays = camera_rays(intrinsics, height, width).view(cameras, -1, 3) @ rotation.transpose(1, 2)
    origins = map_from_camera[:, :3, 3]
    grid = (-(-height // TILE_HEIGHT), -(-width // TILE_WIDTH))
    tiles = _to_tiles(rays.view(cameras, height, width, 3), grid)  # (G, P, 3)
    seen, counts = _in_tiles(bodies, intrinsics, map_from_camera, grid)
    hits = _hit_bodies(bodies, origins.repeat_interleave(grid[0] * grid[1], 0), tiles, seen, counts)
    hits = _Hits(*(_from_tiles(value, grid, height, width) for value in vars(hits).values()))
    # Rays keep z = 1 in the camera, so a ray's parameter is the depth along the optical axis.
    to_ground = torch.where(rays[..., 2] < -1e-4, -origins[:, None, 2] / rays[..., 2], torch.inf)
    on_body = hits.distance < to_ground
    depth = torch.minimum(hits.distance, to_ground)
    floor, floor_semantic = _ground_colors(ground, origins, rays, to_ground)
    colors = torch.where(on_body[..., None], _body_colors(bodies, hits), floor)
    colors = colors * (weather.light * colors.new_tensor(weather.tint))
    haze = torch.exp(-depth.clamp(max=1e4) / weather.sight)[..., None]
    sky = _sky(rays, weather)
    colors = torch.where(torch.isfinite(depth)[..., None], torch.lerp(sky, colors, haze), sky)
    if weather.noise > 0:
        generator = torch.Generator(device=colors.device).manual_seed(weather.seed)
        grain = torch.randn(colors.shape, generator=generator, device=colors.device)
        colors = colors + weather.noise * grain
    semantic = torch.where(on_body, bodies.semantics[hits.body], floor_semantic)
    shape = (cameras, height, width)
    return Rendering(
        colors.mul_(255).clamp_(0, 255).to(torch.uint8).view(*shape, 3),
        depth.view(shape),
        torch.where(torch.isfinite(depth), semantic, SKY).view(shape),
        torch.where(on_body, hits.body, -1).view(shape),
    )


def _to_tiles(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N, h, w, C) -> (N·tiles, pixels, C); rays beyond the image are 0."""
    cameras, height, width, channels = values.shape
    rows, columns = grid
    beyond = (0, 0, 0, columns * TILE_WIDTH - width, 0, rows * TILE_HEIGHT - height)
    values = F.pad(values, beyond)
    cut = values.view(cameras, rows, TILE_HEIGHT, columns, TILE_WIDTH, channels).transpose(2, 3)
    return cut.reshape(-1, TILE_HEIGHT * TILE_WIDTH, channels)


def _from_tiles(values: Tensor, grid: tuple[int, int], height: int, width: int) -> Tensor:
    """(N·tiles, pixels, …) -> (N, h·w, …)."""
    rows, columns = grid
    rest = values.shape[2:]
    cut = values.view(-1, rows, columns, TILE_HEIGHT, TILE_WIDTH, *rest).transpose(2, 3)
    whole = cut.reshape(-1, rows * TILE_HEIGHT, columns * TILE_WIDTH, *rest)
    return whole[:, :height, :width].reshape(len(whole), height * width, *rest)


def _in_tiles(
    bodies: Bodies, intrinsics: Tensor, map_from_camera: Tensor, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """(G, K) the nearest bodies that may show in each tile, nearest first, and how many (G,)."""
    cosine, sine = torch.cos(bodies.yaws), torch.sin(bodies.yaws)
    device = bodies.yaws.device
    signs = torch.tensor([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], device=device)
    local = signs[None] * bodies.sizes[:, None] / 2  # (A, 8, 3)
    corners = torch.stack(
        [
            cosine[:, None] * local[..., 0] - sine[:, None] * local[..., 1],
            sine[:, None] * local[..., 0] + cosine[:, None] * local[..., 1],
            local[..., 2],
        ],
        dim=-1,
    )
    corners = corners + bodies.centers[:, None]
    offset = corners[None] - map_from_camera[:, None, None, :3, 3]
    seen = torch.einsum("nakc,ncd->nakd", offset, map_from_camera[:, :3, :3])  # (N, A, 8, 3) optical
    depth = seen[..., 2]
    # A box that reaches behind the camera has no finite outline: it may be anywhere.
    astride = (depth < 0.1).any(-1)
    shows = ~(depth < 0.1).all(-1)[:, None, None]
    for axis, count, size in ((1, grid[0], TILE_HEIGHT), (0, grid[1], TILE_WIDTH)):
        place = seen[..., axis] / depth.clamp(min=0.1) * intrinsics[:, None, None, axis, axis]
        place = place + intrinsics[:, None, None, axis, 2]
        low = torch.where(astride, -1e9, place.amin(-1))[:, None]
        high = torch.where(astride, 1e9, place.amax(-1))[:, None]
        edges = (torch.arange(count, device=device) * size)[None, :, None]
        inside = (low < edges + size) & (high > edges - 1)  # (N, count, A)
        shows = shows & (inside[:, :, None] if axis == 1 else inside[:, None])
    distance = depth.amin(-1).clamp(min=0.0)[:, None, None].expand_as(shows)
    score = torch.where(shows, distance, torch.inf).flatten(0, 2)
    counts = shows.flatten(0, 2).sum(-1).clamp(max=BOXES_PER_TILE)
    most = max(1, int(counts.max())) if len(bodies.yaws) else 1
    return score.topk(most, dim=-1, largest=False).indices, counts


def _hit_bodies(bodies: Bodies, origins: Tensor, rays: Tensor, seen: Tensor, counts: Tensor) -> _Hits:
    """Slab test of every ray (G, P, 3) with the bodies seen in its tile."""
    tiles, pixels = rays.shape[:2]
    device = rays.device
    hits = _Hits(
        torch.full((tiles, pixels), torch.inf, device=device),
        torch.zeros(tiles, pixels, dtype=torch.long, device=device),
        torch.zeros(tiles, pixels, 3, device=device),
        torch.zeros(tiles, pixels, device=device),
    )
    order = torch.argsort(counts)
    order = order[int((counts == 0).sum()) :]
    at_once = TILES_AT_ONCE if device.type == "cpu" else max(1, len(order))
    for some in order.split(at_once):  # of about as many bodies each
        most = int(counts[some[-1]])
        part = _hit_some(bodies, origins[some], rays[some], seen[some, :most], counts[some])
        for name, value in vars(part).items():
            getattr(hits, name)[some] = value
    return hits


def _hit_some(bodies: Bodies, origins: Tensor, rays: Tensor, chosen: Tensor, counts: Tensor) -> _Hits:
    cosine, sine = torch.cos(bodies.yaws)[chosen], torch.sin(bodies.yaws)[chosen]
    half = bodies.sizes[chosen] / 2  # (G, K, 3)
    offset = origins[:, None] - bodies.centers[chosen]
    start = torch.stack(
        [
            cosine * offset[..., 0] + sine * offset[..., 1],
            cosine * offset[..., 1] - sine * offset[..., 0],
            offset[..., 2],
        ],
        dim=-1,
    )
    ray_x, ray_y, ray_z = (axis[:, None] for axis in rays.unbind(-1))  # (G, 1, P)
    entry = torch.full((*chosen.shape, rays.shape[1]), NEAREST, device=rays.device)
    exit_ = torch.full_like(entry, torch.inf)
    for axis in range(3):
        if axis == 0:
            direction = cosine[..., None] * ray_x + sine[..., None] * ray_y
        elif axis == 1:
            direction = cosine[..., None] * ray_y - sine[..., None] * ray_x
        else:
            direction = ray_z
        inverse = 1.0 / (direction + 1e-12)  # a ray along a face divides by almost nothing
        middle = -start[..., axis, None] * inverse
        reach = half[..., axis, None] * inverse.abs()
        entry = torch.maximum(entry, middle - reach)
        exit_ = torch.minimum(exit_, middle + reach)
    beyond = torch.arange(chosen.shape[1], device=rays.device) >= counts[:, None]
    missed = (entry >= exit_) | (entry <= NEAREST) | beyond[..., None]
    nearest, slot = entry.masked_fill_(missed, torch.inf).min(dim=1)  # (G, P)

    def of_slot(values: Tensor) -> Tensor:
        return values.gather(1, slot)

    at = nearest.nan_to_num(posinf=0.0)
    c, s = of_slot(cosine), of_slot(sine)
    directions = (
        c * rays[..., 0] + s * rays[..., 1],
        c * rays[..., 1] - s * rays[..., 0],
        rays[..., 2],
    )
    local = torch.stack(
        [(of_slot(start[..., axis]) + at * directions[axis]) / of_slot(half[..., axis]) for axis in range(3)],
        dim=-1,
    )
    face = local.abs().argmax(-1, keepdim=True)
    facing = torch.stack(directions, dim=-1).gather(-1, face)[..., 0].abs() / rays.norm(dim=-1)
    return _Hits(nearest, of_slot(chosen), local, facing)


def _body_colors(bodies: Bodies, hits: _Hits) -> Tensor:
    """Colours (N, P, 3) with what is painted on each kind, shaded; computed only where a body is."""
    result = torch.zeros(*hits.distance.shape, 3, device=hits.distance.device)
    where = torch.isfinite(hits.distance)
    body, local, facing = hits.body[where], hits.local[where], hits.facing[where]
    color, kind, state = bodies.colors[body], bodies.kinds[body], bodies.states[body]
    x, y, z = local.unbind(-1)
    side, front = y.abs() > 0.995, x.abs() > 0.995

    def paint(mask: Tensor, value: tuple[float, float, float]) -> None:
        color[mask] = color.new_tensor(value)

    vehicle = (kind == VEHICLE) | (kind == EMERGENCY)
    paint(vehicle & (z > 0.15) & (z < 0.8) & (side & (x.abs() < 0.85) | front & (y.abs() < 0.85)),
          (0.12, 0.16, 0.2))  # fmt: skip
    paint(vehicle & side & (z < -0.5) & ((x.abs() - 0.6).abs() < 0.15), (0.06, 0.06, 0.06))
    paint((kind == EMERGENCY) & (z > 0.9), (0.1, 0.25, 1.0))
    windows = (kind == BUILDING) & (z.abs() < 0.95) & (torch.sin(z * 14) > 0.2)
    paint(windows & (torch.sin((x + y) * 20) > 0.1), (0.25, 0.3, 0.38))
    paint((kind == PERSON) & (z < -0.1), (0.15, 0.16, 0.25))
    paint((kind == PERSON) & (z > 0.72), (0.75, 0.58, 0.47))
    paint((kind == RIDER) & (z < -0.1), (0.1, 0.1, 0.1))
    paint(kind == SIGNAL, (0.08, 0.08, 0.08))
    shade = 0.55 + 0.3 * facing + 0.15 * (z > 0.99)
    color = color * shade[:, None]
    # What shines is not shaded.
    lamps = vehicle & (x.abs() > 0.99) & (y.abs() > 0.55) & (z > -0.4) & (z < 0.1)
    paint(lamps & (x > 0), (1.0, 0.98, 0.85))
    rear = lamps & (x < 0)
    dark, bright = color.new_tensor([0.4, 0.02, 0.02]), color.new_tensor([1.0, 0.12, 0.06])
    color[rear] = dark + state[rear][:, None] * (bright - dark)
    lens = (kind == SIGNAL) & (x < -0.9) & (y.abs() < 0.8)
    paint(lens & (z > 0.35) & (state < 0.5), (1.0, 0.1, 0.05))
    paint(lens & (z.abs() < 0.3) & (state > 0.5) & (state < 1.5), (1.0, 0.8, 0.1))
    paint(lens & (z < -0.35) & (state > 1.5), (0.1, 1.0, 0.35))
    result[where] = color
    return result


def _ground_colors(ground: Ground, origins: Tensor, rays: Tensor, to_ground: Tensor) -> tuple[Tensor, Tensor]:
    reach = to_ground.clamp(max=1500.0).nan_to_num(posinf=0.0)[..., None]
    points = origins[:, None, :2] + rays[..., :2] * reach
    rows, columns = ground.picture.shape[1:]
    row = (points[..., 0] - ground.x_min) / ground.resolution
    column = (points[..., 1] - ground.y_min) / ground.resolution
    grid = torch.stack([column / (columns - 1) * 2 - 1, row / (rows - 1) * 2 - 1], dim=-1)[None]
    sampled = F.grid_sample(ground.picture[None], grid, padding_mode="border", align_corners=True)
    cell = row.round().clamp(0, rows - 1).long() * columns + column.round().clamp(0, columns - 1).long()
    return sampled[0].permute(1, 2, 0), ground.semantic.flatten()[cell].long()


def _sky(rays: Tensor, weather: Weather) -> Tensor:
    height = (rays[..., 2] / rays.norm(dim=-1)).clamp(0, 0.6)[..., None] / 0.6
    low, high = rays.new_tensor([0.80, 0.85, 0.90]), rays.new_tensor([0.35, 0.55, 0.85])
    high = torch.lerp(high, rays.new_tensor([0.72, 0.74, 0.77]), weather.clouds)
    return (low + (high - low) * height) * (weather.light * rays.new_tensor(weather.tint))
