"""A driver who now and then sees too late whom he has to brake for.

The expert knows what everybody is about to do, unless his own coming sets them off, and brakes long before
they are near: who learns from his drives alone hardly sees what it is like to come too close. So this one
looks away at some of the moments at which he should begin to brake, until braking hard is just enough. What
he would have done had he paid attention is found by driving the route again. (Noise injected into
demonstrations, labelled by the demonstrator: DART, arXiv 1703.09327; DAgger, arXiv 1011.0686.)
"""

from __future__ import annotations

import numpy as np

from wpt_planner.geometry import Array
from wpt_planner.plan_guard import PLAN_TIMES
from wpt_training.simulator.episode import Observation
from wpt_training.simulator.expert import ACCELERATIONS, ExpertPolicy, Outlook

CHANCE = 0.75  # of a lapse when somebody has to be braked for
AWAKE = 4.0  # s after a lapse, or a chance of one, without another
LONGEST = 4.0  # s
LAST = (-2.2, -3.0, -4.5)  # m/s²: a lapse ends when no less than one of these avoids a collision


class LapsingExpert:
    """One instance per route. `lapses` holds the times s at which he looked away so far; from `awake_from` s
    on he does so no more, and until then drives as he would with another one."""

    name = "expert"
    needs_images = False

    def __init__(self, seed: int, awake_from: float = np.inf) -> None:
        self._expert = ExpertPolicy()
        self._generator = np.random.default_rng(seed)
        self._awake_from = awake_from
        self._awake_until = 0.0
        self._since: float | None = None
        self._last = 0
        self.lapses: list[float] = []

    def plan(self, observation: Observation) -> Array:
        """(6, 2) in base_link."""
        expert, time = self._expert, observation.time
        outlook = expert.look(observation)
        careful = expert.choice(outlook, outlook.touches | outlook.closed)
        careless = expert.choice(outlook, outlook.closed)
        if time > self._awake_from - 1e-6 or not self._looks_away(time, outlook, careful < careless):
            return expert.follow(observation, outlook, careful)
        self.lapses.append(time)
        return expert.follow(observation, outlook, careless)

    def looks_away_after(self, time: float) -> bool:
        """Whether he did so within the plan's 3 s from `time` s on."""
        return any(time - 1e-6 < lapse < time + PLAN_TIMES[-1] for lapse in self.lapses)

    def _looks_away(self, time: float, outlook: Outlook, should_brake: bool) -> bool:
        if self._since is None:
            if not should_brake or time < self._awake_until:
                return False
            self._awake_until = time + AWAKE
            if self._generator.random() >= CHANCE:
                return False
            self._since = time
            self._last = int(np.flatnonzero(self._generator.choice(LAST) == ACCELERATIONS)[0])
        if outlook.touches[self._last].any() or time - self._since >= LONGEST:
            self._since, self._awake_until = None, time + AWAKE
            return False
        return True
