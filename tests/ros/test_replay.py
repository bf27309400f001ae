"""A bag over topics into the planner gives the plans that the same bag gives without a ROS graph."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest

from wpt_planner.calibration import save_rig
from wpt_training.drives.bag_reader import read_bag
from wpt_training.drives.bag_writer import write_bag
from wpt_training.evaluation.offline import evaluate_drive

from harness import _domains, environment, node_command

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def bag(small_drive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bag") / "bag"
    write_bag(small_drive, folder)
    return folder


def replay(bundle, bag, folder, **parameters) -> dict:
    """Planner, evaluator and replay in three processes; the evaluator's figures."""
    drive = read_bag(bag)
    save_rig(folder / "rig.yaml", list(drive.cameras))
    domain = environment(next(_domains))
    report = folder / "report.json"
    log = (folder / "log.txt").open("w")
    commands = [
        node_command(
            "planner_node", bundle=bundle.folder, rig_file=folder / "rig.yaml", use_sim_time=True,
            allow_untrained=True, threads=1, max_wait=0.5, guard_max_age=5.0,
        ),
        node_command("evaluator_node", json=report),
        node_command("replay_node", source=bag, wait_for_evaluator=True, plan_timeout=20.0, **parameters),
    ]  # fmt: skip
    processes = [subprocess.Popen(c, env=domain, stdout=log, stderr=log) for c in commands]
    try:
        assert processes[2].wait(90) == 0, (folder / "log.txt").read_text()
        processes[1].wait(30)
    finally:
        for process in processes:
            process.terminate()
            process.wait(20)
    return json.loads(report.read_text())


def test_replayed_plans_equal_the_offline_ones_to_the_bit(bundle, bag, tmp_path):
    report = replay(bundle, bag, tmp_path, rate=2.0)
    offline = evaluate_drive(read_bag(bag), bundle.folder)
    assert report["planned"] == report["sets"] == 50
    over_topics = {plan["stamp"]: np.array(plan["trajectory"]) for plan in report["plans"]}
    for planned in offline.passes:
        assert np.array_equal(over_topics[planned.stamp], planned.trajectory), planned.stamp
    ours = next(r for r in report["open_loop"] if r["convention"] == "uniad")
    assert ours["l2"] == pytest.approx(offline.scores[0].row("uniad").l2, abs=1e-9, nan_ok=True)


def test_a_camera_that_drops_out_in_the_replay_costs_no_plan(bundle, bag, tmp_path):
    report = replay(bundle, bag, tmp_path, rate=1.0, faults="['CAM_BACK:drop@1-3']")
    assert report["planned"] == 50
    assert report["cameras"]["CAM_BACK"]["received"] < 35


def test_a_fault_that_cannot_be_understood_ends_the_replay_with_one_line(bag):
    result = subprocess.run(
        node_command("replay_node", source=bag, faults="['CAM_TOP:drop']"),
        env=environment(next(_domains)), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "no camera CAM_TOP" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_source_that_is_not_there_ends_the_replay_with_one_line():
    result = subprocess.run(
        node_command("replay_node", source="/nowhere"),
        env=environment(next(_domains)), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "/nowhere: neither a nuScenes folder nor a bag" in result.stderr
