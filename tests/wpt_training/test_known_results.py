"""Which figures of an earlier page count, and which are made again."""

from __future__ import annotations

import json

import pytest

from wpt_training.evaluation.experiments import table_names
from wpt_training.evaluation.known_results import KnownResults
from wpt_training.evaluation.reproduce import _compared
from wpt_training.models.config import ConfigError
from wpt_training.training.checkpoint import config_identity
from wpt_training.training.recipes import described

from conftest import CONFIG


@pytest.fixture
def page(tmp_path):
    """Of a baseline's seeds 0 and 1, on `some` drives."""
    results = []
    for seed in (0, 1):
        identity = config_identity(
            described(CONFIG.model_copy(update={"seed": seed}), "baseline"), CONFIG.data.train
        )
        results.append({"made_by": {"config": identity}, "l2": [0.1, 0.2, 0.3, 0.2]})
    table = {"made_by": {"measured_on": "some"}, "rows": [{"name": "baseline", "made_by": results}]}
    path = tmp_path / "reproduce.json"
    path.write_text(json.dumps({"tables": {"1": table, "9": table}}))
    return KnownResults(path)


def test_figures_of_the_same_configuration_seeds_and_drives_are_known(page):
    found = page.of(1, "baseline", CONFIG, (0, 1), "some")
    assert [result["l2"][3] for result in found] == [0.2, 0.2]
    assert len(page.of(1, "baseline", CONFIG, (1,), "some")) == 1


def test_other_seeds_drives_recipes_and_machines_are_not(page):
    longer = CONFIG.baseline_recipe.model_copy(update={"epochs": 2})
    assert page.of(1, "baseline", CONFIG, (0, 1, 2), "some") is None
    assert page.of(1, "baseline", CONFIG, (0, 1), "others") is None
    changed = CONFIG.model_copy(update={"baseline_recipe": longer})
    assert page.of(1, "baseline", changed, (0, 1), "some") is None
    assert page.of(9, "baseline", CONFIG, (0, 1), "some") is None  # milliseconds of another machine
    assert page.of(1, "student", CONFIG, (0, 1), "some") is None


def test_who_begins_with_the_world_model_is_not_known_after_its_recipe_changed():
    longer = CONFIG.world_recipe.model_copy(update={"epochs": 2})
    changed = CONFIG.model_copy(update={"world_recipe": longer})
    assert described(changed, "baseline") == described(CONFIG, "baseline")  # it learns to see anew
    for name in ("teacher", "baseline-t", "student"):
        assert described(changed, name) != described(CONFIG, name)


def test_what_is_no_page_is_refused(tmp_path):
    (tmp_path / "list.json").write_text("[]")
    for name in ("nothing.json", "list.json"):
        with pytest.raises(ConfigError, match="no reproduce.json"):
            KnownResults(tmp_path / name)


def test_a_ratio_to_known_figures_is_said_without_what_draws_would_give():
    ours, others = {"collision": [0.0, 0.1, 0.5, 0.2]}, {"collision": [0.0, 0.2, 1.0, 0.4]}
    results = {name: [{**others, "l2": [1.0] * 4, "obb": [0.8] * 4}] for name in table_names(1, CONFIG)}
    results["student"] = [{**ours, "l2": [0.5] * 4, "obb": [0.2] * 4}]
    compared = _compared(1, results)
    first = next(c for c in compared if (c["figure"], c["others"]) == ("collision", "baseline"))
    assert (first["value"], first["low"], first["high"]) == (0.5, None, None)
    stricter = next(c for c in compared if (c["figure"], c["ours"]) == ("obb", "student"))
    assert (stricter["value"], stricter["low"]) == (0.25, None)
