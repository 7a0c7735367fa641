"""Lattices out of hypotheses: one path for each, merged where they share their first words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import Lattice, from_arcs, from_copies
from asrprune.core.weights import ScoreWeights

_Arcs = list[tuple[int, int, str, float, Optional[float]]]


def union_of_nbest(nbest: NBest, weights: Optional[ScoreWeights] = None) -> Lattice:
    """The lattice whose paths are the hypotheses of a list, with their scores.

    A trie of words; the scores of a hypothesis stand on an epsilon arc from its last word to the
    final state, so that totals are exact. Hypotheses with equal words get parallel arcs. From the
    back, words that lead to the same state are not merged: their scores differ. A list in which
    nothing was heard (``silent``) becomes one path without words, its scores 0.
    Raises ValueError for an empty list, for an acoustic score that is unknown, and for LM scores
    that only some hypotheses have.
    """
    if not nbest.hyps:
        raise ValueError(f"utterance {nbest.utt}: no hypothesis to make a lattice of")
    hyps = (Hypothesis("", 0.0, 0.0),) if nbest.silent else nbest.hyps
    children: dict[tuple[int, str], int] = {}
    arcs: _Arcs = []
    ends = []
    for rank, hyp in enumerate(hyps, start=1):
        if hyp.acoustic is None:
            raise ValueError(f"utterance {nbest.utt}: no acoustic score of hypothesis {rank}")
        state = 0
        for word in hyp.words:
            before = len(children)
            target = children.setdefault((state, word), before + 1)
            if target > before:
                arcs.append((state, target, word, 0.0, None if hyp.lm is None else 0.0))
            state = target
        ends.append((state, hyp.acoustic, hyp.lm))
    final = len(children) + 1
    arcs += [(state, final, "", acoustic, lm) for state, acoustic, lm in ends]
    return from_arcs(nbest.utt, final + 1, 0, final, arcs, audio_s=nbest.audio_s, weights=weights)


@dataclass(frozen=True)
class ArcTrie:
    """Paths of a lattice merged where they share their first arcs.

    ``lattice`` has a last epsilon arc for each path, with scores 0; ``places[p]`` are the arcs of
    path p in it, that last one included.
    """

    lattice: Lattice
    places: tuple[tuple[int, ...], ...]


def union_of_paths(lattice: Lattice, paths: Sequence[Sequence[int]]) -> ArcTrie:
    """The trie of ``paths``, given as numbers of the lattice's arcs; scores and times are kept."""
    targets, acoustic = lattice.dst.tolist(), lattice.acoustic.tolist()
    lm = [None] * lattice.n_arcs if lattice.lm is None else lattice.lm.tolist()
    words = lattice.arc_words()
    children: dict[tuple[int, int], int] = {}
    arcs: _Arcs = []
    origin = [lattice.start]
    routes: list[list[int]] = []
    for path in paths:
        state, route = 0, []
        for arc in path:
            number = children.setdefault((state, arc), len(arcs))
            if number == len(arcs):
                arcs.append((state, len(origin), words[arc], acoustic[arc], lm[arc]))
                origin.append(targets[arc])
            route.append(number)
            state = arcs[number][1]
        routes.append(route)
    final = len(origin)
    nothing = None if lattice.lm is None and lattice.n_arcs else 0.0
    for route in routes:
        end = arcs[route[-1]][1] if route else 0
        route.append(len(arcs))
        arcs.append((end, final, "", 0.0, nothing))
    joined = from_copies(lattice, [*origin, lattice.final], arcs)
    return ArcTrie(joined, tuple(tuple(route) for route in routes))
