"""Canonical n-best lists: JSON lines, one utterance a line, after a header line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Optional

from asrprune.core.config import shown
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.record import LARGEST
from asrprune.core.spool import SpooledDict
from asrprune.errors import InputError, shortened
from asrprune.files import PathLike, parse_json, record_lines, write_text
from asrprune.firstpass.on_bad import REFUSE, NothingFoundError, OnBad, empty_list

HEADER: dict[str, Any] = {
    "format": "asrprune-nbest",
    "version": 1,
    "log_base": "e",
    "sign": "logprob",
}
"""The first line's required entries; others (``provenance``) may follow them."""
_UTTERANCE_KEYS = {"utt", "audio_s", "ref", "hyps"}
_HYPOTHESIS_KEYS = {"text", "acoustic", "lm", "tokens"}


def read_nbest(path: PathLike, bad: OnBad = REFUSE) -> Iterator[NBest]:
    """Yield the n-best lists of a file in its order, one line in memory at a time.

    ``bad`` decides what becomes of a list without hypotheses; blank lines at the end are none.
    Raises InputError with the line for a wrong header, bad JSON, NaN and Infinity, with the
    utterance id too for unknown, missing or ill-typed entries and an utterance that comes twice.
    """
    first_seen: SpooledDict[int] = SpooledDict()
    for number, nbest in _lists(path, bad):
        first = number if number is None else first_seen.setdefault(nbest.utt, number)
        if first != number:
            found = f"utterance {nbest.utt} again (first on line {first})"
            raise InputError(path, number, found, "each utterance once")
        yield nbest


def read_distinct_nbest(path: PathLike) -> Iterator[NBest]:
    """``read_nbest`` of a file in which each utterance is known to come once: it keeps no ids."""
    return (nbest for _, nbest in _lists(path, REFUSE))


def _lists(path: PathLike, bad: OnBad) -> Iterator[tuple[Optional[int], NBest]]:
    """The lists with their lines; None for what ``bad`` puts in the place of one."""
    lines = record_lines(path)
    number, header = next(lines, (1, None))
    _check_header(path, header)
    for number, line in lines:
        try:
            yield number, _from_record(path, number, _parse(path, number, line))
        except NothingFoundError as problem:
            yield from ((None, instead) for instead in bad(problem))


def read_provenance(path: PathLike) -> Optional[dict[str, Any]]:
    """What the first line says of where the lists came from, None if nothing.

    Raises InputError for a wrong header.
    """
    _, line = next(record_lines(path), (1, None))
    header = _check_header(path, line)
    found = header.get("provenance")
    if found is not None and not isinstance(found, dict):
        raise InputError(path, 1, f"provenance {shown(found)}", "an object")
    return found


def write_nbest(
    path: PathLike, nbests: Iterable[NBest], provenance: Optional[Mapping[str, Any]] = None
) -> None:
    """Write n-best lists, whole or not at all; ``provenance`` goes into the header line.

    Raises as the function of ``nbest_writer`` does.
    """
    with nbest_writer(path, provenance) as put:
        for nbest in nbests:
            put(nbest)


@contextmanager
def nbest_writer(
    path: PathLike, provenance: Optional[Mapping[str, Any]] = None
) -> Iterator[Callable[[NBest], None]]:
    """A function that writes one n-best list; the file is there, whole, when the block ends.

    It raises ValueError for an utterance that comes twice and for a score of -inf, which JSON
    cannot hold.
    """
    header = dict(HEADER) if provenance is None else {**HEADER, "provenance": dict(provenance)}
    seen: SpooledDict[int] = SpooledDict()
    with write_text(path) as stream:
        stream.write(json.dumps(header, ensure_ascii=False, allow_nan=False) + "\n")

        def put(nbest: NBest) -> None:
            number = len(seen)
            if seen.setdefault(nbest.utt, number) != number:
                raise ValueError(f"utterance {nbest.utt} comes twice")
            stream.write(to_line(nbest) + "\n")

        yield put


def to_line(nbest: NBest) -> str:
    """One n-best list as a JSON line without its line end. Raises ValueError for -inf scores."""
    record: dict[str, Any] = {"utt": nbest.utt}
    if nbest.audio_s is not None:
        record["audio_s"] = _plain(nbest.audio_s)
    if nbest.ref is not None:
        record["ref"] = nbest.ref
    record["hyps"] = [_hypothesis_record(nbest.utt, hyp) for hyp in nbest.hyps]
    return json.dumps(record, ensure_ascii=False, allow_nan=False)


def from_line(path: PathLike, number: int, line: str) -> NBest:
    """The n-best list on one line; ``path`` and ``number`` name it in the InputError."""
    return _from_record(path, number, _parse(path, number, line))


