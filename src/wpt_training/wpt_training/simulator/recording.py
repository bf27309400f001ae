"""A simulated route as a Drive: images on disk, the ego's track, labels."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from wpt_planner.calibration import CameraCalibration
from wpt_planner.geometry import Array, planar_matrix
from wpt_planner.plan_guard import PLAN_TIMES
from wpt_training.drives.drive import Drive
from wpt_training.drives.ego_track import EgoTrack
from wpt_training.drives.frame import Boxes, CameraView, DriveError, MapGeometry, StoredImage
from wpt_training.simulator.cameras import Rendering
from wpt_training.simulator.episode import Episode, Policy, RouteLog, drive_route
from wpt_training.simulator.expert import ExpertPolicy
from wpt_training.simulator.lapses import LapsingExpert
from wpt_training.simulator.rig import simulated_rig
from wpt_training.simulator.scenarios import build_route, route_seed
from wpt_training.simulator.scene import Scene
from wpt_training.simulator.traffic import STEP

START_STAMP = 1_700_000_000_000_000_000  # ns
ANNOTATED_EVERY = 5  # steps: 2 Hz
ANNOTATED_AROUND = 75.0  # m
SEEN_PIXELS = 3  # fewer show nothing
_DONE = "done.json"
DEMO_TYPES = ("VanillaSignalizedTurnEncounterGreenLight", "ParkedObstacle", "ParkingCutIn", "HardBreakRoute")
DEMO_SECONDS = 12.0
DEMO_SIZE = (162, 288)
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 92]


def stamp_of(time: float) -> int:
    """ns of a simulated time."""
    return START_STAMP + round(time / STEP) * round(STEP * 1e9)


class _Recorder:
    def __init__(
        self,
        folder: Path,
        cameras: tuple[CameraCalibration, ...],
        max_seconds: float,
        progress: Callable[[float], None] | None,
        every: int,
    ) -> None:
        self.folder, self.cameras, self.every = folder, cameras, every
        self.max_seconds, self.progress = max_seconds, progress
        self.scene: Scene | None = None
        self.map: MapGeometry | None = None
        done = folder / _DONE
        # What an earlier call rendered it need not render again; what was seen in it lies beside it.
        self._rendered = done.is_file()
        self.hits: dict[str, dict[str, int]] = {}
        if self._rendered:
            self.hits = json.loads(done.read_text()).get("hits", {})
        self.states: list[list[float]] = []
        self.annotations: list[tuple[int, Boxes]] = []
        self.commands: list[tuple[int, int]] = []

    def watch(self, episode: Episode, plan: Array | None) -> None:
        if plan is None:
            return
        stamp, ego = stamp_of(episode.time), episode.ego
        self.map = episode.scenario.traffic.map.geometry
        if not self._rendered and len(self.states) % self.every == 0:
            self._render(episode)
        if len(self.states) % ANNOTATED_EVERY == 0:
            boxes = episode.scenario.traffic.boxes()
            boxes = replace(boxes, hits=self._hits(boxes))
            near = np.hypot(*(boxes.centers[:, :2] - ego.middle).T) < ANNOTATED_AROUND
            self.annotations.append((stamp, boxes.chosen(near)))
        self.commands.append((stamp, episode.command()))
        self.states.append(_state_of(episode))
        if self.progress is not None:
            self.progress(episode.time)
        if len(self.states) >= round(self.max_seconds / STEP):
            episode.fail("recorded long enough")

    def _render(self, episode: Episode) -> None:
        if self.scene is None:
            self.scene = Scene(episode.scenario, self.cameras)
        rendering = self.scene.look(episode.ego.map_from_ego)
        if len(self.states) % ANNOTATED_EVERY == 0:
            self._count(rendering)
        for camera, image in zip(self.cameras, rendering.images.cpu().numpy(), strict=True):
            path = self.folder / f"{camera.name}_{len(self.states):04d}.jpg"
            try:
                path.write_bytes(cv2.imencode(".jpg", image[..., ::-1], _JPEG)[1].tobytes())
            except OSError as error:
                raise DriveError(
                    f"{path}: {error.strerror}: free some space or choose another folder"
                ) from None

    def _count(self, rendering: Rendering) -> None:
        assert self.scene is not None
        counts = torch.bincount(rendering.instance[rendering.instance >= 0].long())
        self.hits[str(len(self.states))] = {
            track: int(count)
            for track, count in zip(self.scene.track_ids, counts.tolist(), strict=False)
            if count >= SEEN_PIXELS
        }

    def _hits(self, boxes: Boxes) -> NDArray[np.int64] | None:
        """Pixels of each box's track, in the images made at this step; None if there are none."""
        counts = self.hits.get(str(len(self.states)))
        if counts is None:
            return None
        return np.array([counts.get(track, 0) for track in boxes.track_ids], dtype=np.int64)

    def drive(self, name: str) -> Drive:
        states = np.array(self.states)
        ego = _ego_track(states)
        stamps = ego.stamps
        poses = [planar_matrix(*state[1:4]) for state in self.states]
        streams = tuple(
            tuple(
                CameraView(
                    int(stamps[i]), camera, StoredImage(self.folder / f"{camera.name}_{i:04d}.jpg"), poses[i]
                )
                for i in range(0, len(states), self.every)
            )
            for camera in self.cameras
        )
        return Drive(
            name,
            self.cameras,
            streams,
            ego,
            tuple(self.annotations),
            tuple(self.commands),
            self.map,
        )


