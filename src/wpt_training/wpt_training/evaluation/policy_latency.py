"""How long policies take, in turns in one process, so that a slow moment of the machine hits all alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wpt_planner.policy_bundle import open_bundle
from wpt_planner.policy_runtime import PolicyRuntime
from wpt_training.export import looking_along

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PolicyLatency:
    """Quantiles of one call in ms: images in, plan out, resizing included."""

    name: str
    p50: float
    p95: float
    rounds: int


def time_bundles(
    bundles: list[Path], size: tuple[int, int], rounds: int, device: str = "cpu", threads: int = 1,
    progress: Progress | None = None,
) -> list[PolicyLatency]:  # fmt: skip
    """Each bundle once a round, on random images of `size` (height, width). Raises BundleError."""
    runtimes = [PolicyRuntime(open_bundle(folder), device, threads) for folder in bundles]
    generator = np.random.default_rng(0)
    for runtime in runtimes:
        runtime.prepare(*size)
        runtime.images[:] = generator.integers(0, 255, runtime.images.shape, dtype=np.uint8)
    seconds = np.zeros((rounds, len(runtimes)))
    for number in range(rounds):
        for column, runtime in enumerate(runtimes):
            seconds[number, column] = _call(runtime, number)
        if progress is not None:
            progress(number + 1, rounds)
    kept = seconds[rounds // 10 :] * 1e3
    middle, high = np.percentile(kept, (50, 95), axis=0)
    return [
        PolicyLatency(folder.name, float(middle[i]), float(high[i]), len(kept))
        for i, folder in enumerate(bundles)
    ]


def _call(runtime: PolicyRuntime, number: int) -> float:
    cameras = len(runtime.bundle.manifest.cameras)
    focal = runtime.images.shape[2] * 0.7
    intrinsics = np.array(
        [[focal, 0, runtime.images.shape[2] / 2], [0, focal, runtime.images.shape[1] / 2], [0, 0, 1]]
    )
    poses = np.tile(np.eye(4), (cameras, 1, 1))
    for camera in range(cameras):
        poses[camera] = looking_along(2 * np.pi * camera / cameras).numpy()
    pose = np.eye(4)
    pose[0, 3] = number * 0.8
    output = runtime.run(
        number * 100_000_000,
        pose,
        8.0,
        0.0,
        np.ones(cameras, bool),
        np.tile(intrinsics, (cameras, 1, 1)),
        poses,
        2,
    )
    return output.seconds
