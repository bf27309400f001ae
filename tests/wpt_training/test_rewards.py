"""Rewards against hand calculations: cells of 0.5 m, x from -16 to 48, y from -32 to 32, in base_link."""

from __future__ import annotations

import math

import pytest
import torch

from wpt_planner.policy_bundle import BevGrid
from wpt_training.models.config import RewardConfig
from wpt_training.models.reward_model import final_reward
from wpt_training.rewards import (
    comfort,
    drivable_area_compliance,
    ego_progress,
    headings,
    imitation_target,
    intrusion,
    no_collision,
    simulation_rewards,
    time_to_collision,
)

GRID = BevGrid(cells_x=128, cells_y=128, channels=1, resolution=0.5, x_min=-16.0, y_min=-32.0)
STEPS = torch.arange(1, 7) * 0.5


def straight(speed: float) -> torch.Tensor:
    """(6, 2) straight on."""
    return torch.stack([speed * STEPS, torch.zeros(6)], dim=1)


def stopping() -> torch.Tensor:
    """From 6 m/s with 2 m/s²: stands after 9 m."""
    times = STEPS.clamp(max=3.0)
    return torch.stack([6 * times - times**2, torch.zeros(6)], dim=1)


def area(x0: float, x1: float, y0: float, y1: float) -> torch.Tensor:
    """(128, 128) bool, True in a rectangle of metres."""
    x = GRID.x_min + (torch.arange(128) + 0.5) * 0.5
    y = GRID.y_min + (torch.arange(128) + 0.5) * 0.5
    return ((x > x0) & (x < x1))[:, None] & ((y > y0) & (y < y1))[None]


def occupied(*rectangles: tuple[float, float, float, float]) -> torch.Tensor:
    """(1, 1, 6, 128, 128): the same at every step."""
    cells = torch.zeros(128, 128, dtype=torch.bool)
    for rectangle in rectangles:
        cells |= area(*rectangle)
    return cells.expand(1, 1, 6, -1, -1)


ROAD = area(-16, 48, -5, 5)[None]
PARKED = (18.0, 22.5, -1.0, 1.0)  # a car on our lane, its rear 18 m ahead


def test_a_candidate_through_a_parked_car_collides_and_one_that_stops_before_does_not():
    # 6 m/s: at 3 s base_link is at 18 m, the box reaches to 18 + 1.44 + 2.04 = 21.5 m. The one that
    # stops reaches to 9 + 3.5 = 12.5 m.
    plans = torch.stack([straight(6.0), stopping()])[None]
    assert no_collision(plans, occupied(PARKED), GRID).tolist() == [[0.0, 1.0]]


def test_the_box_turns_with_the_plan():
    # Driving to the left its length lies along y: what stands 3 m beside the path is passed, what
    # stands 1.5 m ahead of its last point is met.
    plan = torch.stack([torch.full((6,), 0.0), 2.0 * torch.arange(1, 7)], dim=1)[None, None]
    beside, ahead = (3.0, 4.0, 8.0, 12.0), (-0.5, 0.5, 13.0, 14.0)
    assert no_collision(plan, occupied(beside), GRID).item() == 1.0
    assert no_collision(plan, occupied(ahead), GRID).item() == 0.0


def test_a_collision_counts_at_the_step_at_which_the_place_is_taken():
    plans = straight(6.0)[None, None]
    cells = occupied(PARKED).clone()
    cells[:, :, 4:] = False  # it drives off after 2 s; we get there at 3 s
    assert no_collision(plans, cells, GRID).item() == 1.0


def test_a_candidate_that_leaves_the_road_is_not_compliant():
    leaving = torch.stack([3.0 * torch.arange(1, 7), 1.0 * torch.arange(1, 7)], dim=1).float()
    plans = torch.stack([straight(6.0), leaving])[None]
    assert drivable_area_compliance(plans, ROAD, GRID).tolist() == [[1.0, 0.0]]


def test_progress_is_relative_to_the_furthest_and_nothing_without_safety():
    plans = torch.stack([straight(8.0), straight(6.0), straight(4.0)])[None]
    # 24, 18, 12 m: 1, 0.75, 0.5; the first is not allowed to count.
    assert ego_progress(plans, torch.tensor([[0.0, 1.0, 1.0]])).tolist() == [[0.0, 0.75, 0.5]]


