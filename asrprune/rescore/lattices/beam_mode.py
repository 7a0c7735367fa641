"""Lattice rescoring by expansion: histories of words are told apart, and merged after n words."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.lattice.lattice import (
    EPSILON,
    Lattice,
    NoPathError,
    arc_totals,
    from_copies,
    sorted_arcs,
    sorted_lattice,
)
from asrprune.core.lattice.paths import best_after
from asrprune.core.weights import ScoreWeights, weighted_sum
from asrprune.lm.protocol import SENTENCE_END, PrefixLM
from asrprune.rescore.lattices.scored_lattice import ScoredLattice, ranking_weights

Floats = NDArray[np.float64]
WORD_GUESS = -5.0
"""ln P of a word where nothing is known: guides the search without a first-pass LM, no more."""


@dataclass(frozen=True)
class BeamOptions:
    """``history``: hypotheses in one state whose last so many words are equal are merged; None
    tells all histories apart. ``beam``: how far below the best guess a hypothesis may be, in units
    of the total. ``state_hypotheses``: most hypotheses kept in a lattice state; ``frontier``: most
    that are expanded at once in one utterance; None in any of the three is no limit. ``parallel``:
    utterances searched in step, which share forward passes. ``ranking`` as in NbestOptions."""

    history: Optional[int] = 5
    beam: Optional[float] = 40.0
    state_hypotheses: Optional[int] = 8
    frontier: Optional[int] = 256
    parallel: int = 8
    ranking: Optional[ScoreWeights] = None

    def __post_init__(self) -> None:
        if self.history is not None and self.history < 0:
            raise ValueError(f"history is {self.history}; expected >= 0 or none")
        if self.beam is not None and not self.beam >= 0:
            raise ValueError(f"beam is {self.beam}; expected >= 0 or none")
        for name in ("state_hypotheses", "frontier"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected >= 1 or none")
        if self.parallel < 1:
            raise ValueError(f"parallel is {self.parallel}; expected >= 1")


def rescore_beam(
    lattices: Sequence[Lattice],
    lms: Sequence[PrefixLM],
    weights: ScoreWeights,
    options: BeamOptions,
) -> list[ScoredLattice]:
    """The expanded lattices, with the LM score of every arc in the history of its source state.

    States are taken level by level; all words that leave a level are scored in one batch, over
    ``parallel`` utterances. A hypothesis is judged by its total so far and the best rest of the
    lattice under ``ranking_weights``. A merged state keeps the history with the best total, an
    approximation for LMs that look further back. Without limits and merging, exact.

    Memory: an utterance holds at most ``frontier`` expanding hypotheses, twice ``state_hypotheses``
    in each state, and the arcs of both; keys and values have the LM's own bound. Raises ValueError
    naming the utterance when every hypothesis has a score of -inf.
    """
    results: list[ScoredLattice] = []
    used = [(weight, lm) for weight, lm in zip(weights.lm, lms) if weight != 0.0]
    for start in range(0, len(lattices), options.parallel):
        block = lattices[start : start + options.parallel]
        results += _in_step(block, [lm for _, lm in used], [w for w, _ in used], weights, options)
    return results


@dataclass
class _Hypothesis:
    """The best way into an expanded state: total so far, LM prefixes, last words, its number."""

    total: float
    prefixes: tuple[int, ...]
    words: tuple[int, ...]
    number: int


@dataclass(frozen=True)
class _Request:
    """What a search wants scored: ``words`` behind their prefixes, one an LM; and the prefixes
    that it still needs, these included."""

    words: list[tuple[tuple[int, ...], str]]
    alive: list[tuple[int, ...]]


_Search = Generator[_Request, Floats, ScoredLattice]


def _in_step(
    lattices: Sequence[Lattice],
    lms: Sequence[PrefixLM],
    gains: Sequence[float],
    weights: ScoreWeights,
    options: BeamOptions,
) -> list[ScoredLattice]:
    """Run the searches of several lattices together: one batch of LM scores for all of them."""
    searches = [
        _Beam(lattice, lms, gains, weights, options, group).run()
        for group, lattice in enumerate(lattices)
    ]
    done: dict[int, ScoredLattice] = {}
    waiting = {group: next(search) for group, search in enumerate(searches)}
    while waiting:
        asked = [move for request in waiting.values() for move in request.words]
        scores = np.zeros(len(asked))
        if lms:
            columns = [
                lm.score([(prefixes[k], word) for prefixes, word in asked])
                for k, lm in enumerate(lms)
            ]
            scores = weighted_sum(scores, gains, columns)
        at = 0
        for group, request in list(waiting.items()):
            here = scores[at : at + len(request.words)]
            at += len(request.words)
            try:
                waiting[group] = searches[group].send(here)
            except StopIteration as stop:
                done[group] = stop.value
                del waiting[group]
        for k, lm in enumerate(lms):
            lm.keep(prefixes[k] for request in waiting.values() for prefixes in request.alive)
    return [done[group] for group in range(len(lattices))]


class _Beam:
    """The search through one lattice."""

    def __init__(
        self,
        lattice: Lattice,
        lms: Sequence[PrefixLM],
        gains: Sequence[float],
        weights: ScoreWeights,
        options: BeamOptions,
        group: int,
    ) -> None:
        self._lattice = lattice = sorted_lattice(lattice)
        self._lms, self._weights, self._options = lms, weights, options
        ranking = options.ranking or ranking_weights(lattice, weights)
        guess = arc_totals(lattice, ranking)
        if lattice.lm is None:
            guess = guess + np.where(lattice.word != EPSILON, WORD_GUESS * sum(gains), 0.0)
        self._after = best_after(lattice, guess)
        self._base = arc_totals(lattice, replace(weights, lm=())).tolist()
        self._guess = guess.tolist()
        self._leaving: list[list[int]] = [[] for _ in range(lattice.n_states)]
        for arc, source in enumerate(lattice.src.tolist()):
            self._leaving[source].append(arc)
        self._targets, self._word_ids = lattice.dst.tolist(), lattice.word.tolist()
        self._words = lattice.arc_words()
        self._waiting: dict[int, dict[tuple[int, ...], _Hypothesis]] = {}
        self._origin: list[int] = []
        self._arcs: list[tuple[int, int, int, float]] = []  # source, target, arc or -1, LM score
        root = _Hypothesis(0.0, tuple(lm.root(group) for lm in lms), (), self._state(lattice.start))
        self._waiting[lattice.start] = {(): root}

    def run(self) -> _Search:
        """The search: yields what it wants scored, is sent the scores, returns the result."""
        for states in _levels(self._lattice):
            if self._lattice.final in states:
                break
            moves = self._moves(states)
            wanted = [(hyp.prefixes, self._words[arc]) for hyp, arc in moves if self._words[arc]]
            scores = np.zeros(0)
            if wanted:
                scores = self._checked((yield _Request(wanted, self._alive(moves))))
            self._follow(moves, iter(scores.tolist()))
        ends = list(self._waiting.get(self._lattice.final, {}).values())
        alive = [hyp.prefixes for hyp in ends]
        scores = self._checked(
            (yield _Request([(prefixes, SENTENCE_END) for prefixes in alive], alive))
        )
        final = self._state(self._lattice.final)
        self._arcs += [(h.number, final, -1, s) for h, s in zip(ends, scores.tolist())]
        if not np.isfinite(scores).any():
            raise NoPathError(f"lattice {self._lattice.utt}: no hypothesis with a finite score")
        return self._result()

    def _checked(self, scores: Floats) -> Floats:
        if np.isnan(scores).any() or (scores == np.inf).any():
            raise ValueError(f"lattice {self._lattice.utt}: an LM score is NaN or +inf")
        return scores

    def _floor(self, more: float = -np.inf) -> float:
        """What a guess must reach: the best of all that wait and of ``more``, less the beam."""
        if self._options.beam is None:
            return -np.inf
        best = max(
            (
                hyp.total + self._after[state]
                for state, hyps in self._waiting.items()
                for hyp in hyps.values()
            ),
            default=-np.inf,
        )
        best = max(best, more)
        # sums in another order: rounding must not cut the best
        return best - self._options.beam - 1e-9 * (1.0 + abs(best))

    def _chosen(self, states: Sequence[int]) -> list[tuple[int, _Hypothesis]]:
        """The hypotheses of a level that are expanded, best guess first; the rest are dropped."""
        chosen = []
        for state in states:
            hyps = sorted(self._waiting.pop(state, {}).values(), key=lambda hyp: -hyp.total)
            chosen += [(state, hyp) for hyp in hyps[: self._options.state_hypotheses]]
        chosen.sort(key=lambda one: -(one[1].total + self._after[one[0]]))
        return chosen[: self._options.frontier]

    def _moves(self, states: Sequence[int]) -> list[tuple[_Hypothesis, int]]:
        """Arcs that may lead to a total above the floor, from the hypotheses of a level."""
        floor = self._floor()
        return [
            (hyp, arc)
            for state, hyp in self._chosen(states)
            for arc in self._leaving[state]
            if hyp.total + self._guess[arc] + self._after[self._targets[arc]] >= floor
            and self._base[arc] > -np.inf
        ]

    def _alive(self, moves: Sequence[tuple[_Hypothesis, int]]) -> list[tuple[int, ...]]:
        expanding = [hyp.prefixes for hyp, _ in moves]
        return expanding + [h.prefixes for hyps in self._waiting.values() for h in hyps.values()]

    def _follow(self, moves: Sequence[tuple[_Hypothesis, int]], scores: Iterator[float]) -> None:
        """Move along the arcs, but for what falls out of the beam now that its LM score is known.

        The best always stays: the floor is taken anew, since all scores may be below the guess.
        """
        arrivals = []
        for hyp, arc in moves:
            lm = next(scores) if self._words[arc] else 0.0
            total = hyp.total + self._base[arc] + lm
            if total > -np.inf:
                arrivals.append((total + self._after[self._targets[arc]], hyp, arc, total, lm))
        floor = self._floor(max((one[0] for one in arrivals), default=-np.inf))
        for guess, hyp, arc, total, lm in arrivals:
            if guess >= floor:
                self._arrive(hyp, arc, total, lm)

    def _arrive(self, hyp: _Hypothesis, arc: int, total: float, lm: float) -> None:
        """Put the hypothesis behind an arc into its state, or merge it with one that is there."""
        word, words = self._words[arc], hyp.words
        if word:
            words = (*words, self._word_ids[arc])
            if self._options.history is not None:
                words = words[max(0, len(words) - self._options.history) :]
        states = self._waiting.setdefault(self._targets[arc], {})
        known = states.get(words)
        number = self._state(self._targets[arc]) if known is None else known.number
        self._arcs.append((hyp.number, number, arc, lm))
        if known is None or total > known.total:
            prefixes = hyp.prefixes
            if word:
                prefixes = tuple(lm.child(p, word) for lm, p in zip(self._lms, prefixes))
            states[words] = _Hypothesis(total, prefixes, words, number)
        most = self._options.state_hypotheses
        if most is not None and len(states) > 2 * most:  # memory: do not wait for the expansion
            kept = sorted(states.items(), key=lambda one: -one[1].total)[:most]
            self._waiting[self._targets[arc]] = dict(kept)

    def _state(self, origin: int) -> int:
        """The number of a new state of the expanded lattice."""
        self._origin.append(origin)
        return len(self._origin) - 1

    def _result(self) -> ScoredLattice:
        full = self._lattice
        first_lm = None if full.lm is None else full.lm.tolist()
        acoustic = full.acoustic.tolist()
        arcs: list[tuple[int, int, str, float, Optional[float]]] = []
        nothing = None if first_lm is None and full.n_arcs else 0.0
        for source, target, arc, _ in self._arcs:
            old = nothing if arc < 0 or first_lm is None else first_lm[arc]
            word = "" if arc < 0 else self._words[arc]
            arcs.append((source, target, word, 0.0 if arc < 0 else acoustic[arc], old))
        expanded = from_copies(full, self._origin, arcs)
        small, numbers = sorted_arcs(expanded)
        lm = np.array([score for *_, score in self._arcs])[numbers]
        return ScoredLattice(small, lm, self._weights)


def _levels(lattice: Lattice) -> list[list[int]]:
    """The states of a sorted lattice by the number of arcs on the longest way to them."""
    level = [0] * lattice.n_states
    for source, target in zip(lattice.src.tolist(), lattice.dst.tolist()):
        level[target] = max(level[target], level[source] + 1)
    states: list[list[int]] = [[] for _ in range(max(level) + 1)]
    for state, number in enumerate(level):
        states[number].append(state)
    return states
