"""Curves as a plot: oracle error by depth, loss by tokens."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from asrprune.report.axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    axis_over,
    figure,
    frame,
    key,
    line,
    path,
    text,
)
from asrprune.report.labels import HEIGHT as LABEL_HEIGHT
from asrprune.report.pareto import COLOURS

DASHES = 4
"""Kinds of lines of style.css: after all colours, the next kind."""


@dataclass(frozen=True)
class Curve:
    """Points (x, y) by rising x, two at least; ``breaks``: x where something was done to it."""

    name: str
    points: Sequence[tuple[float, float]]
    breaks: Sequence[float] = ()


def curves_figure(
    curves: Sequence[Curve],
    x_label: str,
    y_label: str,
    levels: Sequence[tuple[str, float]] = (),
    log: bool = False,
) -> str:
    """The curves in one plot, ``levels`` (name, y) as lines across; x logarithmic where ``log``."""
    xs = [x for curve in curves for x, _ in curve.points]
    ys = [y for curve in curves for _, y in curve.points] + [level for _, level in levels]
    x = axis_over(xs, LEFT, WIDTH - RIGHT, log)
    y = axis_over(ys, HEIGHT - BOTTOM, TOP)
    body = [frame(x, y, x_label, y_label)]
    heights: list[float] = []
    for name, level in levels:
        at = y.at(level)
        near = any(abs(at - other) < LABEL_HEIGHT for other in heights)  # then below its line
        heights.append(at)
        body.append(line(LEFT, at, WIDTH - RIGHT, at, "level"))
        beside = at + LABEL_HEIGHT if near else at - 4
        body.append(text(WIDTH - RIGHT, beside, f"{name} {level:.2f}", "note", "end"))
    keys = []
    for number, curve in enumerate(curves):
        of = f"g{number % COLOURS} d{number // COLOURS % DASHES}"
        points = [(x.at(one), y.at(other)) for one, other in curve.points]
        drawn = path(points, f"curve {of}")
        body.append(f"<g><title>{html.escape(curve.name)}</title>{drawn}</g>")
        body += [
            line(x.at(at), HEIGHT - BOTTOM, x.at(at), HEIGHT - BOTTOM - 7, f"curve {of}")
            for at in curve.breaks
        ]
        keys.append(key(f'<path class="curve {of}" d="M-8 0H8"/>', curve.name))
    described = f"{y_label} by {x_label}: {', '.join(one.name for one in curves)}"
    return figure("".join(body), described, "".join(keys))
