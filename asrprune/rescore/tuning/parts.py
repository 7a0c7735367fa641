"""What each part of the weights brings, and whether an LM is worth a weight at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asrprune.rescore.nbest.scored_list import Floats

START = "start weights"
SCALES = "word bonus and scales"
WITH_LM = "with the LM"
DOUBT = 1.0
"""Standard errors by which a part must lower the held-out errors to be believed."""


@dataclass(frozen=True)
class Part:
    """Weights that are fitted as far as ``name`` says: START, those of the first pass with every LM
    weight at 0; SCALES, the word bonus and the first pass's LM weight tuned besides; WITH_LM, the
    LMs too.

    ``errors``: word errors on dev at weights fitted to all of it. ``held_out``: expected word
    errors on halves of dev, at weights of the other half. ``gain``: what the part removes of those
    of the best part before it, below 0 if it adds some; ``doubt``: the standard error of that over
    the utterances. Both are 0 for START, which is fitted to nothing.
    """

    name: str
    errors: int
    held_out: float
    gain: float = 0.0
    doubt: float = 0.0

    @property
    def helps(self) -> bool:
        """Whether it removes errors, and by DOUBT standard errors at least."""
        return self.gain > 0.0 and self.gain >= DOUBT * self.doubt * (1.0 - 1e-9)


def make_parts(found: Sequence[tuple[str, int, Floats]]) -> tuple[Part, ...]:
    """The parts, from name, errors on dev, and held-out errors of each utterance [U]; the simplest
    first."""
    parts: list[Part] = []
    for place, (name, errors, held_out) in enumerate(found):
        before = min((one for _, _, one in found[:place]), key=np.sum, default=held_out)
        less = before - held_out
        doubt = np.sqrt(len(less)) * less.std(ddof=1) if len(less) > 1 else np.abs(less).sum()
        total, gain = float(held_out.sum()), float(less.sum())
        parts.append(Part(name, errors, total, gain, float(doubt)))
    return tuple(parts)


def believed(parts: Sequence[Part]) -> Part:
    """The part whose weights are to be used: the last one that helps, START where none does.

    In doubt the simpler one, so that what is noise to a small dev set does not move the weights.
    Source of the rule: L. Breiman et al., "Classification and regression trees", 1984, 3.4.3.

    >>> start = Part(START, 90, 90.0)
    >>> scales = Part(SCALES, 80, 86.0, gain=4.0, doubt=3.0)
    >>> believed([start, scales, Part(WITH_LM, 70, 84.0, gain=2.0, doubt=4.0)]).name
    'word bonus and scales'
    """
    return next((part for part in reversed(parts) if part.helps), parts[0])
