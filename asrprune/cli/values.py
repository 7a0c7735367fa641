"""What options may be: functions from the text on the command line to a checked value.

They are the ``type`` of an option, so that a senseless value is refused before anything is read:
they raise ArgumentTypeError for it.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Optional, TypeVar, Union

from asrprune.files import is_stream

if TYPE_CHECKING:
    from asrprune.core.shards import Shard

Value = TypeVar("Value")
NO_LIMIT = "none"


def whole(least: int, most: Optional[int] = None) -> Callable[[str], int]:
    """Whole numbers from ``least`` on, up to ``most``.

    >>> whole(1)("3")
    3
    """
    legal = f">= {least}" if most is None else f"from {least} to {most}"

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number {legal}")
        return value

    return parse


threads = whole(1, 4096)
seed = whole(0, 2**32 - 1)


def number(least: float = -math.inf, above: float = -math.inf) -> Callable[[str], float]:
    """Finite numbers that are at least ``least`` and greater than ``above``."""
    legal = "a finite number"
    legal += f" >= {least:g}" if least > -math.inf else ""
    legal += f" > {above:g}" if above > -math.inf else ""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= least and value > above):
            raise argparse.ArgumentTypeError(f"{text!r}; expected {legal}")
        return value

    return parse


def or_none(parse: Callable[[str], Value]) -> Callable[[str], Optional[Value]]:
    """The values of ``parse``, and None for "none"."""

    def parse_or_none(text: str) -> Optional[Value]:
        if text == NO_LIMIT:
            return None
        try:
            return parse(text)
        except argparse.ArgumentTypeError as problem:
            raise argparse.ArgumentTypeError(f"{problem} or {NO_LIMIT}") from None

    return parse_or_none


def fractions(text: str) -> list[float]:
    """Distinct numbers from 0 to 1, with commas between them."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(0 <= value <= 1 for value in values):
        raise argparse.ArgumentTypeError(f"{text!r}; expected numbers from 0 to 1, as 0.3,0.5")
    if len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"{text!r}; expected distinct numbers")
    return values


def lm_size(text: str) -> Union[float, str]:
    """A sparsity, megabytes, or a speed."""
    from asrprune.lm.model.elastic import parse_size, parse_speed

    if parse_speed(text) is not None:
        return text
    try:
        sparsity, _ = parse_size(text)
    except ValueError:
        expected = "a sparsity from 0 to 1, megabytes as 12MB, or a speed as 2.5x"
        raise argparse.ArgumentTypeError(f"{text!r}; expected {expected}") from None
    return text if sparsity is None else sparsity


def device(text: str) -> str:
    """The name of a device that is there, or auto."""
    if text in ("auto", "cpu"):  # without torch, which takes a second
        return text
    from asrprune.lm.device import resolve_device

    try:
        resolve_device(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    return text


def engine(text: str) -> str:
    """The name of an engine, or what stands for the fastest."""
    if text in ("auto", "fastest", "fastest-bf16", "torch"):  # without torch, as above
        return text
    from asrprune.core.tables import lookup
    from asrprune.lm.engines.table import ENGINES

    try:
        lookup(ENGINES, text, "engine")
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    return text


def engine_names(text: str) -> tuple[str, ...]:
    """All engines, or those between the commas, each once."""
    from asrprune.lm.engines.table import ENGINES

    if text == "all":
        return tuple(ENGINES)
    names = tuple(dict.fromkeys(text.split(",")))
    for name in names:
        if name not in ENGINES:
            known = ", ".join(("all", *ENGINES))
            raise argparse.ArgumentTypeError(f"unknown engine {name!r}; known: {known}")
    return names


def shard(text: str) -> Shard:
    """One of N shards.

    >>> shard("2/8")
    Shard(number=2, of=8)
    """
    from asrprune.core.shards import Shard  # numpy with it: not for a help text

    try:
        return Shard.parse(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def named_paths(text: str) -> tuple[str, tuple[str, ...]]:
    """A name and paths with commas between them.

    >>> named_paths("both=exp/lm,lm.arpa")
    ('both', ('exp/lm', 'lm.arpa'))
    """
    name, sign, rest = text.partition("=")
    paths = tuple(rest.split(","))
    if not sign or not re.fullmatch(r"\w[\w.:+-]*", name) or not all(paths):
        expected = "NAME=PATH or NAME=PATH,PATH, the name of letters, digits and . : + - _"
        raise argparse.ArgumentTypeError(f"{text!r}; expected {expected}")
    return name, paths


def file_name_part(text: str) -> str:
    """What may be a part of a file's name."""
    if not text or "/" in text:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a name without a slash")
    return text


def named_path(text: str) -> tuple[str, str]:
    """A name, which is that of a folder too, and a path: of NAME=PATH.

    >>> named_path("dense=exp/lm/dense")
    ('dense', 'exp/lm/dense')
    """
    name, _, path = text.partition("=")
    if not path:
        raise argparse.ArgumentTypeError(f"{text!r}; expected NAME=PATH")
    if not re.fullmatch(r"[\w:+-][\w.:+-]*", name):
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected a NAME of letters, digits and _ . : + - that starts with no dot"
        )
    return name, path


def output(text: str) -> str:
    """A path at which a file or folder can be written: devices, pipes and - are files."""
    if not text:
        raise argparse.ArgumentTypeError("''; expected a path")
    if is_stream(text):
        if os.path.exists(text) and not os.access(text, os.W_OK):
            raise argparse.ArgumentTypeError(f"{text!r}; expected a path that may be written")
        return text
    place = os.path.abspath(text)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    if place != os.path.abspath(text) and not os.path.isdir(place):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a path, but {place} is a file")
    if not os.access(place if os.path.isdir(place) else os.path.dirname(place), os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a path that may be written")
    return text


def output_file(text: str) -> str:
    """A path at which a file can be written: a device, a pipe, or - for standard output, too."""
    output(text)
    if os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; expected a file, or -")
    return text


def output_folder(text: str) -> str:
    """A path at which a folder can be written."""
    output(text)
    if is_stream(text) or (os.path.exists(text) and not os.path.isdir(text)):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a folder")
    return text
