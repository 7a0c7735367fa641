"""What a killed run goes on from: one file of tensors and plain values that carries its hash.

First a line ``asrprune-state CRC-32 length``, then what ``torch.save`` writes: ``length`` bytes of
that CRC-32. A file of an earlier version has no such line and is read as it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, Union, cast

import torch

from asrprune.core.tensor_file import load_tensors
from asrprune.errors import InputError
from asrprune.files import PathLike, write_binary

_FIRST = "asrprune-state {:08x} {:020d}\n"
_ZIP = b"PK\x03\x04"
"""How ``torch.save`` begins."""


class _Summed:
    """A stream that adds up what is written to it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.crc32 = self.length = 0

    def write(self, data: bytes) -> int:
        self.crc32 = zlib.crc32(data, self.crc32)
        self.length += len(data)
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()


def write_state(path: PathLike, state: Mapping[str, Any]) -> None:
    """Write ``state``, whole or not at all: tensors, numbers, texts, lists and dicts of them."""
    with write_binary(path) as stream:
        stream.write(_FIRST.format(0, 0).encode())
        summed = _Summed(stream)
        torch.save(dict(state), cast(IO[bytes], summed))
        stream.seek(0)
        stream.write(_FIRST.format(summed.crc32, summed.length).encode())


def read_state_file(path: PathLike, device: Union[str, torch.device] = "cpu") -> dict[str, Any]:
    """What ``write_state`` wrote, tensors on ``device``.

    Raises InputError for a file that is no longer what was written.
    """
    with open(path, "rb") as stream:
        first = stream.read(len(_FIRST.format(0, 0)))
        if first.startswith(_ZIP):
            return dict(load_tensors(path, device))
        crc32 = length = 0
        start = stream.tell()
        while block := stream.read(1 << 20):
            crc32 = zlib.crc32(block, crc32)
            length += len(block)
        if first != _FIRST.format(crc32, length).encode():
            found = "bytes that do not fit its checksum"
            raise InputError(Path(path), None, found, "the file as it was written")
        stream.seek(start)
        return dict(torch.load(stream, map_location=device, weights_only=True))
