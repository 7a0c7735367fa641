"""The parts of the page below the tables, each only where its data is there."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional

from asrprune.report.budgets import MOST, main_rows, recommend
from asrprune.report.examples import examples_html
from asrprune.report.gather import Gathered
from asrprune.report.groups import by_length, by_speaker, lengths_html, speakers_html
from asrprune.report.lines import Curve, curves_figure
from asrprune.report.lm_files import LmReading
from asrprune.report.lm_sections import lm_sections
from asrprune.report.origins import origins_section
from asrprune.report.page import Section, named_rate, small
from asrprune.report.rows import SystemRow

EXAMPLES_LEGEND = (
    "Wrong words are underlined (a wave: another word, twice: a word too many), missing words "
    "struck out; framed is what the line above has otherwise: new errors, and words that are right "
    "now."
)


def report_sections(
    gathered: Gathered,
    baseline: Optional[str],
    lms: Mapping[str, LmReading],
    speakers: Optional[Mapping[str, str]] = None,
    rate: str = "WER",
) -> list[Section]:
    """Depth of the lists, maps, curves, examples, speakers, lengths and origins.

    ``lms``: row -> its LM; ``speakers``: utterance -> speaker, of every utterance.
    """
    found = [*_depth(gathered, baseline), *lm_sections(lms)]
    shown = shown_systems(gathered, baseline)
    if shown is not None:
        found.append(_examples(gathered, shown, speakers, rate))
        found += _groups(gathered, shown, speakers)
    return [*found, *origins_section(gathered, lms)]


@dataclass(frozen=True)
class Shown:
    """The systems that are shown in detail: the first pass where there is one, the one that the
    others are held against, and those."""

    first: Optional[str]
    base: str
    others: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """All of them, in this order."""
        return [*([] if self.first is None else [self.first]), self.base, *self.others]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Who is held against whom: the base against the first pass, the others against the
        base."""
        before = [] if self.first is None else [(self.first, self.base)]
        return before + [(self.base, other) for other in self.others]


def shown_systems(gathered: Gathered, baseline: Optional[str]) -> Optional[Shown]:
    """The baseline with the recommended LMs, or without such with others that were scored, MOST at
    most; without a baseline the first that was scored with others. None without two systems."""
    scored = [row for row in gathered.rows if row.name in gathered.scorings]
    firsts = [row for row in scored if row.kind == "first pass" and row.name != baseline]
    rest = [row for row in scored if row not in firsts[:1]]
    base = gathered.row(baseline) or next(iter(rest), None)
    if base is None or len(scored) < 2:
        return None
    chosen = main_rows(recommend(gathered.rows, base))
    others = chosen or [row for row in rest if row is not base][:MOST]
    first = firsts[0].name if firsts else None
    return Shown(first, base.name, tuple(row.name for row in others))


def _depth(gathered: Gathered, baseline: Optional[str]) -> list[Section]:
    """The oracle of the first hypotheses of the lists."""
    curves = [Curve(name, points) for name, points in gathered.oracles.items() if len(points) > 1]
    if not curves:
        return []
    known: list[SystemRow] = [row for row in gathered.rows if row.kind == "first pass"][:1]
    base = gathered.row(baseline)
    known += [] if base is None else [base]
    levels = [(row.name, row.wer_percent) for row in known if row.wer_percent is not None]
    figure = curves_figure(curves, "hypotheses of a list", "oracle WER, %", levels, log=True)
    told = small(
        "Errors if the best of the first hypotheses were always chosen: what rescoring could reach "
        "at most with lists of that depth."
    )
    return [Section("depth", "Depth of the lists", f'<div class="plots">{figure}</div>{told}')]


def _examples(
    gathered: Gathered, shown: Shown, speakers: Optional[Mapping[str, str]], rate: str
) -> Section:
    """Utterances of each pair, folded but for the first of the LMs."""
    parts = [named_rate(small(EXAMPLES_LEGEND), rate)]
    opened = shown.pairs[:2][-1]
    for number, (before, after) in enumerate(shown.pairs):
        above = [] if shown.first in (None, before) else [shown.first]
        systems = [(str(name), gathered.scorings[str(name)]) for name in (*above, before, after)]
        text = examples_html(f"pick{number}", systems, speakers)
        is_open = " open" if (before, after) == opened else ""
        title = html.escape(f"{after} against {before}")
        parts.append(f"<details{is_open}><summary>{title}</summary>{text}</details>")
    return Section("examples", "Examples", "\n".join(parts), quotes=True)


def _groups(
    gathered: Gathered, shown: Shown, speakers: Optional[Mapping[str, str]]
) -> list[Section]:
    """Errors by speaker and by length, with the change of the first of the LMs."""
    names = shown.names
    before, after = (names.index(name) for name in shown.pairs[:2][-1])
    scorings = [gathered.scorings[name] for name in names]
    found = []
    if speakers is not None:
        body = speakers_html(names, by_speaker(scorings, speakers), before, after)
        found.append(Section("speakers", "By speaker", body))
    body = lengths_html(names, by_length(scorings), before, after)
    return [*found, Section("lengths", "By length", body)]
