import yaml

from wpt_planner.parameters import PlannerParameters, bounds

from conftest import ROOT


def test_the_parameter_file_lists_every_parameter_with_its_default():
    content = yaml.safe_load((ROOT / "config" / "planner.yaml").read_text())
    listed = content["/**"]["ros__parameters"]
    assert PlannerParameters(**listed) == PlannerParameters()
    assert set(listed) == set(PlannerParameters.model_fields)


def test_the_parameter_file_comments_every_parameter():
    lines = (ROOT / "config" / "planner.yaml").read_text().splitlines()
    for name in PlannerParameters.model_fields:
        index = next(i for i, line in enumerate(lines) if line.strip().startswith(f"{name}:"))
        assert lines[index - 1].strip().startswith("#")


def test_bounds_are_closed_ranges_from_the_model():
    assert bounds("tolerance") == (0.0, 1.0)
    assert bounds("threads") == (0, 256)
    assert bounds("bundle") == (None, None)


def test_the_identity_changes_with_any_value():
    assert PlannerParameters(threads=1).identity != PlannerParameters(threads=2).identity
