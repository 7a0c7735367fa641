"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from asrprune.core.units import COUNTED, RATES
from asrprune.report.budgets import (
    APART,
    Budget,
    asked_sentence,
    choice_note,
    recommend,
    speed_over,
    verdict_sentence,
)
from asrprune.report.front import Front, verdict
from asrprune.report.pareto import pareto_figures
from asrprune.report.rows import SystemRow
from asrprune.report.tables import (
    COLUMNS,
    FRONT_COLUMNS,
    WEIGHT_COLUMNS,
    Columns,
    cells,
    difference,
    html_table,
    megabytes,
    plain_table,
    times,
    wer,
)

DRAWN = "bootstrap"
"""The fact that says what intervals are over, where that is not utterances."""
_WER = re.compile(r"(?<![\w./-])WER(?=[\s,:;.<]|$)")
_COUNTED_WORDS = re.compile(r'(?<=\d )words\b|(?<=has few )words\b|(?<=<th scope="col">)words(?=<)')


@dataclass(frozen=True)
class Section:
    """A part of the page: its id, its heading, its HTML. ``quotes``: it shows texts of others, in
    which no word is changed."""

    id: str
    heading: str
    body: str
    quotes: bool = False


def html_page(
    title: str,
    rows: Sequence[SystemRow],
    facts: Mapping[str, str],
    front: Optional[Front] = None,
    baseline: Optional[str] = None,
    sections: Sequence[Section] = (),
    rate: str = "WER",
) -> str:
    """The page: verdict and budgets, plots, the tables, then ``sections``, the score weights, and
    ``facts`` (label -> text) on how it was made.

    With a ``front`` that table comes before the one with every row and column. ``baseline`` names
    the row that the others were compared with. ``rate`` is what the error rate is called.
    """
    drawn = facts.get(DRAWN, "over utterances")
    parts: list[Section] = []
    plots = "".join(
        f"<div><h3>{html.escape(heading)}</h3>{figure}</div>"
        for heading, figure in pareto_figures(rows, baseline)
    )
    if plots:
        parts.append(Section("plots", "Cost and gain", f'<div class="plots">{plots}</div>'))
    if front is not None:
        said = "".join(f"<li>{html.escape(sentence)}</li>\n" for sentence in front.sentences)
        body = scrolling(html_table(front.rows, FRONT_COLUMNS, cards=True))
        body += f"<ul>\n{said}</ul>" if said else ""
        body += small(legend(front.rows, baseline, FRONT_COLUMNS, drawn))
        parts.append(Section("front", "Main systems", body))
    whole = scrolling(html_table(rows, ids=True)) + small(legend(rows, baseline, drawn=drawn))
    parts.append(Section("systems", "All systems", whole))
    parts += sections
    weighted = [row for row in rows if row.weights]
    if weighted:
        table = scrolling(html_table(weighted, WEIGHT_COLUMNS)) + small(WEIGHTS_LEGEND)
        parts.append(Section("weights", "Score weights", table))
    parts.append(Section("made", "How this was measured", facts_list(facts)))
    top = first_screen(rows, baseline)
    return whole_page(title, top, parts, rate)


def first_screen(rows: Sequence[SystemRow], baseline: Optional[str]) -> str:
    """What was asked, the verdict, and an LM for each budget; "" without a baseline."""
    base = next((row for row in rows if row.name == baseline), None)
    if base is None:
        return ""
    parts = [f'<p class="asked">{html.escape(asked_sentence(rows, base))}</p>']
    said = verdict_sentence(rows, base)
    if said:
        parts.append(f'<p class="verdict">{html.escape(said)}</p>')
        budgets = recommend(rows, base)
        parts.append(scrolling(_budget_table(budgets, base)) if budgets else "")
        parts.append(small(choice_note(rows)) if budgets else "")
    return "\n".join(parts)


def _budget_table(budgets: Sequence[Budget], base: SystemRow) -> str:
    heading = [
        "budget",
        "system",
        "MB",
        "times as fast",
        "WER % [95 %]",
        f"vs {base.name}",
        "verdict",
    ]
    lines = []
    for budget in budgets:
        row = budget.row
        if row is None:
            lines.append([budget.limit, "none of these LMs", *[""] * 5])
            continue
        delta = difference(row.delta_percent, row.delta_low, row.delta_high)
        speed = times(speed_over(row, base)) if row.measured_like(base) else APART
        figures = [megabytes(row.size_bytes), speed, wer(row), delta]
        lines.append([budget.limit, row.name, *figures, verdict(row, base)])
    kept = [n for n, name in enumerate(heading) if n < 2 or any(line[n] for line in lines)]
    table = [[line[n] for n in kept] for line in (heading, *lines)]
    return plain_table(table[0], table[1:], cards=True)


