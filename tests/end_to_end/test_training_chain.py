"""The whole chain in its smoke size, as a user types it: data, every recipe, export, evaluation, tables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from test_commands import cli, wpt

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(420)]
SETTINGS = ("--config", "smoke", "--store")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the five runs, and the store they were trained on."""
    folder = tmp_path_factory.mktemp("chain")
    said = wpt("train", "all", *SETTINGS, folder / "store", "--out", folder / "train", timeout=400)
    assert "waiting for data" in said
    return folder


def losses(folder, recipe, part="loss"):
    lines = (folder / "train" / recipe / "log.jsonl").read_text().splitlines()
    return [json.loads(line)[part] for line in lines]


def test_losses_fall_in_every_recipe(trained):
    for recipe in ("world", "baseline-t", "teacher", "baseline", "student"):
        values = losses(trained, recipe)
        assert min(values[-3:]) < 0.8 * values[0], recipe


def test_rewards_teach_teacher_and_student_and_nobody_else(trained):
    for recipe, taught in (("teacher", True), ("student", True), ("baseline-t", False), ("baseline", False)):
        lines = (trained / "train" / recipe / "log.jsonl").read_text().splitlines()
        assert all(("avoidance" in json.loads(line)) == taught for line in lines), recipe


def test_the_student_beats_constant_velocity_on_routes_it_has_not_seen(trained):
    figures = trained / "open_loop.json"
    said = cli(
        "evaluate", "open-loop", trained / "train" / "student", *SETTINGS, trained / "store",
        "--json", figures,
    )  # fmt: skip
    assert "ego-status MLP" in said
    rows = {
        row["name"]: row for row in json.loads(figures.read_text())["rows"] if row["convention"] == "uniad"
    }
    assert rows["student"]["l2"][3] < rows["constant velocity"]["l2"][3]


def test_two_processes_under_torchrun_train_one_network(trained):
    arguments = ["train", "baseline", *SETTINGS, trained / "store", "--out", trained / "two"]
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "wpt_training.cli",
         *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    alone, together = (
        json.loads((trained / folder / "baseline" / "checkpoint.json").read_text())
        for folder in ("train", "two")
    )
    assert together["finished"]
    assert together["steps"] == alone["steps"]
    # One process logs, and each step saw the batch that one process alone would have seen.
    first = [
        json.loads((trained / f / "baseline" / "log.jsonl").read_text().splitlines()[0])
        for f in ("train", "two")
    ]
    assert [line["step"] for line in first] == [10, 10]
    assert first[1]["plan"] == pytest.approx(first[0]["plan"], rel=0.3)


def test_a_trained_bundle_says_what_trained_it(trained):
    cli("export", trained / "bundle", "--checkpoint", trained / "train" / "teacher")
    manifest = json.loads((trained / "bundle" / "manifest.json").read_text())
    assert manifest["trained"] is True
    assert manifest["training"]["data"] == "simulated:smoke:8"
    assert manifest["training"]["config"]["teacher"]["candidates"] == 4


def test_forecasting_and_latency_are_measured(trained):
    said = cli(
        "evaluate", "forecasting", trained / "train" / "world", *SETTINGS, trained / "store",
        "--json", trained / "forecasting.json",
    )  # fmt: skip
    assert "movable objects" in said
    scores = json.loads((trained / "forecasting.json").read_text())
    assert 0 <= scores["present"] <= 100
    error, speed = scores["moving"]["vehicle"]
    assert error > 0
    assert speed > 0.5
    said = cli(
        "evaluate", "latency", trained / "train" / "student", trained / "train" / "teacher", "--rounds", 10,
        "--size", "128x224", "--json", trained / "latency.json",
    )  # fmt: skip
    policies = json.loads((trained / "latency.json").read_text())["policies"]
    # Which is slower says the benchmark; here, that both were measured, under their names and as often.
    assert [policy["name"] for policy in policies] == ["student", "teacher"]
    assert policies[0]["rounds"] == policies[1]["rounds"] > 0
    assert all(0 < policy["p50"] <= policy["p95"] for policy in policies)


def test_a_table_is_reproduced_from_what_is_trained(trained):
    runs = trained / "reproduce" / "seed0"
    runs.mkdir(parents=True)
    shutil.copytree(trained / "train" / "world", runs.parent / "world")
    for recipe in ("teacher", "baseline", "student"):
        shutil.copytree(trained / "train" / recipe, runs / recipe)
    cli(
        "reproduce", "--table", 4, "--table", 8, "--seeds", "0", *SETTINGS, trained / "store",
        "--out", trained / "reproduce", "--report", trained / "report"
    )  # fmt: skip
    page = (trained / "report" / "reproduce.md").read_text()
    assert "Table 8: Training cost" in page
    assert (trained / "report" / "reproduce_table8.png").is_file()
    tables = json.loads((trained / "report" / "reproduce.json").read_text())["tables"]
    # One teacher, measured in every way: what it was trained with is the same in all rows.
    assert [row["name"] for row in tables["4"]["rows"]][-2:] == ["teacher without comfort", "teacher"]
    assert len({row["made_by"][0]["made_by"]["run"] for row in tables["4"]["rows"]}) == 1
    rows = tables["8"]["rows"]
    assert [row["published"] for row in rows][-1] == [168.0, None]
    assert rows[-1]["mean"][0] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "wolrd"), "recipe wolrd: unknown"),
        (("train", "world", "--data", "/nowhere", "--store", "STORE"), "/nowhere: no such folder"),
        (("train", "student", "--config", "CONFIG"), "world_model: Extra inputs"),
        (("reproduce", "--table", "12"), "WPT has tables 1 to 9"),
        (("export", "OUT", "--checkpoint", "/nowhere"), "train it first"),
        (("evaluate", "latency", "/nowhere"), "train it first"),
    ],
)
def test_bad_input_gets_one_clear_line(arguments, said, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({"world_model": {"layers": 3}}))
    named = {"STORE": tmp_path / "store", "CONFIG": wrong, "OUT": tmp_path / "out"}
    assert said in cli(*(named.get(a, a) for a in arguments), code=1)
