"""Utterances that an LM corrected, damaged or left as wrong as they were, word by word."""

from __future__ import annotations

import heapq
import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from asrprune.wer.wer import Scoring, UtteranceErrors

KINDS = ("corrected", "damaged", "unchanged")
MOST = 12
"""Examples of each kind."""
LONGEST = 80
"""Words of an utterance that is shown."""


@dataclass(frozen=True)
class Choice:
    """The numbers of the utterances that are shown, by kind, and how many of each there are; beside
    KINDS there are those ``right`` with both."""

    shown: Mapping[str, Sequence[int]]
    counts: Mapping[str, int]


def choose(before: Scoring, after: Scoring, most: int = MOST) -> Choice:
    """Of the corrected (fewer errors) and damaged those whose errors change most, earlier ones
    first; of those with as many errors as before, evenly spread ones. None is long.

    Both scorings are of the same references, none left out.
    """
    changed: dict[str, list[tuple[int, int]]] = {"corrected": [], "damaged": []}
    same: list[int] = []
    counts = dict.fromkeys((*KINDS, "right"), 0)
    for number, (one, other) in enumerate(zip(before.table, after.table)):
        change = other.errors - one.errors
        kind = "damaged" if change > 0 else "corrected" if change else "unchanged"
        if not one.errors and not other.errors:
            kind = "right"
        counts[kind] += 1
        if max(one.words + one.insertions, other.words + other.insertions) > LONGEST:
            continue
        if kind == "unchanged":
            same.append(number)
        elif change:
            entry = (abs(change), -number)
            if len(changed[kind]) < most:
                heapq.heappush(changed[kind], entry)
            else:
                heapq.heappushpop(changed[kind], entry)
    shown = {
        kind: [-number for _, number in sorted(found)[::-1]] for kind, found in changed.items()
    }
    parts = min(most, len(same))
    shown["unchanged"] = [same[part * len(same) // parts] for part in range(parts)]
    return Choice(shown, counts)


def examples_html(
    name: str,
    systems: Sequence[tuple[str, Scoring]],
    speakers: Optional[Mapping[str, str]] = None,
) -> str:
    """The examples of the last two of ``systems`` (name, scoring), with the words of those before
    above them; ``name`` tells these examples from others of the page."""
    before, after = systems[-2:]
    choice = choose(before[1], after[1])
    wanted = {number for numbers in choice.shown.values() for number in numbers}
    texts = [_utterances(scoring, wanted) for _, scoring in systems]
    counts = choice.counts
    told = (
        f"{after[0]} against {before[0]}: fewer errors in {counts['corrected']:,} utterances, more "
        f"in {counts['damaged']:,}, as many in {counts['unchanged']:,}, none with either in "
        f"{counts['right']:,}. At most {MOST} of each are shown, those that change "
        f"most first, of the unchanged evenly spread ones; none of more than {LONGEST} words."
    )
    parts = [f"<p>{html.escape(told)}</p>"]
    for kind in ("all", *KINDS):
        checked = " checked" if kind == "all" else ""
        key = f"{name}-{kind}"
        count = "" if kind == "all" else f" ({counts[kind]:,})"
        parts.append(
            f'<input type="radio" name="{name}" id="{key}" class="pick-{kind}"{checked}>'
            f'<label for="{key}">{kind}{count}</label>'
        )
    parts.append(
        '<br><input type="search" class="find" hidden placeholder="find words, ids, speakers" '
        'aria-label="find words, ids, speakers">'
    )
    for kind in KINDS:
        for number in choice.shown[kind]:
            utterances = [found[number] for found in texts]
            parts.append(_example(kind, [name for name, _ in systems], utterances, speakers))
    return f'<div class="examples">{"".join(parts)}</div>'


def _utterances(scoring: Scoring, wanted: set[int]) -> dict[int, UtteranceErrors]:
    return {number: one for number, one in enumerate(scoring.utterances) if number in wanted}


def _example(
    kind: str,
    names: Sequence[str],
    utterances: Sequence[UtteranceErrors],
    speakers: Optional[Mapping[str, str]],
) -> str:
    one = utterances[0]
    if any(other.utt != one.utt for other in utterances):
        raise ValueError(f"utterance {one.utt} stands where another does in another system")
    errors = ", ".join(f"{other.counts.errors}" for other in utterances)
    said = f"{one.utt}: {kind}, errors {errors}"
    if speakers is not None:
        said += f", speaker {speakers[one.utt]}"
    lines = [("reference", html.escape(one.ref))]
    pairs = zip(names, utterances, [None, *utterances])
    lines += [(name, "".join(_words(other, before))) for name, other, before in pairs]
    shown = "".join(f'<dt>{html.escape(name)}</dt><dd dir="auto">{t}</dd>' for name, t in lines)
    top = f'<p class="legend">{html.escape(said)}</p>'
    return f'<div class="example {kind}">{top}<dl>{shown}</dl></div>'


def _words(one: UtteranceErrors, before: Optional[UtteranceErrors]) -> Iterator[str]:
    """The words of a hypothesis, those that are wrong marked, those that lack struck out. Framed is
    what differs from the hypothesis ``before``: ``new`` errors and ``fixed`` words."""
    was = None if before is None else _right(before)
    place = 0
    for ref, hyp in one.alignment:
        if ref is None:
            yield f'<ins class="ins">{html.escape(str(hyp))}</ins> '
            continue
        changed = was is not None and was[place] != (ref == hyp)
        place += 1
        if ref == hyp:
            word = html.escape(ref)
            yield f'<span class="fixed">{word}</span> ' if changed else f"{word} "
            continue
        new = " new" * changed
        if hyp is None:
            yield f'<del class="del{new}">{html.escape(ref)}</del> '
        else:
            told = f'title="for: {html.escape(ref)}"'
            yield f'<span class="sub{new}" {told}>{html.escape(hyp)}</span> '


def _right(one: UtteranceErrors) -> list[bool]:
    """Whether each word of the reference was recognised."""
    return [ref == hyp for ref, hyp in one.alignment if ref is not None]