def _hypothesis_record(utt: str, hyp: Hypothesis) -> dict[str, Any]:
    for name, value in (("acoustic", hyp.acoustic), ("lm", hyp.lm)):
        if value is not None and not math.isfinite(value):
            raise ValueError(f"utterance {utt}: {name} score {value} cannot be written as JSON")
    acoustic, lm = _plain(hyp.acoustic), _plain(hyp.lm)
    record: dict[str, Any] = {"text": hyp.text, "acoustic": acoustic, "lm": lm}
    if hyp.tokens is not None:
        record["tokens"] = [int(token) for token in hyp.tokens]
    return record


def _plain(value: Optional[float]) -> Optional[float]:
    """The number as JSON has it, also of arrays and tensors."""
    return value if value is None or type(value) in (int, float) else float(value)


def _check_header(path: PathLike, line: Optional[str]) -> dict[str, Any]:
    expected = f"the header {json.dumps(HEADER)}"
    if line is None:
        raise InputError(path, 1, "an empty file", expected)
    header = _parse(path, 1, line)
    for key, value in HEADER.items():
        if key not in header:
            raise InputError(path, 1, f"a first line without {key!r}", expected)
        if header[key] != value or isinstance(header[key], bool):
            found = f"{key} {json.dumps(header[key])}"
            raise InputError(path, 1, found, f"{key} {json.dumps(value)}")
    return header


def _parse(path: PathLike, number: int, line: str) -> dict[str, Any]:
    value = parse_json(path, number, line, free=False)  # every part is looked at
    if not isinstance(value, dict):
        raise InputError(path, number, shortened(line, 60), "a JSON object")
    return value


def _from_record(path: PathLike, number: int, record: dict[str, Any]) -> NBest:
    utt = record.get("utt")
    if not isinstance(utt, str):
        found = "no 'utt'" if utt is None else f"utt {shown(utt)}"
        raise InputError(path, number, found, "an utterance id (a string)")

    def bad(found: str, expected: str) -> InputError:
        return InputError(path, number, f"utterance {utt}: {found}", expected)

    for key in record:
        if key not in _UTTERANCE_KEYS:
            raise bad(f"unknown key {key!r}", f"only {', '.join(sorted(_UTTERANCE_KEYS))}")
    hyps = record.get("hyps")
    if not isinstance(hyps, list):
        raise bad("no 'hyps'" if hyps is None else f"hyps {shown(hyps)}", "a list of hypotheses")
    audio_s = record.get("audio_s")
    if audio_s is not None and not _is_number(audio_s):
        raise bad(f"audio_s {shown(audio_s)}", "seconds (a number)")
    ref = record.get("ref")
    if ref is not None and not isinstance(ref, str):
        raise bad(f"ref {shown(ref)}", "the reference transcript (a string)")
    if not hyps:
        try:
            instead = empty_list(utt, None if audio_s is None else float(audio_s), ref)
        except ValueError as problem:
            raise bad(str(problem), "an id without white space and a duration >= 0") from None
        raise NothingFoundError(path, number, instead, "no hypothesis")
    found_hyps = []
    for rank, entry in enumerate(hyps, start=1):
        try:
            found_hyps.append(_hypothesis(entry))
        except ValueError as problem:
            raise bad(f"hypothesis {rank}: {problem}", "a hypothesis") from None
    try:
        return NBest(utt, tuple(found_hyps), None if audio_s is None else float(audio_s), ref)
    except ValueError as problem:
        raise bad(str(problem), "an id without white space and a duration >= 0") from None


def _hypothesis(entry: Any) -> Hypothesis:
    if not isinstance(entry, dict):
        raise ValueError(f"{shown(entry)} is not a JSON object")
    for key in entry:
        if key not in _HYPOTHESIS_KEYS:
            raise ValueError(f"unknown key {key!r} (known: {', '.join(sorted(_HYPOTHESIS_KEYS))})")
    if not isinstance(entry.get("text"), str):
        raise ValueError("no 'text'" if "text" not in entry else f"text {shown(entry['text'])}")
    scores: dict[str, Optional[float]] = {}
    for name in ("acoustic", "lm"):
        value = entry.get(name)
        if value is not None and not (_is_number(value) and -LARGEST < value < LARGEST):
            raise ValueError(f"{name} score {shown(value)} is neither a number below 2^63 nor null")
        scores[name] = None if value is None else float(value)
    tokens = entry.get("tokens")
    if tokens is not None and not (
        isinstance(tokens, list) and all(type(token) is int for token in tokens)
    ):
        raise ValueError(f"tokens {shown(tokens)} are not a list of integers")
    ids = None if tokens is None else tuple(tokens)
    return Hypothesis(entry["text"], scores["acoustic"], scores["lm"], ids)


def _is_number(value: Any) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**1023  # else no float
    return isinstance(value, float)
