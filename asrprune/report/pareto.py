"""Pareto plots: what each system costs in word errors or perplexity against size and speed."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional

from asrprune.report.axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    axis_over,
    figure,
    frame,
    key,
    line,
    number,
    path,
    text,
)
from asrprune.report.labels import HEIGHT as LINE
from asrprune.report.labels import WIDTH as CHARACTER
from asrprune.report.labels import Box, around, place_labels
from asrprune.report.rows import SystemRow, pareto_front
from asrprune.report.tables import difference, megabytes, times, wer

Value = Callable[[SystemRow], Optional[float]]

OF_SPEED = ("wer-speed", "wer-rtf")
"""Plots that have no points of systems that were not measured together with the baseline."""
STRETCH = 0.6
"""A line for the first pass or the oracle may make the axis longer by this part; one that is
farther away is told at the edge."""
SHORT = 20
"""Characters of a name that stands beside its point as it is."""
COLOURS = 6
"""Colours of style.css, ``g0`` and on."""
SHAPES = (
    "M-4 -4H4V4H-4Z",  # square
    "M-4.5 0A4.5 4.5 0 1 0 4.5 0A4.5 4.5 0 1 0 -4.5 0Z",  # circle
    "M0 -5.2L4.8 3.6H-4.8Z",  # triangle
    "M0 -5.6L5 0L0 5.6L-5 0Z",  # diamond
    "M-4.8 -3.6H4.8L0 5.2Z",  # triangle, point down
    "M-5 0L-2.5 -4.4H2.5L5 0L2.5 4.4H-2.5Z",  # hexagon
)
STAR = "M0 -7L2 -2.2L7 -2.2L3 1L4.6 6L0 3L-4.6 6L-3 1L-7 -2.2L-2 -2.2Z"


@dataclass(frozen=True)
class Plot:
    """What stands on the axes; ``sign``: 1 where small values of x are better, -1 where large ones
    are; ``front``: whether a Pareto front says anything there."""

    heading: str
    x_label: str
    x: Value
    y: Value
    sign: int = 1
    front: bool = True
    y_label: str = "WER, %"

    @property
    def of_wer(self) -> bool:
        """Whether y is the WER; otherwise the perplexity."""
        return self.y is _wer


def _wer(row: SystemRow) -> Optional[float]:
    return row.wer_percent


def _ppl(row: SystemRow) -> Optional[float]:
    return row.ppl_word


def _megabytes(row: SystemRow) -> Optional[float]:
    return None if row.size_bytes is None else row.size_bytes / 1e6


PLOTS = {
    "wer-size": Plot("WER and size", "size of the weights file, MB", _megabytes, _wer),
    "wer-speed": Plot(
        "WER and speed",
        "times as fast as padded fp32 batches (right: faster)",
        lambda row: row.times_padded,
        _wer,
        sign=-1,
    ),
    "wer-rtf": Plot("WER and time", "real-time factor of LM scoring", lambda row: row.lm_rtf, _wer),
    "wer-ppl": Plot("WER and perplexity", "perplexity per word", _ppl, _wer, front=False),
    "ppl-size": Plot(
        "Perplexity and size",
        "size of the weights file, MB",
        _megabytes,
        _ppl,
        y_label="perplexity per word",
    ),
    "token-ppl-size": Plot(
        "Perplexity and size",
        "size of the weights file, MB",
        _megabytes,
        _ppl,
        y_label="perplexity per token",
    ),
}


def pareto_figures(
    rows: Sequence[SystemRow], baseline: Optional[str] = None
) -> list[tuple[str, str]]:
    """(Heading, figure) of each plot that two systems at least have both values for.

    Of speed and real-time factor, which say the same, the one that more systems have; perplexity
    against size where nothing has a WER.
    """
    names = ["wer-size", "wer-speed", "wer-rtf", "wer-ppl", "ppl-size"]
    of_speed = len(_points(rows, PLOTS["wer-speed"]))
    names.remove("wer-rtf" if of_speed >= len(_points(rows, PLOTS["wer-rtf"])) else "wer-speed")
    drawn = [(PLOTS[name].heading, pareto_figure(rows, name, baseline)) for name in names]
    found = [(heading, figure) for heading, figure in drawn if figure is not None]
    return found[:3]


def pareto_figure(
    rows: Sequence[SystemRow], plot: str, baseline: Optional[str] = None
) -> Optional[str]:
    """One plot of PLOTS as a ``<figure>``; None when fewer than two systems have both values.

    A WER has a whisker: the paired 95 % interval of its difference to the WER of ``baseline``,
    which is a line; without a baseline its own interval. Systems on the Pareto front are joined.
    """
    what = PLOTS[plot]
    base = next((row for row in rows if row.name == baseline), None)
    points = _points(rows, what)
    if plot in OF_SPEED and base is not None:
        points = [point for point in points if point[0].measured_like(base)]
    if len(points) < 2:
        return None
    whiskers = [_whisker(row, base) if what.of_wer else None for row, _, _ in points]
    lines = _level_lines(rows, base) if what.of_wer else []
    x = axis_over([at for _, at, _ in points], LEFT, WIDTH - RIGHT, log=True)
    heights = [at for _, _, at in points] + [end for one in whiskers if one for end in one]
    y = _y_axis(heights, [level for _, level, _ in lines], not what.of_wer)
    groups = list(dict.fromkeys(group_of(row) for row in rows if row.name != baseline))
    body = [frame(x, y, what.x_label, what.y_label)]
    taken: list[Box] = []
    crossed: list[Box] = []  # lines, over which a label stands where there is no other place
    marks = []
    if what.front:
        costs = [(what.sign * at, height) for _, at, height in points]
        ends = [points[index] for index in pareto_front(costs)]
        steps = [(x.at(at), y.at(height)) for _, at, height in ends]
        body.append(path(steps, "front", stairs=True))
        crossed += _stairs(steps)
    for (row, at, height), whisker in zip(points, whiskers):
        px, py = x.at(at), y.at(height)
        taken.append(around(px, py))
        if whisker is not None:
            low, high = (y.at(end) for end in whisker)
            crossed.append(Box(px - 3, high, px + 3, low))
            body.append(line(px, low, px, high, "whisker"))
            body += [line(px - 3, end, px + 3, end, "whisker") for end in (low, high)]
        is_base = row.name == baseline
        shape = _mark(0 if is_base else groups.index(group_of(row)), is_base)
        told = html.escape(told_of(row))
        marks.append(
            f'<a class="point" href="#{row_id(rows, row)}" aria-label="{told}">'
            f'<g transform="translate({number(px)} {number(py)})"><title>{told}</title>{shape}'
            "</g></a>"
        )
    body += _drawn_levels(lines, y, taken, crossed)
    told_by_line = base if lines else None
    named = [
        (x.at(at), y.at(height), short_name(row, rows))
        for row, at, height in points
        if row is not told_by_line
    ]
    boxes = place_labels(
        named, taken, crossed, Box(LEFT + 2, TOP + 2, WIDTH - RIGHT, HEIGHT - BOTTOM)
    )
    for (px, py, label), box in zip(named, boxes):
        if box is not None:
            body += _leader(px, py, box)
            body.append(text(box.left, box.bottom - 3, label, "label"))
    legend = _legend(groups, points, what, base, any(whiskers), baseline)
    return figure("".join([*body, *marks]), f"{what.heading}: {len(points)} systems", legend)


def group_of(row: SystemRow) -> str:
    """What has one colour and one marker: method, criterion and schedule, or the kind."""
    if row.kind != "pruned":
        return row.kind
    parts = [row.method or row.kind, row.criterion, row.schedule]
    return ", ".join(part for part in parts if part)


def row_id(rows: Sequence[SystemRow], row: SystemRow) -> str:
    """The id of the row's line in the table of all systems."""
    return f"row-{[one.name for one in rows].index(row.name)}"


