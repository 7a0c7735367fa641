"""Labels beside the points of a plot, such that none lies on another, on a point or on a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

WIDTH, HEIGHT = 6.6, 13.0
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
    for distance, lifts in ((8, (0, -9, 9)), (16, (-16, 16, -26, 26)), (30, (-38, 38, -52, 52, 0)))
    for lift in lifts
    for side in (1, -1, 0)
    if side or abs(lift) > 9
]
"""Where a label may stand: to the right, left or over the point; pixels away; pixels up or down."""


def place_labels(
    points: Sequence[tuple[float, float, str]], taken: Sequence[Box], inside: Box
) -> list[Optional[Box]]:
    """A box for each of ``points`` (x, y, text), the nearest that is free when its turn comes.

    ``taken`` are the boxes of points and lines, ``inside`` is where labels may be. None for a label
    that has no place. Earlier points choose first, so the same points give the same places.
    """
    full = list(taken)
    boxes: list[Optional[Box]] = []
    for x, y, label in points:
        chosen = None
        for side, distance, lift in _PLACES:
            width = WIDTH * len(label)
            left = x + distance if side > 0 else x - distance - width if side else x - width / 2
            box = Box(left, y + lift - HEIGHT / 2, left + width, y + lift + HEIGHT / 2)
            if box.inside(inside) and not any(box.meets(other) for other in full):
                chosen = box
                full.append(box)
                break
        boxes.append(chosen)
    return boxes
