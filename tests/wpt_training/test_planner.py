"""The plan decoder: what a plan reads of the BEV, and where."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from wpt_training.models.bev_encoder import bev_cell_centers, sample_map
from wpt_training.models.config import PlannerConfig
from wpt_training.models.planner import AROUND, Overview, PlanDecoder

from conftest import SMALL

GRID = SMALL.bev  # 8 x 8 cells of 8 m: x from -16, y from -32
CELLS = GRID.cells_x * GRID.cells_y
BLIND = PlannerConfig(layers=0, heads=2, overview=False, refinements=1)
NORTH = torch.tensor([[8.0, 0.0, 0.0, 1.0]])  # 8 m/s: an untrained draft leads straight on to 24 m


# Each cell holds its number.
NUMBERED = torch.arange(CELLS, dtype=torch.float32).view(1, 1, GRID.cells_x, GRID.cells_y)


def test_a_map_at_a_cells_middle_is_that_cell_and_nothing_outside():
    found = sample_map(NUMBERED, bev_cell_centers(GRID)[None], GRID)
    torch.testing.assert_close(found[0, :, 0], NUMBERED.flatten())
    assert sample_map(NUMBERED, torch.tensor([[[-30.0, 0.0], [0.0, 40.0]]]), GRID).abs().max() == 0.0


@given(st.floats(0.0, 1.0))
def test_between_two_cells_a_map_is_their_mixture(share):
    first, second = bev_cell_centers(GRID)[[9, 10]]  # neighbours aside, 8 m from each other
    found = sample_map(NUMBERED, (first + share * (second - first))[None, None], GRID)
    assert abs(found.item() - (9.0 + share)) < 1e-4


def cell_at(x: float, y: float) -> int:
    return int((bev_cell_centers(GRID) - torch.tensor([x, y])).norm(dim=1).argmin())


def queries_with(cell: int | None) -> torch.Tensor:
    """Two plan queries where one cell of the BEV holds something; the first one's draft leads straight on,
    the other's aside to the left."""
    torch.manual_seed(0)
    decoder = PlanDecoder(GRID, 3, BLIND.model_copy(update={"queries": 2}))
    head = decoder.refinements[0].head.mlp
    torch.nn.init.zeros_(head[0].weight)
    torch.nn.init.zeros_(head[0].bias)
    head[0].weight.data[0, 0] = 1.0
    head[-1].weight.data[1::2, 0] = 0.04
    offset = torch.zeros(2, GRID.channels)
    offset[:, 0] = torch.tensor([-100.0, 100.0])  # 100 · 0.04 = 4 m aside a step
    bev = torch.zeros(1, CELLS, GRID.channels)
    if cell is not None:
        bev[0, cell] = 1.0
    found = decoder(bev, torch.tensor([2]), NORTH, offset)
    assert found.drafts[0, 0, 0, -1].tolist() == [24.0, 0.0]
    assert abs(found.drafts[0, 0, 1, -1, 1].item() - 24.0) < 1.0
    return found.queries[0]


def test_each_plan_is_made_anew_by_what_lies_along_its_own_draft():
    nothing = queries_with(None)
    # Straight on at 1.5 s and left of it by as much as the other is then; each sees 8 m to its cell's middle.
    ahead, aside, behind = (
        queries_with(cell_at(*place)) for place in ((20.0, -4.0), (20.0, 28.0), (-12.0, -28.0))
    )
    assert not torch.allclose(ahead[0], nothing[0])
    assert torch.equal(ahead[1], nothing[1])
    assert torch.equal(aside[0], nothing[0])
    assert not torch.allclose(aside[1], nothing[1])
    assert torch.equal(behind, nothing)


def test_what_is_seen_along_a_draft_does_not_bend_it():
    decoder = PlanDecoder(GRID, 3, BLIND)
    torch.nn.init.normal_(decoder.refinements[0].head.mlp[-1].weight)
    queries, drafts = decoder(torch.randn(1, CELLS, GRID.channels), torch.tensor([2]), NORTH)
    queries.pow(2).sum().backward(retain_graph=True)
    head = decoder.refinements[0].head.mlp[-1].weight
    assert head.grad is None
    drafts.sum().backward()
    assert head.grad.abs().sum() > 0


def test_without_refinements_and_overview_there_are_no_drafts():
    decoder = PlanDecoder(GRID, 3, BLIND.model_copy(update={"refinements": 0}))
    found = decoder(torch.randn(2, CELLS, GRID.channels), torch.tensor([2, 0]), NORTH.repeat(2, 1))
    assert found.drafts.shape == (2, 0, 1, 6, 2)


def test_an_overview_is_one_vector_of_a_map_of_any_size():
    for cells in (8, 32, 50):
        grid = GRID.model_copy(update={"cells_x": cells, "cells_y": cells})
        assert Overview(grid)(torch.randn(2, grid.channels, cells, cells)).shape == (2, grid.channels)


def test_a_plan_looks_at_itself_and_to_both_sides_alike():
    assert AROUND[0] == (0, 0)
    assert {(x, -y) for x, y in AROUND} == set(AROUND)
