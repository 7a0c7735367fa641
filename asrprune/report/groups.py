"""Word errors by speaker and by length of the utterance."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from asrprune.core.counts import ErrorCounts
from asrprune.report.tables import difference
from asrprune.wer.wer import Scoring

LENGTHS = (5, 10, 20, 40)
"""Most words of the reference in each class but the last."""
MOST = 40
"""Speakers of the table."""


@dataclass(frozen=True)
class Group:
    """Utterances of one kind, and the errors of each system on them."""

    name: str
    utterances: int
    counts: Sequence[ErrorCounts]

    def change(self, before: int, after: int) -> float:
        """WER of system number ``after`` minus that of ``before``, in percent of the words; 0
        without words."""
        words = self.counts[before].words
        errors = self.counts[after].errors - self.counts[before].errors
        return 100.0 * errors / words if words else 0.0


def by_speaker(scorings: Sequence[Scoring], speakers: Mapping[str, str]) -> list[Group]:
    """A group a speaker, in the order of their first utterances."""
    names = [speakers[one.utt] for one in scorings[0].utterances]
    return _grouped(scorings, lambda number, _: names[number])


def by_length(scorings: Sequence[Scoring]) -> list[Group]:
    """A group a class of LENGTHS that has utterances, short ones first."""
    groups = _grouped(scorings, lambda _, words: _length(words))
    order = [_length(most) for most in (*LENGTHS, LENGTHS[-1] + 1)]
    return sorted(groups, key=lambda group: order.index(group.name))


def _length(words: int) -> str:
    """
    >>> _length(0), _length(6), _length(99)
    ('up to 5', '6 to 10', 'more than 40')
    """
    for number, most in enumerate(LENGTHS):
        if words <= most:
            return f"{LENGTHS[number - 1] + 1} to {most}" if number else f"up to {most}"
    return f"more than {LENGTHS[-1]}"


def _grouped(scorings: Sequence[Scoring], key: Callable[[int, int], str]) -> list[Group]:
    """``key``: number of an utterance and words of its reference -> group."""
    sums: dict[str, list[ErrorCounts]] = {}
    sizes: dict[str, int] = {}
    for number, counts in enumerate(zip(*(scoring.table for scoring in scorings))):
        name = key(number, counts[0].words)
        before = sums.get(name, [ErrorCounts()] * len(counts))
        sums[name] = [one + other for one, other in zip(before, counts)]
        sizes[name] = sizes.get(name, 0) + 1
    return [Group(name, sizes[name], counts) for name, counts in sums.items()]


def speakers_html(names: Sequence[str], groups: Sequence[Group], before: int, after: int) -> str:
    """The speakers, those that lose most from ``before`` to ``after`` first, MOST at most."""
    order = sorted(groups, key=lambda group: (-group.change(before, after), group.name))
    worse = sum(group.change(before, after) > 0 for group in groups)
    better = sum(group.change(before, after) < 0 for group in groups)
    told = (
        f"{names[after]} against {names[before]}: more errors for {worse:,} of {len(groups):,} "
        f"speakers, fewer for {better:,}, as many for {len(groups) - worse - better:,}. A speaker "
        "has few words, so single differences are uncertain."
    )
    shown = order
    if len(order) > MOST:
        shown = [*order[: MOST // 2], *order[-MOST // 2 :]]
        told += f" Shown are the {MOST // 2} that lose most and the {MOST // 2} that gain most."
    table = _table("speaker", names, shown, before, after)
    return f"<p>{html.escape(told)}</p>{table}"


def lengths_html(names: Sequence[str], groups: Sequence[Group], before: int, after: int) -> str:
    """The classes of length, in words of the reference."""
    return _table("words", names, groups, before, after)


def _table(
    what: str, names: Sequence[str], groups: Sequence[Group], before: int, after: int
) -> str:
    """One line a group: WER of each system, and the change as a bar."""
    heading = [what, "utterances", "words", *(f"WER, {name}" for name in names)]
    heading.append(f"{names[after]} vs {names[before]}")
    top = "".join(f'<th scope="col">{html.escape(one)}</th>' for one in heading)
    largest = max((abs(group.change(before, after)) for group in groups), default=0.0) or 1.0
    lines = []
    for group in groups:
        change = group.change(before, after)
        side = "worse" if change > 0 else "better"
        rates = [f"{one.wer_percent:.1f}" if one.words else "" for one in group.counts]
        texts = [f"{group.utterances:,}", f"{group.counts[0].words:,}", *rates]
        texts.append(difference(change, None, None))
        shown = "".join(f"<td>{text}</td>" for text in texts)
        width = 50 * abs(change) / largest
        lines.append(
            f'<tr><th scope="row">{html.escape(group.name)}</th>{shown}'
            f'<td class="bar"><i class="{side}" style="width:{width:.0f}%"></i></td></tr>'
        )
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{top}<td></td></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )
