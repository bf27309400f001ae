"""The ego's way through a drive, interpolated between recorded poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wpt_planner.geometry import Array, inverse, matrix, slerp, transform_points, yaw_of
from wpt_planner.plan_guard import PLAN_STEPS, PLAN_TIMES
from wpt_training.drives.frame import COMMANDS

TURN_OFFSET = 2.0  # m to a side at 3 s, from which on UniAD and VAD call it a turn
_WINDOW = 0.1  # s to each side over which speeds are taken from poses


@dataclass(frozen=True)
class EgoTrack:
    """`stamps` (E,) ns ascending, `positions` (E, 3) m and `quaternions` (E, 4) w x y z of base_link
    in the map, `speeds` (E,) m/s, `yaw_rates` (E,) rad/s."""

    stamps: NDArray[np.int64]
    positions: Array
    quaternions: Array
    speeds: Array
    yaw_rates: Array

    @staticmethod
    def from_poses(stamps: NDArray[np.int64], positions: Array, quaternions: Array) -> EgoTrack:
        """Speeds and yaw rates from the poses, over 0.2 s: neighbours lie too close together."""
        track = EgoTrack(stamps, positions, quaternions, np.zeros(len(stamps)), np.zeros(len(stamps)))
        if len(stamps) < 2:
            return track
        half = round(_WINDOW * 1e9)
        before = np.maximum(stamps - half, stamps[0])
        after = np.minimum(stamps + half, stamps[-1])
        seconds = (after - before) / 1e9
        first, last = track.poses_at(before), track.poses_at(after)
        moved = np.einsum("eij,ej->ei", inverse(first)[:, :3, :3], last[:, :3, 3] - first[:, :3, 3])
        turned = yaw_of(inverse(first) @ last)
        return EgoTrack(stamps, positions, quaternions, moved[:, 0] / seconds, turned / seconds)

    def poses_at(self, stamps: NDArray[np.int64]) -> Array:
        """map_from_ego (S, 4, 4) at each stamp, held at the ends."""
        index = np.clip(np.searchsorted(self.stamps, stamps), 1, max(1, len(self.stamps) - 1))
        if len(self.stamps) == 1:
            return np.repeat(matrix(self.positions, self.quaternions), len(stamps), axis=0)
        span = self.stamps[index] - self.stamps[index - 1]
        share = np.clip((stamps - self.stamps[index - 1]) / span, 0.0, 1.0)
        before, after = self.positions[index - 1], self.positions[index]
        positions = before + share[:, None] * (after - before)
        return matrix(positions, slerp(self.quaternions[index - 1], self.quaternions[index], share))

    def pose_at(self, stamp: int) -> Array:
        """map_from_ego (4, 4)."""
        return self.poses_at(np.array([stamp]))[0]

    def motion_at(self, stamp: int) -> tuple[float, float, float]:
        """Speed m/s, acceleration m/s² (over 0.4 s), yaw rate rad/s."""
        half = round(2 * _WINDOW * 1e9)
        at = np.clip([stamp - half, stamp + half], self.stamps[0], self.stamps[-1])
        before, after = np.interp(at, self.stamps, self.speeds)
        seconds = (at[1] - at[0]) / 1e9
        acceleration = (after - before) / seconds if seconds > 0 else 0.0
        return (
            float(np.interp(stamp, self.stamps, self.speeds)),
            float(acceleration),
            float(np.interp(stamp, self.stamps, self.yaw_rates)),
        )

    def future(self, stamp: int) -> tuple[Array, NDArray[np.bool_]]:
        """Where the ego went: (6, 2) in base_link at `stamp`, and which steps were recorded."""
        wanted = stamp + np.round(PLAN_TIMES * 1e9).astype(np.int64)
        valid = wanted <= self.stamps[-1]
        ego_from_map = inverse(self.pose_at(stamp))
        points = transform_points(ego_from_map, self.poses_at(wanted)[:, :3, 3])[:, :2]
        points[~valid] = 0.0
        return points, valid

    def command(self, stamp: int) -> int:
        """Index into COMMANDS from the lateral offset at 3 s, as UniAD and VAD define it; the last
        recorded step stands in where the recording ends before."""
        points, valid = self.future(stamp)
        if not valid.any():
            return COMMANDS.index("keep_forward")
        offset = points[np.arange(PLAN_STEPS)[valid][-1], 1]
        if offset >= TURN_OFFSET:
            return COMMANDS.index("turn_left")
        if offset <= -TURN_OFFSET:
            return COMMANDS.index("turn_right")
        return COMMANDS.index("keep_forward")
