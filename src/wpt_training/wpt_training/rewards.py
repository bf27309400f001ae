"""Reward targets (Eq. 11, 17-23): what a trajectory earns in a future, predicted or true.

Occupancy and drivable area are grids (X, Y) in base_link at the reference time. Everything is
vectorised over batch and candidates.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from wpt_planner.plan_guard import PLAN_STEPS, STEP_SECONDS
from wpt_planner.policy_bundle import BevGrid

EGO_LENGTH, EGO_WIDTH = 4.084, 1.85  # m, as in the open-loop metric
EGO_MIDDLE_AHEAD = 1.44  # m from base_link: 0.94 to the LiDAR, 0.5 to the metric's box
SIDEWAYS = 3.0  # what a metre aside counts in an intrusion, where one back counts one
STANDING = 0.1  # m a step, below which a heading means nothing
# Limits of Eq. 23: m/s², m/s³.
LONGITUDINAL, LATERAL, JERK, LONGITUDINAL_JERK = (-4.05, 2.40), 4.89, 8.37, 4.13


class SimulationRewards(NamedTuple):
    """Eq. 17-23, each (B, M) of 0 or 1, `ep` from 0 to 1."""

    nc: Tensor
    dac: Tensor
    ep: Tensor
    ttc: Tensor
    comfort: Tensor

    def stacked(self) -> Tensor:
        """(B, M, 5)."""
        return torch.stack(self, dim=-1)


def headings(trajectories: Tensor) -> Tensor:
    """(…, 6, 2) -> (…, 6): the direction of the step that leads to each point; one that hardly moves
    keeps the heading before, the first is 0."""
    steps = torch.diff(trajectories, dim=-2, prepend=torch.zeros_like(trajectories[..., :1, :]))
    moving = steps.norm(dim=-1) > STANDING
    safe = torch.where(moving[..., None], steps, steps.new_tensor([1.0, 0.0]))
    angles = torch.atan2(safe[..., 1], safe[..., 0])
    result = [torch.where(moving[..., 0], angles[..., 0], torch.zeros_like(angles[..., 0]))]
    for step in range(1, angles.shape[-1]):
        result.append(torch.where(moving[..., step], angles[..., step], result[-1]))
    return torch.stack(result, dim=-1)


def imitation_target(trajectories: Tensor, expert: Tensor, valid: Tensor) -> Tensor:
    """Eq. 11: softmax over M of minus the mean distance to the expert. trajectories (B, M, 6, 2),
    expert (B, 6, 2), valid (B, 6) -> (B, M)."""
    distance = (trajectories - expert[:, None]).norm(dim=-1)
    weight = valid[:, None].to(distance.dtype)
    mean = (distance * weight).sum(-1) / weight.sum(-1).clamp(min=1.0)
    return torch.softmax(-mean, dim=1)


def simulation_rewards(
    trajectories: Tensor,
    occupied: Tensor,
    drivable: Tensor,
    grid: BevGrid,
    speed: Tensor,
    ttc_extension: float,
    candidates: Tensor | None = None,
) -> SimulationRewards:
    """All five. trajectories (B, M, 6, 2) m; occupied (B, M or 1, 6, X, Y) bool at the plan's steps;
    drivable (B, X, Y) bool; `grid` of the cells; speed (B,) m/s now; progress is measured by the
    `candidates` (B, M', 6, 2), without them by the trajectories themselves."""
    nc = no_collision(trajectories, occupied, grid)
    dac = drivable_area_compliance(trajectories, drivable, grid)
    return SimulationRewards(
        nc,
        dac,
        ego_progress(trajectories, nc * dac, candidates),
        time_to_collision(trajectories, occupied, drivable, grid, ttc_extension),
        comfort(trajectories, speed),
    )


def no_collision(trajectories: Tensor, occupied: Tensor, grid: BevGrid) -> Tensor:
    """Eq. 17: 1 if no cell that the ego's box covers is occupied at any step (B, M)."""
    covered = _at(occupied, _footprint(trajectories, grid), grid, outside=False)
    return (~covered.flatten(2).any(-1)).to(trajectories.dtype)


def drivable_area_compliance(trajectories: Tensor, drivable: Tensor, grid: BevGrid) -> Tensor:
    """Eq. 18: 1 if the box stays in the drivable area at every step (B, M). What lies beyond the
    grid is not known to be forbidden."""
    area = drivable[:, None, None].expand(-1, 1, PLAN_STEPS, -1, -1)
    inside = _at(area, _corners(trajectories), grid, outside=True)
    return inside.flatten(2).all(-1).to(trajectories.dtype)


def ego_progress(trajectories: Tensor, allowed: Tensor, candidates: Tensor | None = None) -> Tensor:
    """Eq. 19-20: longitudinal displacement over the largest one of a sample's candidates (without them of
    its trajectories), 0 to 1; 0 where not `allowed` (B, M)."""
    ahead = trajectories[:, :, -1, 0].clamp(min=0.0)
    compared = ahead if candidates is None else candidates[:, :, -1, 0]
    largest = compared.amax(dim=1, keepdim=True).clamp(min=1e-3)
    return (ahead / largest).clamp(0.0, 1.0) * allowed


def time_to_collision(
    trajectories: Tensor, occupied: Tensor, drivable: Tensor, grid: BevGrid, extension: float
) -> Tensor:
    """Eq. 21-22: 1 if the box, moved on by up to `extension` m along its heading at every step, meets no
    obstacle within the drivable area (B, M)."""
    heading = headings(trajectories)
    direction = torch.stack([torch.cos(heading), torch.sin(heading)], dim=-1)
    pieces = max(1, round(extension / (EGO_LENGTH / 2)))
    on_road = occupied & drivable[:, None, None]
    free = torch.ones(trajectories.shape[:2], dtype=torch.bool, device=trajectories.device)
    for piece in range(1, pieces + 1):
        shift = direction * (extension * piece / pieces)
        cells = _footprint(trajectories + shift, grid, heading)
        free = free & ~_at(on_road, cells, grid, outside=False).flatten(2).any(-1)
    return free.to(trajectories.dtype)


def comfort(trajectories: Tensor, speed: Tensor) -> Tensor:
    """Eq. 23: 1 if accelerations and jerks stay within their limits (B, M). speed (B,) m/s now."""
    steps = torch.diff(trajectories, dim=-2, prepend=torch.zeros_like(trajectories[..., :1, :]))
    velocity = steps / STEP_SECONDS
    start = torch.stack([speed, torch.zeros_like(speed)], dim=-1)[:, None, None]
    velocity = torch.cat([start.expand(-1, trajectories.shape[1], -1, -1), velocity], dim=2)
    acceleration = torch.diff(velocity, dim=2) / STEP_SECONDS  # (B, M, 6, 2)
    heading = headings(trajectories)
    cosine, sine = torch.cos(heading), torch.sin(heading)
    longitudinal = acceleration[..., 0] * cosine + acceleration[..., 1] * sine
    lateral = acceleration[..., 1] * cosine - acceleration[..., 0] * sine
    jerk = torch.diff(acceleration, dim=2).norm(dim=-1) / STEP_SECONDS
    longitudinal_jerk = torch.diff(longitudinal, dim=2).abs() / STEP_SECONDS
    holds = (
        (longitudinal >= LONGITUDINAL[0]).all(-1)
        & (longitudinal <= LONGITUDINAL[1]).all(-1)
        & (lateral.abs() <= LATERAL).all(-1)
        & (jerk <= JERK).all(-1)
        & (longitudinal_jerk <= LONGITUDINAL_JERK).all(-1)
    )
    return holds.to(trajectories.dtype)


def intrusion(trajectories: Tensor, others: Tensor, margin: float) -> Tensor:
    """NC (Eq. 17) as something to descend: how far back (m), or a third of it aside, the ego would have to be
    at each step so as to keep `margin` m from everybody. trajectories (B, M, 6, 2), others (B, 6, A, 6) as
    `x, y, length, width, yaw, stands` in base_link -> (B, M, 6).

    The ego is three discs along its box. From those who move one learns when to be somewhere, never where to
    go: only the way back is descended, along the ego's headings. Else who meets somebody in a turn learns
    not to turn. Who but grazes them, and is out sooner aside, learns nothing. Around those who stand (1, else
    0) the way aside is descended as well.
    """
    heading = headings(trajectories).detach()
    centers = _box_points(trajectories, _discs(trajectories), heading)
    from_box = centers[:, :, :, :, None] - others[:, None, :, None, :, :2]  # (B, M, 6, discs, A, 2)
    yaw = others[:, None, :, None, :, 4]
    free = _turned(from_box, -yaw)
    half = others[:, None, :, None, :, 2:4] / 2 + EGO_WIDTH / 2 + margin
    ahead = heading[..., None, None] - yaw
    along = torch.stack([torch.cos(ahead), torch.sin(ahead)], dim=-1)
    fixed, stands = free.detach(), others[:, None, :, None, :, 5:] > 0.5
    on_its_way = fixed + ((free - fixed) * along).sum(-1, keepdim=True) * along
    back = _way_out(torch.where(stands, free, on_its_way), half, ahead + torch.pi)
    beside = torch.where(stands, free, fixed)
    aside = [_way_out(beside, half, ahead + turn) for turn in (torch.pi / 2, -torch.pi / 2)]
    depth = torch.minimum(back, SIDEWAYS * torch.minimum(*aside))
    inside = (fixed.abs() < half).all(-1)
    return torch.where(inside, depth, torch.zeros_like(depth)).flatten(3).amax(-1)


def _way_out(at: Tensor, half: Tensor, direction: Tensor) -> Tensor:
    """How far (m) from `at` (…, 2) in a box of `half` sizes to its edge in a direction (…): (…)."""
    unit = torch.stack([torch.cos(direction), torch.sin(direction)], dim=-1)
    # Never 0, so that who runs along an edge meets it very late.
    unit = torch.where(unit.abs() < 1e-3, torch.full_like(unit, 1e-3), unit)
    return ((unit.sign() * half - at) / unit).amin(-1)


def _turned(points: Tensor, angle: Tensor) -> Tensor:
    """Points (…, 2), turned by angles (…)."""
    cosine, sine = torch.cos(angle), torch.sin(angle)
    x, y = points.unbind(-1)
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=-1)


