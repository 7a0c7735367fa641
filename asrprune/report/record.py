"""A JSON file that is read key by key: every value has its kind, or the file is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

from asrprune.errors import InputError
from asrprune.files import PathLike, read_json

Value = TypeVar("Value")
Take = Callable[[Any], Value]
"""``take(value)``: the value with its type. Raises OtherThan, which says what is expected."""
LARGEST = 2**63


class OtherThan(Exception):
    """A value that is not of the kind that the message names."""


@dataclass(frozen=True)
class Record:
    """An object in the file ``path``; ``where`` is its place there, as in "systems[0]."."""

    path: PathLike
    values: Mapping[str, Any]
    where: str = ""

    def get(self, key: str, take: Take[Value]) -> Value:
        """The value of ``key``."""
        if key not in self.values:
            expected = "the file of an asrprune verb, which has it"
            raise InputError(self.path, None, f"{self.where}{key} is missing", expected)
        return self._taken(f"{self.where}{key}", self.values[key], take)

    def find(self, key: str, take: Take[Value]) -> Optional[Value]:
        """The value of ``key``, None where it is missing or null."""
        return None if self.values.get(key) is None else self.get(key, take)

    def part(self, key: str, index: Optional[int] = None) -> Record:
        """The object that is the value of ``key``, or stands at ``index`` of that list."""
        value = self.values[key] if index is None else self.values[key][index]
        where = f"{self.where}{key}" + ("" if index is None else f"[{index}]")
        return Record(self.path, self._taken(where, value, an_object), f"{where}.")

    def _taken(self, where: str, value: Any, take: Take[Value]) -> Value:
        try:
            return take(value)
        except OtherThan as problem:
            found = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:57]}..."
            raise InputError(self.path, None, f"{where} is {found}", str(problem)) from None


def read_record(path: PathLike) -> Record:
    """The JSON object in the file ``path``. Raises InputError for anything else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(path, None, f"a {type(value).__name__}", "a JSON object")
    return Record(path, value)


def an_object(value: Any) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise OtherThan("an object")
    return value


def a_list(value: Any) -> list[Any]:
    """A list of anything."""
    if not isinstance(value, list):
        raise OtherThan("a list")
    return value


def a_truth(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise OtherThan("true or false")
    return value


def a_name(value: Any) -> str:
    """A word of letters, digits and ``_ . : + -``."""
    if not isinstance(value, str) or not re.fullmatch(r"[\w.:+-]+", value):
        raise OtherThan("a name")
    return value


def a_label(value: Any) -> str:
    """One line of text that can be printed."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise OtherThan("one line of text")
    return value


def a_count(value: Any) -> int:
    """A whole number >= 0."""
    if type(value) is not int or not 0 <= value < LARGEST:
        raise OtherThan("a whole number >= 0")
    return value


def a_number(value: Any) -> float:
    """A finite number."""
    if type(value) not in (int, float) or not -LARGEST < value < LARGEST:  # nor NaN
        raise OtherThan("a number")
    return float(value)


def an_amount(value: Any) -> float:
    """A finite number >= 0."""
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise OtherThan("a number >= 0")
    return a_number(value)


def a_ratio(value: Any) -> float:
    """A finite number > 0."""
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise OtherThan("a number > 0")
    return a_number(value)


def a_list_of(take: Take[Value]) -> Take[tuple[Value, ...]]:
    """A list, each part of it as ``take`` takes it."""

    def take_all(value: Any) -> tuple[Value, ...]:
        try:
            return tuple(take(one) for one in a_list(value))
        except OtherThan as problem:
            raise OtherThan(f"{problem}, in a list") from None

    return take_all


def an_interval(value: Any) -> tuple[float, float]:
    """A list of two numbers."""
    if not isinstance(value, list) or len(value) != 2:
        raise OtherThan("a list of two numbers")
    return a_number(value[0]), a_number(value[1])
