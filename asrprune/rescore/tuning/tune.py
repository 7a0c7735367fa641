"""Weights that minimise the word errors on a dev set: exact line searches from several starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.rescore.nbest.scored_list import Floats, ScoredList
from asrprune.rescore.tuning.line_search import error_profile


@dataclass(frozen=True)
class TuneOptions:
    """``starts``: random starting points beside the fixed ones. ``rounds``: most passes over all
    directions from one start. ``largest``: limit of a weight, in units in which each score varies
    within a list as much as the acoustic score does. ``negative_lm``: LM weights may be negative
    (an LM is subtracted)."""

    seed: int = 1
    starts: int = 20
    rounds: int = 20
    largest: float = 20.0
    negative_lm: bool = False

    def __post_init__(self) -> None:
        if self.starts < 0 or self.rounds < 1 or not self.largest > 0:
            raise ValueError(f"bad options {self}; expected starts >= 0, rounds and largest > 0")


@dataclass(frozen=True)
class Tuned:
    """The weights found, their word errors on dev, and for comparison those of the ``start``
    weights with every LM weight at 0. ``words`` counts reference words."""

    weights: ScoreWeights
    errors: int
    start_errors: int
    words: int
    utterances: int

    @property
    def wer_percent(self) -> float:
        """WER on dev at ``weights``."""
        return 100.0 * self.errors / self.words

    @property
    def start_wer_percent(self) -> float:
        """WER on dev at the starting weights, LM weights 0."""
        return 100.0 * self.start_errors / self.words


@dataclass(frozen=True)
class _Problem:
    """[U, H, F] scores (columns: acoustic, first_lm, lm..., words), [U, H] word errors, which
    places hold a hypothesis that may win, the limits of each weight, and the anchor's column."""

    scores: Floats
    errors: NDArray[np.int64]
    usable: NDArray[np.bool_]
    low: Floats
    high: Floats
    unit: Floats
    anchor: int

    def totals(self, weights: Floats) -> Floats:
        """``ScoreWeights.totals`` up to rounding, [U, H]: one product, as it is taken often."""
        return np.where(self.usable, self.scores @ weights, -np.inf)

    def count(self, weights: Floats) -> int:
        """Word errors of the best hypotheses; ties go to the earlier."""
        best = self.totals(weights).argmax(axis=1)
        return int(self.errors[np.arange(len(best)), best].sum())


def tune(
    lists: Sequence[ScoredList],
    refs: Mapping[str, str],
    start: ScoreWeights,
    options: Optional[TuneOptions] = None,
    path: str = "n-best",
) -> Tuned:
    """The weights with the fewest word errors that the search finds; same set, same result.

    The acoustic weight stays as in ``start`` (only ratios matter). A score that no hypothesis has
    keeps weight 0; without acoustic scores the first LM's weight is 1 and anchors the rest. LM
    weights are not negative unless ``options`` allow it, the word bonus may be. A move must remove
    errors; of equally good results the one nearest to ``start`` is taken, and each weight is put
    into the middle of the stretch where the errors stay the same. A hypothesis with a score of
    -inf never wins.

    Raises InputError when an utterance has no reference, a score is known for some hypotheses
    only, or there is nothing to tune on; ValueError for ``start`` with other LM weights than none
    or one per LM.
    """
    options = options or TuneOptions()
    n_lms = len(lists[0].lm) if lists else 0
    if start.lm and len(start.lm) != n_lms:
        raise ValueError(f"start has {len(start.lm)} LM weights for {n_lms} LMs")
    # sorted, so that rounding does not depend on the order of the file
    lists = sorted((one for one in lists if one.nbest.hyps), key=lambda one: one.nbest.utt)
    words = sum(len(_reference(refs, scored, path).split()) for scored in lists)
    if not words:
        raise InputError(path, None, "no hypotheses of utterances with words", "a dev set")
    begin = _vector(replace(start, lm=start.lm or (0.0,) * n_lms))
    problem = _problem(lists, refs, begin, options, path)
    begin = np.where(problem.high > problem.low, begin, problem.low)
    begin = np.clip(begin, problem.low, problem.high)
    zero_lm = begin.copy()
    zero_lm[2:-1] = 0.0
    found = _search(problem, begin, options)
    found = _centre(problem, found)
    acoustic, first_lm, *lm, word_bonus = found.tolist()
    return Tuned(
        weights=ScoreWeights(acoustic, first_lm, tuple(lm), word_bonus),
        errors=problem.count(found),
        start_errors=problem.count(zero_lm),
        words=words,
        utterances=len(lists),
    )