def short_name(row: SystemRow, rows: Sequence[SystemRow]) -> str:
    """What stands beside a point: the name, or of a long one only the part by which it differs
    from those of its colour."""
    if len(row.name) <= SHORT:
        return row.name
    others = [one.name for one in rows if group_of(one) == group_of(row) and one is not row]
    same = 0
    for count in range(1, len(row.name)):
        if row.name[count - 1] in "-_+ " and any(
            other.startswith(row.name[:count]) for other in others
        ):
            same = count
    rest = row.name[same:]
    if same == 0 and row.sparsity is not None:
        rest = f"{row.sparsity:.2f}"
    return rest if len(rest) <= 2 * SHORT else rest[: 2 * SHORT - 1] + "…"


def told_of(row: SystemRow) -> str:
    """The row in a few words."""
    parts = [row.name]
    if row.size_bytes is not None:
        parts.append(f"{megabytes(row.size_bytes)} MB")
    if row.ppl_word is not None:
        parts.append(f"perplexity {row.ppl_word:.1f}")
    if row.wer_percent is not None:
        parts.append(f"WER {wer(row)}")
    if row.delta_percent is not None:
        delta = difference(row.delta_percent, row.delta_low, row.delta_high)
        parts.append(f"vs baseline {delta}")
    if row.times_padded is not None:
        parts.append(f"{times(row.times_padded)} times as fast as padded batches")
    elif row.lm_rtf is not None:
        parts.append(f"RTF {row.lm_rtf:.4f}")
    return "; ".join(parts)


def _points(rows: Sequence[SystemRow], plot: Plot) -> list[tuple[SystemRow, float, float]]:
    """(Row, x, y) of those that have both, and a positive x."""
    known = ((row, plot.x(row), plot.y(row)) for row in rows)
    return [(row, x, y) for row, x, y in known if x is not None and x > 0 and y is not None]


