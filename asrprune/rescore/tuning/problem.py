"""A dev set as arrays: what every search for score weights works on."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.rescore.nbest.scored_list import Floats, ScoredList


@dataclass(frozen=True)
class Limits:
    """``largest``: limit of a weight, in units in which each score varies within a list as much as
    the acoustic score does. ``negative_lm``: LM weights may be negative (an LM is subtracted)."""

    largest: float = 20.0
    negative_lm: bool = False


@dataclass(frozen=True)
class Problem:
    """Scores [U, H, F] (columns: acoustic, first_lm, lm..., words) and word errors [U, H] of the
    hypotheses, which places hold one that may win, the reference words [U]; the limits of each
    weight, the weight that makes each score vary within lists as much as the anchor's (``unit``),
    the column of the anchor, whose weight is fixed, and how much its score varies (``spread``)."""

    scores: Floats
    errors: NDArray[np.int64]
    usable: NDArray[np.bool_]
    words: NDArray[np.int64]
    low: Floats
    high: Floats
    unit: Floats
    anchor: int
    spread: float

    @property
    def free(self) -> NDArray[np.int64]:
        """The columns whose weights may move."""
        return np.flatnonzero(self.high > self.low)

    def totals(self, weights: Floats) -> Floats:
        """``ScoreWeights.totals`` up to rounding, [U, H]: one product, as it is taken often."""
        return np.where(self.usable, self.scores @ weights, -np.inf)

    def chosen_errors(self, weights: Floats) -> NDArray[np.int64]:
        """Word errors of the best hypothesis of each list, [U]; ties go to the earlier."""
        best = self.totals(weights).argmax(axis=1)
        return np.asarray(self.errors[np.arange(len(best)), best])

    def count(self, weights: Floats) -> int:
        """Word errors of the best hypotheses."""
        return int(self.chosen_errors(weights).sum())


def vector(weights: ScoreWeights) -> Floats:
    """The weights in the order of the columns, [F]."""
    return np.array([weights.acoustic, weights.first_lm, *weights.lm, weights.word_bonus])


def from_vector(values: Floats) -> ScoreWeights:
    """The weights of ``vector``."""
    acoustic, first_lm, *lm, word_bonus = values.tolist()
    return ScoreWeights(acoustic, first_lm, tuple(lm), word_bonus)


def make_problem(
    lists: Iterable[ScoredList],
    refs: Mapping[str, str],
    start: ScoreWeights,
    limits: Limits,
    path: str,
) -> tuple[Problem, Floats]:
    """The arrays, utterances sorted by id, and the ``start`` weights [F] within their limits.

    The anchor is the acoustic score, else the first LM; ``start`` gives its weight. A score that no
    hypothesis has keeps weight 0. The lists are gone through once, and their texts are not kept.
    Raises as ``tune`` does.
    """
    lists = iter(lists)
    first = next(lists, None)
    n_lms = 0 if first is None else len(first.lm)
    if start.lm and len(start.lm) != n_lms:
        raise ValueError(f"start has {len(start.lm)} LM weights for {n_lms} LMs")
    columns = _Columns(n_lms + 3)
    unknown: list[str] = []
    for scored in chain([] if first is None else [first], lists):
        ref = refs.get(scored.nbest.utt)
        if ref is None:
            unknown.append(scored.nbest.utt)
        else:
            columns.add(scored, ref)
    if unknown:
        found = f"utterance {min(unknown)} without a reference"
        raise InputError(path, None, found, "one for each")
    if not any(columns.words):
        raise InputError(path, None, "no hypotheses of utterances with words", "a dev set")
    begin = vector(replace(start, lm=start.lm or (0.0,) * n_lms))
    problem = _arrays(columns, begin, limits, path)
    begin = np.where(problem.high > problem.low, begin, problem.low)
    return problem, np.clip(begin, problem.low, problem.high)


class _Columns:
    """Numbers of lists in the order in which they were added, without gaps between the lists:
    ``scores`` [H, F] and ``errors`` [H] of one after the other, and how many hypotheses (``sizes``)
    and reference words each has."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.names: list[str] = []
        self.words = array("q")
        self.sizes = array("q")
        self.scores = array("d")
        self.errors = array("q")

    def add(self, scored: ScoredList, ref: str) -> None:
        size = max(len(scored.nbest.hyps), 1)  # an empty list is one empty hypothesis
        self.names.append(scored.nbest.utt)
        self.words.append(len(ref.split()))
        self.sizes.append(size)
        columns = (scored.acoustic, scored.first_lm, *scored.lm, scored.n_words)
        rows: Floats = np.stack(columns, axis=1)
        if size == 1:  # it wins whatever its scores (silence has none)
            rows = np.zeros((1, self.width))
        self.scores.frombytes(rows.tobytes())
        self.errors.frombytes(word_errors(ref, scored).astype(np.int64).tobytes())


