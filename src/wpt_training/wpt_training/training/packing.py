"""From a data source to a packed store, in parallel: a nuScenes folder, bags, or simulated routes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from wpt_training.drives.frame import DriveError
from wpt_training.drives.occupancy import OccupancyGrid
from wpt_training.drives.source import is_bag, open_drive
from wpt_training.simulator.dataset import one_thread
from wpt_training.training.store import open_store, pack_drive, packed_names

SIMULATED = "simulated:"
EVERY = 5  # steps of 0.1 s between images: 2 Hz, as nuScenes' keyframes
TRAINED_ON = "train/"  # whose drives show what it is like to brake late, too
SWAY = 0.02  # rad, so that demonstrations show how to come back to the lane
Progress = Callable[[int, int], None]


def prepare_store(
    source: str,
    root: Path,
    grid: OccupancyGrid,
    image_size: tuple[int, int],
    workers: int = 1,
    progress: Progress | None = None,
) -> list[str]:
    """Packs what is not packed yet; returns the drives of `source` in the store.

    `source`: `simulated:ROUTES` (ROUTES as `wpt data simulate` takes them), a nuScenes folder, or a
    folder of bags. Raises DriveError.
    """
    open_store(root, grid, image_size)
    names = drive_names(source)
    there = set(packed_names(root))
    missing = [name for name in names if packed_as(name) not in there]
    done = len(names) - len(missing)
    if progress is not None:
        progress(done, len(names))
    for _ in _each([(source, name, root, grid, image_size) for name in missing], workers):
        done += 1
        if progress is not None:
            progress(done, len(names))
    there = set(packed_names(root))
    kept = [packed_as(name) for name in names if packed_as(name) in there]
    if not kept:
        raise DriveError(f"{source}: no drive in it has an annotated moment with a recorded future")
    return kept


def packed_as(name: str) -> str:
    """The folder a drive is packed into."""
    return name.replace("/", "-")


def drive_names(source: str) -> list[str]:
    """The drives of a source. Raises DriveError if it is of no known format."""
    if source.startswith(SIMULATED):
        from wpt_training.simulator.scenarios import route_names

        return route_names(source.removeprefix(SIMULATED))
    path = Path(source)
    if not path.is_dir():
        raise DriveError(
            f"{source}: no such folder; data is a nuScenes folder, a folder of bags, or simulated:train:88"
        )
    bags = sorted(entry.name for entry in path.iterdir() if is_bag(entry))
    if bags:
        return bags
    from wpt_training.drives.nuscenes_drive import NuScenesDrives

    return NuScenesDrives(path).scene_names


def _each(jobs: list[tuple[str, str, Path, OccupancyGrid, tuple[int, int]]], workers: int) -> Iterator[None]:
    if workers == 1 or len(jobs) <= 1:
        for job in jobs:
            _pack(*job)
            yield
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=one_thread) as pool:
        futures = [pool.submit(_pack, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                yield
        except DriveError:
            pool.shutdown(cancel_futures=True)
            raise


def _pack(source: str, name: str, root: Path, grid: OccupancyGrid, image_size: tuple[int, int]) -> None:
    if not source.startswith(SIMULATED):
        path = Path(source)
        bag = path / name
        pack_drive(open_drive(str(bag) if bag.exists() else f"{path}:{name}"), root, grid, image_size)
        return
    from wpt_training.simulator.recording import record_route
    from wpt_training.simulator.rig import simulated_rig
    from wpt_training.simulator.scenarios import route_seed

    jitter = np.random.default_rng(route_seed(name) + 3)
    with tempfile.TemporaryDirectory(prefix="wpt-pack-") as folder:
        drive, _ = record_route(
            name, Path(folder), simulated_rig(*image_size, jitter), every=EVERY, sway=SWAY,
            lapses=name.startswith(TRAINED_ON),
        )  # fmt: skip
        pack_drive(drive, root, grid, image_size)
