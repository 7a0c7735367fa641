"""Putting the exact scores of an n-gram LM on the arcs of a lattice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Optional

from asrprune.core.lattice import Lattice, from_arcs, sorted_lattice

WordScore = Callable[[tuple[str, ...], str], float]
"""``score(history, word)``: ln P(word | history), history oldest word first, "<s>" at its start."""


def expand_lm(lattice: Lattice, score: WordScore, order: int, sentence_end: bool) -> Lattice:
    """The same paths with ``score`` of every word as ``lm``, exact for an n-gram LM of ``order``.

    States are split until the last ``order - 1`` words before each are unique, as in composition
    with the LM; epsilon arcs keep the history and get LM score 0. With ``sentence_end`` every
    path also pays ln P(</s> | history) on a last epsilon arc. LM scores that the lattice had are
    replaced. Raises ValueError when order < 1, and on a cycle.
    """
    if order < 1:
        raise ValueError(f"order is {order}; expected at least 1")
    lattice = sorted_lattice(lattice)
    leaving: list[list[tuple[int, str, float]]] = [[] for _ in range(lattice.n_states)]
    columns = (lattice.src.tolist(), lattice.dst.tolist(), lattice.arc_words())
    for source, target, word, acoustic in zip(*columns, lattice.acoustic.tolist()):
        leaving[source].append((target, word, acoustic))
    memory: dict[tuple[tuple[str, ...], str], float] = {}

    def remembered(history: tuple[str, ...], word: str) -> float:
        key = (history, word)
        if key not in memory:
            memory[key] = score(history, word)
        return memory[key]

    split: list[dict[tuple[str, ...], int]] = [{} for _ in range(lattice.n_states)]
    split[lattice.start][("<s>",) if order > 1 else ()] = 0
    origin = [lattice.start]
    arcs: list[tuple[int, int, str, float, Optional[float]]] = []
    for state in range(lattice.n_states):
        for history, source in split[state].items():
            for target, word, acoustic in leaving[state]:
                lm = remembered(history, word) if word else 0.0
                longer = _cut((*history, word), order) if word else history
                number = split[target].setdefault(longer, len(origin))
                if number == len(origin):
                    origin.append(target)
                arcs.append((source, number, word, acoustic, lm))
    final = len(origin)
    for history, source in split[lattice.final].items():
        lm = remembered(history, "</s>") if sentence_end else 0.0
        arcs.append((source, final, "", 0.0, lm))
    origin.append(lattice.final)
    return from_arcs(
        lattice.utt,
        len(origin),
        0,
        final,
        arcs,
        times=None if lattice.times is None else lattice.times[origin].tolist(),
        audio_s=lattice.audio_s,
    )


def _cut(history: tuple[str, ...], order: int) -> tuple[str, ...]:
    return history[max(0, len(history) - order + 1) :]