def test_time_to_collision_looks_ahead_along_the_heading_and_only_on_the_road():
    # The box ends at 12.5 m; 5 m more reach 17.5 m: not the car at 18 m, but one at 16 m.
    plan = stopping()[None, None]
    assert time_to_collision(plan, occupied(PARKED), ROAD, GRID, 5.0).item() == 1.0
    assert time_to_collision(plan, occupied((16.0, 20.0, -1.0, 1.0)), ROAD, GRID, 5.0).item() == 0.0
    nearby = occupied((16.0, 20.0, -1.0, 1.0))
    assert time_to_collision(plan, nearby, torch.zeros_like(ROAD), GRID, 5.0).item() == 1.0


def test_comfort_fails_for_too_much_acceleration_or_jerk():
    # From 6 m/s: braking by 2 m/s² from the first step on; 8 m/s at once is (8 - 6) / 0.5 = 4 m/s²;
    # standing still at once is -12 m/s².
    smooth = straight(6.0)
    jerky = straight(6.0) + torch.stack([torch.tensor([0, 0, 1.5, 0, 0, 0.0]), torch.zeros(6)], dim=1)
    plans = torch.stack([smooth, straight(8.0), torch.zeros(6, 2), jerky])[None]
    assert comfort(plans, torch.tensor([6.0])).tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_a_turn_is_comfortable_until_its_lateral_acceleration_is_too_high():
    def turning(speed: float, rate: float) -> torch.Tensor:
        angle = rate * STEPS
        return speed / rate * torch.stack([torch.sin(angle), 1 - torch.cos(angle)], dim=1)

    # Lateral acceleration is speed times rate: 2 and 6 m/s², the limit 4.89.
    plans = torch.stack([turning(10.0, 0.2), turning(10.0, 0.6)])[None]
    assert comfort(plans, torch.tensor([10.0])).tolist() == [[1.0, 0.0]]


def test_imitation_targets_are_a_softmax_of_mean_distances():
    expert, valid = straight(4.0)[None], torch.ones(1, 6, dtype=torch.bool)
    plans = torch.stack([straight(4.0), straight(4.0) + torch.tensor([0.0, 1.0])])[None]
    target = imitation_target(plans, expert, valid)
    # Distances 0 and 1 m: 1 / (1 + e⁻¹) = 0.7311.
    assert target[0].tolist() == pytest.approx([0.7311, 0.2689], abs=1e-4)
    valid[0, 3:] = False
    far = plans.clone()
    far[0, 1, 3:] += 100.0  # beyond the recording: does not count
    assert imitation_target(far, expert, valid)[0].tolist() == pytest.approx([0.7311, 0.2689], abs=1e-4)


def test_standing_keeps_the_heading():
    plan = torch.tensor([[1.0, 1.0], [2.0, 2.0], [2.0, 2.0], [2.0, 2.0], [2.0, 2.0], [2.0, 3.0]])
    quarter = torch.pi / 4
    expected = [quarter, quarter, quarter, quarter, quarter, 2 * quarter]
    assert headings(plan).tolist() == pytest.approx(expected)
    assert headings(torch.zeros(6, 2)).tolist() == [0.0] * 6


def test_all_rewards_come_in_one_call_for_every_batch_and_candidate():
    plans = torch.stack([straight(6.0), stopping()])[None].repeat(3, 1, 1, 1)
    rewards = simulation_rewards(
        plans,
        occupied(PARKED).expand(3, -1, -1, -1, -1),
        ROAD.expand(3, -1, -1),
        GRID,
        torch.full((3,), 6.0),
        5.0,
    )
    assert rewards.stacked().shape == (3, 2, 5)
    assert rewards.ep[0].tolist() == pytest.approx([0.0, 9 / 18])


def test_final_reward_is_wotes_sum_of_logarithms():
    # 0.1 ln 0.5 + 0.5 ln 0.9 + 0.5 ln 0.8 + ln(5·0.7 + 2·0.6 + 5·0.4) = -0.0693 - 0.0527 - 0.1116 + 1.9021
    simulation = torch.tensor([0.9, 0.8, 0.4, 0.7, 0.6])
    value = final_reward(RewardConfig(), torch.tensor(0.5).log(), simulation)
    assert value.item() == pytest.approx(1.6685, abs=1e-3)


def test_a_reward_that_is_left_out_changes_nothing():
    config = RewardConfig(simulation=["dac", "ep"])
    low, high = torch.tensor([0.1, 0.8, 0.4, 0.1, 0.1]), torch.tensor([0.9, 0.8, 0.4, 0.9, 0.9])
    zero = torch.zeros(())
    assert final_reward(config, zero, low) == final_reward(config, zero, high)