def _discs(like: Tensor) -> Tensor:
    """Their middles (3, 2) in the ego's box."""
    reach = (EGO_LENGTH - EGO_WIDTH) / 2
    return like.new_tensor([[-reach, 0.0], [0.0, 0.0], [reach, 0.0]])


def _box_points(trajectories: Tensor, points: Tensor, heading: Tensor | None = None) -> Tensor:
    """Points (A, 2) of the ego's box around its middle, at every waypoint: (B, M, 6, A, 2)."""
    heading = headings(trajectories) if heading is None else heading
    cosine, sine = torch.cos(heading)[..., None], torch.sin(heading)[..., None]
    ahead, left = points[:, 0] + EGO_MIDDLE_AHEAD, points[:, 1]
    moved = torch.stack([cosine * ahead - sine * left, sine * ahead + cosine * left], dim=-1)
    return trajectories[..., None, :] + moved


def _footprint(trajectories: Tensor, grid: BevGrid, heading: Tensor | None = None) -> Tensor:
    """Points all over the box, no further apart than a cell."""
    counts = [max(2, int(size / grid.resolution) + 2) for size in (EGO_LENGTH, EGO_WIDTH)]
    ahead = torch.linspace(-EGO_LENGTH / 2, EGO_LENGTH / 2, counts[0], device=trajectories.device)
    left = torch.linspace(-EGO_WIDTH / 2, EGO_WIDTH / 2, counts[1], device=trajectories.device)
    points = torch.cartesian_prod(ahead, left).to(trajectories.dtype)
    return _box_points(trajectories, points, heading)


def _corners(trajectories: Tensor) -> Tensor:
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, -1], [-1, 1]], device=trajectories.device)
    size = torch.tensor([EGO_LENGTH, EGO_WIDTH], device=trajectories.device) / 2
    return _box_points(trajectories, (signs * size).to(trajectories.dtype))


def _at(values: Tensor, points: Tensor, grid: BevGrid, outside: bool) -> Tensor:
    """values (B, M or 1, 6, X, Y) bool at points (B, M, 6, A, 2) -> (B, M, 6, A)."""
    x = ((points[..., 0] - grid.x_min) / grid.resolution).floor().long()
    y = ((points[..., 1] - grid.y_min) / grid.resolution).floor().long()
    inside = (x >= 0) & (x < grid.cells_x) & (y >= 0) & (y < grid.cells_y)
    cell = x.clamp(0, grid.cells_x - 1) * grid.cells_y + y.clamp(0, grid.cells_y - 1)
    flat = values.flatten(3).expand(-1, points.shape[1], -1, -1)
    found = flat.gather(3, cell)
    return torch.where(inside, found, torch.full_like(found, outside))
