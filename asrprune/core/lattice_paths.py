"""Paths of a lattice: best path, k best distinct word sequences, posteriors, pruning."""

from __future__ import annotations

import heapq
from typing import Optional

import numpy as np

from asrprune.core.hypothesis import Hypothesis
from asrprune.core.lattice import (
    EPSILON,
    Floats,
    Ints,
    Lattice,
    arc_totals,
    sorted_lattice,
    take_arcs,
    topological_order,
)
from asrprune.core.weights import ScoreWeights


def best_path(lattice: Lattice, weights: ScoreWeights) -> Optional[Hypothesis]:
    """The hypothesis of the path with the highest total; None when no path has a finite total.

    Raises ValueError as ``arc_totals`` and ``topological_order`` do.
    """
    best = k_best(lattice, 1, weights)
    return best[0] if best else None


def k_best(lattice: Lattice, k: int, weights: ScoreWeights) -> tuple[Hypothesis, ...]:
    """The ``k`` distinct word sequences with the highest totals, best first; fewer if there are.

    The total of a word sequence is that of its best path, whose acoustic and LM scores it
    carries. Exact: paths outside a beam are set aside first, and the beam is widened until the
    k-th total lies inside it. Ties are ordered by text. Order is that of ``ScoreWeights.total``
    of the scores returned. An arc of total -inf is on no path.

    Raises ValueError when k < 1, and as ``arc_totals`` and ``topological_order`` do.
    """
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1")
    full = sorted_lattice(lattice)
    if full.start == full.final:
        return (Hypothesis("", 0.0, None if full.lm is None else 0.0),)
    totals = arc_totals(full, weights)
    through = _best_through(full, totals)
    ranked = np.sort(through[np.isfinite(through)])[::-1]
    if not len(ranked):
        return ()
    n_kept = min(len(ranked), 8 * k + full.n_states)
    while True:
        floor = float(ranked[n_kept - 1])
        kept = take_arcs(full, through >= floor)
        found = _search(kept, k, arc_totals(kept, weights))
        everything = n_kept == len(ranked)
        slack = 1e-9 * (1.0 + abs(floor))
        if everything or (len(found) == k and found[-1][0] > floor + slack):
            return _ranked([hyp for _, hyp in found], weights)
        n_kept = min(len(ranked), 4 * n_kept)


def arc_posteriors(lattice: Lattice, weights: ScoreWeights, scale: float = 1.0) -> Floats:
    """The posterior probability of every arc, shape [A]: exp(scale * totals) summed over paths.

    Arcs on no path have 0. The posteriors of the arcs that cross any cut sum to 1.
    Raises ValueError when no path has a finite total, and as ``arc_totals`` does.
    """
    totals = scale * arc_totals(lattice, weights)
    order = _position(lattice)
    forward = np.full(lattice.n_states, -np.inf)
    backward = forward.copy()
    forward[lattice.start] = 0.0
    backward[lattice.final] = 0.0
    sources, targets = lattice.src.tolist(), lattice.dst.tolist()
    for arc in np.argsort(order[lattice.src], kind="stable").tolist():
        source, target = sources[arc], targets[arc]
        forward[target] = np.logaddexp(forward[target], forward[source] + totals[arc])
    for arc in np.argsort(-order[lattice.dst], kind="stable").tolist():
        source, target = sources[arc], targets[arc]
        backward[source] = np.logaddexp(backward[source], backward[target] + totals[arc])
    evidence = forward[lattice.final]
    if not np.isfinite(evidence):
        raise ValueError(f"lattice {lattice.utt}: no path with a finite total")
    posteriors: Floats = np.exp(forward[lattice.src] + totals + backward[lattice.dst] - evidence)
    return posteriors


def prune_lattice(lattice: Lattice, weights: ScoreWeights, beam: float) -> Lattice:
    """The sorted lattice without the arcs whose best path is more than ``beam`` below the best.

    Every path within the beam is kept whole with its scores. Raises ValueError when beam < 0,
    and as ``arc_totals`` does.
    """
    if not beam >= 0:
        raise ValueError(f"beam is {beam}; expected >= 0")
    full = sorted_lattice(lattice)
    through = _best_through(full, arc_totals(full, weights))
    if not len(through):
        return full
    # a path's total is summed in another order along its arcs: rounding must not cut the best
    top = through.max()
    return sorted_lattice(take_arcs(full, through >= top - beam - 1e-9 * (1.0 + abs(top))))


def _position(lattice: Lattice) -> Ints:
    position = np.empty(lattice.n_states, dtype=np.int64)
    position[topological_order(lattice)] = np.arange(lattice.n_states)
    return position