CAR_AHEAD = (20.0, 0.0, 4.5, 2.0, 0.0)  # x, y, length, width, yaw: its rear 17.75 m ahead


def others(*boxes: tuple[float, ...], stand: bool = False) -> torch.Tensor:
    """(1, 6, A, 6): the same at every step."""
    table = torch.tensor([(*box, float(stand)) for box in boxes], dtype=torch.float32)
    return table.expand(1, 6, -1, -1)


def test_intrusion_is_how_far_back_the_ego_would_have_to_be():
    # At 2.5 s base_link is at 15 m, the foremost disc's middle 1.44 + (4.084 - 1.85)/2 = 2.557 m further: its
    # rim at 17.557 + 0.925 = 18.482 m is 0.732 m behind the car's rear. At 2 s it is 2.27 m before it.
    found = intrusion(straight(6.0)[None, None], others(CAR_AHEAD), margin=0.0)[0, 0]
    assert found[:4].tolist() == [0.0] * 4
    assert found[4].item() == pytest.approx(0.732, abs=1e-3)
    # At 3 s it is 3 m further.
    assert found[5].item() == pytest.approx(3.732, abs=1e-3)
    # With room to keep it is deeper by that.
    wider = intrusion(straight(6.0)[None, None], others(CAR_AHEAD), margin=0.5)[0, 0]
    assert wider[4].item() == pytest.approx(1.232, abs=1e-3)


def test_who_scrapes_along_somebody_is_out_of_it_sideways():
    # Its middle 1.8 m aside: 1 + 0.925 - 1.8 = 0.125 m deep, and sideways counts threefold.
    beside = (18.0, 1.8, 4.5, 2.0, 0.0)
    assert intrusion(straight(6.0)[None, None], others(beside), 0.0)[0, 0, 5].item() == pytest.approx(0.375)


def test_intrusion_knows_which_way_a_box_is_turned():
    # Across our way and 3 m aside: 2.25 m long ways reach to 0.75 m from the middle line, 1 m across do not.
    turned, along = (20.0, 3.0, 4.5, 2.0, torch.pi / 2), (20.0, 3.0, 4.5, 2.0, 0.0)
    plan = straight(6.0)[None, None]
    assert intrusion(plan, others(turned), 0.0).amax() > 0.1
    assert intrusion(plan, others(along), 0.0).amax() == 0.0


def test_who_brakes_descends_out_of_an_intrusion():
    plan = straight(6.0)[None, None].requires_grad_()
    intrusion(plan, others(CAR_AHEAD), 0.0).sum().backward()
    # Less x is less deep, by as much; only the steps that touch the car are moved.
    assert plan.grad[0, 0, 4:].tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert plan.grad[0, 0, :4].abs().max() == 0.0


def test_who_meets_somebody_in_a_turn_learns_to_wait_and_not_to_go_straight():
    # 30° to the left by 5 m/s, into somebody who comes towards us on the lane beside ours.
    way = 5.0 * STEPS[:, None] * torch.tensor([math.cos(math.pi / 6), 0.5])
    plan = way[None, None].clone().requires_grad_()
    intrusion(plan, others((9.0, 4.0, 4.5, 2.0, math.pi)), 0.0).sum().backward()
    touched = plan.grad[0, 0].norm(dim=-1) > 0
    assert touched.any()
    for step in plan.grad[0, 0][touched]:
        # A metre less far is a metre less deep.
        assert step.tolist() == pytest.approx([math.cos(math.pi / 6), 0.5], abs=1e-5)


def test_who_but_grazes_somebody_is_not_told_to_brake():
    plan = straight(6.0)[None, None].requires_grad_()
    depth = intrusion(plan, others((18.0, 1.8, 4.5, 2.0, 0.0)), 0.0)
    assert depth[0, 0, 5] > 0
    depth.sum().backward()
    assert plan.grad.abs().max() == 0.0


def test_who_grazes_somebody_who_stands_learns_to_keep_aside():
    # 0.125 m deep, its middle to the left: a metre to the right is three metres less.
    plan = straight(6.0)[None, None].requires_grad_()
    intrusion(plan, others((18.0, 1.8, 4.5, 2.0, 0.0), stand=True), 0.0).sum().backward()
    assert plan.grad[0, 0, 5].tolist() == [0.0, 3.0]
