"""The workspace as colcon and launch see it."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

from conftest import ROOT

pytestmark = pytest.mark.end_to_end
PACKAGES = ("wpt_msgs", "wpt_planner", "wpt_training")


@pytest.mark.parametrize("symlink", [False, True])
def test_colcon_builds_and_installs_where_ros2_looks(tmp_path, symlink):
    # wpt_msgs took minutes of g++ when ./wpt made the environment; its build folder there serves
    # as the proof for it, the Python packages are built both ways here.
    install = tmp_path / "install"
    command = [
        str(Path(sys.executable).parent / "colcon"), "--log-base", str(tmp_path / "log"), "build",
        "--base-paths", str(ROOT / "src"), "--packages-select", "wpt_planner", "wpt_training",
        "--build-base", str(tmp_path / "build"), "--install-base", str(install),
        *(["--symlink-install"] if symlink else []),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    planner = install / "wpt_planner"
    for name in ("planner", "replay", "evaluator"):
        executable = planner / "lib" / "wpt_planner" / name
        assert os.access(executable, os.X_OK), executable
    share = planner / "share" / "wpt_planner"
    assert (share / "launch" / "planner.launch.py").read_text()
    assert (share / "launch" / "replay.launch.py").is_file()
    assert (share / "config" / "planner.yaml").is_file()
    assert (share / "config" / "rig_nuscenes.yaml").is_file()
    assert (share / "package.xml").is_file()
    for package in ("wpt_planner", "wpt_training"):
        assert (install / package / "share/ament_index/resource_index/packages" / package).is_file()
    assert (install / "wpt_training/lib/wpt_training/wpt").is_file()
    assert (install / "wpt_training/share/wpt_training/config/training/tiny.yaml").is_file()


def test_the_messages_are_built_by_rosidl_and_every_field_is_commented():
    prefix = Path(sys.prefix)
    assert (prefix / "share/ament_index/resource_index/rosidl_interfaces/wpt_msgs").is_file()
    for path in (ROOT / "src/wpt_msgs/msg").glob("*.msg"):
        assert (prefix / "share/wpt_msgs/msg" / path.name).read_text() == path.read_text()
        for line in path.read_text().splitlines():
            assert not line.strip() or "#" in line, f"{path.name}: {line}"


@pytest.mark.parametrize("package", PACKAGES)
def test_package_manifests_are_format_3_and_apache(package):
    manifest = xml.etree.ElementTree.parse(ROOT / "src" / package / "package.xml").getroot()
    assert manifest.get("format") == "3"
    assert manifest.findtext("license") == "Apache-2.0"
    assert manifest.findtext("name") == package


@pytest.mark.parametrize("name", ["planner", "replay"])
def test_launch_files_compile_and_name_their_arguments(name):
    text = (ROOT / "launch" / f"{name}.launch.py").read_text()
    compile(text, name, "exec")
    wanted = {
        "planner": [
            "bundle",
            "params_file",
            "use_sim_time",
            "namespace",
            "teacher",
            "autostart",
            "log_level",
        ],
        "replay": ["bundle", "source", "rate", "loop", "faults", "json"],
    }[name]
    for argument in wanted:
        assert f'"{argument}"' in text
