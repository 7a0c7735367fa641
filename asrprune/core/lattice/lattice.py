"""A word lattice as arrays, its topological order and its arcs' totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.units import UNITS
from asrprune.core.weights import ScoreWeights, UnknownScoreError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
EPSILON = 0
"""The word id of an arc without a word; ``words[EPSILON]`` is the empty string."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """An acyclic graph from state ``start`` to state ``final`` whose arcs carry words and scores.

    Arrays over arcs, all of shape [A]: ``src``, ``dst`` (states), ``word`` (index into ``words``,
    0 for none), ``acoustic`` and ``lm`` (natural logs, unscaled, higher is better, never NaN or
    +inf; ``lm`` is None when the first pass told no LM scores). ``times`` [S] are the states'
    times in seconds, where known, and ``weights`` the first pass's own score weights. There is
    one final state: a reader of a format with several joins them by epsilon arcs that carry the
    final scores. ``<s>`` and ``</s>`` are no words.
    """

    utt: str
    n_states: int
    start: int
    final: int
    words: tuple[str, ...]
    src: Ints
    dst: Ints
    word: Ints
    acoustic: Floats
    lm: Optional[Floats] = None
    times: Optional[Floats] = None
    audio_s: Optional[float] = None
    weights: Optional[ScoreWeights] = None

    def __post_init__(self) -> None:
        for name in ("src", "dst", "word"):
            object.__setattr__(self, name, _frozen(getattr(self, name), np.int64))
        for name in ("acoustic", "lm", "times"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _frozen(getattr(self, name), np.float64))
        self._check()

    def _check(self) -> None:
        who = f"lattice {self.utt}"
        if not self.utt or self.utt.split() != [self.utt]:
            raise ValueError(f"utterance id {self.utt!r} is empty or holds white space")
        if not self.words or self.words[0] != "":
            raise ValueError(f"{who}: words[0] must be the empty string (epsilon)")
        for word in self.words[1:]:
            if word.split() != [word]:
                raise ValueError(f"{who}: word {word!r} is empty or holds white space")
        for name in ("dst", "word", "acoustic", "lm"):
            value = getattr(self, name)
            if value is not None and value.shape != (self.n_arcs,):
                raise ValueError(f"{who}: {len(value)} values of {name} for {self.n_arcs} arcs")
        if self.times is not None and self.times.shape != (self.n_states,):
            raise ValueError(f"{who}: {len(self.times)} times for {self.n_states} states")
        for name, ids, top in (
            ("start", np.array([self.start]), self.n_states),
            ("final", np.array([self.final]), self.n_states),
            ("src", self.src, self.n_states),
            ("dst", self.dst, self.n_states),
            ("word", self.word, len(self.words)),
        ):
            bad = (ids < 0) | (ids >= top)
            if bad.any():
                raise ValueError(f"{who}: {name} {ids[bad][0]} is outside 0..{top - 1}")
        for name in ("acoustic", "lm"):
            scores = getattr(self, name)
            if scores is not None:
                bad = np.isnan(scores) | (scores == np.inf)
                if bad.any():
                    raise ValueError(f"{who}: arc {np.flatnonzero(bad)[0]}: {name} is not a score")

    @property
    def n_arcs(self) -> int:
        """The number of arcs."""
        return len(self.src)

    def arc_words(self) -> list[str]:
        """The word of every arc, "" for epsilon."""
        return [self.words[index] for index in self.word.tolist()]


LARGEST_LATTICE = 2_000_000
"""States, and arcs, of a lattice that is read: a small ``.gz`` may hold any number of them."""


def check_size(count: int) -> None:
    """Raise ValueError for more states or arcs than LARGEST_LATTICE; readers ask as they go."""
    if count > LARGEST_LATTICE:
        raise ValueError(f"a lattice of more than {LARGEST_LATTICE:,} states or arcs")


def from_arcs(
    utt: str,
    n_states: int,
    start: int,
    final: int,
    arcs: Sequence[tuple[int, int, str, float, Optional[float]]],
    *,
    times: Optional[Sequence[float]] = None,
    audio_s: Optional[float] = None,
    weights: Optional[ScoreWeights] = None,
) -> Lattice:
    """A lattice from ``(source, destination, word, acoustic, lm)`` tuples.

    ``lm`` is None on all arcs or on none. Word ids are given in order of first use.
    Raises ValueError when only some arcs have an LM score, and as Lattice does.
    """
    table = {"": EPSILON}
    ids = [table.setdefault(arc[2], len(table)) for arc in arcs]
    known = [arc[4] for arc in arcs if arc[4] is not None]
    if known and len(known) != len(arcs):
        raise ValueError(f"lattice {utt}: {len(known)} of {len(arcs)} arcs have an LM score")
    return Lattice(
        utt=utt,
        n_states=n_states,
        start=start,
        final=final,
        words=tuple(table),
        src=np.array([arc[0] for arc in arcs], dtype=np.int64),
        dst=np.array([arc[1] for arc in arcs], dtype=np.int64),
        word=np.array(ids, dtype=np.int64),
        acoustic=np.array([arc[3] for arc in arcs], dtype=np.float64),
        lm=np.array(known, dtype=np.float64) if known else None,
        times=None if times is None else np.array(times, dtype=np.float64),
        audio_s=audio_s,
        weights=weights,
    )


def from_copies(
    lattice: Lattice,
    origin: Sequence[int],
    arcs: Sequence[tuple[int, int, str, float, Optional[float]]],
) -> Lattice:
    """A lattice of ``arcs`` whose state i is a copy of ``lattice``'s state ``origin[i]``.

    It starts in its first state and ends in its last; id, times, duration and weights are those of
    ``lattice``. Raises ValueError as ``from_arcs`` does.
    """
    return from_arcs(
        lattice.utt,
        len(origin),
        0,
        len(origin) - 1,
        arcs,
        times=None if lattice.times is None else lattice.times[list(origin)].tolist(),
        audio_s=lattice.audio_s,
        weights=lattice.weights,
    )


def arc_totals(lattice: Lattice, weights: ScoreWeights) -> Floats:
    """The total of every arc under first-pass ``weights``, shape [A]; a path's total is their sum.

    Raises ValueError when ``weights`` name rescoring LMs (their scores are not in a lattice),
    NoLmScoresError when they weigh LM scores that the lattice does not have.
    """
    if weights.lm:
        raise ValueError(f"{len(weights.lm)} rescoring LM weights; a lattice holds no such scores")
    lm = np.full(lattice.n_arcs, np.nan) if lattice.lm is None else lattice.lm
    split = UNITS[weights.unit]
    words = np.array([len(split(word)) for word in lattice.words], np.float64)[lattice.word]
    try:
        total = weights.totals(lattice.acoustic, lm, (), words)
    except UnknownScoreError as problem:
        raise NoLmScoresError(
            f"lattice {lattice.utt}: LM scores are unknown but their weight is {problem.weight}"
        ) from None
    if np.isnan(total).any() or (total == np.inf).any():
        raise ValueError(f"lattice {lattice.utt}: weights {weights} give a total that is no score")
    return total


def topological_order(lattice: Lattice) -> Ints:
    """The states in an order in which every arc goes forward, shape [S]; ties by state number.

    Raises ValueError naming a state on a cycle.
    """
    entering = np.bincount(lattice.dst, minlength=lattice.n_states).tolist()
    leaving: list[list[int]] = [[] for _ in range(lattice.n_states)]
    for source, destination in zip(lattice.src.tolist(), lattice.dst.tolist()):
        leaving[source].append(destination)
    order = [state for state in range(lattice.n_states) if entering[state] == 0]
    for state in order:  # grows while it is read
        for destination in leaving[state]:
            entering[destination] -= 1
            if entering[destination] == 0:
                order.append(destination)
    if len(order) < lattice.n_states:
        raise ValueError(
            f"lattice {lattice.utt}: state {_on_cycle(entering, leaving)} is on a cycle"
        )
    return np.array(order, dtype=np.int64)


class NoPathError(ValueError):
    """A lattice has no path from its start to its final state."""


class NoLmScoresError(ValueError):
    """LM scores of the first pass have a weight, and the lattice has none."""


def check_paths(lattice: Lattice) -> None:
    """Raise ValueError when the lattice has a cycle, NoPathError when it has no path from start to
    final state."""
    order = topological_order(lattice)
    if not _reached(lattice, order, forward=True)[lattice.final]:
        raise NoPathError(f"lattice {lattice.utt}: no path from start to final state")


def sorted_lattice(lattice: Lattice) -> Lattice:
    """The same paths with states numbered in topological order and arcs sorted by (src, dst).

    States and arcs on no path from start to final are left out; with no path at all, the result
    has the states 0 (start) and 1 (final) and no arc. Raises ValueError on a cycle.
    """
    return sorted_arcs(lattice)[0]


def sorted_arcs(lattice: Lattice) -> tuple[Lattice, Ints]:
    """``sorted_lattice`` and, for each of its arcs, the arc's number in ``lattice``."""
    if _is_sorted(lattice):
        return lattice, np.arange(lattice.n_arcs)
    order = topological_order(lattice)
    useful = _reached(lattice, order, forward=True) & _reached(lattice, order, forward=False)
    if not useful[lattice.start]:
        nothing = take_arcs(lattice, np.zeros(lattice.n_arcs, dtype=bool))
        empty = replace(nothing, n_states=2, start=0, final=1, times=None)
        return empty, np.zeros(0, dtype=np.int64)
    kept = order[useful[order]]
    number = np.full(lattice.n_states, -1, dtype=np.int64)
    number[kept] = np.arange(len(kept))
    arcs = np.flatnonzero(useful[lattice.src] & useful[lattice.dst])
    arcs = arcs[np.lexsort((number[lattice.dst[arcs]], number[lattice.src[arcs]]))]
    result = replace(
        lattice,
        n_states=len(kept),
        start=int(number[lattice.start]),
        final=int(number[lattice.final]),
        src=number[lattice.src[arcs]],
        dst=number[lattice.dst[arcs]],
        word=lattice.word[arcs],
        acoustic=lattice.acoustic[arcs],
        lm=None if lattice.lm is None else lattice.lm[arcs],
        times=None if lattice.times is None else lattice.times[kept],
    )
    return result, arcs


