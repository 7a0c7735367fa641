"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Optional

from asrprune.report.front import Front
from asrprune.report.plots import PLOTS, pareto_svg
from asrprune.report.rows import SystemRow
from asrprune.report.tables import FRONT_COLUMNS, WEIGHT_COLUMNS, html_table

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 92rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd;
         white-space: nowrap; }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; }
tr.dense { background: #eef4ff; font-weight: 600; }
tr.first-pass, tr.oracle { color: #666; }
.wide { overflow-x: auto; }
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
    whole = f'<div class="wide">{html_table(rows)}</div>'
    if front is None:
        parts.append(whole)
    else:
        parts.append(f'<div class="wide">{html_table(front.rows, FRONT_COLUMNS)}</div>')
        said = "".join(f"<li>{html.escape(sentence)}</li>\n" for sentence in front.sentences)
        parts += [f"<ul>\n{said}</ul>"] if said else []
    parts.append(f'<p class="legend">{html.escape(legend(rows, baseline))}</p>')
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
        parts.append(f'<p class="legend">{html.escape(WEIGHTS_LEGEND)}</p>')
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


WEIGHTS_LEGEND = (
    "Tuned on the dev set, with 95 % intervals where the tuner gives them. The total score is "
    "their sum over acoustic score, first-pass LM score, LM scores and number of words."
)


def legend(rows: Sequence[SystemRow], baseline: Optional[str] = None) -> str:
    """What the columns mean that the rows have."""
    parts = ["WER with its 95 % bootstrap interval over utterances"]
    if any(row.delta_percent is not None for row in rows):
        parts.append(
            f"vs baseline: difference of WER to {baseline or 'the baseline'} with the paired "
            "interval, and its two-sided p"
        )
    if any(row.wer_lists_percent is not None for row in rows):
        parts.append(
            "WER on lists: of words chosen from n-best lists, with weights tuned on lists; the "
            "other WERs are of words from lattices"
        )
    text = "; ".join(parts) + (
        ". Score weights are tuned on the dev set only. MB is the saved weights file"
    )
    if any(row.sparsity is not None for row in rows):
        text += "; sparsity the fraction of prunable parameters removed"
    text += ". " + _padded_legend(rows)
    if any(row.lm_rtf is not None or row.total_rtf is not None for row in rows):
        text += (
            "RTF is wall seconds over audio seconds; the total adds first pass, LM scoring and "
            "search."
        )
    return text.strip()


def _padded_legend(rows: Sequence[SystemRow]) -> str:
    """What "x padded" is: whose batch it is, and what scored."""
    measured = [row for row in rows if row.times_padded is not None]
    if not measured:
        return ""
    lms = " and ".join(dict.fromkeys(str(row.padded_lm) for row in measured))
    engines: dict[str, list[str]] = {}
    for row in measured:
        if row.engine is not None:
            engines.setdefault(row.engine, []).append(row.name)
    text = f"x padded: times as fast as the padded fp32 batch of {lms}, the median over the repeats"
    if engines:
        usual = max(engines, key=lambda engine: len(engines[engine]))
        text += f"; engine {usual}"
        others = [f"{', '.join(engines[one])}: {one}" for one in engines if one != usual]
        text += f" ({'; '.join(others)})" if others else ""
    return text + ". "