def record_route(
    name: str,
    folder: Path,
    cameras: tuple[CameraCalibration, ...],
    policy: Policy | None = None,
    max_seconds: float = 60.0,
    progress: Callable[[float], None] | None = None,
    every: int = 1,
    sway: float = 0.0,
    lapses: bool = False,
) -> tuple[Drive, RouteLog]:
    """Drives a route with the expert (or `policy`) and keeps what the cameras saw in `folder`, unless
    they are there from an earlier, finished call. Images are made at `every` n-th step of 0.1 s;
    `sway` as Episode has it; with `lapses` the expert looks away now and then, and frames hold what he would
    have done had he paid attention from then on.

    Raises DriveError for an unknown route or a folder that cannot be written, and if the policy
    failed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DriveError(f"{folder}: {error.strerror}: choose another folder") from None
    recorder = _Recorder(folder, cameras, max_seconds, progress, every)
    lapsing = LapsingExpert(_lapses_seed(name)) if lapses and policy is None else None
    driver = policy or lapsing or ExpertPolicy()
    log = drive_route(build_route(name), driver, recorder.watch, sway=sway)
    if "policy" in log.failure:
        raise DriveError(f"route {name}: {log.failure}")
    (folder / _DONE).write_text(
        json.dumps({"route": name, "sets": len(recorder.states), "hits": recorder.hits}) + "\n"
    )
    drive = recorder.drive(name)
    if lapsing is not None:
        times = [state[0] for state in recorder.states[::every] if lapsing.looks_away_after(state[0])]
        drive = replace(drive, better={stamp_of(time): attentive(name, time, sway) for time in times})
    return drive, log


def attentive(name: str, since: float, sway: float) -> tuple[Array, NDArray[np.bool_]]:
    """What the driver who lapses would have done from `since` s on had he paid attention, with traffic that
    answers to that: (6, 2) in base_link, and which steps he drove before the route's end (6,)."""
    states: list[list[float]] = []

    def watch(episode: Episode, plan: Array | None) -> None:
        if plan is None:
            return
        states.append(_state_of(episode))
        if episode.time > since + PLAN_TIMES[-1] - 1e-6:
            episode.fail("seen enough")

    driver = LapsingExpert(_lapses_seed(name), awake_from=since)
    drive_route(build_route(name), driver, watch, sway=sway)
    return _ego_track(np.array(states)).future(stamp_of(since))


def _lapses_seed(name: str) -> int:
    return route_seed(name) + 5


def _state_of(episode: Episode) -> list[float]:
    """A row of what `_ego_track` takes."""
    ego = episode.ego
    return [episode.time, ego.x, ego.y, ego.yaw, ego.speed, ego.yaw_rate]


def _ego_track(states: Array) -> EgoTrack:
    """Of states (S, 6): time, x, y, yaw, speed, yaw rate."""
    zeros, half = np.zeros(len(states)), states[:, 3] / 2
    return EgoTrack(
        np.array([stamp_of(time) for time in states[:, 0]], dtype=np.int64),
        np.column_stack([states[:, 1:3], zeros]),
        np.column_stack([np.cos(half), zeros, zeros, np.sin(half)]),
        states[:, 4],
        states[:, 5],
    )


def simulated_drive(which: str, folder: Path | None = None) -> Drive:
    """The first seconds of a route: of a type that its number (a seed) selects, or by its name.
    Images go to `folder`, a temporary one if None."""
    demo = f"demo/{DEMO_TYPES[int(which) % len(DEMO_TYPES)]}-{which}" if which.isdigit() else ""
    name = demo or which
    folder = folder or Path(tempfile.gettempdir()) / f"wpt-simulated-{which.replace('/', '-')}"
    return record_route(name, folder, simulated_rig(*DEMO_SIZE), max_seconds=DEMO_SECONDS)[0]
