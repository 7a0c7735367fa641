"""What a report reads of the JSON files that the verbs write, checked key by key.

Keys that a report does not use may hold anything. Every reader raises InputError naming the file
and the key for what is missing or of another type or range.
"""

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
"""``take(value)``: the value with its type. Raises _OtherThan, which says what is expected."""
LARGEST = 2**63


class _OtherThan(Exception):
    """A value that is not of the kind that the message names."""


@dataclass(frozen=True)
class PruningReading:
    """The last pruning of a checkpoint: the axes' names, the measured ``sparsity``, and whether
    only zeros were made (``masks``)."""

    criterion: Optional[str]
    method: Optional[str]
    schedule: Optional[str]
    sparsity: Optional[float]
    masks: bool


@dataclass(frozen=True)
class BenchReading:
    """``asrprune bench``: size and speed of an LM. ``parameters`` is None for an n-gram, ``rtf``
    (of scoring) where durations are unknown, ``pruning`` for an LM that was not pruned."""

    parameters: Optional[int]
    nonzero: Optional[int]
    size_bytes: Optional[int]
    rtf: Optional[float]
    pruning: Optional[PruningReading]


@dataclass(frozen=True)
class RescoreReading:
    """``asrprune rescore``: seconds of the search (None for lattices, whose search has the LM's
    time in it) and of the audio (None where unknown)."""

    search_s: Optional[float]
    audio_s: Optional[float]

    @property
    def search_rtf(self) -> Optional[float]:
        """Seconds of search a second of audio."""
        return self.search_s / self.audio_s if self.search_s is not None and self.audio_s else None


@dataclass(frozen=True)
class OracleReading:
    """``asrprune oracle`` at the largest depth: WER in percent with its interval."""

    wer_percent: float
    low: float
    high: float


@dataclass(frozen=True)
class PerplexityReading:
    """``asrprune perplexity``: per word, ``</s>`` counted."""

    ppl_word: float


@dataclass(frozen=True)
class FirstPassReading:
    """``asrprune first-pass``: the decoder's name and speed; None where a file does not say."""

    decoder: Optional[str]
    utterances: Optional[int]
    audio_s: Optional[float]
    rtf_per_process: Optional[float]


def read_bench(path: PathLike) -> BenchReading:
    """The bench file at ``path``; of several systems the first, which is the LM itself."""
    record = _read(path)
    steps = record.find("history", _list)
    pruning = _pruning(record.part("history", len(steps) - 1)) if steps else None
    systems = record.get("systems", _list)
    if not systems:
        raise InputError(path, None, "systems is []", "one system at least")
    return BenchReading(
        parameters=record.find("parameters", _count),
        nonzero=record.find("nonzero_parameters", _count),
        size_bytes=record.find("size_bytes", _count),
        rtf=record.part("systems", 0).find("rtf", _amount),
        pruning=pruning,
    )


def _pruning(step: _Record) -> PruningReading:
    return PruningReading(
        criterion=step.find("criterion", _name),
        method=step.find("method", _name),
        schedule=step.find("schedule", _name),
        sparsity=step.find("measured", _number),
        masks=step.find("masks", _truth) or False,
    )


def read_rescore(path: PathLike) -> RescoreReading:
    """The file of ``rescore --json`` at ``path``, of lists or of lattices."""
    record = _read(path)
    search = record.find if "mode" in record.values else record.get  # lattices have a mode
    return RescoreReading(search("search_wall_s", _amount), record.find("audio_s", _amount))


def read_oracle(path: PathLike) -> OracleReading:
    """The file of ``oracle --json`` at ``path``."""
    record = _read(path)
    depths = record.get("depths", _list)
    if not depths:
        raise InputError(path, None, "depths is []", "one depth at least")
    deepest = record.part("depths", len(depths) - 1)
    low, high = deepest.get("interval_percent", _interval)
    return OracleReading(deepest.get("wer_percent", _amount), low, high)


def read_perplexity(path: PathLike) -> PerplexityReading:
    """The file of ``perplexity --json`` at ``path``."""
    return PerplexityReading(_read(path).get("ppl_word", _amount))


def read_first_pass(path: PathLike) -> FirstPassReading:
    """A decoder's ``first_pass.json``; another tool's may hold the real-time factor alone."""
    record = _read(path)
    identity = record.find("identity", _object)
    return FirstPassReading(
        decoder=None if identity is None else record.part("identity").find("decoder", _name),
        utterances=record.find("utterances", _count),
        audio_s=record.find("audio_s", _amount),
        rtf_per_process=record.find("rtf_per_process", _amount),
    )


@dataclass(frozen=True)
class _Record:
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

    def part(self, key: str, index: Optional[int] = None) -> _Record:
        """The object that is the value of ``key``, or stands at ``index`` of that list."""
        value = self.values[key] if index is None else self.values[key][index]
        where = f"{self.where}{key}" + ("" if index is None else f"[{index}]")
        return _Record(self.path, self._taken(where, value, _object), f"{where}.")

    def _taken(self, where: str, value: Any, take: Take[Value]) -> Value:
        try:
            return take(value)
        except _OtherThan as problem:
            found = repr(value) if len(repr(value)) < 60 else f"{repr(value)[:57]}..."
            raise InputError(self.path, None, f"{where} is {found}", str(problem)) from None


def _read(path: PathLike) -> _Record:
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(path, None, f"a {type(value).__name__}", "a JSON object")
    return _Record(path, value)


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _OtherThan("an object")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _OtherThan("a list")
    return value


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _OtherThan("true or false")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\w.:+-]+", value):
        raise _OtherThan("a name")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < LARGEST:
        raise _OtherThan("a whole number >= 0")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not -LARGEST < value < LARGEST:  # nor NaN
        raise _OtherThan("a number")
    return float(value)


def _amount(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise _OtherThan("a number >= 0")
    return _number(value)


def _interval(value: Any) -> tuple[float, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise _OtherThan("a list of two numbers")
    return _number(value[0]), _number(value[1])