def _whisker(row: SystemRow, base: Optional[SystemRow]) -> Optional[tuple[float, float]]:
    """The ends of the interval of its WER."""
    if base is None and row.wer_low is not None and row.wer_high is not None:
        return row.wer_low, row.wer_high
    if base is None or base.wer_percent is None or row.delta_low is None or row.delta_high is None:
        return None
    return base.wer_percent + row.delta_low, base.wer_percent + row.delta_high


def _level_lines(
    rows: Sequence[SystemRow], base: Optional[SystemRow]
) -> list[tuple[str, float, str]]:
    """(Name, WER, class) of the lines across the plot."""
    found = [(row.name, row, "level") for row in rows if row.kind in ("first pass", "oracle")]
    if base is not None:
        found.insert(0, (base.name, base, "level base"))
    return [
        (name, row.wer_percent, of)
        for name, row, of in found
        if row.wer_percent is not None and (row is base or row.times_padded is None)
    ]


def _y_axis(heights: Sequence[float], levels: Sequence[float], log: bool) -> Axis:
    """The axis of the points, with those of ``levels`` that are not far away."""
    low, high = min(heights), max(heights)
    room = STRETCH * ((high - low) or 0.1 * abs(high))
    near = [level for level in levels if low - room <= level <= high + room]
    return axis_over([*heights, *near], HEIGHT - BOTTOM, TOP, log)


def _drawn_levels(
    lines: Sequence[tuple[str, float, str]], y: Axis, taken: list[Box], crossed: list[Box]
) -> list[str]:
    """The lines with their names, which stand where nothing is of ``taken`` and ``crossed``, to the
    right if they can, and are added to these; those off the axis as a note at its end."""
    parts = []
    edges = {True: TOP - 8.0, False: HEIGHT - BOTTOM - 6.0}
    for name, level, of in lines:
        told = f"{name} {level:.2f}"
        if not y.holds(level):
            above = level > y.high
            at = edges[above]
            edges[above] -= LINE
            parts.append(text(WIDTH - RIGHT, at, f"{told} {'↑' if above else '↓'}", "note", "end"))
            taken.append(Box(WIDTH - RIGHT - 8 * len(told), at - 12, WIDTH - RIGHT, at + 3))
            continue
        at = y.at(level)
        parts.append(line(LEFT, at, WIDTH - RIGHT, at, of))
        long = CHARACTER * len(told)
        places = [
            Box(right - long, at + lift - 14, right, at + lift)
            for lift in (-2, 17)
            for right in range(WIDTH - RIGHT, LEFT + round(long), -30)
        ]
        free = (one for one in places if not any(one.meets(box) for box in (*taken, *crossed)))
        box = next(free, places[0])
        taken.append(box)
        crossed.append(Box(LEFT, at - 1, WIDTH - RIGHT, at + 1))
        parts.append(text(box.right, box.bottom - 3, told, "note", "end"))
    return parts


def _stairs(corners: Sequence[tuple[float, float]]) -> list[Box]:
    """The boxes of a line that goes across and then down, from point to point."""
    boxes = []
    for (x1, y1), (x2, y2) in zip(corners, corners[1:]):
        boxes.append(Box(min(x1, x2), y1 - 1, max(x1, x2), y1 + 1))
        boxes.append(Box(x2 - 1, min(y1, y2), x2 + 1, max(y1, y2)))
    return boxes


def _mark(group: int, is_baseline: bool) -> str:
    if is_baseline:
        return f'<path class="mark base" d="{STAR}"/>'
    shape = SHAPES[(group + group // COLOURS) % len(SHAPES)]
    return f'<path class="mark g{group % COLOURS}" d="{shape}"/>'


def _leader(x: float, y: float, box: Box) -> list[str]:
    """A thin line from a point to a label that is not right beside it."""
    near_x = min(max(x, box.left), box.right)
    near_y = min(max(y, box.top), box.bottom)
    if abs(near_x - x) + abs(near_y - y) <= 14:
        return []
    return [line(x, y, near_x, near_y, "leader")]


def _legend(
    groups: Sequence[str],
    points: Sequence[tuple[SystemRow, float, float]],
    plot: Plot,
    base: Optional[SystemRow],
    whiskers: bool,
    baseline: Optional[str],
) -> str:
    """What the marks and lines are."""
    keys = []
    if base is not None and any(row is base for row, _, _ in points):
        keys.append((_mark(0, True), f"{base.name} (baseline)"))
    for number_of, group in enumerate(groups):
        if any(group_of(row) == group and row.name != baseline for row, _, _ in points):
            keys.append((_mark(number_of, False), group))
    if plot.front:
        keys.append(('<path class="front" d="M-7 0H7"/>', "Pareto front"))
    if whiskers:
        of = "paired 95 % interval to the baseline" if base is not None else "95 % interval"
        keys.append(('<path class="whisker" d="M0 -7V7M-3 -7H3M-3 7H3"/>', of))
    return "".join(key(mark, name) for mark, name in keys)
