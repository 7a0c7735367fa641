"""Tensors in a file of safetensors, written and read one at a time.

So there is never a second copy of them all. Numbers are laid out such that most tensors begin at
a multiple of ALIGNED bytes, where torch, too, lets tensors begin: products round in other ways at
odd addresses. Such a tensor can be the file's own memory.
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from typing import Any, BinaryIO, Optional

import torch
from torch import Tensor

from asrprune.files import PathLike, write_binary

ALIGNED = 64
"""Bytes at whose multiples torch lets tensors begin."""

_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8},
    **{"U8": torch.uint8, "BOOL": torch.bool},
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def write_tensors(path: PathLike, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors, which are on the CPU; the same ones give the same bytes.

    Those of whole multiples of ALIGNED bytes come first, so that all of them are aligned; the
    header is padded with spaces, as the format has it. Raises OSError as ``write_binary`` does.
    """

    def place(name: str) -> tuple[bool, int, str]:
        one = tensors[name]
        return one.nbytes % ALIGNED != 0, -one.element_size(), name

    header: dict[str, Any] = {}
    stop = 0
    for name in sorted(tensors, key=place):
        one = tensors[name]
        start, stop = stop, stop + one.nbytes
        header[name] = {
            "dtype": _NAMES[one.dtype],
            "shape": list(one.shape),
            "data_offsets": [start, stop],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNED)
    with write_binary(path) as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in header:
            stream.write(_bytes_of(tensors[name].contiguous()))


class StoredTensors:
    """The tensors of a file that ``safetensors`` takes; ``check_fit`` has seen to that.

    ``mapped``: those that are aligned are the file's own memory, read when they are first used and
    shared by all processes that map the file; what changes them changes a copy. The file must stay
    as it is meanwhile (a new one under its name is another file).
    """

    def __init__(self, stream: BinaryIO, mapped: bool = False) -> None:
        self._stream = stream
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        self._places: dict[str, Any] = {k: v for k, v in header.items() if k != "__metadata__"}
        self._start = 8 + size
        self._map: Optional[mmap.mmap] = None
        if mapped:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)

    @property
    def names(self) -> tuple[str, ...]:
        """What the tensors are called, in the order of the file."""
        return tuple(self._places)

    def read(self, name: str) -> Tensor:
        """The tensor called ``name``. Raises ValueError for a number format that is not known."""
        place = self._places[name]
        dtype, shape = _DTYPES.get(place["dtype"]), place["shape"]
        if dtype is None:
            raise ValueError(f"{name} of {place['dtype']}")
        start = self._start + place["data_offsets"][0]
        count = math.prod(shape)
        if self._map is not None and count and start % ALIGNED == 0:
            return torch.frombuffer(self._map, dtype=dtype, count=count, offset=start).view(shape)
        value = torch.empty(shape, dtype=dtype, device="cpu")
        self._stream.seek(start)
        room = _bytes_of(value)
        if self._stream.readinto(room) != len(room):  # type: ignore[attr-defined]
            raise ValueError(f"{name} cut short")
        return value


def _bytes_of(value: Tensor) -> memoryview:
    """The memory of a contiguous tensor."""
    return value.detach().reshape(-1).view(torch.uint8).numpy().data
