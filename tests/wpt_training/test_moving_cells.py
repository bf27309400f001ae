"""Who is met if everybody keeps on, and the same way braked: hand-worked."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wpt_planner.policy_bundle import BevGrid
from wpt_training.drives.occupancy import CLASSES
from wpt_training.models.braking import braked
from wpt_training.models.moving_cells import MovingCells, met, moving_cells
from wpt_training.models.present_head import PresentView

GRID = BevGrid(cells_x=4, cells_y=6, channels=1, resolution=2.0, x_min=0.0, y_min=-6.0)


def straight(speed: float) -> torch.Tensor:
    """(1, 1, 6, 2)."""
    return (torch.arange(1, 7)[:, None] * torch.tensor([0.5 * speed, 0.0]))[None, None]


def crossing(occupied: float = 0.9) -> MovingCells:
    """At 11.44 m ahead and 5 m to the left, crossing to the right at 5 m/s: in front after 1 s."""
    return MovingCells(
        torch.tensor([[[11.44, 5.0]]]), torch.tensor([[[0.0, -5.0]]]), torch.tensor([[occupied]])
    )


def test_who_crosses_the_way_is_met_at_the_step_at_which_both_are_there():
    # At 10 m/s the box's middle is at 10 + 1.44 m after 1 s, the second step.
    meeting = met(straight(10.0), crossing())[0, 0, :, 0]
    assert meeting[1].item() == pytest.approx(0.9, abs=0.03)
    assert meeting[[0, 2, 3, 4, 5]].max().item() < 0.01


def test_who_is_there_a_second_later_meets_nobody_within_a_reach_but_who_is_ahead():
    # After 1 s at 5 m/s the middle is at 6.44 m, the box's end at 8.48 m: 3 m short of who crosses.
    meeting = met(straight(5.0), crossing())[0, 0, 1]
    assert meeting[:2].max().item() < 0.01
    assert meeting[2].item() == pytest.approx(0.9, abs=0.03)  # the box, 5 m longer


def test_a_metre_beside_is_met_by_the_wider_reach_to_the_share_of_its_edge():
    # Edge of the box at 0.925 m, of the wider reach at 1.625 m.
    beside = MovingCells(torch.tensor([[[11.44, 1.625]]]), torch.zeros(1, 1, 2), torch.ones(1, 1))
    meeting = met(straight(10.0), beside)[0, 0, 1]
    assert meeting[1].item() == pytest.approx(0.5, abs=1e-4)
    assert meeting[0].item() == pytest.approx(torch.sigmoid(torch.tensor(-0.7 / 0.25)).item(), abs=1e-4)


def test_meeting_descends_as_the_way_turns_aside():
    ways = straight(10.0).requires_grad_()
    cells = MovingCells(torch.tensor([[[11.44, 0.8]]]), torch.zeros(1, 1, 2), torch.ones(1, 1))
    met(ways, cells)[0, 0, 1, 0].backward()
    assert ways.grad[0, 0, 1, 1].item() > 0  # further left is nearer to him


def test_the_likeliest_cells_come_with_their_place_and_the_reverse_of_their_backward_flow():
    logits = torch.zeros(1, len(CLASSES), 4, 6)
    logits[:, 0] = 8.0  # free
    logits[0, 1, 2, 5] = 12.0  # x = 5, y = -6 + 11 = 5
    flow = torch.zeros(1, 2, 4, 6)
    flow[0, :, 2, 5] = torch.tensor([-3.0, 1.0])
    cells = moving_cells(PresentView(logits, flow).present(), GRID, 3)
    assert cells.position.shape == (1, 3, 2)
    assert cells.position[0, 0].tolist() == [5.0, 5.0]
    assert cells.velocity[0, 0].tolist() == [3.0, -1.0]
    assert cells.occupied[0, 0].item() == pytest.approx(1 / (1 + torch.e**-4), abs=0.01)
    assert cells.occupied[0, 1:].max().item() < 0.01


def test_braking_stands_where_its_speed_has_fallen_to_nothing():
    # 8 m/s, 0.5 1/s: 8·(t − t²/4) m until it stands after 2 s, 8 m on.
    way = braked(straight(8.0), torch.tensor([[0.5]]))
    assert way[0, 0, :, 0].tolist() == pytest.approx([3.5, 6.0, 7.5, 8.0, 8.0, 8.0])
    assert torch.equal(braked(straight(8.0), torch.zeros(1, 1)), straight(8.0))


@given(st.floats(0.05, 2.0), st.integers(0, 1000))
def test_braked_ways_stay_on_the_way_and_behind(rate, seed):
    way = torch.randn(1, 6, 2, generator=torch.Generator().manual_seed(seed)).cumsum(1)
    slower = braked(way, torch.tensor([rate]))
    knots = torch.cat([torch.zeros(1, 1, 2), way], dim=1)
    start, end = knots[0, :-1], knots[0, 1:]
    for point in slower[0]:
        share = ((point - start) * (end - start)).sum(1) / (end - start).square().sum(1)
        nearest = start + share.clamp(0, 1)[:, None] * (end - start)
        assert (nearest - point).norm(dim=1).min().item() < 1e-4
    lengths = torch.diff(slower, dim=1, prepend=torch.zeros(1, 1, 2)).norm(dim=2).sum()
    assert lengths.item() <= torch.diff(knots, dim=1).norm(dim=2).sum().item() + 1e-4