def whole_page(title: str, top: str, sections: Sequence[Section], rate: str = "WER") -> str:
    """The HTML file. Nothing in it can ask for anything from elsewhere, and no script runs but
    script.js: the policy in its head says so."""
    here = Path(__file__)
    style = here.with_name("style.css").read_text(encoding="utf-8")
    script = here.with_name("script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    named = html.escape(title)
    links = "".join(f'<a href="#{one.id}">{html.escape(one.heading)}</a>' for one in sections)
    body = "\n".join(_section(one, rate) for one in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{named}</title>\n<style>\n{style}</style></head>\n'
        f"<body><header><h1>{named}</h1>\n{named_rate(top, rate)}\n"
        f'<nav aria-label="sections">{named_rate(links, rate)}</nav></header>\n<main>\n{body}\n'
        f"</main>\n<script>{script}</script></body></html>\n"
    )


def _section(section: Section, rate: str) -> str:
    heading = named_rate(html.escape(section.heading), rate)
    body = section.body if section.quotes else named_rate(section.body, rate)
    return f'<section id="{section.id}"><h2>{heading}</h2>\n{body}</section>'


def named_rate(text: str, rate: str) -> str:
    """Headings and sentences with ``rate`` in the place of the word WER, and what it counts in that
    of counted words.

    >>> named_rate("WER % [95 %] of my-WER on 12 words", "CER")
    'CER % [95 %] of my-WER on 12 characters'
    """
    if rate == "WER":
        return text
    counted = next(COUNTED[unit] for unit, name in RATES.items() if name == rate)
    return _COUNTED_WORDS.sub(counted, _WER.sub(rate, text))


def scrolling(table: str) -> str:
    """A wide element that scrolls by itself, with the keyboard too."""
    return f'<div class="scroll" tabindex="0">{table}</div>\n'


def small(text: str) -> str:
    """An explanation below a table or plot."""
    return f'<p class="legend">{html.escape(text)}</p>\n'


def facts_list(facts: Mapping[str, str]) -> str:
    """Label -> text as a list."""
    known = "".join(
        f"<dt>{html.escape(label)}</dt><dd>{html.escape(text)}</dd>"
        for label, text in facts.items()
    )
    return f"<dl>{known}</dl>"


WEIGHTS_LEGEND = (
    "Tuned on the dev set, with 95 % intervals where the tuner gives them. The total score is "
    "their sum over acoustic score, first-pass LM score, LM scores and number of words."
)


def legend(
    rows: Sequence[SystemRow],
    baseline: Optional[str] = None,
    columns: Columns = COLUMNS,
    drawn: str = "over utterances",
) -> str:
    """What the table's headings mean, those that it has. ``drawn``: what intervals are over."""
    shown = cells(rows, columns)[0]
    text = f"WER with its 95 % bootstrap interval {drawn}"
    if "vs baseline" in shown:
        text += (
            f"; vs baseline: difference of WER to {baseline or 'the baseline'} with the paired "
            "interval, and its two-sided p"
        )
    if any(heading.startswith("WER on lists") for heading in shown):
        text += (
            "; WER on lists: of words chosen from n-best lists, with weights tuned on lists; the "
            "other WERs are of words from lattices"
        )
    text += ". Score weights are tuned on the dev set only."
    if "MB" in shown:
        text += " MB is the saved weights file"
        if "sparsity" in shown:
            text += "; sparsity the fraction of prunable parameters removed"
        text += "."
    if any(heading.startswith("x padded") for heading in shown):
        text += _padded_legend(rows)
    if any(heading.endswith("RTF") for heading in shown):
        text += (
            " RTF is wall seconds over audio seconds; the total adds first pass, LM scoring and "
            "search."
        )
    return text


def _padded_legend(rows: Sequence[SystemRow]) -> str:
    """What "x padded" is: whose batch it is, and what scored."""
    measured = [row for row in rows if row.times_padded is not None]
    lms = " and ".join(dict.fromkeys(str(row.padded_lm) for row in measured))
    engines: dict[str, list[str]] = {}
    for row in measured:
        if row.engine is not None:
            engines.setdefault(row.engine, []).append(row.name)
    text = f" x padded: times as fast as the padded fp32 batch of {lms}, median over the repeats"
    if engines:
        usual = max(engines, key=lambda engine: len(engines[engine]))
        text += f"; engine {usual}"
        others = [f"{', '.join(engines[one])}: {one}" for one in engines if one != usual]
        text += f" ({'; '.join(others)})" if others else ""
    return text + "."
