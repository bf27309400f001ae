"""Who is where now and how he moves: the head that reads it off BEVs, and its loss by hand."""

from __future__ import annotations

import math

import pytest
import torch

from wpt_planner.policy_bundle import BevGrid
from wpt_training.evaluation.forecasting import moving_errors
from wpt_training.losses import present_loss
from wpt_training.models.present_head import PresentHead
from wpt_training.models.world_model import WorldModel

from conftest import CONFIG, SMALL

GRID = BevGrid(cells_x=4, cells_y=6, channels=3, resolution=2.0, x_min=0.0, y_min=-6.0)
PERSON, VEHICLE = 2, 1


def queue(seed: int = 0) -> torch.Tensor:
    """Three BEVs of GRID."""
    return torch.randn(1, 24, 9, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("upsample", "cells"), [(4, (16, 24)), (2.5, (10, 15))])
def test_the_present_is_seen_on_the_labels_cells(upsample, cells):
    present = PresentHead(GRID, 3, 8, upsample)(queue()).present()
    assert present.occupied.shape == (1, *cells)
    assert present.flow.shape == (1, 2, *cells)
    assert present.occupied.min() >= 0
    assert present.occupied.max() <= 1


@pytest.mark.parametrize("age", [1, 2])
def test_the_present_is_compared_with_every_remembered_bev(age):
    torch.manual_seed(0)
    head = PresentHead(GRID, 3, 8, 4)
    other = queue()
    other[..., 3 * age : 3 * (age + 1)] += 1.0
    assert not torch.equal(head(other).flow, head(queue()).flow)


def test_a_person_s_only_cell_counts_in_the_flow_as_much_as_twenty_of_a_truck():
    classes = torch.zeros(1, 4, 6, dtype=torch.long)
    classes[0, 0, 0] = PERSON
    classes[0, 1:, :] = VEHICLE
    classes[0, 0, 1:3] = VEHICLE  # 18 + 2
    flow = torch.zeros(1, 2, 4, 6)
    flow[0, 1, 0, 0] = 1.2
    seen = (torch.zeros(1, 5, 4, 6), torch.zeros(1, 2, 4, 6))
    # Equal logits: ln 5 whatever the weights; the flow's mean is 20 · 1.2 / (20 + 20).
    assert present_loss(*seen, classes, flow, 0.0).item() == pytest.approx(math.log(5))
    assert present_loss(*seen, classes, flow, 1.0).item() == pytest.approx(math.log(5) + 0.6)


def test_a_missed_person_costs_as_much_as_five_missed_cells_of_a_vehicle():
    logits = torch.zeros(1, 5, 1, 7)
    logits[:, 0] = 3.0
    person, vehicles = (torch.zeros(1, 1, 7, dtype=torch.long) for _ in range(2))
    person[0, 0, 0] = PERSON
    vehicles[0, 0, :5] = VEHICLE
    still = torch.zeros(1, 2, 1, 7)
    right = math.log(math.exp(3) + 4) - 3
    wrong = right + 3
    one, five = (present_loss(logits, still, classes, still, 0.0).item() for classes in (person, vehicles))
    assert one == pytest.approx((20 * wrong + 6 * right) / 26)
    assert five == pytest.approx((20 * wrong + 2 * right) / 22)


def test_a_world_model_without_the_head_reads_the_present_off_its_newest_state():
    torch.manual_seed(0)
    world = WorldModel(SMALL, CONFIG.world.model_copy(update={"present": 0})).eval()
    memory = torch.randn(2, SMALL.bev.cells_x * SMALL.bev.cells_y, 2 * SMALL.bev.channels)
    view = world.view(world.states(memory)[:, :1])
    now = world.now(memory)
    torch.testing.assert_close(now.flow, view.flow)
    torch.testing.assert_close(now.occupied, (1 - view.occupancy.softmax(1)[:, 0]).amax(1))


def test_the_error_of_who_moves_is_summed_over_the_cells_of_his_class_that_move():
    classes = torch.tensor([[[PERSON, PERSON, VEHICLE]]])
    flow = torch.tensor([[[[-3.0, 0.2, 6.0]], [[4.0, 0.0, 8.0]]]])  # 5, 0.2 and 10 m/s
    predicted = torch.zeros(1, 2, 1, 3)
    predicted[0, 0, 0, 2] = 6.0
    found = moving_errors(classes, flow, predicted)
    assert found[PERSON].tolist() == pytest.approx([5.0, 5.0, 1.0])
    assert found[VEHICLE].tolist() == pytest.approx([8.0, 10.0, 1.0])
    assert not found[3:].any()