def _vector(weights: ScoreWeights) -> Floats:
    return np.array([weights.acoustic, weights.first_lm, *weights.lm, weights.word_bonus])


def _reference(refs: Mapping[str, str], scored: ScoredList, path: str) -> str:
    utt = scored.nbest.utt
    if utt not in refs:
        raise InputError(path, None, f"utterance {utt} without a reference", "one for each")
    return refs[utt]


def _problem(
    lists: Sequence[ScoredList],
    refs: Mapping[str, str],
    begin: Floats,
    options: TuneOptions,
    path: str,
) -> _Problem:
    depth = max(len(scored.nbest.hyps) for scored in lists)
    scores = np.zeros((len(lists), depth, len(begin)))
    errors = np.zeros((len(lists), depth), np.int64)
    filled = np.zeros((len(lists), depth), bool)
    for row, scored in enumerate(lists):
        size = len(scored.nbest.hyps)
        if size > 1:  # a single hypothesis wins whatever its scores (silence has none)
            columns = (scored.acoustic, scored.first_lm, *scored.lm, scored.n_words)
            scores[row, :size] = np.stack(columns, axis=1)
        errors[row, :size] = word_errors(_reference(refs, scored, path), scored)
        filled[row, :size] = True
    known = _known_columns(lists, scores, filled, path)
    scores = np.where(known, scores, 0.0)
    usable = filled & ~np.isneginf(scores).any(axis=2)
    scores = np.where(usable[..., None], scores, 0.0)
    anchor = 0 if known[0] and begin[0] != 0.0 else 2
    unit = _units(scores, usable, anchor)
    low = np.zeros(len(begin))
    high = np.where(known, options.largest * unit, 0.0)
    low[-1] = -high[-1]
    if options.negative_lm:
        low[2:-1] = -high[2:-1]
    if anchor < len(begin) - 1:
        low[anchor] = high[anchor] = begin[0] if anchor == 0 else 1.0
    high = np.maximum(high, np.where(known, begin, 0.0))
    return _Problem(scores, errors, usable, low, high, unit, anchor)


def _known_columns(
    lists: Sequence[ScoredList], scores: Floats, filled: NDArray[np.bool_], path: str
) -> NDArray[np.bool_]:
    """Which scores every hypothesis has; one that only some have is an error."""
    filled = filled & (filled.sum(axis=1, keepdims=True) > 1)
    unknown = np.isnan(scores) & filled[..., None]
    for column, name in ((0, "acoustic"), (1, "first_lm")):
        here = unknown[..., column]
        if here.any() and not here[filled].all():
            row, index = np.argwhere(here)[0]
            found = f"utterance {lists[row].nbest.utt}: no {name} score of hypothesis {index + 1}"
            raise InputError(path, None, found, "one for each hypothesis, or for none")
    return np.asarray(~unknown.any(axis=(0, 1)))


def word_errors(ref: str, scored: ScoredList) -> NDArray[np.int64]:
    """The word errors of each hypothesis of a list, [H]."""
    from rapidfuzz.distance import Levenshtein

    words = ref.split()
    return np.array([Levenshtein.distance(words, hyp.words) for hyp in scored.nbest.hyps])


