"""Putting the exact scores of an n-gram LM on the arcs of a lattice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from asrprune.core.lattice.history import expand_history
from asrprune.core.lattice.lattice import Lattice

WordScore = Callable[[tuple[str, ...], str], float]
"""``score(history, word)``: ln P(word | history), history oldest word first, "<s>" at its start."""


def expand_lm(lattice: Lattice, score: WordScore, order: int, sentence_end: bool) -> Lattice:
    """The same paths with ``score`` of every word as ``lm``, exact for an n-gram LM of ``order``.

    States are split until the last ``order - 1`` words before each are unique, as in composition
    with the LM; epsilon arcs keep the history and get LM score 0. With ``sentence_end`` every
    path also pays ln P(</s> | history) on a last epsilon arc. LM scores that the lattice had are
    replaced, its weights dropped. Raises ValueError when order < 1, and on a cycle.
    """
    if order < 1:
        raise ValueError(f"order is {order}; expected at least 1")
    expanded, histories = expand_history(lattice, order - 1)
    memory: dict[tuple[tuple[str, ...], str], float] = {}

    def remembered(history: tuple[str, ...], word: str) -> float:
        key = (history, word)
        if key not in memory:
            memory[key] = score(history, word)
        return memory[key]

    lm = []
    for source, target, word in zip(expanded.src, expanded.dst, expanded.arc_words()):
        if word:
            lm.append(remembered(histories[source], word))
        elif sentence_end and target == expanded.final:
            lm.append(remembered(histories[source], "</s>"))
        else:
            lm.append(0.0)
    return replace(expanded, lm=np.array(lm, dtype=np.float64), weights=None)
