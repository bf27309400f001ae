"""A named drive: camera streams, the ego's track and annotations, and the Frames they make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wpt_planner.calibration import CameraCalibration
from wpt_planner.geometry import Array, wrap_angle
from wpt_training.drives.ego_track import EgoTrack
from wpt_training.drives.frame import Boxes, CameraView, Frame, MapGeometry

MATCH_TOLERANCE = 45_000_000  # ns between a camera's image and the anchor's, half a sweep at 11 Hz


@dataclass(frozen=True)
class Drive:
    """`streams` holds one ascending tuple of views per camera, in the order of `cameras`; the first
    camera is the anchor. `annotations`: (stamp ns, boxes in the map frame), ascending.
    `commands`: (stamp ns, index into COMMANDS), ascending; each holds until the next.
    `better`: by stamp, the futures (6, 2) in base_link, and which of their steps (6,) are known, that the
    driver should have chosen where he is known to have done something else."""

    name: str
    cameras: tuple[CameraCalibration, ...]
    streams: tuple[tuple[CameraView, ...], ...]
    ego: EgoTrack
    annotations: tuple[tuple[int, Boxes], ...]
    commands: tuple[tuple[int, int], ...]
    map: MapGeometry | None = None
    better: dict[int, tuple[Array, NDArray[np.bool_]]] = field(default_factory=dict)

    @property
    def anchor_stamps(self) -> NDArray[np.int64]:
        """ns of every image of the anchor camera: the reference times."""
        return np.array([view.stamp for view in self.streams[0]], dtype=np.int64)

    @property
    def seconds(self) -> float:
        stamps = self.anchor_stamps
        return float(stamps[-1] - stamps[0]) / 1e9 if len(stamps) else 0.0

    def frames(self) -> Iterator[Frame]:
        """One per anchor image."""
        return (self.frame(index) for index in range(len(self.streams[0])))

    def frame(self, index: int) -> Frame:
        """The Frame of the anchor's image number `index`."""
        stamp = self.streams[0][index].stamp
        speed, acceleration, yaw_rate = self.ego.motion_at(stamp)
        future, future_valid = self.better.get(stamp) or self.ego.future(stamp)
        return Frame(
            stamp=stamp,
            views=tuple(_nearest(stream, stamp) for stream in self.streams),
            map_from_ego=self.ego.pose_at(stamp),
            speed=speed,
            acceleration=acceleration,
            yaw_rate=yaw_rate,
            command=self.command_at(stamp),
            boxes=self.boxes_at(stamp),
            map=self.map,
            future=future,
            future_valid=future_valid,
            annotated=any(abs(stamp - at) <= MATCH_TOLERANCE for at, _ in self.annotations),
        )

    def command_at(self, stamp: int) -> int:
        """The command that holds at `stamp` ns; before the first one, the first."""
        held = [command for since, command in self.commands if since <= stamp]
        if held:
            return held[-1]
        return self.commands[0][1] if self.commands else 2

    def boxes_at(self, stamp: int) -> Boxes:
        """Boxes at `stamp` ns: tracks seen before and after are interpolated, others taken as they
        are if annotated within 0.25 s."""
        stamps = np.array([at for at, _ in self.annotations], dtype=np.int64)
        if not len(stamps):
            return Boxes.none()
        after = int(np.searchsorted(stamps, stamp))
        if after < len(stamps) and stamps[after] == stamp:
            return self.annotations[after][1]
        if 0 < after < len(stamps):
            share = (stamp - int(stamps[after - 1])) / int(stamps[after] - stamps[after - 1])
            return interpolate_boxes(self.annotations[after - 1][1], self.annotations[after][1], share)
        nearest = 0 if after == 0 else len(stamps) - 1
        near = abs(int(stamps[nearest]) - stamp) <= 250_000_000
        return self.annotations[nearest][1] if near else Boxes.none()


def interpolate_boxes(first: Boxes, second: Boxes, share: float) -> Boxes:
    """Boxes between two annotations, `share` 0 … 1; a track in one only is kept on its nearer half."""
    later = {track: index for index, track in enumerate(second.track_ids)}
    both = [(i, later[track]) for i, track in enumerate(first.track_ids) if track in later]
    a, b = np.array([i for i, _ in both], int), np.array([j for _, j in both], int)
    turned = wrap_angle(second.yaws[b] - first.yaws[a])
    earlier = set(first.track_ids)
    alone, source = (
        ([i for i, t in enumerate(first.track_ids) if t not in later], first)
        if share < 0.5
        else ([i for i, t in enumerate(second.track_ids) if t not in earlier], second)
    )
    return Boxes(
        np.vstack([first.centers[a] * (1 - share) + second.centers[b] * share, source.centers[alone]]),
        np.vstack([first.sizes[a], source.sizes[alone]]),
        np.concatenate([wrap_angle(first.yaws[a] + share * turned), source.yaws[alone]]),
        np.vstack(
            [first.velocities[a] * (1 - share) + second.velocities[b] * share, source.velocities[alone]]
        ),
        tuple(first.classes[i] for i in a) + tuple(source.classes[i] for i in alone),
        tuple(first.track_ids[i] for i in a) + tuple(source.track_ids[i] for i in alone),
        None
        if first.hits is None or second.hits is None or source.hits is None
        else np.concatenate([np.maximum(first.hits[a], second.hits[b]), source.hits[alone]]),
    )


def _nearest(stream: tuple[CameraView, ...], stamp: int) -> CameraView | None:
    if not stream:
        return None
    stamps = np.array([view.stamp for view in stream], dtype=np.int64)
    index = int(np.argmin(np.abs(stamps - stamp)))
    return stream[index] if abs(stream[index].stamp - stamp) <= MATCH_TOLERANCE else None
