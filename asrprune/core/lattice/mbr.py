"""Minimum Bayes risk: the words with the fewest expected word errors over a lattice's paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asrprune.core.lattice.lattice import EPSILON, Floats, Ints, Lattice, sorted_arcs, take_arcs
from asrprune.core.lattice.paths import k_best_paths
from asrprune.core.lattice.posteriors import forward_backward

SMALLEST_POSTERIOR = 1e-6
"""Arcs below it do not take part: together they could move an expectation by a hair only."""


@dataclass(frozen=True)
class MbrResult:
    """``words`` and the bound on their expected errors, and that of the best path (``map_``)."""

    words: tuple[str, ...]
    expected_errors: float
    map_expected_errors: float


def lattice_mbr(lattice: Lattice, totals: Floats, scale: float, rounds: int = 20) -> MbrResult:
    """The word sequence with (locally) the fewest expected word errors over a lattice.

    A path's posterior is proportional to exp(scale * total), ``totals`` [A]. Starts from the best
    path and changes words, puts words in and takes them out while the expectation falls. The
    expectation is an upper bound: at each state the alignment may depend on where the path is, not
    on how it got there; exact on linear lattices and on slots of words of their own, of which none
    is empty. Any word sequence may be the result, also one that is no path. Ties keep the best
    path's word.

    Raises ValueError unless scale > 0, and for a lattice without a path of finite total.
    Source: H. Xu et al., "Minimum Bayes risk decoding and system combination based on a recursion
    for edit distance", CSL 25 (2011), algorithm 1 and figures 3-5.
    """
    if not scale > 0:
        raise ValueError(f"posterior scale is {scale}; expected > 0")
    full, numbers = sorted_arcs(lattice)
    if full.start == full.final:
        return MbrResult((), 0.0, 0.0)
    totals = totals[numbers]
    forward, backward, scaled = forward_backward(full, scale * totals)
    posterior = np.exp(forward[full.src] + scaled + backward[full.dst] - forward[full.final])
    (best,) = k_best_paths(full, 1, totals)
    keep = posterior >= SMALLEST_POSTERIOR
    keep[list(best.arcs)] = True
    words = [int(full.word[arc]) for arc in best.arcs if full.word[arc] != EPSILON]
    small, arcs = sorted_arcs(take_arcs(full, keep))
    grid = _Grid(small, scaled[np.flatnonzero(keep)[arcs]])
    first = before = grid.expected_errors(_with_gaps(words))
    for _ in range(rounds):
        better = grid.improved(_with_gaps(words))
        after = grid.expected_errors(_with_gaps(better))
        if not after < before - 1e-9:
            break
        words, before = better, after
    return MbrResult(tuple(full.words[word] for word in words), before, first)


def _with_gaps(words: Sequence[int]) -> Ints:
    """Epsilon before, between and behind the words: there a word may come in, [2 W + 1]."""
    spaced = np.full(2 * len(words) + 1, EPSILON, dtype=np.int64)
    spaced[1::2] = words
    return spaced


class _Grid:
    """Expected edit distances for every state of a sorted lattice x every prefix of the words.

    ``share`` [A]: the probability that a path through an arc's destination came along the arc.
    """

    def __init__(self, lattice: Lattice, scaled: Floats) -> None:
        forward, _, _ = forward_backward(lattice, scaled)
        self._lattice = lattice
        reached = forward[lattice.src] + scaled
        self._share: Floats = np.exp(reached - forward[lattice.dst])
        columns = (lattice.src, lattice.dst, lattice.word, self._share)
        self._arcs = list(zip(*(values.tolist() for values in columns)))

    def expected_errors(self, words: Ints) -> float:
        """The expectation at the final state behind all ``words``."""
        return float(self._distances(words)[self._lattice.final, -1])

    def _distances(self, words: Ints) -> Floats:
        """[S, Q + 1] for Q words with gaps."""
        deletion = np.concatenate(([0], np.cumsum(words != EPSILON)))
        distance = np.zeros((self._lattice.n_states, len(words) + 1))
        distance[self._lattice.start] = deletion
        for source, target, word, share in self._arcs:  # sorted by source: it is complete
            distance[target] += share * _behind(distance[source], words, word, deletion)
        return distance

    def improved(self, words: Ints) -> list[int]:
        """The likeliest word (or none) at every place of the alignments of ``words``."""
        distance = self._distances(words)
        deletion = np.concatenate(([0], np.cumsum(words != EPSILON)))
        mass = np.zeros_like(distance)  # how likely an alignment goes through (state, place)
        mass[self._lattice.final, -1] = 1.0
        found: list[dict[int, float]] = [{} for _ in words]
        for source, target, word, share in reversed(self._arcs):
            if mass[target].any():
                here = share * mass[target]
                _trace_back(distance[source], mass[source], here, words, word, deletion, found)
        left = mass[self._lattice.start].copy()
        for place in range(len(words), 0, -1):  # words in front of the whole path
            found[place - 1][EPSILON] = found[place - 1].get(EPSILON, 0.0) + left[place]
            left[place - 1] += left[place]
        chosen = []
        for old, weights in zip(words.tolist(), found):
            best = max(weights.values(), default=0.0)
            keep = weights.get(old, 0.0) >= best - 1e-9
            chosen.append(old if keep else max(weights, key=lambda w: (weights[w], -w)))
        return [word for word in chosen if word != EPSILON]


def _behind(before: Floats, words: Ints, word: int, deletion: Floats) -> Floats:
    """Distances behind an arc with ``word`` given those before it, [Q + 1]."""
    after = before + (word != EPSILON)  # against nothing
    after[1:] = np.minimum(after[1:], before[:-1] + (words != word))
    lowest: Floats = np.minimum.accumulate(after - deletion) + deletion
    return lowest


def _trace_back(
    before: Floats,
    into: Floats,
    here: Floats,
    words: Ints,
    word: int,
    deletion: Floats,
    found: list[dict[int, float]],
) -> None:
    """Send the mass ``here`` [Q + 1] behind an arc to its source, and note what met what."""
    alone = before + (word != EPSILON)
    against = before[:-1] + (words != word)
    after = _behind(before, words, word, deletion)
    flow = here.copy()
    for place in range(len(words), 0, -1):
        amount = flow[place]
        if amount == 0.0:
            continue
        counts = found[place - 1]
        if after[place] == against[place - 1] or (
            after[place] != alone[place] and against[place - 1] <= after[place] + 1e-12
        ):
            into[place - 1] += amount
            counts[word] = counts.get(word, 0.0) + amount
        elif after[place] >= alone[place] - 1e-12:
            into[place] += amount
        else:
            flow[place - 1] += amount
            counts[EPSILON] = counts.get(EPSILON, 0.0) + amount
    into[0] += flow[0]
