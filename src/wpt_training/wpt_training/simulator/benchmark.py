"""What `wpt bench simulator` times, in processes of its own."""

from __future__ import annotations

import time

import numpy as np

ROUTES = [
    "ParkedObstacle-0", "SignalizedJunctionLeftTurn-1", "HighwayExit-0", "PedestrianCrossing-0",
    "EnterActorFlow-3", "ConstructionObstacle-1", "YieldToEmergencyVehicle-0", "T_Junction-0",
]  # fmt: skip


def time_route(name: str, frames: int) -> tuple[float, float]:
    """Median s of rendering a frame, and of all else (expert, traffic, vehicle) in it."""
    from wpt_training.simulator.episode import Episode
    from wpt_training.simulator.expert import ExpertPolicy
    from wpt_training.simulator.rig import simulated_rig
    from wpt_training.simulator.scenarios import build_route
    from wpt_training.simulator.scene import Scene

    scenario = build_route(name)
    scene, episode, expert = Scene(scenario, simulated_rig()), Episode(scenario, "expert"), ExpertPolicy()
    looks, steps = [], []
    for _ in range(frames):
        started = time.perf_counter()
        scene.look(episode.ego.map_from_ego)
        looked = time.perf_counter()
        if not episode.done:
            episode.step(expert.plan(episode.observe()))
        looks.append(looked - started)
        steps.append(time.perf_counter() - looked)
    return float(np.median(looks)), float(np.median(steps))
