"""Documents that are made of a file of results but for parts written by hand, and their check."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Optional

from asrprune.errors import InputError
from asrprune.files import write_text
from asrprune.report.front import LINE

HAND, HAND_END = "<!-- by hand: {} -->", "<!-- end by hand -->"


def paragraph(text: str) -> str:
    """``text`` in lines that a terminal shows whole."""
    return textwrap.fill(text, LINE, break_long_words=False, break_on_hyphens=False)


def joined(parts: Iterable[str]) -> str:
    """The parts of a document with a blank line between them, without those that are empty."""
    return "\n\n".join(part.strip("\n") for part in parts if part.strip("\n")) + "\n"


def hand(name: str, by_hand: Mapping[str, str]) -> str:
    """The part that is written by hand, between its marks."""
    return f"{HAND.format(name)}\n{by_hand.get(name, '')}{HAND_END}"


def hand_written(path: Path, names: Iterable[str]) -> dict[str, str]:
    """Name -> text of the parts of a document between the marks; empty ones without a file.
    Raises InputError for a file without the marks."""
    if not path.exists():
        return dict.fromkeys(names, "")
    text, found = path.read_text(encoding="utf-8"), {}
    for name in names:
        start = HAND.format(name)
        part = re.search(rf"{re.escape(start)}\n(.*?){re.escape(HAND_END)}", text, re.DOTALL)
        if part is None:
            raise InputError(path, None, f"no {start} ... {HAND_END}", "these marks")
        found[name] = part.group(1)
    return found


def compact(value: Any, indent: str = "") -> str:
    """``value`` as JSON, what holds no other lists or objects on one line."""
    inner = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(inner, list) or not any(isinstance(one, (dict, list)) for one in inner):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    deeper = indent + " "
    parts = [compact(one, deeper) for one in inner]
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {part}" for key, part in zip(value, parts)]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{closing}"


def write_or_check(made: Mapping[Path, str], check: bool) -> None:
    """Write the documents, or raise InputError naming the first line that says something else."""
    for path, text in made.items():
        if check:
            _check(path, text)
        else:
            with write_text(path) as stream:
                stream.write(text)


def _check(path: Path, made: str) -> None:
    there = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    wanted = made.splitlines()
    for number in range(max(len(there), len(wanted))):
        one, other = (lines[number] if number < len(lines) else None for lines in (there, wanted))
        if one != other:
            raise InputError(path, number + 1, _line(one), f"{_line(other)}, by results.json")


def _line(text: Optional[str]) -> str:
    return "the end" if text is None else repr(text)
