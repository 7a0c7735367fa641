"""The values of a JSON object that a decoder wrote, taken by their types."""

from __future__ import annotations

import math
from typing import Any


def number(value: Any, what: str) -> float:
    """A JSON number as float. Raises ValueError naming ``what`` unless it is finite."""
    try:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise ValueError(f"{what} {str(value)[:40]!r} is not a finite number")


def string(entry: Any, name: str) -> str:
    """The string called ``name`` of a JSON object. Raises ValueError when it is something else."""
    if not isinstance(entry, dict):
        raise ValueError(f"{str(entry)[:40]!r} is not a JSON object")
    if not isinstance(entry.get(name), str):
        shown = f"{name} {str(entry[name])[:40]!r}" if name in entry else f"no {name!r}"
        raise ValueError(f"{shown}; it must be a string")
    value: str = entry[name]
    return value
