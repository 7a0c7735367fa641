"""The result table as Markdown, HTML and JSON, from the same columns."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Optional

from asrprune.report.rows import SystemRow


def _number(value: Optional[float], digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _millions(value: Optional[int]) -> str:
    return "" if value is None else f"{value / 1e6:.2f}"


def _interval(low: Optional[float], high: Optional[float], sign: str = "") -> str:
    return "" if low is None or high is None else f" [{low:{sign}.2f}, {high:{sign}.2f}]"


def _wer(row: SystemRow) -> str:
    return _number(row.wer_percent, 2) + _interval(row.wer_low, row.wer_high)


def _delta(row: SystemRow) -> str:
    if row.delta_percent is None:
        return ""
    return f"{row.delta_percent:+.2f}" + _interval(row.delta_low, row.delta_high, "+")


def _probability(value: Optional[float]) -> str:
    if value is None:
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


COLUMNS: dict[str, Callable[[SystemRow], str]] = {
    "system": lambda row: row.name,
    "sparsity": lambda row: _number(row.sparsity, 2),
    "params (M)": lambda row: _millions(row.parameters),
    "non-zero (M)": lambda row: _millions(row.nonzero),
    "MB": lambda row: "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.2f}",
    "ppl/word": lambda row: _number(row.ppl_word, 1),
    "WER % [95 %]": _wer,
    "vs baseline": _delta,
    "p": lambda row: _probability(row.delta_p),
    "WER at baseline's weights": lambda row: _number(row.wer_fixed_percent, 2),
    "LM RTF": lambda row: _number(row.lm_rtf, 4),
    "total RTF": lambda row: _number(row.total_rtf, 3),
    "note": lambda row: row.note,
}
"""Heading -> text of the cell; a column that is empty in every row is left out."""


def cells(rows: Sequence[SystemRow]) -> list[list[str]]:
    """Heading row and one row of texts a system, without columns that are empty throughout."""
    columns = {name: [show(row) for row in rows] for name, show in COLUMNS.items()}
    shown = {name: texts for name, texts in columns.items() if any(texts)}
    return [list(shown), *(list(texts) for texts in zip(*shown.values()))]


def markdown_table(rows: Sequence[SystemRow]) -> str:
    """The table in Markdown, its columns aligned for reading in a terminal, ending in a newline."""
    table = cells(rows)
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


def html_table(rows: Sequence[SystemRow]) -> str:
    """The table as an HTML element; the row's kind is its class."""
    heading, *lines = cells(rows)
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heading)
    body = "".join(
        f'<tr class="{html.escape(row.kind.replace(" ", "-"))}">'
        + "".join(f"<td>{html.escape(text)}</td>" for text in line)
        + "</tr>\n"
        for row, line in zip(rows, lines)
    )
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
