"""The number of word errors along a line in the space of weights, exactly.

On the line ``weights + t * direction`` a hypothesis' total is linear in t, so the best hypothesis
of an utterance changes only where two lines cross on the upper envelope.
Source: Och, "Minimum error rate training in statistical machine translation", ACL 2003, section 5;
here all utterances walk along their envelopes at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ErrorProfile:
    """Total errors as a step function: ``errors[i]`` between ``bounds[i]`` and ``bounds[i+1]``."""

    bounds: Floats
    errors: NDArray[np.int64]

    def best(self) -> tuple[int, float, float]:
        """Fewest errors and the widest stretch that has them: (errors, start, end).

        Of equally wide stretches the one nearest to 0 counts, then the earlier.
        """
        fewest = int(self.errors.min())
        stretches = self._stretches(fewest)
        low, high = min(stretches, key=lambda s: (s[0] - s[1], max(s[0], -s[1], 0.0)))
        return fewest, low, high

    def around(self, place: float) -> tuple[float, float]:
        """The stretch of equal errors that holds ``place``."""
        index = int(np.searchsorted(self.bounds[1:-1], place, side="right"))
        for low, high in self._stretches(int(self.errors[index])):
            if low <= place <= high:
                return low, high
        return place, place

    def _stretches(self, errors: int) -> list[tuple[float, float]]:
        """Maximal intervals with exactly so many errors."""
        flags = np.concatenate(([0], self.errors == errors, [0]))
        change = np.diff(flags)
        return [
            (float(self.bounds[start]), float(self.bounds[stop]))
            for start, stop in zip(np.flatnonzero(change == 1), np.flatnonzero(change == -1))
        ]


def error_profile(
    totals: Floats, slopes: Floats, errors: NDArray[np.int64], low: float, high: float
) -> ErrorProfile:
    """The errors of the best hypotheses for ``low <= t <= high`` (low < high).

    ``totals``, ``slopes``, ``errors`` [U, H]: total of each hypothesis at t = 0, its growth with
    t, its word errors. Places without a hypothesis have total -inf, slope 0. Equal totals: the
    earlier hypothesis, except in the single points where two lines cross.
    """
    rows = np.arange(len(totals))
    usable = np.isfinite(totals)
    at_low = np.where(usable, totals + low * slopes, -np.inf)
    # of those equal at the lower end, the one that grows fastest wins just after it
    tied = at_low == at_low.max(axis=1, keepdims=True)
    current = np.where(tied & usable, slopes, -np.inf).argmax(axis=1)
    current = np.where(usable.any(axis=1), current, 0)
    now = np.full(len(totals), low, np.float64)
    places, deltas = [], []
    first_errors = int(errors[rows, current].sum())
    walking = rows[usable.any(axis=1)]
    while len(walking):
        best = current[walking]
        steeper = slopes[walking] - slopes[walking, best][:, None]  # [W, H]
        behind = totals[walking, best][:, None] - totals[walking]
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = np.where((steeper > 0) & usable[walking], behind / steeper, np.inf)
        nearest = crossing.min(axis=1)
        # through one point may go several lines: the steepest goes on
        candidates = np.where(crossing == nearest[:, None], steeper, -np.inf)
        following = candidates.argmax(axis=1)
        goes_on = nearest < high
        walking, best = walking[goes_on], best[goes_on]
        following, nearest = following[goes_on], nearest[goes_on]
        now[walking] = np.maximum(nearest, now[walking])
        places.append(now[walking].copy())
        deltas.append(errors[walking, following] - errors[walking, best])
        current[walking] = following
    place = np.concatenate([*places, np.zeros(0)])
    delta = np.concatenate([*deltas, np.zeros(0, np.int64)])
    steps, inverse = np.unique(place, return_inverse=True)
    jump = np.zeros(len(steps), np.int64)
    np.add.at(jump, inverse, delta)
    return ErrorProfile(
        bounds=np.concatenate(([low], steps, [high])),
        errors=first_errors + np.concatenate(([0], np.cumsum(jump))),
    )
