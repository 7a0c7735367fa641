"""A lattice with the scores of rescoring LMs on its arcs, and what is read off it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from asrprune.core.hypothesis import NBest
from asrprune.core.lattice.lattice import Lattice, arc_totals
from asrprune.core.lattice.paths import Path, k_best_paths
from asrprune.core.weights import ScoreWeights, weighted_sum

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ScoredLattice:
    """``lattice`` with the first pass's scores, and ``lm`` [A]: the weighted sum of the rescoring
    LMs' ln P on every arc. ``weights``: all weights; their LM weights are in ``lm`` already."""

    lattice: Lattice
    lm: Floats
    weights: ScoreWeights

    @property
    def totals(self) -> Floats:
        """The total of every arc, [A]; -inf in ``lm`` stays -inf."""
        totals: Floats = arc_totals(self.lattice, replace(self.weights, lm=())) + self.lm
        return totals

    def best(self, count: int) -> tuple[Path, ...]:
        """The best paths of the ``count`` best distinct word sequences."""
        return k_best_paths(self.lattice, count, self.totals)

    def nbest(self, count: int) -> NBest:
        """The ``count`` best hypotheses, best first, with the scores of the first pass: a list
        for lmscore and tune."""
        hyps = tuple(path.hypothesis(self.lattice) for path in self.best(count))
        return NBest(self.lattice.utt, hyps, self.lattice.audio_s)

    def rescored(self) -> Lattice:
        """The lattice with new LM scores in the place of the first pass's, for other tools.

        ``lm`` is what all LMs say together, divided by an LM scale F: (f * first_lm + sum of
        g_i * lm_i) / F with F = f + sum of g_i, or 1 where that is not positive (an LM was
        subtracted). The lattice's ``weights`` (a, F, word bonus) give each path the total that it
        has here, so that a tool that uses them finds the same best path.
        """
        stated = weights_of_rescored(self.weights)
        lm = self.lm
        if self.lattice.lm is not None:
            lm = weighted_sum(lm, [self.weights.first_lm], [self.lattice.lm])
        return replace(self.lattice, lm=lm / stated.first_lm, weights=stated)


def weights_of_rescored(weights: ScoreWeights) -> ScoreWeights:
    """The weights (a, F, word bonus) of lattices that ``ScoredLattice.rescored`` makes."""
    scale = weights.first_lm + sum(weights.lm)
    scale = scale if scale > 0 else 1.0
    return ScoreWeights(weights.acoustic, scale, (), weights.word_bonus, weights.unit)


def ranking_weights(lattice: Lattice, weights: ScoreWeights) -> ScoreWeights:
    """Weights that guess the final total from the first pass's scores alone.

    The first pass's LM stands in for the rescoring LMs: its weight is f + sum of g_i (at least
    f). With LM weights 0 they are the first pass's own. Without first-pass LM scores only
    acoustic score and word bonus are left; the search adds a guess for each word.
    """
    share = max(sum(weights.lm), 0.0) if lattice.lm is not None else 0.0
    return replace(weights, lm=(), first_lm=weights.first_lm + share)
