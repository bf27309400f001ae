"""Finds files this package installs, in a colcon workspace as in a plain checkout."""

from __future__ import annotations

from pathlib import Path

BUNDLES = ("student", "teacher", "baseline")


def shared_file(relative: str) -> Path:
    """E.g. `config/planner.yaml`; the workspace's own file where the package is not installed."""
    try:
        from ament_index_python.packages import get_package_share_directory

        installed = Path(get_package_share_directory("wpt_planner")) / relative
        if installed.exists():
            return installed
    except (ImportError, LookupError, OSError):
        # No ROS here, not installed, or AMENT_PREFIX_PATH is not set.
        pass
    return Path(__file__).resolve().parents[1] / relative


def bundle_folder(name: str) -> Path:
    """Where a bundle lies: `student` (also ""), `teacher` and `baseline` are those that come with this
    package, trained on simulated drives; everything else is a path."""
    name = name or BUNDLES[0]
    return shared_file(f"config/bundles/{name}") if name in BUNDLES else Path(name)
