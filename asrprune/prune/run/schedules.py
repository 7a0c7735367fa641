"""SCHEDULES: how much is removed by when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

from asrprune.core.tables import lookup

Schedule = Callable[[int, int, float, float], float]
"""``schedule(step, n_steps, start, final)``: sparsity after pruning step 0..n_steps.

Step 0 is before the first pruning. Never falls as the step grows, and is exactly ``final`` at
``step == n_steps``."""


def one_shot(step: int, n_steps: int, start: float, final: float) -> float:
    """All at the first step."""
    _check(step, n_steps, start, final)
    return start if step == 0 and n_steps > 0 else final


def linear(step: int, n_steps: int, start: float, final: float) -> float:
    """The same amount at every step."""
    _check(step, n_steps, start, final)
    return final if step == n_steps else start + (final - start) * step / n_steps


def cubic(step: int, n_steps: int, start: float, final: float) -> float:
    """``final + (start - final) (1 - step / n_steps)^3``: much at first, little towards the end.

    Source: Zhu and Gupta 2017 (arXiv 1710.01878), eq. 1.
    """
    _check(step, n_steps, start, final)
    return final if step == n_steps else final + (start - final) * (1.0 - step / n_steps) ** 3


def elastic(step: int, n_steps: int, start: float, final: float) -> float:
    """All at the first step, to one LM that is trained at all sizes and cut to any when it is used.

    What is trained at which size is in run/sandwich.py.
    """
    return one_shot(step, n_steps, start, final)


SCHEDULES: dict[str, Schedule] = {
    "one-shot": one_shot,
    "linear": linear,
    "cubic": cubic,
    "elastic": elastic,
}
"""Name -> schedule. With several sizes, one-shot prunes each from the parent; linear and cubic
reach all sizes in one run; elastic makes one LM that can be cut to any."""
STEPLESS = ("one-shot", "elastic")
"""Those that remove everything at once."""


def _check(step: int, n_steps: int, start: float, final: float) -> None:
    if not 0 <= step <= n_steps:
        raise ValueError(f"step is {step}; expected 0 <= step <= {n_steps}")
    if not 0.0 <= start <= final <= 1.0:
        raise ValueError(f"sparsity from {start} to {final}; expected 0 <= start <= final <= 1")


TOO_CLOSE = 0.01
"""Sparsities nearer to each other than this are one step: pruning so little is not worth
restarting the optimiser."""


@dataclass(frozen=True)
class PruningStep:
    """One pruning step: the sparsity to reach, and the member saved there (its asked sparsity)."""

    sparsity: float
    member: Optional[float] = None


def one_run(schedule: str, n_steps: int, start: float, sizes: Sequence[float]) -> list[PruningStep]:
    """The steps of one run from ``start`` through all ``sizes``, in ascending order.

    The schedule's curve to the largest size, in ``n_steps`` steps, where each other requested
    size takes the place of the curve's nearest free point: so the number of steps is
    ``max(n_steps, len(sizes))`` at most and every requested size is met exactly. Points within
    ``TOO_CLOSE`` of a requested size are left out. Those of STEPLESS go straight from size to size.

    Raises ValueError when ``sizes`` is empty, repeats a size or goes below ``start``.

    >>> [step.sparsity for step in one_run("linear", 4, 0.0, [0.3, 0.8])]
    [0.3, 0.4, 0.6000000000000001, 0.8]
    """
    wanted = sorted(sizes)
    if not wanted or len(set(wanted)) != len(wanted) or wanted[0] < start:
        raise ValueError(f"sizes {list(sizes)}; expected distinct values, all >= {start}")
    if n_steps < 1:
        raise ValueError(f"n_steps is {n_steps}; expected >= 1")
    if schedule in STEPLESS:
        return [PruningStep(size, size) for size in wanted]
    curve = lookup(SCHEDULES, schedule, "schedule")
    points = [curve(step, n_steps, start, wanted[-1]) for step in range(1, n_steps)]
    for size in wanted[:-1]:
        if points:
            points.remove(min(points, key=lambda point: (abs(point - size), point)))
    apart = [point for point in points if min(abs(point - size) for size in wanted) >= TOO_CLOSE]
    steps = [PruningStep(point) for point in apart]
    steps += [PruningStep(size, size) for size in wanted]
    return sorted(steps, key=lambda step: step.sparsity)


def budget_until(
    steps: Sequence[PruningStep], count: int, tokens: int, hold: float, growth: float = 1.0
) -> int:
    """Fine-tuning tokens that the first ``count`` steps of a run may spend; ``tokens`` for all.

    The share ``hold`` goes to the steps that save a member, each getting ``growth`` times what the
    one before it got, and the rest evenly to all steps.

    >>> steps = [PruningStep(0.3), PruningStep(0.5, 0.5), PruningStep(0.7, 0.7)]
    >>> [budget_until(steps, count, 1000, 0.4) for count in range(4)]
    [0, 200, 600, 1000]
    >>> [budget_until(steps, count, 1000, 1.0, growth=3.0) for count in range(4)]
    [0, 0, 250, 1000]
    """
    members = sum(step.member is not None for step in steps)
    done = sum(step.member is not None for step in steps[:count])
    share = (1.0 - hold) * count / len(steps)
    if members:
        parts = [growth**number for number in range(members)]
        share += hold * sum(parts[:done]) / sum(parts)
    return round(tokens * share)
