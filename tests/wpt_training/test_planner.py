"""The plan decoder: what a plan reads of the BEV, and where."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from wpt_training.models.bev_encoder import bev_cell_centers, sample_bev
from wpt_training.models.config import PlannerConfig
from wpt_training.models.planner import AROUND, Overview, PlanDecoder

from conftest import SMALL

GRID = SMALL.bev  # 8 x 8 cells of 8 m: x from -16, y from -32
CELLS = GRID.cells_x * GRID.cells_y
BLIND = PlannerConfig(layers=0, heads=2, overview=False, refinements=1)
NORTH = torch.tensor([[8.0, 0.0, 0.0, 1.0]])  # 8 m/s: an untrained draft leads straight on to 24 m


def test_the_bev_at_a_cells_middle_is_that_cell_and_nothing_outside():
    bev = torch.arange(CELLS, dtype=torch.float32)[None, :, None].repeat(1, 1, GRID.channels)
    centers = bev_cell_centers(GRID)
    torch.testing.assert_close(sample_bev(bev, centers[None], GRID), bev)
    assert sample_bev(bev, torch.tensor([[[-30.0, 0.0], [0.0, 40.0]]]), GRID).abs().max() == 0.0


@given(st.floats(0.0, 1.0))
def test_between_two_cells_the_bev_is_their_mixture(share):
    bev = torch.arange(CELLS, dtype=torch.float32)[None, :, None].repeat(1, 1, GRID.channels)
    first, second = bev_cell_centers(GRID)[[9, 10]]  # neighbours aside, 8 m from each other
    found = sample_bev(bev, (first + share * (second - first))[None, None], GRID)
    torch.testing.assert_close(found, torch.full_like(found, 9.0 + share), atol=1e-4, rtol=0)


def queries_with(cell: int | None) -> torch.Tensor:
    """Plan queries where one cell of the BEV holds something."""
    torch.manual_seed(0)
    decoder = PlanDecoder(GRID, 3, BLIND)
    bev = torch.zeros(1, CELLS, GRID.channels)
    if cell is not None:
        bev[0, cell] = 1.0
    return decoder(bev, torch.tensor([2]), NORTH).queries


def test_a_plan_is_made_anew_by_what_lies_along_its_draft_and_not_by_what_lies_elsewhere():
    centers = bev_cell_centers(GRID)
    ahead = int((centers - torch.tensor([20.0, 4.0])).norm(dim=1).argmin())
    behind = int((centers - torch.tensor([-12.0, -28.0])).norm(dim=1).argmin())
    assert not torch.allclose(queries_with(ahead), queries_with(None))
    assert torch.equal(queries_with(behind), queries_with(None))


def test_each_candidate_looks_along_its_own_draft():
    torch.manual_seed(0)
    decoder = PlanDecoder(GRID, 3, BLIND.model_copy(update={"queries": 2}))
    # The second candidate's draft leads aside: 5 m a step.
    torch.nn.init.zeros_(decoder.refinements[0].head.mlp[0].weight)
    decoder.refinements[0].head.mlp[0].weight.data[0, 0] = 1.0
    decoder.refinements[0].head.mlp[-1].weight.data[1::2, 0] = 5.0
    offset = torch.zeros(2, GRID.channels)
    offset[1, 0] = 100.0
    found = decoder(torch.zeros(1, CELLS, GRID.channels), torch.tensor([2]), NORTH, offset)
    assert found.drafts.shape == (1, 1, 2, 6, 2)
    assert found.drafts[0, 0, 1, -1, 1] > 20 + found.drafts[0, 0, 0, -1, 1]


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


def test_an_overview_is_one_vector_of_a_bev_of_any_size():
    for cells in (8, 32, 50):
        grid = GRID.model_copy(update={"cells_x": cells, "cells_y": cells})
        assert Overview(grid)(torch.randn(2, cells * cells, grid.channels)).shape == (2, grid.channels)


def test_a_plan_looks_at_itself_and_to_both_sides_alike():
    assert AROUND[0] == (0, 0)
    assert {(x, -y) for x, y in AROUND} == set(AROUND)
