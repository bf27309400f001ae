"""Many routes: in this process, on a local Ray or on a cluster; finished ones are kept."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wpt_training.drives.frame import DriveError
from wpt_training.evaluation.closed_loop import RouteScore, score_route
from wpt_training.evaluation.policies import make_policy, policy_identity
from wpt_training.simulator.episode import RouteLog, drive_route
from wpt_training.simulator.rig import rig_from
from wpt_training.simulator.scenarios import abilities_of, build_route
from wpt_training.simulator.traffic import STEP
from wpt_training.whole_files import written_whole

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RunOptions:
    """`plan_timeout` s a plan may take, `video` the folder for MP4s, `rig_file` the cameras,
    `plan_every` s a new plan is made."""

    plan_timeout: float = 30.0
    video: Path | None = None
    rig_file: Path | None = None
    plan_every: float = STEP


def run_route(name: str, policy: str, options: RunOptions) -> RouteScore:
    """Drives one route. Whatever goes wrong is its failure, so that the others go on."""
    type_name = name.rpartition("/")[2].rpartition("-")[0]
    try:
        driver = make_policy(policy, options.rig_file)
        scenario = build_route(name)
        how = (options.plan_timeout, 0.0, options.plan_every)
        if options.video is None:
            return score_route(drive_route(scenario, driver, None, *how))
        from wpt_training.report.video import VideoWatcher

        path = options.video / f"{name.replace('/', '-')}.mp4"
        with VideoWatcher(path, options.plan_every, driver) as watcher:
            return score_route(drive_route(scenario, driver, watcher.watch, *how))
    except Exception as error:
        abilities_of(type_name)
        log = RouteLog(name, type_name, policy)
        log.failure = f"could not be driven: {type(error).__name__}: {error}"
        return score_route(log)


def evaluate_routes(
    names: list[str],
    policy: str,
    folder: Path,
    workers: int = 1,
    ray_address: str | None = None,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> list[RouteScore]:
    """Scores in the order of `names`, the same whatever the number of workers.

    Each finished route lies in `folder` as one file and is not driven again: a killed run goes on.
    Raises BundleError, CalibrationError, and DriveError if the folder cannot be written or the
    cluster cannot be reached.
    """
    options = options or RunOptions()
    identity = policy_identity(policy)
    if options.rig_file is not None:
        rig_from(options.rig_file)  # a rig that cannot be used is said once, not per route
        identity += f"-rig-{hashlib.sha256(options.rig_file.read_bytes()).hexdigest()[:8]}"
    if options.plan_every != STEP:
        identity += f"-every-{options.plan_every:g}s"
    kept = folder / identity
    try:
        kept.mkdir(parents=True, exist_ok=True)
        if options.video is not None:
            options.video.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DriveError(f"{kept}: {error.strerror}: choose another folder") from None
    scores = {name: score for name in names if (score := _read(kept, name)) is not None}
    if options.video is not None:
        scores = {}  # a video needs the route driven again
    missing = [name for name in names if name not in scores]
    if progress is not None:
        progress(len(scores), len(names))
    for score in _drive(missing, policy, workers, ray_address, options):
        _write(kept, score)
        scores[score.name] = score
        if progress is not None:
            progress(len(scores), len(names))
    return [scores[name] for name in names]


def _drive(
    names: list[str],
    policy: str,
    workers: int,
    ray_address: str | None,
    options: RunOptions,
) -> Iterator[RouteScore]:
    if not names:
        return
    if ray_address is None and (workers == 1 or len(names) == 1):
        for name in names:
            yield run_route(name, policy, options)
        return
    if ray_address is not None:
        _check_reachable(ray_address)
    import ray

    try:
        if ray_address is None:
            ray.init(
                num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
            )
        else:
            ray.init(address=ray_address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise DriveError(f"Ray at {ray_address}: {error}: is `ray start --head` running there?") from None
    try:
        # One thread each: the workers already use all cores.
        environment = {"env_vars": {"OMP_NUM_THREADS": "1"}}
        remote: Any = ray.remote(run_route).options(num_cpus=1, runtime_env=environment)
        absolute = str(Path(policy).resolve()) if Path(policy).is_dir() else policy
        waiting = [remote.remote(name, absolute, options) for name in names]
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            yield from ray.get(done)
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself waits minutes for a cluster that is not there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address == "auto" or not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=5.0).close()
    except OSError as error:
        raise DriveError(f"Ray at {address}: {error}: is `ray start --head` running there?") from None


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name.replace('/', '__')}.json"


def _read(folder: Path, name: str) -> RouteScore | None:
    path = _path(folder, name)
    if not path.is_file():
        return None
    try:
        return RouteScore.from_json(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError):
        return None  # of another version: driven again


def _write(folder: Path, score: RouteScore) -> None:
    path = _path(folder, score.name)
    try:
        with written_whole(path) as partial:
            partial.write_text(json.dumps(score.to_json(), indent=1) + "\n")
    except OSError as error:
        raise DriveError(f"{path}: {error.strerror}: free some space or choose another folder") from None
