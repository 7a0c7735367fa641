"""Checksums inside our own files: one flipped bit is found when they are read.

A JSON object, on a line of its own or as a file, ends with ``"crc32"``: the CRC-32 of the text
before that entry, in hex. An object without it is one of an earlier version, of another tool or of
an editor, and passes; one that does not fit its checksum, or whose checksum was damaged itself,
does not. Arrays have a checksum for each block (BlockChecksums), so that what is read of a large
file is all that has to be checked.
"""

from __future__ import annotations

import json
import zlib
from operator import ne
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.errors import InputError
from asrprune.files import PathLike, open_binary, read_json, write_text

KEY = "crc32"
_DIGITS = "########"
_OF_LINE = f', "{KEY}": "{_DIGITS}"}}'
_OF_FILE = f',\n  "{KEY}": "{_DIGITS}"\n}}\n'
"""How the text of an object ends."""


def crc32_of(data: Any) -> str:
    """The CRC-32 of bytes (or any buffer), eight hex digits.

    >>> crc32_of(b"123456789")
    'cbf43926'
    """
    return f"{zlib.crc32(data):08x}"


def sealed_line(line: str) -> str:
    """The JSON object on a line with its checksum as the last entry.

    >>> sealed_line('{"utt": "u1"}')
    '{"utt": "u1", "crc32": "12f63ece"}'
    """
    body = line[:-1]
    return body + _OF_LINE.replace(_DIGITS, crc32_of(body.encode()))


def check_line(path: PathLike, number: Optional[int], line: str, value: dict[str, Any]) -> None:
    """Check ``value`` against the ``line`` that it was read from, and take its checksum out of it.

    Raises InputError with the line's ``number`` for another checksum than that of the text.
    """
    _check(path, number, line, value, _OF_LINE)


def write_sealed(path: PathLike, value: dict[str, Any]) -> None:
    """``write_json`` of an object, with its checksum as the last entry."""
    with write_text(path) as stream:
        stream.write(sealed_text(value))


def sealed_text(value: dict[str, Any]) -> str:
    """What ``write_sealed`` writes."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    body = text[: -len("\n}")]
    return body + _OF_FILE.replace(_DIGITS, crc32_of(body.encode()))


def read_sealed(path: PathLike) -> Any:
    """``read_json``, checked: the value without its checksum.

    Raises InputError also for an object that does not fit its checksum.
    """
    value = read_json(path)
    if isinstance(value, dict):
        with open_binary(path) as stream:
            _check(path, None, stream.read().decode("utf-8"), value, _OF_FILE)
    return value


def _check(
    path: PathLike, number: Optional[int], text: str, value: dict[str, Any], end: str
) -> None:
    cut = len(text) - len(end)
    tail = text[cut:] if cut > 0 else ""
    stated = tail[end.index(_DIGITS) :][: len(_DIGITS)]
    whole = end.replace(_DIGITS, stated)
    if tail == whole:
        good = stated == crc32_of(text[:cut].encode())
    else:  # none, or one whose name was changed, or that was moved
        good = KEY not in value and sum(map(ne, tail, whole)) != 1
    value.pop(KEY, None)
    if not good:
        found = f"a text that was changed (it does not fit its {KEY})"
        raise InputError(path, number, found, f"the text as it was written, or one without {KEY}")


class BlockChecksums:
    """The CRC-32 of each block of ``size`` numbers of an array on disk, checked when first read.

    ``sums`` [blocks] uint32; ``numbers`` [N] is the array, ``path`` its file.
    """

    def __init__(
        self, path: PathLike, numbers: NDArray[Any], sums: NDArray[np.uint32], size: int
    ) -> None:
        self._path = path
        self._numbers = numbers
        self._sums = sums
        self._size = size
        self._seen = np.zeros(len(sums), dtype=np.bool_)

    def check(self, start: int, stop: int) -> None:
        """Check the blocks that hold the numbers from ``start`` to before ``stop``.

        Raises InputError naming the file for a block that was changed.
        """
        for block in range(start // self._size, -(-stop // self._size)):
            if not self._seen[block]:
                self._check_block(block)

    def _check_block(self, block: int) -> None:
        part = self._numbers[block * self._size : (block + 1) * self._size]
        if zlib.crc32(part.data) != self._sums[block]:
            first = block * self._size * self._numbers.itemsize
            found = f"bytes from {first} to {first + part.nbytes} that do not fit their checksum"
            raise InputError(self._path, None, found, "the file as it was written")
        self._seen[block] = True


class BlockSums:
    """Collects the checksums of an array's blocks while it is written, a part at a time."""

    def __init__(self, size_bytes: int) -> None:
        self._size = size_bytes
        self._sums: list[int] = []
        self._filled = 0
        self._sum = 0

    def add(self, data: bytes) -> None:
        """Take what is written next."""
        view = memoryview(data)
        while len(view):
            part = view[: self._size - self._filled]
            self._sum = zlib.crc32(part, self._sum)
            self._filled += len(part)
            view = view[len(part) :]
            if self._filled == self._size:
                self._close()

    def finish(self) -> NDArray[np.uint32]:
        """All of them, [blocks]; the last block may be short."""
        if self._filled:
            self._close()
        return np.array(self._sums, dtype="<u4")

    def _close(self) -> None:
        self._sums.append(self._sum)
        self._filled, self._sum = 0, 0
