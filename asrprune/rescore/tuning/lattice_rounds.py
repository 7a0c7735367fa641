"""Score weights tuned on lattices: lists are drawn under the weights so far, until both agree.

A first pass's n-best list holds what its own weights like. Here the hypotheses that the weights at
hand like are drawn from the dev lattices rescored with them, join those of the rounds before, get
the exact score of every LM, and give new weights; then again, until the weights stay.
Source: F. J. Och, "Minimum error rate training in statistical machine translation", ACL 2003,
section 5, last paragraphs (n-best lists merged over the rounds).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from asrprune.core.hypothesis import Hypothesis, NBest, first_pass_scores
from asrprune.core.lattice.lattice import Lattice
from asrprune.core.lattice.paths import k_best
from asrprune.core.weights import ScoreWeights
from asrprune.lm.protocol import LanguageModel
from asrprune.rescore.lattices.modes import LATTICE_MODES, rescore_lattices
from asrprune.rescore.nbest.scored_list import Floats, ScoredList
from asrprune.rescore.tuning.problem import from_vector, make_problem, vector
from asrprune.rescore.tuning.round_options import RoundOptions
from asrprune.rescore.tuning.smooth_search import Mixtures
from asrprune.rescore.tuning.tune import Tuned, TuneOptions, limits_of, sharpness_of, tune

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LatticeTuned:
    """``tuned`` on the merged lists, which are ``lists``; ``rounds`` that were needed, and whether
    the weights came to ``rest`` within them. ``hypotheses`` were scored."""

    tuned: Tuned
    lists: tuple[ScoredList, ...]
    rounds: int
    rest: bool
    hypotheses: int


def tune_on_lattices(
    lattices: Sequence[Lattice],
    lms: Sequence[LanguageModel],
    refs: Mapping[str, str],
    start: ScoreWeights,
    options: Optional[TuneOptions] = None,
    rounds: Optional[RoundOptions] = None,
    towards: Optional[ScoreWeights] = None,
    path: str = "lattices",
) -> LatticeTuned:
    """Weights for ``rescore_lattices`` with the mode beam, on dev ``lattices``.

    The first lists are the best hypotheses under ``start`` (the first pass's own weights). ``lms``
    are those of ``rescore_lattices``, in its order; each must be able to score prefixes.
    ``options`` and ``towards`` as in ``tune``. Same input, same result. Raises as ``tune`` and
    ``rescore_lattices`` do, ValueError for an LM without prefixes.
    """
    options, rounds = options or TuneOptions(), rounds or RoundOptions()
    pool = _Pool(lattices, lms, start.unit)
    for lattice in lattices:
        own = replace(start, lm=(), first_lm=0.0 if lattice.lm is None else start.first_lm)
        pool.add(lattice.utt, k_best(lattice, rounds.list_size, own))
    # an LM that seems useless on the first pass's own lists may show its worth on later ones
    quick = replace(options, resamples=0, parts=False, fallback=False)
    prefixes = [lm.prefixes() for lm in lms]
    weights = towards or _first_guess(pool.lists(), refs, start, options, path)
    rest, number = False, 0
    while not rest and number < rounds.rounds:
        number += 1
        mode = LATTICE_MODES["beam"]
        counted = replace(weights, unit=start.unit)
        stream = rescore_lattices(lattices, mode, prefixes, counted, rounds.beam, path)
        for scored in stream:
            pool.add(scored.lattice.utt, scored.nbest(rounds.list_size).hyps)
        lists = pool.lists()
        found = tune(lists, refs, start, quick, path, towards)
        moved = _distance(lists, refs, start, options, path, weights, found.weights)
        rest = moved <= rounds.tolerance
        log.info("round %d: %s, moved %.3f units; %s", number, pool, moved, found.weights)
        weights = found.weights
    tuned = tune(lists, refs, start, options, path, towards)
    return LatticeTuned(tuned, tuple(lists), number, rest, pool.size)


class _Pool:
    """The hypotheses of all rounds, with the scores of the LMs."""

    def __init__(
        self, lattices: Sequence[Lattice], lms: Sequence[LanguageModel], unit: str
    ) -> None:
        self._unit = unit
        self._lms = lms
        self._hyps: dict[str, dict[str, Hypothesis]] = {one.utt: {} for one in lattices}
        self._audio = {one.utt: one.audio_s for one in lattices}
        self._scores: dict[tuple[str, str], Floats] = {}  # [K] of each hypothesis

    def __str__(self) -> str:
        return f"{self.size} hypotheses of {len(self._hyps)} utterances"

    @property
    def size(self) -> int:
        return sum(map(len, self._hyps.values()))

    def add(self, utt: str, hyps: Sequence[Hypothesis]) -> None:
        """Add hypotheses; one that is there already gets the path that was found last."""
        self._hyps[utt].update((hyp.text, hyp) for hyp in hyps)

    def lists(self) -> list[ScoredList]:
        """All of them, each with the score of every LM."""
        new = {
            utt: [text for text in hyps if (utt, text) not in self._scores]
            for utt, hyps in self._hyps.items()
        }
        new = {utt: texts for utt, texts in new.items() if texts}
        columns = [lm.score_lists(list(new.values())) for lm in self._lms]
        for row, (utt, texts) in enumerate(new.items()):
            for place, text in enumerate(texts):
                scores = [float(column[row][place]) for column in columns]
                self._scores[utt, text] = np.array(scores)
        result = []
        for utt, hyps in self._hyps.items():
            acoustic, first_lm, n_words = first_pass_scores(list(hyps.values()), self._unit)
            rows = [self._scores[utt, text] for text in hyps]
            lm = np.array(rows).reshape(len(hyps), len(self._lms)).T
            nbest = NBest(utt, tuple(hyps.values()), self._audio[utt])
            result.append(ScoredList(nbest, acoustic, first_lm, lm, n_words, self._unit))
        return result


def _first_guess(
    lists: Sequence[ScoredList],
    refs: Mapping[str, str],
    start: ScoreWeights,
    options: TuneOptions,
    path: str,
) -> ScoreWeights:
    """The best mixture of the first pass's LM and the LMs on its own lists."""
    problem, begin = make_problem(lists, refs, start, limits_of(options), path)
    mixtures = Mixtures(problem, begin, sharpness_of(problem))
    return from_vector(mixtures.best(np.ones(len(problem.words))))


def _distance(
    lists: Sequence[ScoredList],
    refs: Mapping[str, str],
    start: ScoreWeights,
    options: TuneOptions,
    path: str,
    before: ScoreWeights,
    after: ScoreWeights,
) -> float:
    """How far the weights moved: the largest move of one, in units of Problem."""
    problem, _ = make_problem(lists, refs, start, limits_of(options), path)
    return float((np.abs(vector(after) - vector(before)) / problem.unit).max())
