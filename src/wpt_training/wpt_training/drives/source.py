"""Opens a drive wherever it lies: a nuScenes folder, a rosbag2, or the simulator."""

from __future__ import annotations

from pathlib import Path

from wpt_training.drives.drive import Drive
from wpt_training.drives.frame import DriveError

SIMULATED = "simulated"


def open_drive(source: str, cache: Path | None = None) -> Drive:
    """`source`: `DIR` or `DIR:SCENE` of nuScenes, a bag's folder or file, or `simulated[:SEED or
    ROUTE]`: the first seconds of a route of the simulated world.

    A simulated drive's images are written to `cache` (a folder of the system's temporary ones if
    None). Raises DriveError.
    """
    head, _, tail = source.partition(":")
    if head == SIMULATED:
        from wpt_training.simulator.recording import simulated_drive

        return simulated_drive(tail or "0", cache)
    path = Path(source)
    if path.exists() and is_bag(path):
        from wpt_training.drives.bag_reader import read_bag

        return read_bag(path)
    if not Path(head).is_dir():
        raise DriveError(f"{source}: neither a nuScenes folder nor a bag, nor simulated[:SEED]")
    from wpt_training.drives.nuscenes_drive import NuScenesDrives

    drives = NuScenesDrives(Path(head))
    return drives.drive(tail or drives.scene_names[0])


def is_bag(path: Path) -> bool:
    """Whether a path looks like a rosbag2: its folder's metadata, or the storage file."""
    return path.suffix in (".mcap", ".db3") or (path / "metadata.yaml").is_file() or any(path.glob("*.mcap"))
