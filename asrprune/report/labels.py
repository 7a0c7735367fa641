"""Labels beside the points of a plot, such that none lies on another, on a point or on a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

WIDTH, HEIGHT = 7.7, 15.0
"""Pixels that a character takes at most on the average, and a line of text."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether they share more than an edge."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def inside(self, other: Box) -> bool:
        """Whether none of it sticks out of the other."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


def around(x: float, y: float, radius: float = 6.0) -> Box:
    """The box of a point."""
    return Box(x - radius, y - radius, x + radius, y + radius)


_PLACES = [
    (side, distance, lift)
    for distance, lifts in (
        (9, (0, -10, 10)),
        (16, (-17, 17, -27, 27)),
        (30, (-40, 40, -56, 56, 0)),
    )
    for lift in lifts
    for side in (1, -1, 0)
    if side or abs(lift) > 10
]
"""Where a label may stand: to the right, left or over the point; pixels away; pixels up or down."""


def place_labels(
    points: Sequence[tuple[float, float, str]],
    taken: Sequence[Box],
    crossed: Sequence[Box],
    inside: Box,
) -> list[Optional[Box]]:
    """A box for each of ``points`` (x, y, text), the nearest that is free when its turn comes.

    ``taken`` are boxes that no label meets; ``crossed`` those of lines, which only a label meets
    that has no other place; ``inside`` is where labels may be. None for a label without a place.
    Earlier points choose first, so the same points give the same places.
    """
    full = list(taken)
    boxes: list[Optional[Box]] = []
    for x, y, label in points:
        around_it = [box for box in _boxes(x, y, label) if box.inside(inside)]
        chosen = _free(around_it, [*full, *crossed]) or _free(around_it, full)
        full += [] if chosen is None else [chosen]
        boxes.append(chosen)
    return boxes


def _boxes(x: float, y: float, label: str) -> Iterator[Box]:
    """Where the label of a point may stand, near places first."""
    width = WIDTH * len(label)
    for side, distance, lift in _PLACES:
        left = x + distance if side > 0 else x - distance - width if side else x - width / 2
        yield Box(left, y + lift - HEIGHT / 2, left + width, y + lift + HEIGHT / 2)


def _free(boxes: Sequence[Box], taken: Sequence[Box]) -> Optional[Box]:
    """The first that meets none."""
    return next((box for box in boxes if not any(box.meets(other) for other in taken)), None)
