"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from asrprune.report.plots import PLOTS, pareto_svg
from asrprune.report.rows import SystemRow
from asrprune.report.tables import html_table

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


def html_page(title: str, rows: Sequence[SystemRow], facts: Mapping[str, str]) -> str:
    """The page: the table, the Pareto plots, and ``facts`` (label -> text) on how it was made."""
    plots = []
    for name, (x_label, _, y_label, _) in PLOTS.items():
        svg = pareto_svg(rows, name)
        if svg is not None:
            heading = f"{y_label.split(',')[0]} against {x_label.split(',')[0]}"
            plots.append(f"<h2>{html.escape(heading[0].upper() + heading[1:])}</h2>\n{svg}")
    known = "".join(
        f"<dt>{html.escape(label)}</dt><dd>{html.escape(text)}</dd>"
        for label, text in facts.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>"
        f"<h1>{html.escape(title)}</h1>\n"
        f'<div class="wide">{html_table(rows)}</div>\n'
        f"<p>{html.escape(LEGEND)}</p>\n" + "\n".join(plots) + "\n<h2>How this was measured</h2>\n"
        f"<dl>{known}</dl></body></html>\n"
    )


LEGEND = (
    "WER with its 95 % bootstrap interval over utterances; vs baseline: difference of WER to the "
    "dense LM with the paired interval, and its two-sided p. Score weights are tuned on the dev "
    "set only. MB is the saved weights file; sparsity the fraction of prunable parameters removed. "
    "RTF is wall seconds over audio seconds; the total adds first pass, LM scoring and search."
)
