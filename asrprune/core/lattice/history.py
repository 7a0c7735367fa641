"""Splitting the states of a lattice until each has one history of words."""

from __future__ import annotations

from typing import Optional

from asrprune.core.lattice.lattice import Lattice, from_copies, sorted_lattice

SENTENCE_START = "<s>"
History = tuple[str, ...]


def expand_history(lattice: Lattice, n_words: int) -> tuple[Lattice, tuple[History, ...]]:
    """The same paths with the last ``n_words`` words before each state unique, and those words.

    Histories [S] are oldest word first; one that is shorter starts with ``<s>`` (which counts as
    a word). Epsilon arcs keep the history. A last state, to which epsilon arcs with scores 0 lead,
    joins the copies of the final state; its history is (). Scores, times and weights stay.
    Raises ValueError when n_words < 0, and on a cycle.
    """
    if n_words < 0:
        raise ValueError(f"a history of {n_words} words; expected >= 0")
    lattice = sorted_lattice(lattice)
    leaving: list[list[tuple[int, str, float, Optional[float]]]] = [
        [] for _ in range(lattice.n_states)
    ]
    lm = [None] * lattice.n_arcs if lattice.lm is None else lattice.lm.tolist()
    columns = (lattice.src.tolist(), lattice.dst.tolist(), lattice.arc_words())
    for source, target, word, acoustic, score in zip(*columns, lattice.acoustic.tolist(), lm):
        leaving[source].append((target, word, acoustic, score))
    first: History = (SENTENCE_START,) if n_words else ()
    split: list[dict[History, int]] = [{} for _ in range(lattice.n_states)]
    split[lattice.start][first] = 0
    origin, histories = [lattice.start], [first]
    arcs: list[tuple[int, int, str, float, Optional[float]]] = []
    for state in range(lattice.n_states):
        for history, source in split[state].items():
            for target, word, acoustic, score in leaving[state]:
                longer = _cut((*history, word), n_words) if word else history
                number = split[target].setdefault(longer, len(origin))
                if number == len(origin):
                    origin.append(target)
                    histories.append(longer)
                arcs.append((source, number, word, acoustic, score))
    final = len(origin)
    nothing = None if lattice.lm is None else 0.0
    arcs += [(copy, final, "", 0.0, nothing) for copy in split[lattice.final].values()]
    expanded = from_copies(lattice, [*origin, lattice.final], arcs)
    return expanded, (*histories, ())


def _cut(history: History, n_words: int) -> History:
    return history[max(0, len(history) - n_words) :]