def word_errors(ref: str, scored: ScoredList) -> NDArray[np.int64]:
    """The word errors of each hypothesis of a list, [H], [1] of a list without hypotheses;
    ``ref`` holds the list's units."""
    from rapidfuzz.distance import Levenshtein

    words = ref.split()
    said = [scored.units(i) for i in range(len(scored.nbest.hyps))] or [[]]
    return np.array([Levenshtein.distance(words, units) for units in said])


def _arrays(columns: _Columns, begin: Floats, limits: Limits, path: str) -> Problem:
    # sorted, so that rounding does not depend on the order of the file
    order = sorted(range(len(columns.names)), key=columns.names.__getitem__)
    names = [columns.names[number] for number in order]
    sizes = np.array(columns.sizes, np.int64)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    row = np.repeat(rank, sizes)  # of each hypothesis
    place = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    shape = len(order), int(sizes.max())
    scores = np.zeros((*shape, columns.width))
    scores[row, place] = np.array(columns.scores).reshape(-1, columns.width)
    errors = np.zeros(shape, np.int64)
    errors[row, place] = columns.errors
    filled = np.zeros(shape, bool)
    filled[row, place] = True
    known = _known_columns(names, scores, filled, path)
    scores = np.where(known, scores, 0.0)
    usable = filled & ~np.isneginf(scores).any(axis=2)
    scores = np.where(usable[..., None], scores, 0.0)
    anchor = 0 if known[0] and begin[0] != 0.0 else 2
    unit, spread = _units(scores, usable, anchor)
    low = np.zeros(len(begin))
    high = np.where(known, limits.largest * unit, 0.0)
    low[-1] = -high[-1]
    if limits.negative_lm:
        low[2:-1] = -high[2:-1]
    if anchor < len(begin) - 1:
        low[anchor] = high[anchor] = begin[0] if anchor == 0 else 1.0
    high = np.maximum(high, np.where(known, begin, 0.0))
    words = np.array(columns.words, np.int64)[order]
    return Problem(scores, errors, usable, words, low, high, unit, anchor, spread)


def _known_columns(
    names: Sequence[str], scores: Floats, filled: NDArray[np.bool_], path: str
) -> NDArray[np.bool_]:
    """Which scores every hypothesis has; one that only some have is an error."""
    filled = filled & (filled.sum(axis=1, keepdims=True) > 1)
    unknown = np.isnan(scores) & filled[..., None]
    for column, name in ((0, "acoustic"), (1, "first_lm")):
        here = unknown[..., column]
        if here.any() and not here[filled].all():
            row, index = np.argwhere(here)[0]
            found = f"utterance {names[row]}: no {name} score of hypothesis {index + 1}"
            raise InputError(path, None, found, "one for each hypothesis, or for none")
    return np.asarray(~unknown.any(axis=(0, 1)))


def _units(scores: Floats, usable: NDArray[np.bool_], anchor: int) -> tuple[Floats, float]:
    """The weight that makes each score vary within lists as much as the anchor's does, [F], and
    how much that is."""
    count = np.maximum(usable.sum(axis=1, keepdims=True), 1)[..., None]
    mean = scores.sum(axis=1, keepdims=True) / count
    squares = np.where(usable[..., None], (scores - mean) ** 2, 0.0).sum(axis=(0, 1))
    spread = np.sqrt(squares / max(int(usable.sum()), 1))
    if anchor >= len(spread) or spread[anchor] == 0.0:
        return np.ones(len(spread)), 1.0
    unit = np.where(spread > 0, spread[anchor] / np.where(spread > 0, spread, 1.0), 1.0)
    return unit, float(spread[anchor])
