"""The workspace as colcon and launch see it."""

from __future__ import annotations

import os
import shutil
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
    install = tmp_path / "install"
    _colcon(tmp_path, ["wpt_planner", "wpt_training"], tmp_path / "build", install, symlink)
    planner = install / "wpt_planner"
    for name in ("planner", "replay", "evaluator"):
        executable = planner / "lib" / "wpt_planner" / name
        assert os.access(executable, os.X_OK), executable
    share = planner / "share" / "wpt_planner"
    assert (share / "launch" / "planner.launch.py").read_text()
    assert (share / "launch" / "replay.launch.py").is_file()
    assert (share / "config" / "planner.yaml").is_file()
    assert (share / "config" / "rig_nuscenes.yaml").is_file()
    assert (share / "config" / "fastdds.xml").is_file()
    assert (share / "package.xml").is_file()
    for package in ("wpt_planner", "wpt_training"):
        assert (install / package / "share/ament_index/resource_index/packages" / package).is_file()
    assert (install / "wpt_training/lib/wpt_training/wpt").is_file()
    assert (install / "wpt_training/share/wpt_training/config/training/tiny.yaml").is_file()


@pytest.mark.parametrize("symlink", [False, True])
def test_colcon_builds_the_messages(tmp_path, symlink):
    # In the environment's own build folder: g++ needs minutes for it, ninja sees it is done. What
    # colcon cannot take over from the other way of installing is made anew, as ./wpt does it.
    build, install = Path(sys.prefix) / "build", tmp_path / "install"
    shutil.rmtree(build / "wpt_msgs" / "ament_cmake_python", ignore_errors=True)
    cmake = ["--cmake-args", "-DBUILD_TESTING=OFF", "-GNinja", f"-DPython3_EXECUTABLE={sys.executable}"]
    _colcon(tmp_path, ["wpt_msgs"], build, install, symlink, "--cmake-clean-cache", *cmake)
    share = install / "wpt_msgs" / "share"
    assert (share / "ament_index/resource_index/rosidl_interfaces/wpt_msgs").is_file()
    assert (share / "wpt_msgs/msg/PlannedTrajectory.msg").is_symlink() == symlink
    python = next((install / "wpt_msgs" / "lib").glob("python*/site-packages/wpt_msgs"))
    assert (python / "msg" / "__init__.py").is_file()
    assert list((install / "wpt_msgs" / "lib").glob("libwpt_msgs__rosidl_typesupport_fastrtps_c*"))


def _colcon(folder: Path, packages: list[str], build: Path, install: Path, symlink: bool, *more: str) -> None:
    command = [
        str(Path(sys.executable).parent / "colcon"), "--log-base", str(folder / "log"), "build",
        "--base-paths", str(ROOT / "src"), "--packages-select", *packages,
        "--build-base", str(build), "--install-base", str(install),
        *(["--symlink-install"] if symlink else []), *more,
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr


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
