"""Finds files this package installs, in a colcon workspace as in a plain checkout."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory


def shared_file(relative: str) -> Path:
    """E.g. `config/planner.yaml`; the workspace's own file where the package is not installed."""
    try:
        installed = Path(get_package_share_directory("wpt_planner")) / relative
        if installed.exists():
            return installed
    except (LookupError, OSError):
        # Not installed, or AMENT_PREFIX_PATH is not set.
        pass
    return Path(__file__).resolve().parents[1] / relative
