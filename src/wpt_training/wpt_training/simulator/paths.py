"""Polylines with a length along them: lanes, routes and the ways of people."""

from __future__ import annotations

import numpy as np
from highway_env.road.lane import AbstractLane, LineType

from wpt_planner.geometry import Array

SPACING = 1.0  # m between the points of a path


class Path:
    """`points` (n, 2) m in the map frame, about SPACING apart; `way` m along it at each."""

    def __init__(self, points: Array) -> None:
        points = np.asarray(points, dtype=np.float64)
        steps = np.hypot(*np.diff(points, axis=0).T)
        keep = np.concatenate([[True], steps > 1e-6])
        self.points = points[keep]
        self._deltas = np.diff(self.points, axis=0)
        self._lengths = np.hypot(*self._deltas.T)
        self.way = np.concatenate([[0.0], np.cumsum(self._lengths)])
        self.length = float(self.way[-1])
        headings = np.unwrap(np.arctan2(self._deltas[:, 1], self._deltas[:, 0]))
        middle = (self.way[:-1] + self.way[1:]) / 2
        # A heading belongs to the middle of its segment: between them it turns evenly.
        self.headings = np.interp(self.way, middle, headings)

    @staticmethod
    def straight(start: Array, heading: float, length: float) -> Path:
        count = max(2, round(length / SPACING) + 1)
        way = np.linspace(0, length, count)[:, None]
        return Path(np.asarray(start) + way * np.array([np.cos(heading), np.sin(heading)]))

    @staticmethod
    def bending(start: Array, heading: float, pieces: list[tuple[float, float]]) -> Path:
        """`pieces`: (length m, curvature 1/m), which changes over 15 m, as on real roads."""
        step = 0.5
        curvature = np.concatenate([np.full(max(1, round(length / step)), k) for length, k in pieces])
        window = min(30, len(curvature))
        padded = np.pad(curvature, (window // 2, window - 1 - window // 2), mode="edge")
        smooth = np.convolve(padded, np.ones(window) / window, mode="valid")
        headings = heading + np.concatenate([[0.0], np.cumsum(smooth) * step])
        middle = (headings[:-1] + headings[1:]) / 2
        steps = step * np.stack([np.cos(middle), np.sin(middle)], axis=1)
        points = np.vstack([start, np.asarray(start) + np.cumsum(steps, axis=0)])
        last = len(points) - 1
        return Path(points[np.unique(np.append(np.arange(0, last, round(SPACING / step)), last))])

    @staticmethod
    def joining(start: Array, start_heading: float, end: Array, end_heading: float) -> Path:
        """A cubic curve from one pose to another: a turn at a junction."""
        start, end = np.asarray(start), np.asarray(end)
        reach = 0.5 * float(np.hypot(*(end - start)))
        turn = abs((end_heading - start_heading + np.pi) % (2 * np.pi) - np.pi)
        reach *= 1.0 if turn < 0.3 else 0.78
        first = start + reach * np.array([np.cos(start_heading), np.sin(start_heading)])
        second = end - reach * np.array([np.cos(end_heading), np.sin(end_heading)])
        t = np.linspace(0, 1, 201)[:, None]
        dense = (1 - t) ** 3 * start + 3 * t * (1 - t) ** 2 * first + 3 * t**2 * (1 - t) * second + t**3 * end
        return Path(dense).resampled()

    @staticmethod
    def joined(paths: list[Path]) -> Path:
        points = [paths[0].points]
        for path in paths[1:]:
            gap = np.hypot(*(path.points[0] - points[-1][-1]))
            points.append(path.points[1:] if gap < 0.3 else path.points)
        return Path(np.vstack(points))

    def resampled(self, spacing: float = SPACING) -> Path:
        count = max(2, round(self.length / spacing) + 1)
        return Path(self.positions(np.linspace(0, self.length, count)))

    def positions(self, way: Array, offset: Array | float = 0.0) -> Array:
        """Points (..., 2) at `way` m along and `offset` m to the left; straight on beyond the ends."""
        way = np.asarray(way, dtype=np.float64)
        x = np.interp(way, self.way, self.points[:, 0])
        y = np.interp(way, self.way, self.points[:, 1])
        heading = self.heading(way)
        beyond = np.minimum(way, 0.0) + np.maximum(way - self.length, 0.0)
        cosine, sine = np.cos(heading), np.sin(heading)
        return np.stack([x + beyond * cosine - offset * sine, y + beyond * sine + offset * cosine], axis=-1)

    def heading(self, way: Array | float) -> Array:
        return np.interp(way, self.way, self.headings)

    def curvature(self, way: Array) -> Array:
        """1/m, over 4 m."""
        return (self.heading(np.asarray(way) + 2.0) - self.heading(np.asarray(way) - 2.0)) / 4.0

    def project(self, point: Array) -> tuple[float, float]:
        """(way, offset to the left) of the nearest point; beyond the ends along their tangents."""
        relative = point - self.points[:-1]
        along = (relative * self._deltas).sum(1) / self._lengths
        clipped = np.clip(along, 0.0, self._lengths)
        nearest = relative - self._deltas * (clipped / self._lengths)[:, None]
        index = int(np.argmin((nearest * nearest).sum(1)))
        if (index == 0 and along[0] < 0) or (index == len(along) - 1 and along[-1] > self._lengths[-1]):
            clipped = along
        delta, length = self._deltas[index], self._lengths[index]
        side = (delta[0] * relative[index, 1] - delta[1] * relative[index, 0]) / length
        return float(self.way[index] + clipped[index]), float(side)

    def part(self, start: float, end: float) -> Path:
        inner = self.way[(self.way > start + 1e-6) & (self.way < end - 1e-6)]
        return Path(self.positions(np.concatenate([[start], inner, [end]])))

    def beside(self, offset: float) -> Path:
        """The parallel at `offset` m to the left."""
        return Path(self.positions(self.way, offset))

    def reversed(self) -> Path:
        return Path(self.points[::-1])

    def shifted(self, changes: list[tuple[float, float, float]]) -> Path:
        """Moves to another offset, smoothly, for each (from m, to m, offset reached m)."""
        way = np.arange(0.0, self.length + SPACING / 2, SPACING)
        offset = np.zeros_like(way)
        held = 0.0
        for start, end, target in changes:
            share = np.clip((way - start) / max(end - start, 1e-6), 0, 1)
            offset += (target - held) * share * share * (3 - 2 * share)
            held = target
        return Path(self.positions(way, offset))


class PathLane(AbstractLane):
    """A Path as a lane of highway-env's road network; lateral is to the left."""

    def __init__(self, path: Path, width: float, speed_limit: float, priority: int = 0) -> None:
        self.path = path
        self.width = width
        self.length = path.length
        self.speed_limit = speed_limit
        self.priority = priority
        self.line_types = [LineType.NONE, LineType.NONE]
        self.forbidden = False

    def position(self, longitudinal: float, lateral: float) -> Array:
        return self.path.positions(np.asarray(longitudinal), lateral)

    def local_coordinates(self, position: Array) -> tuple[float, float]:
        return self.path.project(position)

    def heading_at(self, longitudinal: float) -> float:
        return float(self.path.heading(longitudinal))

    def width_at(self, longitudinal: float) -> float:
        return self.width

    @classmethod
    def from_config(cls, config: dict[str, object]) -> PathLane:
        raise NotImplementedError("maps are built from their seeds, not from files")

    def to_config(self) -> dict[str, object]:
        raise NotImplementedError("maps are built from their seeds, not from files")
