"""The loop closed through ROS 2 ends as it does in one process."""

from __future__ import annotations

import json
import subprocess

import pytest

from wpt_planner.shared_files import shared_file
from wpt_training.evaluation.route_runner import RunOptions, run_route

from harness import _domains, environment, node_command

pytestmark = pytest.mark.ros
ROUTE = "VanillaNonSignalizedTurn-0"


@pytest.mark.timeout(240)
def test_a_route_through_topics_ends_as_in_one_process(bundle, tmp_path):
    domain = environment(next(_domains))
    report = tmp_path / "report.json"
    log = (tmp_path / "log.txt").open("w")
    rig_file = shared_file("config/rig_simulated.yaml")
    commands = [
        node_command(
            "planner_node", bundle=bundle.folder, rig_file=rig_file, extrinsics="file", use_sim_time=True,
            allow_untrained=True, compressed=False, threads=1, max_wait=0.5, guard_max_age=5.0,
        ),
        node_command("simulator_node", routes=ROUTE, json=report),
    ]  # fmt: skip
    processes = [subprocess.Popen(c, env=domain, stdout=log, stderr=log) for c in commands]
    try:
        assert processes[1].wait(200) == 0, (tmp_path / "log.txt").read_text()
    finally:
        for process in processes:
            process.terminate()
            process.wait(20)
    over_topics = json.loads(report.read_text())
    alone = run_route(ROUTE, str(bundle.folder), RunOptions())
    ours = over_topics["routes"][0]
    assert (ours["failure"], ours["seconds"]) == (alone.failure, alone.seconds)
    assert ours["completion"] == alone.completion
    assert ours["driving_score"] == alone.driving_score
    assert over_topics["latency_ms"]["p50"] > 0


def test_an_unknown_route_ends_the_simulator_with_one_line():
    result = subprocess.run(
        node_command("simulator_node", routes="Acident-0"),
        env=environment(next(_domains)), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "route Acident-0: unknown" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_planner_the_simulator_says_so():
    result = subprocess.run(
        node_command("simulator_node", routes="Accident-0", wait_for_planner=1.0),
        env=environment(next(_domains)), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "no planner is ready after 1 s" in result.stderr
