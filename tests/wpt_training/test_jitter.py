"""The ego set aside: what is seen from there, and the way back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wpt_training.training.jitter import damped, led_back, random_shifts

AHEAD = torch.stack([torch.arange(1, 7) * 4.0, torch.zeros(6)], dim=1)[None]  # 8 m/s straight on


def test_a_metre_to_the_left_leads_back_to_the_way_in_three_seconds():
    way = led_back(AHEAD, torch.tensor([[0.0, 1.0, 0.0]]))
    # From the shifted ego the recorded way lies 1 m to the right; a sixth of it is made up for each step.
    assert way[0, :, 0].tolist() == pytest.approx([4.0, 8.0, 12.0, 16.0, 20.0, 24.0])
    assert way[0, :, 1].tolist() == pytest.approx([-step / 6 for step in range(1, 7)], abs=1e-6)


def test_who_is_turned_left_sees_the_way_turn_right():
    way = led_back(AHEAD, torch.tensor([[0.0, 0.0, 0.1]]))
    assert way[0, -1].tolist() == pytest.approx([24 * math.cos(0.1), -24 * math.sin(0.1)])


@given(st.floats(-2, 2), st.floats(-0.3, 0.3))
def test_the_way_ends_where_the_expert_ends(aside: float, yaw: float):
    end = led_back(AHEAD, torch.tensor([[0.0, aside, yaw]]))[0, -1]
    rotation = torch.tensor([[math.cos(yaw), -math.sin(yaw)], [math.sin(yaw), math.cos(yaw)]])
    assert (rotation @ end + torch.tensor([0.0, aside])).tolist() == pytest.approx([24.0, 0.0], abs=1e-4)


def test_who_stands_is_not_set_aside_and_who_goes_five_metres_half_as_far():
    shift = torch.tensor([[0.0, 1.0, 0.1]]).repeat(3, 1)
    future = torch.cat([AHEAD * 0, AHEAD * 5 / 24, AHEAD])
    assert damped(shift, future)[:, 1].tolist() == pytest.approx([0.0, 0.5, 1.0])


def test_every_second_clip_is_set_aside_within_the_limit():
    shifts = random_shifts(1000, 1.5, np.random.default_rng(0))
    assert shifts[:, 1].abs().max() <= 1.5
    assert shifts[:, 2].abs().max() <= 0.15
    assert 400 < int(shifts.any(1).sum()) < 600
