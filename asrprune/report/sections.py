"""The parts of the page below the tables, each only where its data is there."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Optional

from asrprune.report.budgets import MOST, candidates, main_rows, recommend
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
    systems = shown_systems(gathered, baseline)
    found = [*_depth(gathered, baseline), *lm_sections(lms)]
    found += _examples(gathered, systems, speakers, rate)
    found += _groups(gathered, systems, speakers)
    return [*found, *origins_section(gathered, lms)]


def shown_systems(gathered: Gathered, baseline: Optional[str]) -> list[str]:
    """The systems that are shown in detail: the first pass, the baseline, and the recommended LMs,
    or without such those that were compared, MOST at most."""
    scored = [row for row in gathered.rows if row.name in gathered.scorings]
    base = gathered.row(baseline)
    first = [row for row in scored if row.kind == "first pass" and row is not base][:1]
    if base is None:
        return [row.name for row in scored][: MOST + 1]
    chosen = main_rows(recommend(gathered.rows, base))
    others = [*candidates(scored, base), *(row for row in scored if row not in (*first, base))]
    rows = [*first, base, *(chosen or list(dict.fromkeys(others))[:MOST])]
    return [row.name for row in rows]


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
    gathered: Gathered,
    systems: list[str],
    speakers: Optional[Mapping[str, str]],
    rate: str,
) -> list[Section]:
    """What the baseline did to the first pass, and each recommended LM to the baseline."""
    scored = [(name, gathered.scorings[name]) for name in systems]
    if len(scored) < 2:
        return []
    has_first = gathered.rows and any(
        row.name == systems[0] and row.kind == "first pass" for row in gathered.rows
    )
    first = scored[0] if has_first else None
    base = scored[1] if has_first else scored[0]
    pairs = [(scored[0], base)] if has_first else []
    pairs += [(base, other) for other in scored[2 if has_first else 1 :]]
    parts = [named_rate(small(EXAMPLES_LEGEND), rate)]
    for number, (before, after) in enumerate(pairs):
        above = None if before is first else first
        text = examples_html(f"pick{number}", before, after, above, speakers)
        is_open = " open" if number == len(pairs[:2]) - 1 else ""
        title = f"{after[0]} against {before[0]}"
        parts.append(f"<details{is_open}><summary>{html.escape(title)}</summary>{text}</details>")
    return [Section("examples", "Examples", "\n".join(parts), quotes=True)]


def _groups(
    gathered: Gathered, systems: list[str], speakers: Optional[Mapping[str, str]]
) -> list[Section]:
    if len(systems) < 2:
        return []
    scorings = [gathered.scorings[name] for name in systems]
    is_first = next(row for row in gathered.rows if row.name == systems[0]).kind == "first pass"
    before = 1 if is_first and len(systems) > 2 else 0
    after = before + 1
    found = []
    if speakers is not None:
        body = speakers_html(systems, by_speaker(scorings, speakers), before, after)
        found.append(Section("speakers", "By speaker", body))
    body = lengths_html(systems, by_length(scorings), before, after)
    return [*found, Section("lengths", "By length", body)]
