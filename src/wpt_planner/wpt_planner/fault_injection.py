"""Faults that cameras have, put into a replay on purpose.

    CAMERA:drop[:SHARE]      images are left out (share 0..1, all by default)
    CAMERA:delay:SECONDS     images come late, their stamps stay
    CAMERA:freeze            the same image again and again, under new stamps
    CAMERA:corrupt[:SHARE]   the second half of the bytes is missing
Each may end in @FROM-TO, seconds after the start; without it the fault lasts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

_FORM = re.compile(
    r"^(?P<camera>[^:@]+):(?P<kind>drop|delay|freeze|corrupt)(:(?P<value>[\d.]+))?"
    r"(@(?P<start>[\d.]+)-(?P<end>[\d.]+))?$"
)


class FaultError(ValueError):
    """A fault that cannot be understood."""


@dataclass(frozen=True)
class Fault:
    """`value`: share of images for drop and corrupt, s for delay; active from `start` to `end` s."""

    camera: str
    kind: str
    value: float
    start: float
    end: float


def parse_fault(text: str, cameras: list[str]) -> Fault:
    """Raises FaultError saying what was expected."""
    match = _FORM.match(text)
    if match is None:
        raise FaultError(f"fault '{text}': expected CAMERA:drop|delay|freeze|corrupt[:VALUE][@FROM-TO]")
    if match["camera"] not in cameras:
        raise FaultError(f"fault '{text}': no camera {match['camera']}, there are {', '.join(cameras)}")
    if match["kind"] == "delay" and match["value"] is None:
        raise FaultError(f"fault '{text}': delay needs seconds, e.g. {match['camera']}:delay:0.2")
    value = float(match["value"] or 1.0)
    start, end = float(match["start"] or 0.0), float(match["end"] or np.inf)
    return Fault(match["camera"], match["kind"], value, start, end)


class FaultInjector:
    """Applies faults to one camera's images in order; same seed, same faults."""

    def __init__(self, faults: list[Fault], seed: int = 0) -> None:
        self._faults = faults
        self._random = np.random.default_rng(seed)
        self._frozen: dict[str, bytes] = {}

    def apply(self, camera: str, seconds: float, data: bytes) -> tuple[bytes, float] | None:
        """The bytes to publish and by how many seconds late; None if nothing is to be published.

        `seconds` since the start of the drive.
        """
        late = 0.0
        for fault in self._faults:
            if fault.camera != camera:
                continue
            if not fault.start <= seconds < fault.end:
                if fault.kind == "freeze":
                    self._frozen.pop(camera, None)
                continue
            if fault.kind == "drop" and self._random.random() < fault.value:
                return None
            if fault.kind == "delay":
                late += fault.value
            elif fault.kind == "freeze":
                data = self._frozen.setdefault(camera, data)
            elif fault.kind == "corrupt" and self._random.random() < fault.value:
                data = data[: len(data) // 2]
        return data, late
