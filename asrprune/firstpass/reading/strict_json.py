"""JSON read strictly: each name once in an object, finite numbers, errors that name the line."""

from __future__ import annotations

import json
import math
from typing import Any, Optional

from asrprune.errors import InputError
from asrprune.files import PathLike, open_binary


def load(path: PathLike) -> Any:
    """The value in a JSON file (``.gz``, ``.xz`` and ``-`` accepted).

    Raises InputError as ``parse`` does, and for bytes that are not UTF-8.
    """
    with open_binary(path) as stream:
        raw = stream.read()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(path, None, "bytes that are not UTF-8", "UTF-8 text") from None
    return parse(path, None, text)


def parse(path: PathLike, line: Optional[int], text: str) -> Any:
    """The value in ``text``, which is line ``line`` of ``path`` (None: the whole file).

    Raises InputError for text that is not JSON, a name that comes twice in one object, NaN and
    Infinity, and nesting or digits beyond what can be read.
    """

    def refuse(constant: str) -> Any:
        raise InputError(path, line, f"the number {constant}", "finite numbers")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for name, value in pairs:
            if name in table:
                raise InputError(path, line, f"{name[:40]!r} again in one object", "each name once")
            table[name] = value
        return table

    try:
        return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except json.JSONDecodeError as problem:
        where = problem.lineno if line is None else line
        found = f"bad JSON ({problem.msg} at column {problem.colno})"
        raise InputError(path, where, found, "valid JSON") from None
    except (RecursionError, ValueError) as problem:
        raise InputError(path, line, f"bad JSON ({problem})", "valid JSON") from None


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
