"""The commands a user types, as processes."""

from __future__ import annotations

import json
import subprocess

import cv2
import pytest
import torch
from typer.testing import CliRunner

from wpt_training.cli import app
from wpt_training.drives.bag_writer import write_bag
from wpt_training.export import export_bundle
from wpt_training.models.student import Student

from conftest import KEYFRAME, ROOT, SMALL

pytestmark = pytest.mark.end_to_end


def wpt(*arguments: object, code: int = 0, timeout: float = 240) -> str:
    result = subprocess.run(
        [ROOT / "wpt", *map(str, arguments)], capture_output=True, text=True, timeout=timeout, check=False
    )
    output = result.stdout + result.stderr
    assert result.returncode == code, output
    assert "Traceback" not in output
    return output


def cli(*arguments: object, code: int = 0) -> str:
    """The same in this process, for what needs none of its own: importing torch takes seconds."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return " ".join(result.output.split())


@pytest.mark.skipif(not KEYFRAME.is_dir(), reason="nuScenes' licence keeps it out of the project")
def test_demo_on_the_real_keyframe_plans_and_draws(tmp_path):
    # The recorded car stands; this policy sets off at 3.5 m/s, so that there is a plan to be seen.
    student = Student(SMALL)
    with torch.no_grad():
        student.plan_head.mlp[-1].bias.view(6, 2)[:, 0] = 1.75
    bundle = export_bundle(student, SMALL, tmp_path / "bundle", "student", False, {"data": "none"})
    wpt("demo", "--nuscenes", KEYFRAME, "--bundle", bundle.folder, "--out", tmp_path)
    report = json.loads((tmp_path / "evaluation.json").read_text())
    assert report["planned"] == report["sets"] == 1
    picture = cv2.imread(str(tmp_path / "frame_0000.png"))
    assert picture.shape[1] > 1500
    # The plan's green lies on the road ahead: in the lower half of the front camera's tile.
    front = picture[34 : 34 + 270, 480:960].astype(int)
    green = (front[..., 1] > front[..., 2] + 60) & (front[..., 1] > front[..., 0] + 60)
    assert green[150:].sum() > 1000
    assert green[:130].sum() < 50


def test_demo_on_a_bag_prints_tables_and_writes_json(bundle, small_drive, tmp_path):
    write_bag(small_drive, tmp_path / "bag")
    figures = tmp_path / "figures.json"
    out = wpt(
        "demo", "--bag", tmp_path / "bag", "--bundle", bundle.folder, "--out", tmp_path / "out",
        "--json", figures,
    )  # fmt: skip
    assert "convention uniad" in out
    assert "convention stp3" in out
    assert "constant velocity" in out
    assert json.loads(figures.read_text())["planned"] == 50


def test_bag_commands_write_describe_and_evaluate(bundle, small_drive, tmp_path):
    bag = tmp_path / "bag"
    write_bag(small_drive, bag)
    wpt("bag", "info", bag, "--json", tmp_path / "info.json")
    facts = json.loads((tmp_path / "info.json").read_text())
    assert facts["cameras"]["CAM_FRONT"]["images"] == 50
    assert facts["cameras"]["CAM_FRONT"]["rate"] == pytest.approx(10.0)
    out = wpt("bag", "evaluate", bag, "--bundle", bundle.folder, "--json", tmp_path / "plans.json")
    assert "50 plans" in out
    assert len(json.loads((tmp_path / "plans.json").read_text())["plans"]) == 50
    wpt("bag", "write", bag, tmp_path / "copy")
    assert (tmp_path / "copy" / "metadata.yaml").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bag", "info", "/nowhere"), "no such bag"),
        (("bag", "evaluate", "simulated:x", "--bundle", "b"), "route x: unknown"),
        (("demo", "--nuscenes", "/tmp", "--out", "OUT"), "holds none of"),
        (("export", "OUT", "--untrained", "--config", "/nowhere.yaml"), "no such file"),
    ],
)
def test_bad_input_gets_one_clear_line(arguments, said, tmp_path):
    arguments = [str(tmp_path) if a == "OUT" else a for a in arguments]
    assert said in cli(*arguments, code=1)


def test_the_script_names_what_is_missing(tmp_path):
    def setup(**environment: str) -> str:
        result = subprocess.run(
            ["/bin/bash", ROOT / "wpt", "--help"],
            env={"WPT_VENV": str(tmp_path / "venv"), **environment},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert result.returncode == 1
        return result.stderr

    (tmp_path / "bin").mkdir()
    for tool in ("cat", "cksum", "dirname", "bash"):
        found = subprocess.run(["which", tool], capture_output=True, text=True, check=True).stdout.strip()
        (tmp_path / "bin" / tool).symlink_to(found)
    only_tools = str(tmp_path / "bin")
    assert "needs Python 3.10" in setup(PATH=only_tools, WPT_PYTHON="python9")
    python = str(ROOT / ".venv" / "bin" / "python")
    import sys

    assert "needs g++" in setup(PATH=only_tools, WPT_PYTHON=sys.executable or python)
