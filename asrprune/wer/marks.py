"""References with alternatives and optional words, as sclite marks them, and their alignment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

Alignment = tuple[tuple[Optional[str], Optional[str]], ...]
"""(reference word, hypothesis word) pairs; None on the side where there is no word."""

NOTHING = "@"


class Deletable(str):
    """A reference word whose deletion is no error: it counts as correct."""

    __slots__ = ()


@dataclass(frozen=True)
class Choice:
    """One place of a reference: its ``alternatives``, each a sequence of words, () for none. A
    plain word is one alternative of one word."""

    alternatives: tuple[tuple[str, ...], ...]


Marked = tuple[Choice, ...]
"""A reference with marks; its words depend on what it is aligned with."""


@dataclass(frozen=True)
class Costs:
    """What each kind of error costs when an alignment is chosen; each is one error all the same."""

    substitution: int = 1
    insertion: int = 1
    deletion: int = 1
    deletable: int = 0


COSTS = {"equal": Costs(), "sclite": Costs(4, 3, 3, 3)}
"""Name -> costs: those of Kaldi's ``compute-wer`` and jiwer, those of sclite (and of icefall's
``sclite_mode``), whose cheapest alignment may have more errors than needed."""


def parse_marks(
    words: Sequence[str],
    form: Callable[[str], list[str]] = str.split,
    deletable: bool = False,
) -> Marked:
    """The choices that ``words`` spell: ``{ a b / c / @ }``, ``@`` for none, ``(word)`` optional.

    The braces and slashes may touch words. ``form`` turns each stretch of plain words into the
    words to score, some of which may be Deletable. Only with ``deletable``, ``(word)`` is a word
    whose deletion is no error, as sclite reads it only with ``-D``. Raises ValueError for braces
    that do not pair, and for alternatives inside alternatives.

    >>> [choice.alternatives for choice in parse_marks("yes { um / @ }".split())]
    [(('yes',),), (('um',), ())]
    """
    choices: list[Choice] = []
    plain: list[str] = []
    inside: Optional[list[list[str]]] = None

    def flush() -> None:
        choices.extend(Choice(((word,),)) for word in form(" ".join(plain)))
        plain.clear()

    for token in _tokens(words):
        if token == "{":
            if inside is not None:
                raise ValueError("alternatives { / } inside alternatives")
            flush()
            inside = [[]]
        elif token == "}":
            if inside is None:
                raise ValueError("a } without its {")
            parts = dict.fromkeys(
                tuple(form(" ".join(word for word in part if word != NOTHING))) for part in inside
            )
            choices.append(Choice(tuple(parts)))
            inside = None
        elif token == "/" and inside is not None:
            inside.append([])
        elif inside is not None:
            inside[-1].append(token)
        elif deletable and len(token) > 2 and token[0] == "(" and token[-1] == ")":
            flush()
            choices.extend(Choice(((Deletable(one),),)) for one in form(token[1:-1]))
        else:
            plain.append(token)
    if inside is not None:
        raise ValueError("a { without its }")
    flush()
    return tuple(choice for choice in choices if choice.alternatives != ((),))


def is_plain(marked: Marked) -> bool:
    """Whether the reference is a mere sequence of words."""
    return not any(
        len(choice.alternatives) > 1 or any(isinstance(word, Deletable) for word in one)
        for choice in marked
        for one in choice.alternatives
    )


def plain_words(marked: Marked) -> list[str]:
    """The words, of alternatives the first."""
    return [str(word) for choice in marked for word in choice.alternatives[0]]


def align_marked(ref: Marked, hyp: Sequence[str], costs: Costs) -> Alignment:
    """A cheapest alignment over all that the reference may be, in reading order.

    Of alignments that cost the same, one with the fewest errors, and of those one with the most
    correct words. Time: reference words (of all alternatives) x hypothesis words.

    >>> ref = parse_marks("{ um / @ } a { b / x y }".split())
    >>> align_marked(ref, ["a", "x", "y"], COSTS["equal"])
    (('a', 'a'), ('x', 'x'), ('y', 'y'))
    """
    arcs, final = _graph(ref)
    width = len(hyp) + 1
    base = 1 + 2 * (len(arcs) + width)  # (cost, errors, words that are not correct) as one number
    insertion, substitution = _cost(costs.insertion, base), _cost(costs.substitution, base)
    rows: list[list[int]] = [[place * insertion for place in range(width)]]
    came: list[list[Optional[_Step]]] = [[None, *(_Step(0, None, True),) * (width - 1)]]
    for state in range(1, final + 1):
        row, steps = [_FAR] * width, list[Optional[_Step]]([None] * width)
        for source, word in arcs[state]:
            before = rows[source]
            if word is None:
                _improve(row, steps, before, _Step(source, None, False))
                continue
            deletion = _cost(costs.deletion, base)
            if isinstance(word, Deletable):  # no error, but correct
                deletion = costs.deletable * base * base - 1
            against = _Step(source, word, True)
            for place in range(1, width):
                cost = before[place - 1] + (-1 if word == hyp[place - 1] else substitution)
                if cost < row[place]:
                    row[place], steps[place] = cost, against
            _improve(row, steps, [cost + deletion for cost in before], _Step(source, word, False))
        inserted = _Step(state, None, True)
        for place in range(1, width):
            if row[place - 1] + insertion < row[place]:
                row[place], steps[place] = row[place - 1] + insertion, inserted
        rows.append(row)
        came.append(steps)
    return tuple(_trace(came, hyp, final))


@dataclass(frozen=True)
class _Step:
    """How a cell was reached: from state ``source``, with a reference word, with one of the
    hypothesis."""

    source: int
    word: Optional[str]
    takes: bool


_FAR = 1 << 80


def _cost(cost: int, base: int) -> int:
    return (cost * base + 1) * base


def _improve(row: list[int], steps: list[Optional[_Step]], offer: list[int], step: _Step) -> None:
    for place, cost in enumerate(offer):
        if cost < row[place]:
            row[place], steps[place] = cost, step


def _trace(
    came: list[list[Optional[_Step]]], hyp: Sequence[str], final: int
) -> list[tuple[Optional[str], Optional[str]]]:
    pairs: list[tuple[Optional[str], Optional[str]]] = []
    state, place = final, len(hyp)
    while (step := came[state][place]) is not None:
        place -= step.takes
        if step.word is not None or step.takes:
            pairs.append((step.word, hyp[place] if step.takes else None))
        state = step.source
    return pairs[::-1]


def _graph(ref: Marked) -> tuple[list[list[tuple[int, Optional[str]]]], int]:
    """For every state the arcs (source, word or None) into it, sources before; the last state."""
    arcs: list[list[tuple[int, Optional[str]]]] = [[]]
    begin = 0
    for choice in ref:
        ends: list[tuple[int, Optional[str]]] = []
        for words in choice.alternatives:
            state = begin
            for word in words[:-1]:
                arcs.append([(state, word)])
                state = len(arcs) - 1
            ends.append((state, words[-1] if words else None))
        arcs.append(ends)
        begin = len(arcs) - 1
    return arcs, begin


def _tokens(words: Sequence[str]) -> Iterator[str]:
    """The words with braces, and slashes between braces, apart."""
    depth = 0
    for word in words:
        start = 0
        for place, letter in enumerate(word):
            depth += (letter == "{") - (letter == "}")
            if letter in "{}" or (letter == "/" and depth > 0):
                if place > start:
                    yield word[start:place]
                yield letter
                start = place + 1
        if start < len(word):
            yield word[start:]
