"""Many simulated routes as one nuScenes folder, or as bags, made in parallel."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from wpt_training.drives.bag_writer import write_bag
from wpt_training.drives.frame import DriveError
from wpt_training.drives.nuscenes_writer import has_scene, join_scenes, write_scene
from wpt_training.simulator.recording import record_route
from wpt_training.simulator.rig import HEIGHT, WIDTH, simulated_rig
from wpt_training.simulator.scenarios import route_seed

FIRST_SCENE = 2001  # nuScenes' own go to 1110
TILE = 900.0  # m between the maps of two scenes, so that no two meet
COLUMNS = 20


def simulate_dataset(
    names: list[str],
    root: Path,
    workers: int = 1,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    bags: bool = False,
    max_seconds: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Drives the routes with the expert and writes what was seen; scenes that are there already are
    kept. Returns how many there are. Raises DriveError."""
    numbered = list(enumerate(names))
    missing = [entry for entry in numbered if not _is_done(root, *entry, bags)]
    done = len(numbered) - len(missing)
    if progress is not None:
        progress(done, len(numbered))
    for _ in _each(missing, root, workers, size, bags, max_seconds):
        done += 1
        if progress is not None:
            progress(done, len(numbered))
    shutil.rmtree(root / "partial", ignore_errors=True)
    return done if bags else join_scenes(root)


def scene_name(index: int) -> str:
    return f"scene-{FIRST_SCENE + index}"


def _is_done(root: Path, index: int, name: str, bags: bool) -> bool:
    if bags:
        return (root / _bag_name(name) / "metadata.yaml").is_file()
    return has_scene(root, scene_name(index))


def _bag_name(name: str) -> str:
    return name.replace("/", "-")


def _each(
    entries: list[tuple[int, str]],
    root: Path,
    workers: int,
    size: tuple[int, int],
    bags: bool,
    max_seconds: float,
) -> Iterator[str]:
    jobs = [(index, name, root, size, bags, max_seconds) for index, name in entries]
    if workers == 1 or len(jobs) <= 1:
        yield from (_simulate(*job) for job in jobs)
        return
    # Fresh processes: torch's threads do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=one_thread) as pool:
        futures = [pool.submit(_simulate, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        except DriveError:
            pool.shutdown(cancel_futures=True)
            raise


def one_thread() -> None:
    """One thread a process: the processes already use all cores."""
    import torch

    torch.set_num_threads(1)


def _simulate(
    index: int, name: str, root: Path, size: tuple[int, int], bags: bool, max_seconds: float
) -> str:
    """One route, whole or not at all."""
    partial = root / "partial" / f"{index}"
    shutil.rmtree(partial, ignore_errors=True)
    jitter = np.random.default_rng(route_seed(name) + 3)
    drive, _ = record_route(name, partial, simulated_rig(*size, jitter), max_seconds=max_seconds)
    if bags:
        write_bag(drive, partial / "bag")
        target = root / _bag_name(name)
        shutil.rmtree(target, ignore_errors=True)
        (partial / "bag").rename(target)
    else:
        assert drive.map is not None
        low = np.min([line.min(axis=0) for line in drive.map.drivable + drive.map.walkways], axis=0)
        tile = TILE * np.array([index % COLUMNS, index // COLUMNS])
        write_scene(drive, root, scene_name(index), tile - low + 50.0)
    shutil.rmtree(partial, ignore_errors=True)
    return name