def _units(scores: Floats, usable: NDArray[np.bool_], anchor: int) -> Floats:
    """The weight that makes each score vary within lists as much as the anchor's does, [F]."""
    count = np.maximum(usable.sum(axis=1, keepdims=True), 1)[..., None]
    mean = scores.sum(axis=1, keepdims=True) / count
    spread = np.sqrt(np.where(usable[..., None], (scores - mean) ** 2, 0.0).mean(axis=(0, 1)))
    if anchor >= len(spread) or spread[anchor] == 0.0:
        return np.ones(len(spread))
    return np.where(spread > 0, spread[anchor] / np.where(spread > 0, spread, 1.0), 1.0)


def _search(problem: _Problem, begin: Floats, options: TuneOptions) -> Floats:
    """The best of the descents from all starting points."""
    random = np.random.default_rng(options.seed)
    free = np.flatnonzero(problem.high > problem.low)
    starts = [begin]
    for scale in (0.25, 0.5, 1.0):  # first pass and LMs mixed in simple proportions
        mixed = begin.copy()
        mixed[2:-1] = scale * problem.unit[2:-1]
        starts.append(mixed)
    for _ in range(options.starts):
        drawn = begin.copy()
        drawn[free] = random.exponential(1.0, len(free)) * problem.unit[free]
        if free.size and free[-1] == len(begin) - 1:
            drawn[-1] *= random.choice((-1.0, 1.0))
        starts.append(drawn)
    directions = [np.eye(len(begin))[column] for column in free]
    directions += [
        np.where(problem.high > problem.low, random.normal(size=len(begin)) * problem.unit, 0.0)
        for _ in range(2 * len(free))
    ]
    best: Optional[tuple[int, float, Floats]] = None
    for point in starts:
        point = np.clip(point, problem.low, problem.high)
        point, errors = _descend(problem, point, directions, options.rounds)
        change = float(np.sum(((point - begin) / problem.unit) ** 2))
        if best is None or (errors, change) < best[:2]:
            best = (errors, change, point)
    assert best is not None
    return best[2]


def _descend(
    problem: _Problem, point: Floats, directions: Sequence[Floats], rounds: int
) -> tuple[Floats, int]:
    """Line searches until none removes an error."""
    errors = problem.count(point)
    for _ in range(rounds):
        before = errors
        for direction in directions:
            low, high = _limits(problem, point, direction)
            if not low < high:
                continue
            slopes = np.where(problem.usable, problem.scores @ direction, 0.0)
            profile = error_profile(problem.totals(point), slopes, problem.errors, low, high)
            fewest, left, right = profile.best()
            if fewest < errors:
                moved = np.clip(point + 0.5 * (left + right) * direction, problem.low, problem.high)
                counted = problem.count(moved)
                if counted < errors:  # rounding may spoil a very narrow stretch
                    point, errors = moved, counted
        if errors == before:
            break
    return point, errors


def _limits(problem: _Problem, point: Floats, direction: Floats) -> tuple[float, float]:
    """The range of t in which ``point + t * direction`` stays within the limits."""
    moving = direction != 0.0
    to_low = (problem.low - point)[moving] / direction[moving]
    to_high = (problem.high - point)[moving] / direction[moving]
    ends = np.sort(np.stack((to_low, to_high)), axis=0)
    return float(ends[0].max(initial=-np.inf)), float(ends[1].min(initial=np.inf))


def _centre(problem: _Problem, point: Floats) -> Floats:
    """Each free weight in the middle of its stretch of equal errors, if no error is added."""
    errors = problem.count(point)
    for column in np.flatnonzero(problem.high > problem.low):
        direction = np.eye(len(point))[column]
        low, high = _limits(problem, point, direction)
        if not low < high:
            continue
        slopes = np.where(problem.usable, problem.scores @ direction, 0.0)
        profile = error_profile(problem.totals(point), slopes, problem.errors, low, high)
        left, right = profile.around(0.0)
        if left == low or right == high:
            continue  # flat up to a limit: there is no middle
        moved = point + 0.5 * (left + right) * direction
        if problem.count(moved) == errors:
            point = moved
    return point
