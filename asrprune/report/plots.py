"""Pareto plots as SVG text, drawn with matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, Optional

from asrprune.core.svg import write_svg
from asrprune.errors import MissingPackage
from asrprune.report.rows import SystemRow, pareto_front

Value = Callable[[SystemRow], Optional[float]]

PLOTS: dict[str, tuple[str, Value, str, Value]] = {
    "wer-size": (
        "size of the weights file, MB",
        lambda row: None if row.size_bytes is None else row.size_bytes / 1e6,
        "WER, %",
        lambda row: row.wer_percent,
    ),
    "wer-rtf": (
        "real-time factor of LM scoring",
        lambda row: row.lm_rtf,
        "WER, %",
        lambda row: row.wer_percent,
    ),
    "ppl-size": (
        "size of the weights file, MB",
        lambda row: None if row.size_bytes is None else row.size_bytes / 1e6,
        "perplexity per word",
        lambda row: row.ppl_word,
    ),
}
"""Name -> (x label, x, y label, y); smaller is better on both axes."""

MARKERS = {
    "dense": "*",
    "low-rank": "o",
    "structured": "s",
    "unstructured": "^",
    "n-gram": "D",
}


def pareto_svg(rows: Sequence[SystemRow], plot: str) -> Optional[str]:
    """One plot of PLOTS as an ``<svg>`` element; None when fewer than two systems have both values.

    Systems on the Pareto front are joined by a line; WER carries its 95 % interval.
    """
    x_label, x_of, y_label, y_of = PLOTS[plot]
    drawn = [(row, x_of(row), y_of(row)) for row in rows if row.kind != "combined"]
    known = [(row, x, y) for row, x, y in drawn if x is not None and y is not None]
    if len(known) < 2:
        return None
    figure, axes = _figure()
    groups: dict[str, list[tuple[SystemRow, float, float]]] = {}
    for row, x, y in known:
        groups.setdefault(_group(row), []).append((row, x, y))
    for group, members in groups.items():
        xs, ys = [x for _, x, _ in members], [y for _, _, y in members]
        marker = MARKERS.get(members[0][0].method or members[0][0].kind, "o")
        if y_label.startswith("WER"):
            low = [y - (row.wer_low if row.wer_low is not None else y) for row, _, y in members]
            high = [(row.wer_high if row.wer_high is not None else y) - y for row, _, y in members]
            axes.errorbar(xs, ys, yerr=[low, high], fmt=marker, label=group, capsize=2, lw=0.7)
        else:
            axes.plot(xs, ys, marker, label=group)
    points = [(x, y) for _, x, y in known]
    front = [points[index] for index in pareto_front(points)]
    axes.step([x for x, _ in front], [y for _, y in front], where="post", color="0.6", lw=1)
    first = [row.wer_percent for row in rows if row.kind == "first pass"]
    if y_label.startswith("WER") and first and first[0] is not None:
        axes.axhline(first[0], color="0.4", ls=":", lw=1)
        where = ("axes fraction", "data")
        axes.annotate("first pass", (1, first[0]), xycoords=where, ha="right", va="bottom")
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.legend(fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    return _svg(figure)


def _group(row: SystemRow) -> str:
    parts = [row.method or row.kind, row.criterion, row.schedule]
    return ", ".join(part for part in parts if part)


def _figure() -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackage("matplotlib", "plot") from None
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _svg(figure: Any) -> str:
    stream = io.BytesIO()
    write_svg(figure, stream)
    text = stream.getvalue().decode("utf-8")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    return text[text.index("<svg") :]
