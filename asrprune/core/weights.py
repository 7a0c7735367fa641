"""How the scores of a hypothesis combine into one number: the only definition of ``total``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class ScoreWeights:
    """``total = acoustic*a + first_lm*f + sum_i(lm[i]*g_i) + word_bonus*n_words``.

    a, f: acoustic and LM score of the first pass; g_i: score of the i-th rescoring LM; all natural
    logs, higher is better. A weight of 0 leaves its term out, even where the score is -inf or
    unknown; any other weight keeps -inf at -inf (a negative one would make it win). With every
    ``lm`` weight at 0 and the first pass's own ``acoustic``, ``first_lm`` and ``word_bonus``,
    ``total`` orders hypotheses as the first pass did.
    """

    acoustic: float = 1.0
    first_lm: float = 1.0
    lm: tuple[float, ...] = ()
    word_bonus: float = 0.0

    def __post_init__(self) -> None:
        for value in (self.acoustic, self.first_lm, self.word_bonus, *self.lm):
            if not math.isfinite(value):
                raise ValueError(f"score weight is {value}; expected a finite number")

    def total(
        self,
        acoustic: Optional[float],
        first_lm: Optional[float],
        lm: Sequence[float],
        n_words: int,
    ) -> float:
        """The combined score of one hypothesis.

        Raises ValueError when a term with a non-zero weight is unknown (None), is NaN, or when
        the number of LM scores differs from the number of LM weights.

        >>> ScoreWeights(1.0, 0.5, (2.0,), -0.5).total(-10.0, -4.0, [-3.0], 2)
        -19.0
        """
        if len(lm) != len(self.lm):
            raise ValueError(f"{len(lm)} LM scores for {len(self.lm)} LM weights")
        terms = [("acoustic", self.acoustic, acoustic), ("first_lm", self.first_lm, first_lm)]
        terms += [("lm", weight, value) for weight, value in zip(self.lm, lm)]
        total = self.word_bonus * n_words
        for name, weight, value in terms:
            if weight == 0.0:
                continue
            if value is None:
                raise ValueError(f"{name} score is unknown but its weight is {weight}")
            if math.isnan(value):
                raise ValueError(f"{name} score is NaN")
            total += -math.inf if value == -math.inf else weight * value
        return total
