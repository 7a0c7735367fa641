"""How the scores of a hypothesis combine into one number: the only definition of ``total``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.units import UNITS, WORD

Floats = NDArray[np.float64]


class UnknownScoreError(ValueError):
    """A score is unknown although its ``weight`` is not 0.

    ``term`` is ``acoustic``, ``first_lm`` or ``lm``; ``index`` the first hypothesis without it,
    from 0.
    """

    def __init__(self, term: str, index: int, weight: float) -> None:
        super().__init__(f"{term} score is unknown (None or NaN) but its weight is {weight}")
        self.term = term
        self.index = index
        self.weight = weight


@dataclass(frozen=True)
class ScoreWeights:
    """``total = acoustic*a + first_lm*f + sum_i(lm[i]*g_i) + word_bonus*n_words``.

    a, f: acoustic and LM score of the first pass; g_i: score of the i-th rescoring LM; all natural
    logs, higher is better. A weight of 0 leaves its term out, even where the score is -inf or
    unknown; any other weight keeps -inf at -inf (a negative one would make it win). With every
    ``lm`` weight at 0 and the first pass's own ``acoustic``, ``first_lm`` and ``word_bonus``,
    ``total`` orders hypotheses as the first pass did. n_words is counted in ``unit`` (of UNITS).
    """

    acoustic: float = 1.0
    first_lm: float = 1.0
    lm: tuple[float, ...] = ()
    word_bonus: float = 0.0
    unit: str = WORD

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit is {self.unit!r}; expected one of {', '.join(UNITS)}")
        if isinstance(self.lm, Real):
            raise ValueError(
                f"lm is {self.lm!r}; expected the weights of the LMs, as ({self.lm!r},)"
            )
        for value in (self.acoustic, self.first_lm, self.word_bonus, *self.lm):
            if not math.isfinite(value):
                raise ValueError(f"score weight is {value}; expected a finite number")

    def totals(
        self, acoustic: Floats, first_lm: Floats, lm: Sequence[Floats], n_words: Floats
    ) -> Floats:
        """The combined scores of many hypotheses, or of the arcs of a lattice, [H].

        ``acoustic``, ``first_lm`` and ``n_words`` [H], ``lm`` [K][H]; NaN where a score is unknown.
        Raises UnknownScoreError when that is so in a term with a weight, ValueError when the
        number of LM scores differs from the number of LM weights.
        """
        if len(lm) != len(self.lm):
            raise ValueError(f"{len(lm)} LM scores for {len(self.lm)} LM weights")
        weights = (self.acoustic, self.first_lm, *self.lm)
        scores = (acoustic, first_lm, *lm)
        terms = ("acoustic", "first_lm", *("lm" for _ in lm))
        for term, weight, values in zip(terms, weights, scores):
            if weight != 0.0 and np.isnan(values).any():
                raise UnknownScoreError(term, int(np.isnan(values).argmax()), weight)
        return weighted_sum(self.word_bonus * n_words, weights, scores)

    def total(
        self,
        acoustic: Optional[float],
        first_lm: Optional[float],
        lm: Sequence[float],
        n_words: int,
    ) -> float:
        """The combined score of one hypothesis, None for a score that is unknown.

        Raises as ``totals`` does.

        >>> ScoreWeights(1.0, 0.5, (2.0,), -0.5).total(-10.0, -4.0, [-3.0], 2)
        -19.0
        """

        def array(value: Optional[float]) -> Floats:
            return np.array([np.nan if value is None else value], np.float64)

        scores = array(acoustic), array(first_lm), [array(score) for score in lm]
        return float(self.totals(*scores, array(n_words))[0])


def weighted_sum(start: Floats, weights: Sequence[float], scores: Sequence[Floats]) -> Floats:
    """``start`` plus every score times its weight, added in that order, [N].

    ``scores`` [K][N] in the order of ``weights``. A weight of 0 leaves its scores out, whatever
    they are; any other keeps -inf at -inf, whatever its sign.
    """
    total = start
    for weight, values in zip(weights, scores):
        if weight != 0.0:
            total = total + np.where(np.isneginf(values), -np.inf, weight * values)
    return total
