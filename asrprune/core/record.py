"""A JSON object that is read key by key: every value has its kind, or the file is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional, TypeVar

from asrprune.core.checksums import check_line, read_sealed
from asrprune.core.config import from_values, shown
from asrprune.errors import InputError
from asrprune.files import PathLike, parse_json

Value = TypeVar("Value")
Take = Callable[[Any], Value]
"""``take(value)``: the value with its type. Raises OtherThan, which says what is expected."""
LARGEST = 2**63


class OtherThan(Exception):
    """A value that is not of the kind that the message names."""


@dataclass(frozen=True)
class Record:
    """An object in the file ``path``; ``where`` is its place there, as in "systems[0].", ``line``
    that of a file with one object a line."""

    path: PathLike
    values: dict[str, Any]
    where: str = ""
    line: Optional[int] = None

    def get(self, key: str, take: Take[Value]) -> Value:
        """The value of ``key``."""
        if key not in self.values:
            expected = "the file of an asrprune verb, which has it"
            raise InputError(self.path, self.line, f"{self.where}{key} is missing", expected)
        return self._taken(f"{self.where}{key}", self.values[key], take)

    def find(self, key: str, take: Take[Value]) -> Optional[Value]:
        """The value of ``key``, None where it is missing or null."""
        return None if self.values.get(key) is None else self.get(key, take)

    def part(self, key: str, index: Optional[int] = None) -> Record:
        """The object that is the value of ``key``, or stands at ``index`` of that list."""
        value = self.get(key, anything) if index is None else self.get(key, a_list)[index]
        where = f"{self.where}{key}" + ("" if index is None else f"[{index}]")
        return Record(self.path, self._taken(where, value, an_object), f"{where}.", self.line)

    def parts(self, key: str) -> list[Record]:
        """The objects of the list that is the value of ``key``."""
        return [self.part(key, index) for index in range(len(self.get(key, a_list)))]

    def check_format(self, name: str, version: int, what: str) -> Record:
        """The record itself, if its keys "format" and "version" say so; ``what`` is the file's
        kind in the message otherwise."""
        if self.values.get("format") != name:
            stated = f" (format {shown(self.values['format'])})" if "format" in self.values else ""
            raise InputError(self.path, self.line, f"not {what}{stated}", f'"format": "{name}"')
        found = self.values.get("version")
        if found != version or isinstance(found, bool):
            raise InputError(self.path, self.line, f"version {shown(found)}", f"version {version}")
        return self

    def _taken(self, where: str, value: Any, take: Take[Value]) -> Value:
        try:
            return take(value)
        except OtherThan as problem:
            found = f"{where} is {shown(value)}"
            raise InputError(self.path, self.line, found, str(problem)) from None


def read_record(path: PathLike) -> Record:
    """The JSON object in the file ``path``, without its checksum. Raises InputError for anything
    else, and for a text that does not fit its checksum."""
    return _record(path, None, read_sealed(path))


def parse_record(path: PathLike, line: int, text: str) -> Record:
    """The JSON object in ``text``, line ``line`` of ``path``, without its checksum. Raises
    InputError for other text, and for one that does not fit its checksum."""
    record = _record(path, line, parse_json(path, line, text))
    check_line(path, line, text, record.values)
    return record


def _record(path: PathLike, line: Optional[int], value: Any) -> Record:
    if not isinstance(value, dict):
        raise InputError(path, line, f"a {type(value).__name__}", "a JSON object")
    return Record(path, value, "", line)


def anything(value: Any) -> Any:
    """Any value."""
    return value


def an_object(value: Any) -> dict[str, Any]:
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


def a_string(value: Any) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise OtherThan("a string")
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


def one_of(*names: str) -> Take[str]:
    """One of these strings."""

    def take(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise OtherThan(f"one of {', '.join(names)}")
        return value

    return take


def a(kind: type[Value]) -> Take[Value]:
    """An object with the fields of the dataclass ``kind`` (see core/config.py)."""

    def take(value: Any) -> Value:
        try:
            return from_values(kind, an_object(value))
        except ValueError as problem:
            raise OtherThan(f"the fields of a {kind.__name__} ({problem})") from None

    return take


def a_list_of(take: Take[Value]) -> Take[tuple[Value, ...]]:
    """A list, each part of it as ``take`` takes it."""

    def take_all(value: Any) -> tuple[Value, ...]:
        try:
            return tuple(take(one) for one in a_list(value))
        except OtherThan as problem:
            raise OtherThan(f"{problem}, in a list") from None

    return take_all


def an_object_of(take: Take[Value]) -> Take[dict[str, Value]]:
    """An object, each value of it as ``take`` takes it."""

    def take_all(value: Any) -> dict[str, Value]:
        try:
            return {name: take(one) for name, one in an_object(value).items()}
        except OtherThan as problem:
            raise OtherThan(f"{problem}, in an object") from None

    return take_all


def an_interval(value: Any) -> tuple[float, float]:
    """A list of two numbers."""
    if not isinstance(value, list) or len(value) != 2:
        raise OtherThan("a list of two numbers")
    return a_number(value[0]), a_number(value[1])
