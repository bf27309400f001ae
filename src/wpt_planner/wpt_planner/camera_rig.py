"""N camera streams to one time-aligned set: newest first, paced by the anchor camera.

Not message_filters' ApproximateTimeSynchronizer: with one dead camera that yields nothing for ever.
Here a missing side camera costs one `max_wait`, then the sets go on without it until it is back.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from wpt_planner.image_decoding import EncodedImage

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True)
class CameraImage:
    """One image: sensor `stamp` (ns), `arrival` (ns, any steady clock), encoded pixels."""

    stamp: int
    arrival: int
    image: EncodedImage


@dataclass(frozen=True)
class CameraSet:
    """Images of one instant, in the rig's order; None where a camera has none near `stamp`.

    `stamp` is the anchor image's (ns): the reference time of the plan made from the set.
    `arrival` is that of the newest image in it.
    """

    stamp: int
    arrival: int
    images: tuple[CameraImage | None, ...]

    @property
    def newest_stamp(self) -> int:
        return max(image.stamp for image in self.images if image is not None)


@dataclass
class CameraHealth:
    """What one stream did so far; counts are images since start."""

    received: int = 0
    out_of_order: int = 0
    rejected: int = 0
    rejection: str = ""
    identical: int = 0
    newest_stamp: int | None = None
    in_last_set: bool = False
    _digest: int = field(default=0, repr=False)


class CameraRig:
    """Collects images; a set is ready when every live camera has one within `tolerance` (s) of the
    anchor's, or `max_wait` (s) after the anchor's arrival.

    Keep `tolerance` below half the camera interval: then no camera has two images in reach of one
    anchor image, and the sets do not depend on the order of arrival.
    """

    def __init__(
        self, names: list[str], anchor: str, tolerance: float, max_wait: float, frozen_after: int = 0
    ) -> None:
        if anchor not in names:
            raise ValueError(f"anchor camera '{anchor}' is not one of {', '.join(names)}")
        self.names = list(names)
        self.anchor = names.index(anchor)
        self.health = [CameraHealth() for _ in names]
        self.sets_dropped = 0
        self.frozen_after = frozen_after
        self._tolerance = round(tolerance * NANOSECONDS)
        self._max_wait = round(max_wait * NANOSECONDS)
        self._newest: list[CameraImage | None] = [None] * len(names)
        self._absent = [False] * len(names)
        self._pending: list[CameraImage | None] | None = None
        self._ready: CameraSet | None = None

    def store(self, index: int, image: CameraImage) -> str | None:
        """Takes one image. Returns why all buffers were cleared, if time went back; else None."""
        health = self.health[index]
        health.received += 1
        jump = None
        newest = self._newest[index]
        if newest is not None and image.stamp <= newest.stamp:
            if newest.stamp - image.stamp < NANOSECONDS:
                health.out_of_order += 1
                return None
            jump = f"{self.names[index]}: stamps went back by {(newest.stamp - image.stamp) / 1e9:.1f} s"
            self.clear()
        self._newest[index] = image
        health.newest_stamp = image.stamp
        if self.frozen_after:
            self._watch_for_freeze(health, image)
        if index == self.anchor:
            self._open(image)
        elif self._pending is not None:
            self._offer(index, image)
        self._close_if_complete()
        return jump

    def take(self, now: int) -> CameraSet | None:
        """The newest ready set, once; `now` in the clock of `CameraImage.arrival` (ns)."""
        deadline = self.deadline()
        if deadline is not None and now >= deadline:
            self._close()
        ready, self._ready = self._ready, None
        return ready

    def deadline(self) -> int | None:
        """When (ns) the open set stops waiting for its missing cameras; None if none is open."""
        if self._pending is None:
            return None
        anchor_image = self._pending[self.anchor]
        assert anchor_image is not None
        return anchor_image.arrival + self._max_wait

    def clear(self) -> None:
        """Forgets all images, not the counts: after a jump in time nothing old may meet the new."""
        self._newest = [None] * len(self.names)
        self._absent = [False] * len(self.names)
        self._pending = None
        self._ready = None

    def is_frozen(self, index: int) -> bool:
        """Whether the camera sent `frozen_after` or more identical images in a row."""
        return bool(self.frozen_after) and self.health[index].identical >= self.frozen_after

    def _open(self, image: CameraImage) -> None:
        if self._pending is not None:
            self._close()
        self._pending = [None] * len(self.names)
        self._pending[self.anchor] = image
        for index, newest in enumerate(self._newest):
            if newest is not None and index != self.anchor:
                self._offer(index, newest)

    def _offer(self, index: int, image: CameraImage) -> None:
        assert self._pending is not None
        anchor_image = self._pending[self.anchor]
        assert anchor_image is not None
        distance = abs(image.stamp - anchor_image.stamp)
        if distance > self._tolerance:
            return
        self._absent[index] = False
        held = self._pending[index]
        if held is None or distance < abs(held.stamp - anchor_image.stamp):
            self._pending[index] = image

    def _close_if_complete(self) -> None:
        if self._pending is not None and all(
            image is not None or absent for image, absent in zip(self._pending, self._absent, strict=True)
        ):
            self._close()

    def _close(self) -> None:
        pending, self._pending = self._pending, None
        assert pending is not None
        anchor_image = pending[self.anchor]
        assert anchor_image is not None
        if self._ready is not None:
            self.sets_dropped += 1
        for index, image in enumerate(pending):
            self._absent[index] = image is None
            self.health[index].in_last_set = image is not None
        arrival = max(image.arrival for image in pending if image is not None)
        self._ready = CameraSet(anchor_image.stamp, arrival, tuple(pending))

    @staticmethod
    def _watch_for_freeze(health: CameraHealth, image: CameraImage) -> None:
        data = image.image.data
        # Some 4 KB spread over the image: sensor noise changes them in every real new image.
        digest = zlib.crc32(bytes(data[:: max(1, len(data) // 4096)]))
        health.identical = health.identical + 1 if digest == health._digest else 1
        health._digest = digest
