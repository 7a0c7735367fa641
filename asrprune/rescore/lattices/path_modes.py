"""Lattice rescoring that scores whole hypotheses: n-best, exact, and a cover of all arcs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.lattice.lattice import Lattice, arc_totals
from asrprune.core.lattice.paths import Path, k_best_paths, path_cover, prune_lattice
from asrprune.core.lattice.union import union_of_paths
from asrprune.core.weights import ScoreWeights, weighted_sum
from asrprune.rescore.lattices.scored_lattice import ScoredLattice, ranking_weights

if TYPE_CHECKING:
    from asrprune.lm.protocol import WordScorer  # imports torch, which the flags do not need

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NbestOptions:
    """``paths``: how many of the best distinct hypotheses of a lattice are scored. ``ranking``:
    weights that choose them; None guesses the final total (see ranking_weights)."""

    paths: int = 100
    ranking: Optional[ScoreWeights] = None

    def __post_init__(self) -> None:
        if self.paths < 1:
            raise ValueError(f"paths is {self.paths}; expected >= 1")


@dataclass(frozen=True)
class ExactOptions:
    """``limit``: a lattice with more distinct word sequences is refused."""

    limit: int = 2000

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit is {self.limit}; expected >= 1")


@dataclass(frozen=True)
class CoverOptions:
    """``beam``: arcs whose best path is further below the best are left out, in units of the
    total. ``ranking`` as in NbestOptions."""

    beam: float = 30.0
    ranking: Optional[ScoreWeights] = None

    def __post_init__(self) -> None:
        if not self.beam >= 0:
            raise ValueError(f"beam is {self.beam}; expected >= 0")


def rescore_nbest(
    lattices: Sequence[Lattice],
    lms: Sequence[WordScorer],
    weights: ScoreWeights,
    options: NbestOptions,
) -> list[ScoredLattice]:
    """The trie of each lattice's best hypotheses with the exact LM score of every word.

    Of the paths with a hypothesis' words, the best under the ranking weights stands for them all;
    where the list holds every hypothesis, the best under ``weights``.
    """
    paths = []
    for lattice in lattices:
        ranking = options.ranking or ranking_weights(lattice, weights)
        found = k_best_paths(lattice, options.paths, arc_totals(lattice, ranking))
        if len(found) < options.paths:
            found = k_best_paths(lattice, options.paths, _without_lms(lattice, weights))
        paths.append(found)
    return _exact_tries(lattices, paths, lms, weights)


def rescore_exact(
    lattices: Sequence[Lattice],
    lms: Sequence[WordScorer],
    weights: ScoreWeights,
    options: ExactOptions,
) -> list[ScoredLattice]:
    """As ``rescore_nbest`` with all distinct hypotheses.

    Raises ValueError naming the utterance for a lattice with more than the limit.
    """
    paths = []
    for lattice in lattices:
        found = k_best_paths(lattice, options.limit + 1, _without_lms(lattice, weights))
        if len(found) > options.limit:
            raise ValueError(
                f"lattice {lattice.utt}: more than {options.limit} distinct word sequences"
            )
        paths.append(found)
    return _exact_tries(lattices, paths, lms, weights)


def rescore_cover(
    lattices: Sequence[Lattice],
    lms: Sequence[WordScorer],
    weights: ScoreWeights,
    options: CoverOptions,
) -> list[ScoredLattice]:
    """The pruned lattice with LM scores of its arcs estimated from hypotheses that cover them.

    An arc's score is its word's in the hypothesis with the best total among those that hold the
    arc; ``</s>`` is scored on the arc into the final state. Approximate: on another path the word
    has another history. Two arcs between the same states stay apart.
    Source: K. Li et al., "A parallelizable lattice rescoring strategy with neural language models",
    ICASSP 2021.
    """
    pruned, covers = [], []
    for lattice in lattices:
        ranking = options.ranking or ranking_weights(lattice, weights)
        small = prune_lattice(lattice, ranking, options.beam)
        pruned.append(small)
        covers.append(path_cover(small, arc_totals(small, ranking)))
    scores = _word_totals(pruned, covers, lms, weights)
    return [
        _estimated(lattice, paths, values, weights)
        for lattice, paths, values in zip(pruned, covers, scores)
    ]


def _without_lms(lattice: Lattice, weights: ScoreWeights) -> Floats:
    return arc_totals(lattice, replace(weights, lm=()))


def _exact_tries(
    lattices: Sequence[Lattice],
    paths: Sequence[Sequence[Path]],
    lms: Sequence[WordScorer],
    weights: ScoreWeights,
) -> list[ScoredLattice]:
    scores = _word_totals(lattices, paths, lms, weights)
    results = []
    for lattice, chosen, values in zip(lattices, paths, scores):
        trie = union_of_paths(lattice, [path.arcs for path in chosen])
        lm = np.zeros(trie.lattice.n_arcs)
        words = trie.lattice.word
        for places, one in zip(trie.places, values):
            arcs = np.array(places)
            lm[arcs[words[arcs] != 0]] = one[:-1]
            lm[arcs[-1]] = one[-1]
        results.append(ScoredLattice(trie.lattice, lm, weights))
    return results


def _estimated(
    lattice: Lattice, paths: Sequence[Path], values: Sequence[Floats], weights: ScoreWeights
) -> ScoredLattice:
    first_pass = ScoredLattice(lattice, np.zeros(lattice.n_arcs), weights).totals
    totals = [first_pass[list(path.arcs)].sum() + one.sum() for path, one in zip(paths, values)]
    lm = np.full(lattice.n_arcs, -np.inf)
    for number in np.argsort(totals, kind="stable").tolist():  # the best comes last and stays
        arcs = np.array(paths[number].arcs, dtype=np.int64)
        here = np.zeros(len(arcs))
        here[lattice.word[arcs] != 0] = values[number][:-1]
        if len(arcs):
            here[-1] += values[number][-1]
        lm[arcs] = here
    return ScoredLattice(lattice, lm, weights)


def _word_totals(
    lattices: Sequence[Lattice],
    paths: Sequence[Sequence[Path]],
    lms: Sequence[WordScorer],
    weights: ScoreWeights,
) -> list[list[Floats]]:
    """The weighted LM scores of the words of every path and of ``</s>``; [words + 1] each.

    Equal word sequences of one lattice are asked once. LMs of weight 0 are not asked.
    """
    texts = []
    order: list[list[int]] = []
    for lattice, chosen in zip(lattices, paths):
        number: dict[tuple[str, ...], int] = {}
        order.append([number.setdefault(path.words(lattice), len(number)) for path in chosen])
        texts.append(list(number))
    gains = [weight for weight in weights.lm if weight != 0.0]
    used = [lm for weight, lm in zip(weights.lm, lms) if weight != 0.0]
    scored = [lm.score_words(texts) for lm in used]
    results = []
    for row, (hyps, places) in enumerate(zip(texts, order)):
        totals = [
            weighted_sum(np.zeros(len(words) + 1), gains, [one[row][hyp] for one in scored])
            for hyp, words in enumerate(hyps)
        ]
        results.append([totals[place] for place in places])
    return results