def _is_sorted(lattice: Lattice) -> bool:
    """Whether the lattice is as ``sorted_lattice`` leaves one: sorting is most of the work of many
    functions, which all ask for it."""
    src, dst, last = lattice.src, lattice.dst, lattice.n_states - 1
    if (lattice.start, lattice.final) != (0, last) or not (src < dst).all():
        return False
    in_order = (np.diff(src) > 0) | ((np.diff(src) == 0) & (np.diff(dst) >= 0))
    left, entered = np.zeros(last + 1, bool), np.zeros(last + 1, bool)
    left[src], entered[dst] = True, True
    return bool(in_order.all() and left[:last].all() and entered[1:].all())


def take_arcs(lattice: Lattice, keep: NDArray[Any]) -> Lattice:
    """The lattice with only the arcs that ``keep`` (mask or indices) selects; states stay."""
    return replace(
        lattice,
        src=lattice.src[keep],
        dst=lattice.dst[keep],
        word=lattice.word[keep],
        acoustic=lattice.acoustic[keep],
        lm=None if lattice.lm is None else lattice.lm[keep],
    )


def _frozen(values: Any, kind: Any) -> Any:
    array = np.array(values, dtype=kind)
    array.setflags(write=False)
    return array


def _on_cycle(entering: list[int], leaving: list[list[int]]) -> int:
    """A state on a cycle: walking back among the states that still wait must come round."""
    waiting = {state for state, count in enumerate(entering) if count > 0}
    before = {target: state for state in waiting for target in leaving[state] if target in waiting}
    state, seen = min(waiting), set()
    while state not in seen:
        seen.add(state)
        state = before[state]
    return state


def _reached(lattice: Lattice, order: Ints, forward: bool) -> NDArray[np.bool_]:
    """Which states a path from the start (or, backward, to the final state) touches, [S]."""
    near, far = (lattice.src, lattice.dst) if forward else (lattice.dst, lattice.src)
    reached = [False] * lattice.n_states
    reached[lattice.start if forward else lattice.final] = True
    position = np.empty(lattice.n_states, dtype=np.int64)
    position[order] = np.arange(lattice.n_states)
    by_time = np.argsort(position[near] if forward else -position[near], kind="stable")
    for here, there in zip(near[by_time].tolist(), far[by_time].tolist()):
        if reached[here]:
            reached[there] = True
    return np.array(reached, dtype=bool)
