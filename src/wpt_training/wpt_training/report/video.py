"""A driven route as MP4: the six cameras with the plan, beside it the world from above."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import imageio
import numpy as np
from numpy.typing import NDArray

from wpt_planner.geometry import Array, inverse
from wpt_planner.image_decoding import EncodedImage
from wpt_training.drives.frame import CameraView, Frame, StoredImage
from wpt_training.report.pictures import CANDIDATE, EXPERT, PLAN, DrawnPlan, Picture, draw_frame
from wpt_training.simulator.episode import Episode, Policy
from wpt_training.simulator.recording import stamp_of
from wpt_training.simulator.rig import simulated_rig
from wpt_training.simulator.scene import Scene

SIZE = (162, 288)
ROUTE_AHEAD = 40.0  # m of the route drawn


@dataclass(frozen=True)
class RenderedImage(StoredImage):
    """An image that was never on disk: `pixels` (H, W, 3) RGB."""

    pixels: NDArray[np.uint8] | None = None

    def read(self) -> EncodedImage:
        assert self.pixels is not None
        height, width = self.pixels.shape[:2]
        return EncodedImage(np.ascontiguousarray(self.pixels).reshape(-1), "rgb8", width, height, width * 3)


class EpisodePainter:
    """Draws what a policy sees and plans at each step of an episode."""

    def __init__(self) -> None:
        self.cameras = simulated_rig(*SIZE)
        self._scene: Scene | None = None

    def paint(
        self, episode: Episode, plan: Array, title: str = "", candidates: Array | None = None
    ) -> Picture:
        """(H, W, 3) RGB; `candidates` (M, 6, 2) of a teacher are drawn from above."""
        scenario, ego = episode.scenario, episode.ego
        if self._scene is None or self._scene.scenario is not scenario:
            self._scene = Scene(scenario, self.cameras)
        images = self._scene.look(ego.map_from_ego).images.cpu().numpy()
        stamp = stamp_of(episode.time)
        views = tuple(
            CameraView(stamp, camera, RenderedImage(Path(), pixels=pixels), ego.map_from_ego)
            for camera, pixels in zip(self.cameras, images, strict=True)
        )
        frame = Frame(
            stamp, views, ego.map_from_ego, ego.speed, ego.acceleration, ego.yaw_rate, episode.command(),
            scenario.traffic.boxes(), scenario.traffic.map.geometry, plan, np.ones(6, bool),
        )  # fmt: skip
        way, _ = scenario.route.project(ego.position)
        ahead = scenario.route.positions(np.linspace(way, min(way + ROUTE_AHEAD, scenario.end), 7)[1:])
        flat = np.column_stack([ahead, np.zeros(len(ahead)), np.ones(len(ahead))])
        route = (inverse(ego.map_from_ego) @ flat.T).T[:, :2]
        log = episode.log
        said = ", ".join(f"{entry.kind} at {entry.time:.1f} s" for entry in log.infractions)
        title = (
            title or f"{scenario.name}, {log.policy}, {episode.time:.1f} s, {log.completion:.0%} of the route"
        )
        title += f"   INFRACTIONS: {said}" if said else ""
        drawn = [
            *(
                DrawnPlan(way, "candidates", CANDIDATE, faint=True)
                for way in (() if candidates is None else candidates)
            ),
            DrawnPlan(route, "route", EXPERT),
            DrawnPlan(plan, "plan", PLAN),
        ]
        return draw_frame(frame, drawn, title)


class VideoWatcher:
    """A context manager that writes an episode to `path`, a frame for every plan, that is every `seconds`,
    played in real time; with the candidates of `policy` if it has any."""

    def __init__(self, path: Path, seconds: float, policy: Policy | None = None) -> None:
        self.path, self.policy = path, policy
        self._painter = EpisodePainter()
        self._writer = imageio.get_writer(
            path, fps=1.0 / seconds, codec="libx264", macro_block_size=2, quality=6
        )

    def watch(self, episode: Episode, plan: Array | None) -> None:
        """Called with every plan before it is followed, and once with None at the end."""
        if plan is not None and np.isfinite(plan).all():
            candidates = getattr(self.policy, "candidates", None)
            self._writer.append_data(self._painter.paint(episode, plan, candidates=candidates))

    def __enter__(self) -> VideoWatcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
