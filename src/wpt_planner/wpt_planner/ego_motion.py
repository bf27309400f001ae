"""Where the vehicle was when: recent odometry, interpolated to any image's stamp."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

import numpy as np

from wpt_planner.geometry import Array, matrix, rotation_from_quaternion, slerp

NANOSECONDS = 1e9


@dataclass(frozen=True)
class OdometrySample:
    """`stamp` ns; `position` (3,) m and `quaternion` (w, x, y, z) of base_link in the odometry frame;
    `speed` m/s along base_link's x; `yaw_rate` rad/s."""

    stamp: int
    position: Array
    quaternion: Array
    speed: float
    yaw_rate: float


@dataclass(frozen=True)
class EgoState:
    """The ego at one time: `map_from_ego` (4, 4), `speed` m/s, `acceleration` m/s², `yaw_rate` rad/s."""

    map_from_ego: Array
    speed: float
    acceleration: float
    yaw_rate: float


class EgoMotion:
    """The last `keep` seconds of odometry. `add` is the only writer."""

    def __init__(
        self,
        keep: float = 5.0,
        max_speed: float = 70.0,
        max_yaw_rate: float = 3.0,
        max_extrapolation: float = 0.5,
    ) -> None:
        self._samples: deque[OdometrySample] = deque()
        self._keep = round(keep * NANOSECONDS)
        self._max_speed = max_speed
        self._max_yaw_rate = max_yaw_rate
        self.max_extrapolation = max_extrapolation

    @property
    def newest_stamp(self) -> int | None:
        return self._samples[-1].stamp if self._samples else None

    @property
    def newest_speed(self) -> float:
        """m/s, 0 before the first sample."""
        return self._samples[-1].speed if self._samples else 0.0

    def clear(self) -> None:
        self._samples.clear()

    def snapshot(self) -> EgoMotion:
        """A copy that a second thread may read while this one goes on."""
        copy = EgoMotion(0.0, self._max_speed, self._max_yaw_rate, self.max_extrapolation)
        copy._samples = self._samples.copy()
        return copy

    def add(self, sample: OdometrySample) -> str | None:
        """Takes one sample. Returns why the past was dropped (jump, time going back), else None.

        Raises ValueError, and keeps what it has, if the sample holds a value that is not finite or
        a quaternion that is no rotation.
        """
        values = np.concatenate([sample.position, [sample.speed, sample.yaw_rate]])
        if not np.all(np.isfinite(values)):
            raise ValueError("position or twist is not finite: the message was dropped")
        rotation_from_quaternion(sample.quaternion)
        reason = None
        if self._samples:
            last = self._samples[-1]
            if sample.stamp == last.stamp:
                return None
            reason = self._discontinuity(last, sample)
            if reason:
                self._samples.clear()
        self._samples.append(sample)
        while sample.stamp - self._samples[0].stamp > self._keep:
            self._samples.popleft()
        return reason

    def covers(self, stamp: int) -> bool:
        """Whether `state_at(stamp)` needs no extrapolation into the future."""
        return bool(self._samples) and self._samples[-1].stamp >= stamp

    def reachable(self, stamp: int) -> bool:
        """Whether `state_at(stamp)` can answer at all."""
        if not self._samples:
            return False
        limit = round(self.max_extrapolation * NANOSECONDS)
        return self._samples[0].stamp - limit <= stamp <= self._samples[-1].stamp + limit

    def state_at(self, stamp: int) -> EgoState:
        """Interpolated state; beyond the ends carried on at the last speed and yaw rate.

        Raises ValueError if `stamp` is more than `max_extrapolation` s outside the kept odometry.
        """
        if not self.reachable(stamp):
            raise ValueError("no odometry near this stamp")
        stamps = [sample.stamp for sample in self._samples]
        index = bisect_left(stamps, stamp)
        if index < len(stamps) and stamps[index] == stamp:
            return self._exact(index)
        if index == 0 or index == len(stamps):
            return self._carried_on(min(index, len(stamps) - 1), stamp)
        before, after = self._samples[index - 1], self._samples[index]
        share = (stamp - before.stamp) / (after.stamp - before.stamp)
        position = before.position + share * (after.position - before.position)
        quaternion = slerp(before.quaternion[None], after.quaternion[None], np.array([share]))[0]
        return EgoState(
            matrix(position, quaternion),
            before.speed + share * (after.speed - before.speed),
            self._acceleration(index),
            before.yaw_rate + share * (after.yaw_rate - before.yaw_rate),
        )

    def _exact(self, index: int) -> EgoState:
        sample = self._samples[index]
        pose = matrix(sample.position, sample.quaternion)
        return EgoState(pose, sample.speed, self._acceleration(max(index, 1)), sample.yaw_rate)

    def _carried_on(self, index: int, stamp: int) -> EgoState:
        sample = self._samples[index]
        seconds = (stamp - sample.stamp) / NANOSECONDS
        half_turn = sample.yaw_rate * seconds / 2
        distance = sample.speed * seconds
        step = matrix(
            np.array([distance * np.cos(half_turn), distance * np.sin(half_turn), 0.0]),
            np.array([np.cos(half_turn), 0.0, 0.0, np.sin(half_turn)]),
        )
        pose = matrix(sample.position, sample.quaternion) @ step
        return EgoState(pose, sample.speed, self._acceleration(max(index, 1)), sample.yaw_rate)

    def _acceleration(self, index: int) -> float:
        if index >= len(self._samples):
            return 0.0
        # Over about 0.2 s: the quotient of two neighbours at 100 Hz would be noise.
        last = self._samples[index]
        first = self._samples[index - 1]
        for earlier in range(index - 1, -1, -1):
            first = self._samples[earlier]
            if last.stamp - first.stamp >= 0.2 * NANOSECONDS:
                break
        return (last.speed - first.speed) / ((last.stamp - first.stamp) / NANOSECONDS)

    def _discontinuity(self, last: OdometrySample, new: OdometrySample) -> str | None:
        seconds = (new.stamp - last.stamp) / NANOSECONDS
        if seconds < 0:
            return f"odometry went back in time by {-seconds:.2f} s"
        distance = float(np.linalg.norm(new.position - last.position))
        # Half a metre for the noise of localisation between two samples that are very close.
        if distance > self._max_speed * seconds + 0.5:
            return f"odometry jumped {distance:.1f} m in {seconds:.3f} s"
        dot = abs(float(np.dot(last.quaternion, new.quaternion)))
        turn = 2 * np.arccos(min(1.0, dot))
        if turn > self._max_yaw_rate * seconds + 0.1:
            return f"odometry turned {np.degrees(turn):.0f} degrees in {seconds:.3f} s"
        return None
