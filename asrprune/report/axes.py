"""Axes of a plot as SVG: where a value stands, and the numbers along the edge."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 58, 22, 34, 48
"""Pixels of a plot, and around its axes."""
MARGIN = 0.06
"""The part of an axis that stays free at either end."""


@dataclass(frozen=True)
class Axis:
    """The values from ``low`` to ``high`` (low < high; above 0 where ``log``) on the pixels from
    ``start`` to ``end``, which may be the smaller."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value."""
        low, high, value = (self._scaled(one) for one in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Whether the value is on the axis."""
        return self.low <= value <= self.high

    def ticks(self) -> list[tuple[float, str]]:
        """Round values with their texts.

        >>> Axis(0.9, 12, 0, 100, log=True).ticks()
        [(1.0, '1'), (2.0, '2'), (5.0, '5'), (10.0, '10')]
        >>> Axis(21.4, 22.7, 0, 100).ticks()
        [(21.5, '21.5'), (22.0, '22'), (22.5, '22.5')]
        """
        found = _decades(self.low, self.high) if self.log else []
        if len(found) < 3:
            found = _steps(self.low, self.high)
        return [(value, f"{value:,.10g}") for value in found]

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value


def axis_over(values: Sequence[float], start: float, end: float, log: bool = False) -> Axis:
    """The axis that holds all ``values`` with a margin; around a single value it is as wide as that
    value's tenth."""
    low, high = min(values), max(values)
    if log:
        low, high = math.log(low), math.log(high)
    if high <= low:
        around = 0.1 if log else abs(low) / 20 or 0.5
        low, high = low - around, high + around
    margin = MARGIN * (high - low)
    low, high = low - margin, high + margin
    return Axis(*((math.exp(low), math.exp(high)) if log else (low, high)), start, end, log)


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every power of ten in between; of many powers 1 alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    heads = (1, 2, 5) if len(powers) <= 4 else (1,)
    found = (float(f"{head}e{power}") for power in powers for head in heads)
    return [value for value in found if low <= value <= high]


def _steps(low: float, high: float) -> list[float]:
    """Three to seven multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(head * power for head in (1, 2, 5, 10) if head * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def number(pixel: float) -> str:
    """A coordinate.

    >>> number(3.04), number(-0.02)
    ('3', '0')
    """
    text = f"{pixel:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def line(x1: float, y1: float, x2: float, y2: float, of: str) -> str:
    """A straight line of a class."""
    ends = zip(("x1", "y1", "x2", "y2"), (x1, y1, x2, y2))
    return f'<line class="{of}" ' + " ".join(f'{name}="{number(at)}"' for name, at in ends) + "/>"


def text(x: float, y: float, what: str, of: str, anchor: str = "start") -> str:
    """A text of a class; ``anchor``: start, middle or end."""
    place = f'x="{number(x)}" y="{number(y)}" text-anchor="{anchor}"'
    return f'<text class="{of}" {place}>{html.escape(what)}</text>'


def path(points: Sequence[tuple[float, float]], of: str, stairs: bool = False) -> str:
    """A line through points; ``stairs``: across to the next one's x, then to its y."""
    parts = [f"M{number(points[0][0])} {number(points[0][1])}"]
    for x, y in points[1:]:
        parts.append(f"H{number(x)}V{number(y)}" if stairs else f"L{number(x)} {number(y)}")
    return f'<path class="{of}" d="{"".join(parts)}"/>'


def frame(x: Axis, y: Axis, x_label: str, y_label: str) -> str:
    """Grid lines, the numbers along the edges, and what they are."""
    parts = []
    for value, shown in x.ticks():
        at = x.at(value)
        parts.append(line(at, y.start, at, y.end, "grid"))
        parts.append(text(at, y.start + 18, shown, "tick", "middle"))
    for value, shown in y.ticks():
        at = y.at(value)
        parts.append(line(x.start, at, x.end, at, "grid"))
        parts.append(text(x.start - 6, at + 4, shown, "tick", "end"))
    parts.append(text((x.start + x.end) / 2, y.start + 40, x_label, "axis", "middle"))
    parts.append(text(x.start - 46, y.end - 14, y_label, "axis"))
    return "".join(parts)


def key(mark: str, name: str) -> str:
    """A line of a legend: a mark around (0, 0), and what it is."""
    return (
        '<span class="key"><svg viewBox="-8 -8 16 16" aria-hidden="true">'
        f"{mark}</svg>{html.escape(name)}</span> "
    )


def figure(body: str, described: str, legend: str) -> str:
    """A plot with its legend below."""
    return (
        f'<figure class="plot"><div class="scroll"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(described)}">{body}</svg></div>'
        f"<figcaption>{legend}</figcaption></figure>"
    )
