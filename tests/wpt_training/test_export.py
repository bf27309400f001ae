"""What export does to a network's weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wpt_planner.policy_bundle import POLICY_FILE
from wpt_planner.policy_runtime import PolicyRuntime
from wpt_training.export import export_bundle, golden_inputs, rounded
from wpt_training.models.student import Student

from conftest import SMALL


def test_weights_are_rounded_to_the_nearest_of_so_many_bits():
    eps = 2.0**-7
    given_weights = torch.tensor([1.0 + eps, 1.0 + 1.2 * eps, 1.0 + 1.6 * eps, -1.0 - 1.6 * eps, 0.0])
    expected = [1.0 + eps, 1.0 + eps, 1.0 + 2 * eps, -1.0 - 2 * eps, 0.0]
    assert rounded(given_weights, 7).tolist() == expected
    assert torch.equal(rounded(given_weights, 23), given_weights)


@given(st.floats(-100.0, 100.0, width=32), st.integers(4, 22))
def test_rounding_moves_a_weight_by_at_most_half_its_last_bit(weight, bits):
    found = rounded(torch.tensor([weight]), bits).item()
    assert abs(found - weight) <= max(abs(weight) * 2.0**-bits / 2, 1e-38)


def test_a_bundle_of_rounded_weights_is_smaller_and_plans_nearly_the_same(tmp_path):
    torch.manual_seed(0)
    student = Student(SMALL)
    torch.nn.init.normal_(student.plan_head.mlp[-1].weight, std=0.1)
    whole = export_bundle(student, SMALL, tmp_path / "whole", "student", True, {})
    short = export_bundle(student, SMALL, tmp_path / "short", "student", True, {}, None, 7)
    sizes = [(bundle.folder / POLICY_FILE).stat().st_size for bundle in (whole, short)]
    assert sizes[1] < 0.7 * sizes[0]
    assert PolicyRuntime(short) is not None  # its golden output holds
    plans = []
    for bundle in (whole, short):
        program = torch.export.load(bundle.folder / POLICY_FILE).module()
        plans.append(program(*golden_inputs(SMALL))[0])
    difference = (plans[0] - plans[1]).abs().max().item()
    assert 0.0 < difference < 0.1  # m
    assert student.plan_decoder.position.std().item() == pytest.approx(0.02, rel=0.1)  # was not touched
