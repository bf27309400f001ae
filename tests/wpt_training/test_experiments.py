"""What is measured anew, and what is known already."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest

from wpt_training.evaluation import experiments


class MeasuredAnew(Exception):
    """Stands for minutes of measuring."""


@pytest.fixture
def result(tmp_path, monkeypatch):
    """The figures of an experiment by its name, in a run whose `teacher` has been measured."""

    def measure(*_):
        raise MeasuredAnew

    monkeypatch.setattr(experiments, "_made_by", lambda _: {"steps": 3})
    monkeypatch.setattr(experiments, "shares_perception", measure)

    def figures(name, validation="some", sums=("count", "l2", "collision", "obb")):
        known = {"experiment": "teacher", "made_by": {"steps": 3}, "validation": "some"}
        known["by_drive"] = dict.fromkeys(sums)
        (tmp_path / "open_loop-teacher.json").write_text(json.dumps(known))
        return experiments.open_loop_result(
            experiments.EXPERIMENTS[name], tmp_path, None, validation, nullcontext
        )

    return figures


def test_experiments_with_the_same_run_and_choice_share_their_figures(result):
    assert result("teacher gt-occ")["experiment"] == "teacher gt-occ"
    assert result("teacher gt-occ")["made_by"] == {"steps": 3}


def test_another_choice_or_other_drives_are_measured(result):
    for name, validation in (("teacher by score", "some"), ("teacher", "others")):
        with pytest.raises(MeasuredAnew):
            result(name, validation)


def test_figures_without_all_the_sums_behind_them_are_measured_again(result):
    with pytest.raises(MeasuredAnew):
        result("teacher", sums=("count", "l2", "collision"))
