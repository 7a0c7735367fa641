"""Opening input: plain, ``.gz``, ``.xz``, ``-``. Within stated limits."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Optional, Union, cast

from asrprune.errors import InputError

PathLike = Union[str, os.PathLike[str]]

LONGEST_LINE = 64 << 20
"""Bytes of a line, unpacked: a small ``.gz`` may hold one of any length."""
LARGEST_JSON = 256 << 20
"""Bytes of a JSON document, which is read whole."""
DEEPEST_JSON = 100
"""Lists and objects inside each other."""
XZ_MEMORY = 256 << 20
"""Bytes that unpacking may take, which an ``.xz`` file states (``xz -9`` needs 65 MiB)."""


@contextlib.contextmanager
def open_binary(path: PathLike) -> Iterator[BinaryIO]:
    """A file opened for reading bytes; ``.gz`` and ``.xz`` are unpacked, ``-`` is standard input.

    Raises InputError when the file is missing, is a folder, or its compressed data is damaged or
    cut short (also while the caller reads from it).
    """
    name = os.fspath(path)
    if "\0" in name:
        raise InputError(repr(name), None, "a file name with a zero byte", "an existing file")
    try:
        if name == "-":
            yield sys.stdin.buffer
        elif name.endswith(".gz"):
            with gzip.open(name, "rb") as packed:
                yield cast(BinaryIO, packed)
        elif name.endswith(".xz"):
            with open(name, "rb") as raw, io.BufferedReader(_Unpacked(raw), 1 << 16) as unpacked:
                yield unpacked
        else:
            with open(name, "rb") as plain:
                yield plain
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as problem:
        raise InputError(
            name, None, f"damaged compressed data ({problem})", "a whole file"
        ) from None
    except FileNotFoundError as problem:
        if problem.filename is not None and os.fspath(problem.filename) != name:
            raise
        raise InputError(name, None, "no such file", "an existing file") from None
    except IsADirectoryError:
        raise InputError(name, None, "a folder", "a file") from None
    except PermissionError as problem:
        if problem.filename is not None and os.fspath(problem.filename) != name:
            raise
        raise InputError(name, None, "no permission to read it", "a readable file") from None
    except OSError as problem:  # a file used as a folder, a name that is too long, a bad disk
        if problem.filename is not None and os.fspath(problem.filename) != name:
            raise
        raise InputError(name, None, f"{problem.strerror or problem}", "a readable file") from None


class _Unpacked(io.RawIOBase):
    """The content of an ``.xz`` file of one or more streams, unpacked within XZ_MEMORY."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._decoder = self._fresh()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            block = b""
            if self._decoder.eof:
                block = self._decoder.unused_data.lstrip(b"\0") or self._block().lstrip(b"\0")
                if block:
                    self._decoder = self._fresh()
                elif not self._more:
                    return 0
            elif self._decoder.needs_input:
                block = self._block()
                if not block:
                    raise EOFError("it ends before its end-of-stream marker")
            data = b"" if self._decoder.eof else self._decoder.decompress(block, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _block(self) -> bytes:
        block = self._packed.read(1 << 16)
        self._more = bool(block)
        return block

    @staticmethod
    def _fresh() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(memlimit=XZ_MEMORY)


def raw_lines(path: PathLike, stream: BinaryIO) -> Iterator[bytes]:
    """The lines of ``stream`` with their line ends, as iterating over it gives them.

    Raises InputError for one longer than LONGEST_LINE, before it is read whole; ``path`` is only
    named.
    """
    number = 0
    while raw := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            limit = f"{LONGEST_LINE >> 20} MiB"
            raise InputError(path, number, f"a line of more than {limit}", f"at most {limit}")
        yield raw


def read_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Yield ``(line number from 1, line without its line end)``, decoded as UTF-8, streaming.

    CRLF line ends are accepted. A byte-order mark is dropped. Raises InputError with the line
    number for bytes that are not UTF-8, and for a line longer than LONGEST_LINE.
    """
    with open_binary(path) as stream:
        for number, raw in enumerate(raw_lines(path, stream), start=1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as problem:
                found = f"bytes that are not UTF-8 ({problem.reason} at byte {problem.start + 1})"
                raise InputError(path, number, found, "UTF-8 text") from None
            if number == 1:
                line = line.removeprefix("\ufeff")
            yield number, line.rstrip("\r\n")


def record_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """``read_lines`` of a file with one record a line: blank lines at its end are none.

    The first of the blank lines between two records is yielded, for the reader to refuse.
    """
    blank: Optional[tuple[int, str]] = None
    for number, line in read_lines(path):
        if not line or line.isspace():
            blank = blank or (number, line)
            continue
        if blank is not None:
            yield blank
            blank = None
        yield number, line


def read_json(path: PathLike) -> Any:
    """The value in a JSON file (``.gz``, ``.xz`` and ``-`` too), read as ``parse_json`` does.

    Raises InputError also for bytes that are not UTF-8 and for more than LARGEST_JSON of them.
    """
    raw = bytearray()
    with open_binary(path) as stream:  # in blocks: room for the largest is not taken at once
        while len(raw) <= LARGEST_JSON and (block := stream.read(1 << 20)):
            raw += block
    if len(raw) > LARGEST_JSON:
        limit = f"{LARGEST_JSON >> 20} MiB"
        raise InputError(path, None, f"JSON of more than {limit}", f"at most {limit}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(path, None, "bytes that are not UTF-8", "UTF-8 text") from None
    return parse_json(path, None, text)


def parse_json(path: PathLike, line: Optional[int], text: str, *, free: bool = True) -> Any:
    """The value in ``text``, which is line ``line`` of ``path`` (None: the whole file).

    Raises InputError for text that is not JSON, a name that comes twice in one object, NaN and
    Infinity, half a surrogate pair (which no file can hold), numbers with too many digits, and,
    where the value is ``free`` (its reader does not look at every part of it), for nesting beyond
    DEEPEST_JSON.
    """

    def refuse(constant: str) -> Any:
        raise InputError(path, line, f"the number {constant}", "finite numbers")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = Counter(name for name, _ in pairs)
            twice = names.most_common(1)[0][0]
            raise InputError(path, line, f"{twice[:40]!r} again in one object", "each name once")
        return table

    deep = f"nesting of at most {DEEPEST_JSON} levels"
    try:
        value = json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except json.JSONDecodeError as problem:
        where = problem.lineno if line is None else line
        found = f"bad JSON ({problem.msg} at column {problem.colno})"
        raise InputError(path, where, found, "valid JSON") from None
    except RecursionError:
        raise InputError(path, line, "JSON nested too deep", deep) from None
    except ValueError as problem:
        raise InputError(path, line, f"bad JSON ({problem})", "valid JSON") from None
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(path, line, "half a surrogate pair", "whole characters") from None
        except RecursionError:
            raise InputError(path, line, "JSON nested too deep", deep) from None
    if free and _is_deep(value):
        raise InputError(path, line, "JSON nested too deep", deep)
    return value


def _is_deep(value: Any) -> bool:
    """Whether lists and objects stand inside each other in more than DEEPEST_JSON levels."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(DEEPEST_JSON):
        parts = (one.values() if isinstance(one, dict) else one for one in level)
        level = [inner for part in parts for inner in part if isinstance(inner, (dict, list))]
    return bool(level)


def sha256(path: PathLike) -> str:
    """The SHA-256 of a file's bytes, in hex, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content_hash(path: PathLike) -> str:
    """The SHA-256, in hex, of a file, or of the names and files that a folder holds; hidden names,
    which are those of what is being written, are left out. "none" for what is not there."""
    place = Path(path)
    if not place.is_dir():
        return sha256(place) if place.is_file() else "none"
    digest = hashlib.sha256()
    for one in sorted(place.rglob("*")):
        name = one.relative_to(place)
        if one.is_file() and not any(part.startswith(".") for part in name.parts):
            digest.update(f"{name.as_posix()}\n{sha256(one)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
