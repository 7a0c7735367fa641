"""How sure a difference is: paired bootstrap, noise of seeds, and many comparisons at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

REPLICATIONS = 2000
SEED = 0
ALPHA = 0.05

Vector = npt.NDArray[np.float64]
"""Shape [1 + REPLICATIONS]: the value on all units, then on units drawn with replacement."""
_ANGLES: Vector = np.linspace(0.0, math.pi / 2, 20_000, endpoint=False) + math.pi / 80_000
"""Of Student's t = sqrt(freedom) tan."""


def draws(units: int) -> npt.NDArray[np.float64]:
    """How often each of ``units`` is in each replication, shape [1 + REPLICATIONS, units]; the
    first row holds each once. Always the same, with every version of numpy: only the bits of a
    generator are guaranteed to stay, not what it draws."""
    raw = np.random.PCG64(SEED).random_raw(REPLICATIONS * units) % np.uint64(units)
    rows = np.arange(REPLICATIONS).repeat(units)
    counts = np.bincount(rows * units + raw.astype(np.int64), minlength=REPLICATIONS * units)
    return np.vstack([np.ones((1, units)), counts.reshape(REPLICATIONS, units)])


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval and its two-sided p for "it is 0"."""

    value: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Quantity:
    """What is known of a value: on drawn units (``vector``; differences of two such pair them),
    and the variance that other seeds would add, estimated with ``freedom`` degrees of freedom."""

    vector: Vector
    units: int
    seed_variance: float = 0.0
    freedom: float = math.inf

    @property
    def value(self) -> float:
        """On all units."""
        return float(self.vector[0])

    def __sub__(self, other: Quantity) -> Quantity:
        return self._sum(other, 1.0, -1.0)

    def toward(self, other: Quantity, part: float) -> Quantity:
        """The value ``part`` of the way to ``other``."""
        return self._sum(other, 1.0 - part, part)

    def _sum(self, other: Quantity, own: float, others: float) -> Quantity:
        variance = own**2 * self.seed_variance + others**2 * other.seed_variance
        vector = own * self.vector + others * other.vector
        freedom = min(self.freedom, other.freedom)
        return replace(self, vector=vector, seed_variance=variance, freedom=freedom)

    def estimate(self) -> Estimate:
        """Value, interval and p by Student's t: the variance is that of the replications (times
        n / (n - 1) for n units) plus that of the seeds, the degrees of freedom are
        Satterthwaite's. p goes on where a share of the replications would be 0: comparisons are
        many."""
        # equal systems may differ in the last digit of their sums
        drawn = float(np.var(self.vector[1:], ddof=1)) * self.units / (self.units - 1)
        variance, value = drawn + self.seed_variance, self.value
        if variance < 1e-20:
            return Estimate(value, value, value, 1.0 if abs(value) < 1e-9 else 0.0)
        parts = drawn**2 / (self.units - 1) + self.seed_variance**2 / self.freedom
        freedom = variance**2 / parts
        error = math.sqrt(variance)
        half = error * student_quantile(freedom)
        p = min(1.0, 2.0 * student_tail(abs(value) / error, freedom))
        return Estimate(value, value - half, value + half, p)


def student_tail(t: float, freedom: float) -> float:
    """The probability above ``t`` >= 0 of Student's distribution.

    >>> round(student_tail(2.0227, 39), 4), round(student_tail(12.7062, 1), 4)
    (0.025, 0.025)
    """
    return float(np.interp(math.atan(t / math.sqrt(freedom)), *_tail(freedom)))


def student_quantile(freedom: float, above: float = ALPHA / 2) -> float:
    """The value that Student's distribution exceeds with the probability ``above``.

    >>> round(student_quantile(39), 4), round(student_quantile(229), 4)
    (2.0227, 1.9704)
    """
    angles, above_each = _tail(freedom)
    angle = np.interp(-above, -above_each, angles)
    return math.sqrt(freedom) * math.tan(angle)


def _tail(freedom: float) -> tuple[Vector, Vector]:
    """Angles and the probability above each: the density of atan(t / sqrt(freedom)) is that of
    cos^(freedom - 1)."""
    density = np.cos(_ANGLES) ** (freedom - 1.0)
    above = np.cumsum(density[::-1])[::-1] - density / 2
    return _ANGLES, above * (0.5 / density.sum())


def holm(values: Sequence[float]) -> list[float]:
    """The p values for all comparisons together, in their order (Holm 1979): the k-th smallest of
    m times m - k + 1, never below a smaller one's, at most 1.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(values)), key=lambda index: values[index])
    adjusted, least = [0.0] * len(values), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = least
    return adjusted


def interpolated(
    curve: Sequence[tuple[float, Quantity]], size: float, reach: float, edge: float = 0.0
) -> Quantity | None:
    """The value of a curve of (size, value) at ``size``, on a straight line over ln size between
    the two measured sizes around it; at a measured size (to 1 %) that one's. None where no measured
    size is within a factor of 1 + ``reach``. Outside of the measured sizes that of the nearest, if
    it is within a factor of 1 + ``edge``, else None."""
    points = sorted(curve, key=lambda point: point[0])
    near = min(points, key=lambda point: abs(math.log(point[0] / size)), default=None)
    if near is None or abs(math.log(near[0] / size)) > math.log1p(reach):
        return None
    if abs(math.log(near[0] / size)) <= math.log1p(0.01):
        return near[1]
    for (small, at_small), (large, at_large) in zip(points, points[1:]):
        if small < size < large:
            return at_small.toward(at_large, math.log(size / small) / math.log(large / small))
    return near[1] if abs(math.log(near[0] / size)) <= math.log1p(edge) else None
