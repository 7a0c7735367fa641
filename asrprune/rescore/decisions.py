"""How the words are chosen from a rescored lattice: best path, or minimum Bayes risk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from asrprune.core.lattice.lattice import NoPathError
from asrprune.core.lattice.mbr import lattice_mbr
from asrprune.core.units import UNITS
from asrprune.rescore.lattices.scored_lattice import ScoredLattice

Floats = NDArray[np.float64]
Decision = Callable[[ScoredLattice, float], str]
MBR_HYPOTHESES = 200
"""So many of the best hypotheses take part in ``mbr``, as candidates and as evidence."""


def best_path_text(scored: ScoredLattice, scale: float) -> str:
    """the words of the path with the highest total"""
    return " ".join(_first(scored))


def nbest_mbr_text(scored: ScoredLattice, scale: float) -> str:
    """the hypothesis with the fewest expected word errors against the best hypotheses"""
    paths = scored.best(MBR_HYPOTHESES)
    texts = [path.words(scored.lattice) for path in paths]
    if not texts:
        return " ".join(_first(scored))
    cut = UNITS[scored.weights.unit]
    units = [cut(" ".join(text)) for text in texts]
    return " ".join(texts[minimum_risk(units, np.array([path.total for path in paths]), scale)])


def consensus_text(scored: ScoredLattice, scale: float) -> str:
    """the words with the fewest expected word errors over all paths (may be no path)"""
    _first(scored)
    return " ".join(lattice_mbr(scored.lattice, scored.totals, scale).words)


def minimum_risk(hyps: Sequence[Sequence[str]], totals: Floats, scale: float) -> int:
    """The number of the hypothesis with the fewest expected word errors against all of them.

    Posteriors are proportional to exp(scale * total), totals [H]; ties go to the earlier.
    Raises ValueError unless scale > 0.
    """
    return least_risk(pair_errors(hyps), totals, scale)


def pair_errors(hyps: Sequence[Sequence[str]]) -> Floats:
    """The word errors of every hypothesis against every other, [H, H]."""
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    errors: Floats = cdist(hyps, hyps, scorer=Levenshtein.distance, dtype=np.float64)
    return errors


def least_risk(errors: Floats, totals: Floats, scale: float) -> int:
    """``minimum_risk`` given ``pair_errors``."""
    if not scale > 0:
        raise ValueError(f"posterior scale is {scale}; expected > 0")
    mass = np.exp(scale * (totals - totals.max()))
    return int(np.argmin(np.round(errors @ (mass / mass.sum()), 12)))


DECISIONS: Mapping[str, Decision] = {
    "map": best_path_text,
    "mbr": nbest_mbr_text,
    "consensus": consensus_text,
}
"""name -> words of a rescored lattice, given the posterior scale (which ``map`` does not use)."""


def _first(scored: ScoredLattice) -> tuple[str, ...]:
    paths = scored.best(1)
    if not paths:
        raise NoPathError(f"lattice {scored.lattice.utt}: no path with a finite total")
    return paths[0].words(scored.lattice)
