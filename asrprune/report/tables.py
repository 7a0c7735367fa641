"""The result table as Markdown, HTML and JSON, from the same columns."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

from asrprune.report.rows import SystemRow, Weight

Columns = Mapping[str, Callable[[SystemRow], str]]


def _number(value: Optional[float], digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _millions(value: Optional[int]) -> str:
    return "" if value is None else f"{value / 1e6:.2f}"


def _interval(low: Optional[float], high: Optional[float], sign: str = "") -> str:
    return "" if low is None or high is None else f" [{low:{sign}.2f}, {high:{sign}.2f}]"


def wer(row: SystemRow) -> str:
    """The WER with its interval; "" where it is not known."""
    return _number(row.wer_percent, 2) + _interval(row.wer_low, row.wer_high)


def difference(value: Optional[float], low: Optional[float], high: Optional[float]) -> str:
    """A difference of WER with its interval, all with their sign; "" where it is not known.

    >>> difference(0.1, -0.25, 0.45)
    '+0.10 [-0.25, +0.45]'
    """
    return "" if value is None else f"{value:+.2f}" + _interval(low, high, "+")


def _delta(row: SystemRow) -> str:
    return difference(row.delta_percent, row.delta_low, row.delta_high)


def _wer_lists(row: SystemRow) -> str:
    return _number(row.wer_lists_percent, 2) + _interval(row.wer_lists_low, row.wer_lists_high)


def _delta_lists(row: SystemRow) -> str:
    return difference(row.delta_lists_percent, row.delta_lists_low, row.delta_lists_high)


def probability(value: Optional[float]) -> str:
    """A p value; "" where there is none."""
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def times(value: Optional[float]) -> str:
    """How many times as fast; "" where it is not known.

    >>> times(0.43), times(9.41), times(1234.5)
    ('0.43', '9.4', '1,234')
    """
    if value is None:
        return ""
    digits = 2 if value < 0.95 else 1 if value < 99.5 else 0
    return f"{value:,.{digits}f}"


def _times_range(row: SystemRow) -> str:
    if row.times_padded is None:
        return ""
    low, high = times(row.times_padded_low), times(row.times_padded_high)
    return f"{times(row.times_padded)} [{low}, {high}]"


def megabytes(size_bytes: Optional[int]) -> str:
    """Millions of bytes; "" where the size is not known."""
    return "" if size_bytes is None else f"{size_bytes / 1e6:.2f}"


COLUMNS: Columns = {
    "system": lambda row: row.name,
    "sparsity": lambda row: _number(row.sparsity, 2),
    "params (M)": lambda row: _millions(row.parameters),
    "non-zero (M)": lambda row: _millions(row.nonzero),
    "MB": lambda row: megabytes(row.size_bytes),
    "ppl/word": lambda row: _number(row.ppl_word, 1),
    "WER % [95 %]": wer,
    "vs baseline": _delta,
    "p": lambda row: probability(row.delta_p),
    "WER at baseline's weights": lambda row: _number(row.wer_fixed_percent, 2),
    "WER on lists [95 %]": _wer_lists,
    "lists vs baseline": _delta_lists,
    "lists p": lambda row: probability(row.delta_lists_p),
    "x padded [min, max]": _times_range,
    "engine": lambda row: row.engine or "",
    "LM RTF": lambda row: _number(row.lm_rtf, 4),
    "total RTF": lambda row: _number(row.total_rtf, 3),
    "note": lambda row: row.note,
}
"""Heading -> text of the cell; a column that is empty in every row is left out."""

FRONT_COLUMNS: Columns = {
    **{name: COLUMNS[name] for name in ("system", "MB", "ppl/word", "WER % [95 %]")},
    **{name: COLUMNS[name] for name in ("vs baseline", "p")},
    "WER on lists": lambda row: _number(row.wer_lists_percent, 2),
    "x padded": lambda row: times(row.times_padded),
    "note": COLUMNS["note"],
}
"""The same for the first screen: few columns."""

WEIGHT_COLUMNS: Columns = {
    "system": lambda row: row.name,
    "acoustic": lambda row: _weight(row, "acoustic"),
    "first LM": lambda row: _weight(row, "first_lm"),
    "LM": lambda row: _lm_weights(row),
    "word bonus": lambda row: _weight(row, "word_bonus"),
}
"""The same for the score weights."""


def _weight(row: SystemRow, name: str) -> str:
    found = [one for one in row.weights if one.name == name and not one.is_lm]
    return _weight_text(found[0]) if found else ""


def _lm_weights(row: SystemRow) -> str:
    lms = [one for one in row.weights if one.is_lm]
    if len(lms) == 1:
        return _weight_text(lms[0])
    return "; ".join(f"{one.name} {_weight_text(one)}" for one in lms)


def _weight_text(weight: Weight) -> str:
    text = f"{weight.value:.3g}"
    if weight.low is None or weight.high is None:
        return text
    return f"{text} [{weight.low:.3g}, {weight.high:.3g}]"


def cells(rows: Sequence[SystemRow], columns: Columns = COLUMNS) -> list[list[str]]:
    """Heading row and one row of texts a system, without columns that are empty throughout."""
    every = {name: [show(row) for row in rows] for name, show in columns.items()}
    shown = {name: texts for name, texts in every.items() if any(texts)}
    return [list(shown), *(list(texts) for texts in zip(*shown.values()))]


def markdown_table(rows: Sequence[SystemRow], columns: Columns = COLUMNS) -> str:
    """The table in Markdown, its columns aligned for reading in a terminal, ending in a newline."""
    return markdown_lines(cells(rows, columns))


def markdown_lines(table: Sequence[Sequence[str]]) -> str:
    """A heading row and lines of texts as a Markdown table: the first column to the left, all
    others to the right."""
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    widths = [max(width, 3) for width in widths]

    def line(texts: Sequence[str]) -> str:
        padded = [
            text.ljust(width) if index == 0 else text.rjust(width)
            for index, (text, width) in enumerate(zip(texts, widths))
        ]
        return "| " + " | ".join(padded) + " |\n"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return line(table[0]) + line(rule) + "".join(line(texts) for texts in table[1:])


TEXTS = ("system", "engine", "note", "budget", "verdict")
"""Columns that are read as text, not as numbers."""


def html_table(
    rows: Sequence[SystemRow], columns: Columns = COLUMNS, ids: bool = False, cards: bool = False
) -> str:
    """The table as an HTML element; the row's kind is its class, "text" that of cells that are no
    numbers. ``ids``: lines are called row-0, row-1, ... for links; ``cards``: on a narrow screen
    each line becomes a block of its own."""
    heading, *lines = cells(rows, columns)
    marks = [
        f'class="{row.kind.replace(" ", "-")}"' + (f' id="row-{number}"' if ids else "")
        for number, row in enumerate(rows)
    ]
    return plain_table(heading, lines, marks, cards)


def plain_table(
    heading: Sequence[str],
    lines: Sequence[Sequence[str]],
    marks: Sequence[str] = (),
    cards: bool = False,
) -> str:
    """A table of texts as an HTML element. ``marks``: attributes of each line. The first cell of a
    line is its heading; an interval in brackets stands in a line of its own."""
    kinds = [' class="text"' if name in TEXTS else "" for name in heading]
    top = "".join(
        f'<th scope="col"{kind}>{html.escape(name)}</th>' for name, kind in zip(heading, kinds)
    )
    body = []
    for number, texts in enumerate(lines):
        mark = f" {marks[number]}" if marks else ""
        first = f'<th scope="row" class="text">{html.escape(texts[0])}</th>'
        rest = "".join(
            f'<td{kind} data-label="{html.escape(name)}">{_cell(text)}</td>'
            for text, kind, name in list(zip(texts, kinds, heading))[1:]
        )
        body.append(f"<tr{mark}>{first}{rest}</tr>\n")
    of = ' class="cards"' if cards else ""
    return f"<table{of}><thead><tr>{top}</tr></thead>\n<tbody>{''.join(body)}</tbody></table>"


def _cell(text: str) -> str:
    """A number with its interval below it."""
    found = re.fullmatch(r"(\S+) (\[[^\[\]]+\])", text)
    if found is None:
        return html.escape(text)
    value, interval = (html.escape(part) for part in found.groups())
    return f'{value} <span class="interval">{interval}</span>'
