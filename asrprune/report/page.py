"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Optional

from asrprune.report.front import Front
from asrprune.report.plots import PLOTS, pareto_svg
from asrprune.report.rows import SystemRow
from asrprune.report.tables import (
    COLUMNS,
    FRONT_COLUMNS,
    WEIGHT_COLUMNS,
    Columns,
    cells,
    html_table,
)

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 92rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd;
         white-space: nowrap; }
th.text, td.text { text-align: left; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; }
tr.dense, tr.dense td:first-child { background: #eef4ff; font-weight: 600; }
tr.first-pass, tr.oracle { color: #666; }
.wide { overflow-x: auto; }
.legend { color: #555; font-size: 13px; max-width: 70rem; }
li { max-width: 66rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: #666; } dd { margin: 0; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; }
"""


def html_page(
    title: str,
    rows: Sequence[SystemRow],
    facts: Mapping[str, str],
    front: Optional[Front] = None,
    baseline: Optional[str] = None,
) -> str:
    """The page: the table, the Pareto plots, the score weights, and ``facts`` (label -> text) on
    how it was made. With a ``front`` that comes first, and the table with every row and column
    below the plots. ``baseline`` names the row that the others were compared with."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    whole = f'<div class="wide">{html_table(rows)}</div>\n{_small(legend(rows, baseline))}'
    if front is None:
        parts.append(whole)
    else:
        parts.append(f'<div class="wide">{html_table(front.rows, FRONT_COLUMNS)}</div>')
        said = "".join(f"<li>{html.escape(sentence)}</li>\n" for sentence in front.sentences)
        parts += [f"<ul>\n{said}</ul>"] if said else []
        parts.append(_small(legend(front.rows, baseline, FRONT_COLUMNS)))
    for name, (x_label, _, y_label, _) in PLOTS.items():
        svg = pareto_svg(rows, name)
        if svg is not None:
            heading = f"{y_label.split(',')[0]} against {x_label.split(',')[0]}"
            parts.append(f"<h2>{html.escape(heading[0].upper() + heading[1:])}</h2>\n{svg}")
    if front is not None:
        parts.append(f"<h2>All systems</h2>\n{whole}")
    weighted = [row for row in rows if row.weights]
    if weighted:
        table = html_table(weighted, WEIGHT_COLUMNS)
        parts.append(f'<h2>Score weights</h2>\n<div class="wide">{table}</div>')
        parts.append(_small(WEIGHTS_LEGEND))
    known = "".join(
        f"<dt>{html.escape(label)}</dt><dd>{html.escape(text)}</dd>"
        for label, text in facts.items()
    )
    parts.append(f"<h2>How this was measured</h2>\n<dl>{known}</dl>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>"
        + "\n".join(parts)
        + "</body></html>\n"
    )


def _small(text: str) -> str:
    return f'<p class="legend">{html.escape(text)}</p>'


WEIGHTS_LEGEND = (
    "Tuned on the dev set, with 95 % intervals where the tuner gives them. The total score is "
    "their sum over acoustic score, first-pass LM score, LM scores and number of words."
)


def legend(
    rows: Sequence[SystemRow], baseline: Optional[str] = None, columns: Columns = COLUMNS
) -> str:
    """What the table's headings mean, those that it has."""
    shown = cells(rows, columns)[0]
    text = "WER with its 95 % bootstrap interval over utterances"
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
