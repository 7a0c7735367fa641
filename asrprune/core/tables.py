"""Looking up an entry of an axis: every axis is a literal table, name -> entry."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

Entry = TypeVar("Entry")


def lookup(table: Mapping[str, Entry], name: str, axis: str) -> Entry:
    """The entry called ``name`` of the table of ``axis`` ("criterion", "format", ...).

    Raises ValueError that names the closest match and all known names.

    >>> lookup({"magnitude": 1, "taylor": 2}, "tailor", "criterion")
    Traceback (most recent call last):
    ...
    ValueError: unknown criterion 'tailor'; did you mean 'taylor'? known: magnitude, taylor
    """
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    raise ValueError(f"unknown {axis} {name!r}{hint} known: {', '.join(table)}")
