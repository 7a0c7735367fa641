"""The scores of an n-best list as arrays, and their totals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Union

import numpy as np
from numpy.typing import NDArray

from asrprune.core.hypothesis import NBest, first_pass_scores
from asrprune.core.units import UNITS, WORD
from asrprune.core.weights import ScoreWeights, UnknownScoreError
from asrprune.errors import InputError
from asrprune.rescore.scores_file import Scores, ScoresReader

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredList:
    """An n-best list with the scores of its hypotheses.

    ``acoustic`` and ``first_lm`` [H] hold NaN where the first pass told nothing; ``lm`` [K, H] are
    the scores of the K rescoring LMs; ``n_words`` [H], counted in ``unit`` (of UNITS).
    """

    nbest: NBest
    acoustic: Floats
    first_lm: Floats
    lm: Floats
    n_words: Floats
    unit: str = WORD

    def units(self, index: int) -> list[str]:
        """What errors of a hypothesis are counted in."""
        return UNITS[self.unit](self.nbest.hyps[index].text)


def scored_lists(
    lists: Iterable[NBest], scores: Sequence[Union[Scores, ScoresReader]], unit: str = WORD
) -> Iterator[ScoredList]:
    """The lists joined with the scores of every LM, by utterance id and hypotheses' hash.

    Lists and scores stream. ``unit``: what errors and the word bonus are counted in. Raises
    InputError naming the utterance where a scores file has none or others for a list, and as
    ``read_scores`` for a bad line.
    """
    for nbest in lists:
        acoustic, first_lm, n_words = first_pass_scores(nbest.hyps, unit)
        lm = np.array([one.of(nbest) for one in scores]).reshape(len(scores), len(nbest.hyps))
        yield ScoredList(nbest, acoustic, first_lm, lm, n_words, unit)
    for one in scores:
        one.read_rest()


def totals(scored: ScoredList, weights: ScoreWeights, path: str = "n-best") -> Floats:
    """``weights.totals`` of every hypothesis, [H].

    ``path`` names the n-best file in errors. Raises InputError naming the utterance where a term
    with a weight is unknown, ValueError when there are not as many LM weights as LMs, and for a
    word bonus of another unit than the lists' words are counted in.
    """
    if weights.unit != scored.unit and weights.word_bonus != 0.0:
        raise ValueError(f"a word bonus for a {weights.unit}, of lists counted by {scored.unit}")
    try:
        return weights.totals(scored.acoustic, scored.first_lm, tuple(scored.lm), scored.n_words)
    except UnknownScoreError as problem:
        hypothesis = f"hypothesis {problem.index + 1}"
        found = f"utterance {scored.nbest.utt}: no {problem.term} score of {hypothesis}"
        expected = f"one, since its weight is {problem.weight}"
        raise InputError(path, None, found, expected) from None
