"""Opening input: plain, ``.gz``, ``.xz``, ``-``."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import lzma
import os
import sys
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Union, cast

from asrprune.errors import InputError

PathLike = Union[str, os.PathLike[str]]


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
            with lzma.open(name, "rb") as unpacked:
                yield cast(BinaryIO, unpacked)
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


def read_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Yield ``(line number from 1, line without its line end)``, decoded as UTF-8, streaming.

    CRLF line ends are accepted. A byte-order mark is dropped. Raises InputError with the line
    number for bytes that are not UTF-8.
    """
    with open_binary(path) as stream:
        for number, raw in enumerate(stream, start=1):
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

    A blank line between records is yielded, for the reader to refuse.
    """
    blank: list[tuple[int, str]] = []
    for number, line in read_lines(path):
        if not line.strip():
            blank.append((number, line))
            continue
        yield from blank
        blank = []
        yield number, line


def read_json(path: PathLike) -> Any:
    """The value in a JSON file. Raises InputError with the line for text that is not JSON."""
    with open_binary(path) as stream:
        raw = stream.read()
    try:
        return json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise InputError(path, None, "bytes that are not UTF-8", "UTF-8 text") from None
    except json.JSONDecodeError as problem:
        raise InputError(path, problem.lineno, f"bad JSON ({problem.msg})", "valid JSON") from None
    except (ValueError, RecursionError) as problem:  # a number of too many digits, nested too deep
        raise InputError(path, None, f"bad JSON ({problem})", "valid JSON") from None


def sha256(path: PathLike) -> str:
    """The SHA-256 of a file's bytes, in hex, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