def _best_through(lattice: Lattice, totals: Floats) -> Floats:
    """The best total of a path through each arc of a sorted lattice, shape [A]."""
    sources, targets, scores = lattice.src.tolist(), lattice.dst.tolist(), totals.tolist()
    before = [-np.inf] * lattice.n_states
    before[lattice.start] = 0.0
    for source, target, score in zip(sources, targets, scores):  # sorted by source
        if before[source] + score > before[target]:
            before[target] = before[source] + score
    after = _best_after(lattice, totals)
    through: Floats = np.array(before)[lattice.src] + totals + np.array(after)[lattice.dst]
    return through


def _best_after(lattice: Lattice, totals: Floats) -> list[float]:
    """The best total from each state of a sorted lattice to the final state, shape [S]."""
    after = [-np.inf] * lattice.n_states
    after[lattice.final] = 0.0
    arcs = zip(lattice.src.tolist(), lattice.dst.tolist(), totals.tolist())
    for source, target, score in reversed(list(arcs)):
        if score + after[target] > after[source]:
            after[source] = score + after[target]
    return after


_Partial = dict[int, tuple[float, float, float]]
"""state -> (total, acoustic, lm) of the best path with one word prefix that ends in the state."""


def _search(lattice: Lattice, k: int, totals: Floats) -> list[tuple[float, Hypothesis]]:
    """A* over word prefixes of a sorted lattice with the exact remaining total as heuristic.

    A prefix stands for all paths with its words, so that a word sequence is completed once.
    """
    after = _best_after(lattice, totals)
    lm = np.zeros(lattice.n_arcs) if lattice.lm is None else lattice.lm
    leaving: list[list[tuple[int, int, float, float, float]]] = [
        [] for _ in range(lattice.n_states)
    ]
    arcs = (lattice.src, lattice.dst, lattice.word, totals, lattice.acoustic, lm)
    for source, *arc in zip(*(values.tolist() for values in arcs)):
        if arc[2] + after[arc[0]] > -np.inf:
            leaving[source].append((arc[0], arc[1], arc[2], arc[3], arc[4]))
    found: list[tuple[float, Hypothesis]] = []
    serial = 0  # ties: first come, first served; partials are never compared
    heap: list[tuple[float, int, tuple[int, ...], Optional[_Partial], Optional[Hypothesis]]]
    heap = [(-after[lattice.start], serial, (), {lattice.start: (0.0, 0.0, 0.0)}, None)]
    while heap and len(found) < k:
        negative, _, prefix, partial, complete = heapq.heappop(heap)
        if complete is not None:
            found.append((-negative, complete))
            continue
        assert partial is not None  # an entry of the heap is either complete or partial
        ended, longer = _advance(lattice.final, leaving, partial)
        if ended is not None:
            serial += 1
            text = " ".join(lattice.words[word] for word in prefix)
            hyp = Hypothesis(text, ended[1], None if lattice.lm is None else ended[2])
            heapq.heappush(heap, (-ended[0], serial, prefix, None, hyp))
        for word, states in longer.items():
            serial += 1
            bound = max(scores[0] + after[state] for state, scores in states.items())
            heapq.heappush(heap, (-bound, serial, (*prefix, word), states, None))
    return found


def _advance(
    final: int, leaving: list[list[tuple[int, int, float, float, float]]], partial: _Partial
) -> tuple[Optional[tuple[float, float, float]], dict[int, _Partial]]:
    """Follow epsilon arcs, then one word: the scores at the final state, partials by next word."""
    reached = dict(partial)
    waiting = sorted(reached)
    longer: dict[int, _Partial] = {}
    while waiting:
        state = heapq.heappop(waiting)  # states are in topological order: its scores are final
        total, acoustic, lm = reached[state]
        for target, word, arc_total, arc_acoustic, arc_lm in leaving[state]:
            states = reached if word == EPSILON else longer.setdefault(word, {})
            old = states.get(target)
            if old is None and word == EPSILON:
                heapq.heappush(waiting, target)
            if old is None or total + arc_total > old[0]:
                states[target] = (total + arc_total, acoustic + arc_acoustic, lm + arc_lm)
    return reached.get(final), longer


def _ranked(hyps: list[Hypothesis], weights: ScoreWeights) -> tuple[Hypothesis, ...]:
    def key(hyp: Hypothesis) -> tuple[float, str]:
        return -weights.total(hyp.acoustic, hyp.lm, (), len(hyp.words)), hyp.text

    return tuple(sorted(hyps, key=key))
