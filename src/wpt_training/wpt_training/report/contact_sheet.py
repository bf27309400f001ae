"""One frame from each scenario type: the front camera and the world from above."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from wpt_planner.geometry import Array
from wpt_training.report.pictures import Picture
from wpt_training.report.video import EpisodePainter
from wpt_training.simulator.episode import Episode, drive_route
from wpt_training.simulator.expert import ExpertPolicy
from wpt_training.simulator.scenarios import build_route, type_names

COLUMNS = 6
TILE = (330, 150)  # pixels
_BAND = 34  # of the painter's title
_FRONT = (slice(_BAND, _BAND + 270), slice(480, 960))


def contact_sheet(path: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Drives the first route of each type with the expert up to the middle of its scenario."""
    tiles = []
    names = type_names()
    for done, type_name in enumerate(names):
        tiles.append(_tile(type_name))
        if progress is not None:
            progress(done + 1, len(names))
    while len(tiles) % COLUMNS:
        tiles.append(np.full_like(tiles[0], 255))
    rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])


def _tile(type_name: str) -> Picture:
    scenario = build_route(f"{type_name}-0")
    painter = EpisodePainter()
    pictures: list[Picture] = []
    low, high = scenario.zone
    # In front of lights and signs while they can be seen, else in the midst of it.
    share = 0.05 if scenario.traffic.signals.lights or scenario.stop_signs else 0.4
    middle = low + share * (high - low)

    def watch(episode: Episode, plan: Array | None) -> None:
        if plan is not None and not pictures and scenario.route.project(episode.ego.position)[0] >= middle:
            pictures.append(painter.paint(episode, plan))
            episode.fail("seen enough")

    drive_route(scenario, ExpertPolicy(), watch)
    width, height = TILE
    tile = np.full((height + 22, width, 3), 255, np.uint8)
    if pictures:
        picture = pictures[0]
        bev = picture[_BAND:, 1440:]
        margin = bev.shape[1] // 5  # the world's edge says little at this size
        bev = bev[-bev.shape[1] + margin :, margin:-margin]
        front = width - height + 10
        tile[:height, :front] = _fitted(picture[_FRONT], front, height)
        tile[:height, front:] = _fitted(bev, width - front, height)
    font, grey = cv2.FONT_HERSHEY_SIMPLEX, (20, 20, 20)
    cv2.putText(tile, type_name, (4, height + 15), font, 0.38, grey, 1, cv2.LINE_AA)
    return tile


def _fitted(picture: Picture, width: int, height: int) -> Picture:
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
