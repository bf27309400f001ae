"""How long each stage of a pass takes, over the last passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WINDOW = 512
STAGES = (
    "age",  # newest image's arrival to the start of the pass
    "decode",  # messages to RGB in the policy's input buffer
    "assemble",  # calibration, ego motion, command
    "policy",  # the policy call
    "guard",  # checks and fallback
    "publish",  # messages out
    "own_share",  # total without the policy call: what the node itself costs
    "total",  # newest image's arrival to trajectory out
    "capture_to_publish",  # reference stamp to trajectory out, node clock
)


@dataclass(frozen=True)
class StageSummary:
    """Seconds over at most WINDOW passes."""

    stage: str
    count: int
    last: float
    p50: float
    p95: float
    p99: float


class StageLatency:
    """A ring of WINDOW passes; `record` allocates nothing."""

    def __init__(self) -> None:
        self._ring = np.zeros((WINDOW, len(STAGES)))
        self.passes = 0

    def record(self, seconds: dict[str, float]) -> None:
        """One pass; a stage left out counts as 0."""
        row = self._ring[self.passes % WINDOW]
        for column, stage in enumerate(STAGES):
            row[column] = seconds.get(stage, 0.0)
        self.passes += 1

    def summaries(self) -> list[StageSummary]:
        """One per stage, in the order of the pass."""
        count = min(self.passes, WINDOW)
        if count == 0:
            return [StageSummary(stage, 0, 0.0, 0.0, 0.0, 0.0) for stage in STAGES]
        quantiles = np.percentile(self._ring[:count], [50, 95, 99], axis=0)
        last = self._ring[(self.passes - 1) % WINDOW]
        return [
            StageSummary(stage, count, float(last[i]), *(float(q) for q in quantiles[:, i]))
            for i, stage in enumerate(STAGES)
        ]
