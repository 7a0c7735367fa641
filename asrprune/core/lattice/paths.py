"""Paths of a lattice: best path, k best distinct word sequences, the cover of all arcs."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from asrprune.core.hypothesis import Hypothesis, first_pass_scores
from asrprune.core.lattice.lattice import (
    EPSILON,
    Floats,
    Lattice,
    arc_totals,
    sorted_arcs,
    sorted_lattice,
    take_arcs,
)
from asrprune.core.weights import ScoreWeights


@dataclass(frozen=True)
class Path:
    """One path: ``arcs`` are numbers of arcs of its lattice in order, ``total`` their sum."""

    arcs: tuple[int, ...]
    total: float

    def words(self, lattice: Lattice) -> tuple[str, ...]:
        """The words along the path."""
        ids = (int(lattice.word[arc]) for arc in self.arcs)
        return tuple(lattice.words[index] for index in ids if index != EPSILON)

    def hypothesis(self, lattice: Lattice) -> Hypothesis:
        """The words with the acoustic and the LM scores of the first pass, summed in order."""
        acoustic = sum((float(lattice.acoustic[arc]) for arc in self.arcs), 0.0)
        lm = None if lattice.lm is None else sum((float(lattice.lm[arc]) for arc in self.arcs), 0.0)
        return Hypothesis(" ".join(self.words(lattice)), acoustic, lm)


def best_path(lattice: Lattice, weights: ScoreWeights) -> Optional[Hypothesis]:
    """The hypothesis of the path with the highest total; None when no path has a finite total.

    Raises ValueError as ``arc_totals`` and ``topological_order`` do.
    """
    best = k_best(lattice, 1, weights)
    return best[0] if best else None


def k_best(lattice: Lattice, k: int, weights: ScoreWeights) -> tuple[Hypothesis, ...]:
    """The ``k`` distinct word sequences with the highest totals, best first; fewer if there are.

    The total of a word sequence is that of its best path, whose acoustic and LM scores it
    carries. Ties are ordered by text. Order is that of ``ScoreWeights.total`` of the scores
    returned. An arc of total -inf is on no path.

    Raises ValueError when k < 1, and as ``arc_totals`` and ``topological_order`` do.
    """
    paths = k_best_paths(lattice, k, arc_totals(lattice, weights))
    hyps = [path.hypothesis(lattice) for path in paths]
    acoustic, first_lm, n_words = first_pass_scores(hyps, weights.unit)
    totals = weights.totals(acoustic, first_lm, (), n_words).tolist()
    ranked = sorted(zip(totals, hyps), key=lambda pair: (-pair[0], pair[1].text))
    return tuple(hyp for _, hyp in ranked)


def k_best_paths(lattice: Lattice, k: int, totals: Floats) -> tuple[Path, ...]:
    """The best paths of the ``k`` best distinct word sequences under the arcs' ``totals`` [A].

    Best first, ties by text, fewer if there are. Exact: paths outside a beam are set aside first,
    and the beam is widened until the k-th total lies inside it. Raises ValueError when k < 1 and
    on a cycle.
    """
    if k < 1:
        raise ValueError(f"k is {k}; expected at least 1")
    full, numbers = sorted_arcs(lattice)
    if full.start == full.final:
        return (Path((), 0.0),)
    totals = totals[numbers]
    through = best_through(full, totals)
    ranked = np.sort(through[np.isfinite(through)])[::-1]
    if not len(ranked):
        return ()
    n_kept = min(len(ranked), 8 * k + full.n_states)
    while True:
        floor = float(ranked[n_kept - 1])
        inside = np.flatnonzero(through >= floor)
        found = _search(take_arcs(full, inside), k, totals[inside])
        everything = n_kept == len(ranked)
        slack = 1e-9 * (1.0 + abs(floor))
        if everything or (len(found) == k and found[-1].total > floor + slack):
            names = numbers[inside].tolist()
            paths = [Path(tuple(names[arc] for arc in one.arcs), one.total) for one in found]
            return tuple(sorted(paths, key=lambda one: (-one.total, one.words(lattice))))
        n_kept = min(len(ranked), 4 * n_kept)


def prune_lattice(lattice: Lattice, weights: ScoreWeights, beam: float) -> Lattice:
    """The sorted lattice without the arcs whose best path is more than ``beam`` below the best.

    Every path within the beam is kept whole with its scores. Raises ValueError when beam < 0,
    and as ``arc_totals`` does.
    """
    if not beam >= 0:
        raise ValueError(f"beam is {beam}; expected >= 0")
    full = sorted_lattice(lattice)
    through = best_through(full, arc_totals(full, weights))
    if not len(through):
        return full
    # a path's total is summed in another order along its arcs: rounding must not cut the best
    top = through.max()
    return sorted_lattice(take_arcs(full, through >= top - beam - 1e-9 * (1.0 + abs(top))))


def path_cover(lattice: Lattice, totals: Floats) -> tuple[Path, ...]:
    """Few paths that together hold every arc, each the best path through one of its arcs.

    Greedy: the arc with the worst best path comes first, since its path covers good arcs on its
    way; an arc that a path before it holds asks for none of its own. Arcs without a finite path
    are on no path. Best path first. Raises ValueError on a cycle.
    Source: K. Li et al., "A parallelizable lattice rescoring strategy with neural language
    models", ICASSP 2021, section 3 (there the arcs are taken in no stated order).
    """
    full, numbers = sorted_arcs(lattice)
    if full.start == full.final:
        return (Path((), 0.0),)
    totals = totals[numbers]
    through = best_through(full, totals)
    into = _best_arcs(full.dst, _best_before(full, totals), full.src, totals)
    onto = _best_arcs(full.src, best_after(full, totals), full.dst, totals)
    sources, targets, names = full.src.tolist(), full.dst.tolist(), numbers.tolist()
    covered = ~np.isfinite(through)
    found = []
    for arc in np.argsort(through, kind="stable").tolist():
        if covered[arc]:
            continue
        path = [arc]
        while sources[path[-1]] != full.start:
            path.append(into[sources[path[-1]]])
        path.reverse()
        while targets[path[-1]] != full.final:
            path.append(onto[targets[path[-1]]])
        covered[path] = True
        found.append(Path(tuple(names[one] for one in path), float(through[arc])))
    return tuple(reversed(found))


def best_through(lattice: Lattice, totals: Floats) -> Floats:
    """The best total of a path through each arc of a sorted lattice, shape [A]."""
    before, after = _best_before(lattice, totals), best_after(lattice, totals)
    through: Floats = np.array(before)[lattice.src] + totals + np.array(after)[lattice.dst]
    return through


def best_after(lattice: Lattice, totals: Floats) -> list[float]:
    """The best total from each state of a sorted lattice to the final state, shape [S]."""
    after = [-np.inf] * lattice.n_states
    after[lattice.final] = 0.0
    arcs = zip(lattice.src.tolist(), lattice.dst.tolist(), totals.tolist())
    for source, target, score in reversed(list(arcs)):
        if score + after[target] > after[source]:
            after[source] = score + after[target]
    return after


def _best_before(lattice: Lattice, totals: Floats) -> list[float]:
    """The best total from the start to each state of a sorted lattice, shape [S]."""
    before = [-np.inf] * lattice.n_states
    before[lattice.start] = 0.0
    arcs = zip(lattice.src.tolist(), lattice.dst.tolist(), totals.tolist())
    for source, target, score in arcs:  # sorted by source
        if before[source] + score > before[target]:
            before[target] = before[source] + score
    return before


def _best_arcs(near: Any, scores: list[float], far: Any, totals: Floats) -> list[int]:
    """For each state as ``near`` end, the arc that its best score comes by; -1 without any."""
    best = [-1] * len(scores)
    value = [-np.inf] * len(scores)
    for arc, (here, there, total) in enumerate(zip(near.tolist(), far.tolist(), totals.tolist())):
        if scores[there] + total > value[here]:
            best[here], value[here] = arc, scores[there] + total
    return best


_Back = Optional[tuple[int, Any]]
"""The arcs of a path from its last to its first: (arc, the rest)."""
_Partial = dict[int, tuple[float, _Back]]
"""state -> (total, arcs) of the best path with one word prefix that ends in the state."""
_Arc = tuple[int, int, float, int]
"""(destination, word, total, number of the arc)."""


def _search(lattice: Lattice, k: int, totals: Floats) -> list[Path]:
    """A* over word prefixes of a sorted lattice with the exact remaining total as heuristic.

    A prefix stands for all paths with its words, so that a word sequence is completed once.
    """
    after = best_after(lattice, totals)
    leaving: list[list[_Arc]] = [[] for _ in range(lattice.n_states)]
    columns = (lattice.src, lattice.dst, lattice.word, totals)
    for number, (source, *arc) in enumerate(zip(*(values.tolist() for values in columns))):
        if arc[2] + after[arc[0]] > -np.inf:
            leaving[source].append((arc[0], arc[1], arc[2], number))
    found: list[Path] = []
    serial = 0  # ties: first come, first served; partials are never compared
    heap: list[tuple[float, int, Optional[_Partial], _Back]]
    heap = [(-after[lattice.start], serial, {lattice.start: (0.0, None)}, None)]
    while heap and len(found) < k:
        negative, _, partial, complete = heapq.heappop(heap)
        if partial is None:
            found.append(Path(_forward(complete), -negative))
            continue
        ended, longer = _advance(lattice.final, leaving, partial)
        if ended is not None:
            serial += 1
            heapq.heappush(heap, (-ended[0], serial, None, ended[1]))
        for states in longer.values():
            serial += 1
            bound = max(reached[0] + after[state] for state, reached in states.items())
            heapq.heappush(heap, (-bound, serial, states, None))
    return found


def _forward(back: _Back) -> tuple[int, ...]:
    arcs = []
    while back is not None:
        arc, back = back
        arcs.append(arc)
    return tuple(reversed(arcs))


def _advance(
    final: int, leaving: list[list[_Arc]], partial: _Partial
) -> tuple[Optional[tuple[float, _Back]], dict[int, _Partial]]:
    """Follow epsilon arcs, then one word: what reaches the final state, partials by next word."""
    reached = dict(partial)
    waiting = sorted(reached)
    longer: dict[int, _Partial] = {}
    while waiting:
        state = heapq.heappop(waiting)  # states are in topological order: its total is final
        total, back = reached[state]
        for target, word, arc_total, arc in leaving[state]:
            states = reached if word == EPSILON else longer.setdefault(word, {})
            old = states.get(target)
            if old is None and word == EPSILON:
                heapq.heappush(waiting, target)
            if old is None or total + arc_total > old[0]:
                states[target] = (total + arc_total, (arc, back))
    return reached.get(final), longer
