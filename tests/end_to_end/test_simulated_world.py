"""The simulated world's commands, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from test_commands import cli, wpt

pytestmark = pytest.mark.end_to_end
ROUTES = "Accident-0,PedestrianCrossing-0,VanillaNonSignalizedTurn-0"


def test_closed_loop_is_the_same_with_one_worker_and_on_ray_and_keeps_what_is_done(tmp_path):
    def evaluate(folder: str, workers: int) -> dict:
        figures = tmp_path / f"{folder}.json"
        said = wpt(
            "evaluate", "closed-loop", "--policy", "expert", "--routes", ROUTES, "--out", tmp_path / folder,
            "--workers", workers, "--json", figures,
        )  # fmt: skip
        assert "Closed loop, 3 routes" in said
        content = json.loads(figures.read_text())
        for route in content["routes"]:
            route.pop("plan_milliseconds")
        return content

    alone, spread = evaluate("alone", 1), evaluate("ray", 2)
    assert alone == spread
    assert alone["summary"]["driving_score"] == 100.0
    # A killed run goes on: what is on disk is not driven again.
    kept = tmp_path / "alone" / "expert" / "Accident-0.json"
    content = json.loads(kept.read_text())
    kept.write_text(json.dumps({**content, "driving_score": 12.0}))
    assert evaluate("alone", 1)["routes"][0]["driving_score"] == 12.0


def small_rig(path: Path) -> Path:
    """The default rig with a quarter of its pixels: rendering is not what is tested here."""
    rig = yaml.safe_load((ROOT / "config/rig_simulated.yaml").read_text())
    for camera in rig["cameras"]:
        camera["width"] //= 2
        camera["height"] //= 2
        camera["intrinsics"] = [value / 2 for value in camera["intrinsics"]]
    path.write_text(yaml.safe_dump(rig))
    return path


@pytest.mark.timeout(240)
def test_a_bundle_drives_and_its_video_is_written(bundle, tmp_path):
    said = wpt(
        "evaluate", "closed-loop", "--policy", bundle.folder, "--routes", "VanillaNonSignalizedTurn-1",
        "--out", tmp_path / "out", "--workers", 1, "--video", tmp_path / "video",
        "--rig", small_rig(tmp_path / "rig.yaml"), "--plan-every", 0.2,
    )  # fmt: skip
    assert "driving" in said
    import imageio

    frames = imageio.get_reader(tmp_path / "video" / "VanillaNonSignalizedTurn-1.mp4")
    assert frames.count_frames() > 20
    assert frames.get_meta_data()["fps"] == 5  # a frame a plan, in real time
    assert frames.get_data(10).std() > 20


def test_simulated_data_is_written_in_parallel_and_read_back(tmp_path):
    said = wpt(
        "data", "simulate", "--routes", "train:2", "--out", tmp_path / "data", "--workers", 2,
        "--size", "64x112", "--max-seconds", 1.0,
    )  # fmt: skip
    assert "2 scenes" in said
    out = wpt("bag", "write", f"{tmp_path / 'data'}:scene-2002", tmp_path / "bag")
    assert "Traceback" not in out
    assert (tmp_path / "bag" / "metadata.yaml").is_file()


def test_simulated_bags_can_be_asked_for(tmp_path):
    wpt(
        "data", "simulate", "--routes", "PedestrianCrossing-0", "--out", tmp_path / "bags", "--workers", 1,
        "--size", "64x112", "--max-seconds", 1.0, "--bags",
    )  # fmt: skip
    wpt("bag", "info", tmp_path / "bags" / "PedestrianCrossing-0", "--json", tmp_path / "info.json")
    facts = json.loads((tmp_path / "info.json").read_text())
    assert facts["cameras"]["CAM_FRONT"]["images"] == 10


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("evaluate", "closed-loop", "--policy", "expert", "--routes", "Acident-0"), "Acident-0: unknown"),
        (("evaluate", "closed-loop", "--policy", "/nowhere", "--routes", "Accident-0"), "/nowhere"),
        (("data", "simulate", "--out", "OUT", "--size", "big"), "expected HEIGHTxWIDTH"),
        (
            ("evaluate", "closed-loop", "--policy", "expert", "--routes", "Accident-0", "--rig", "/nowhere"),
            "/nowhere",
        ),
        (
            ("evaluate", "closed-loop", "--policy", "expert", "--routes", "Accident-0,Accident-1",
             "--out", "OUT", "--ray", "127.0.0.1:1"),
            "Ray at 127.0.0.1:1",
        ),
    ],
)  # fmt: skip
def test_bad_input_gets_one_clear_line(arguments, said, tmp_path):
    arguments = [str(tmp_path) if a == "OUT" else a for a in arguments]
    assert said in cli(*arguments, code=1)
