"""One winding road with two lanes each way: its lanes as functions of the way along it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from wpt_planner.geometry import Array
from wpt_training.drives.frame import MapGeometry
from wpt_training.simulator.cameras import Ground

Picture = NDArray[np.float32]

LANE_WIDTH = 3.5  # m
LANES = 2  # each way
EDGE = LANES * LANE_WIDTH + 0.6  # m from the centre line to the kerb
SIDEWALK = 3.0  # m
RESOLUTION = 0.1  # m per cell of the ground's picture


class Road:
    """`length` m, bends drawn by `generator`. Offsets are to the left of the centre line; traffic
    keeps right, so the ego's lanes have negative ones."""

    def __init__(self, length: float, generator: np.random.Generator) -> None:
        self.way = np.arange(0.0, length, 0.5)
        bends = np.repeat(generator.uniform(-1 / 45, 1 / 45, int(length // 40) + 1), 80)[: len(self.way)]
        bends[:80] = 0.0
        # Curvature changes linearly, as on real roads: a box filter over 30 m.
        curvature = np.convolve(bends, np.ones(60) / 60, mode="same")
        self.heading = np.concatenate([[0.0], np.cumsum(curvature[:-1] * 0.5)])
        steps = 0.5 * np.stack([np.cos(self.heading), np.sin(self.heading)], axis=1)
        self.center = np.vstack([np.zeros(2), np.cumsum(steps[:-1], axis=0)])

    def pose(self, way: Array, offset: Array) -> tuple[Array, Array]:
        """Positions (..., 2) and headings (...) at `way` m along and `offset` m to the left."""
        x = np.interp(way, self.way, self.center[:, 0])
        y = np.interp(way, self.way, self.center[:, 1])
        heading = np.interp(way, self.way, self.heading)
        return (
            np.stack([x - offset * np.sin(heading), y + offset * np.cos(heading)], axis=-1),
            heading,
        )

    def line(self, offset: float) -> Array:
        """A polyline (n, 2) parallel to the centre."""
        return self.pose(self.way, np.full_like(self.way, offset))[0]

    def geometry(self) -> MapGeometry:
        """The road as every drive's map has it."""
        lanes = [(i + 0.5) * LANE_WIDTH for i in range(LANES)]
        return MapGeometry(
            drivable=(np.vstack([self.line(EDGE), self.line(-EDGE)[::-1]]),),
            dividers=tuple(self.line(i * LANE_WIDTH) for i in range(-LANES, LANES + 1)),
            center_lines=tuple(self.line(-d) for d in lanes) + tuple(self.line(d)[::-1] for d in lanes),
        )

    def ground(self, generator: np.random.Generator) -> Ground:
        """The ground's picture: grass, pavement, asphalt, markings."""
        low = self.center.min(axis=0) - 60.0
        size = np.ceil((self.center.max(axis=0) + 60.0 - low) / RESOLUTION).astype(int)
        picture: Picture = np.empty((size[0], size[1], 3), np.float32)
        picture[:] = (0.33, 0.45, 0.24)
        self._fill(picture, low, EDGE + SIDEWALK, (0.62, 0.60, 0.57))
        self._fill(picture, low, EDGE, (0.30, 0.30, 0.32))
        # Grain, so that the road's texture moves with it; coarse and fine.
        for scale, strength in ((40, 0.05), (8, 0.05), (2, 0.04)):
            noise = generator.normal(0, strength, (size[0] // scale + 1, size[1] // scale + 1))
            grain = cv2.resize(noise.astype(np.float32), (int(size[1]), int(size[0])))
            picture *= 1 + grain[..., None]
        for i in range(-LANES, LANES + 1):
            dashed = abs(i) not in (0, LANES)
            color = (0.85, 0.75, 0.3) if i == 0 else (0.9, 0.9, 0.9)
            self._stroke(picture, low, i * LANE_WIDTH, color, dashed)
        return Ground(
            torch.from_numpy(picture.clip(0, 1)).permute(2, 0, 1).contiguous(),
            float(low[0]),
            float(low[1]),
            RESOLUTION,
        )

    def _cells(self, points: Array, low: Array) -> Array:
        # cv2 wants (column, row), with 4 bits after the point.
        return np.round((points - low)[:, ::-1] / RESOLUTION * 16).astype(np.int32)

    def _fill(self, picture: Picture, low: Array, edge: float, color: tuple[float, ...]) -> None:
        polygon = np.vstack([self.line(edge), self.line(-edge)[::-1]])
        cv2.fillPoly(picture, [self._cells(polygon, low)], color, lineType=cv2.LINE_AA, shift=4)

    def _stroke(
        self, picture: Picture, low: Array, offset: float, color: tuple[float, ...], dashed: bool
    ) -> None:
        cells = self._cells(self.line(offset), low)
        # 3 m painted, 6 m not.
        pieces = [cells[i : i + 7] for i in range(0, len(cells), 18)] if dashed else [cells]
        cv2.polylines(picture, pieces, False, color, thickness=2, lineType=cv2.LINE_AA, shift=4)
