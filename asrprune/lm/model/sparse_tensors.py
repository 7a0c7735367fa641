"""Tensors of many zeros as they are stored: a bit for every number, and those that are not zero.

The bits are Huffman-coded where that is shorter: of a tensor with four zeros in five to 0.73 of
their length, with half of them zero to nothing less. Reading gives the same numbers bit for bit.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Optional, Protocol

import numpy as np
import torch
from torch import Tensor

MASK, CODE = ".sparse_mask", ".sparse_code"
VALUES, SPARSE_SHAPE = ".sparse_values", ".sparse_shape"
"""Ends of the names under which a sparse tensor is stored: a bit for every number (uint8, the
first bit of a byte is the highest), or those bytes Huffman-coded (uint8, a raw deflate stream:
RFC 1951), the numbers that are not zero, and the shape (int64)."""

LONGEST = 64
"""Bits of a mask that a byte of its code can stand for: Huffman codes give a bit to each byte at
least. So no damaged file asks for more memory than so many times what it holds."""


class Stored(Protocol):
    """A file of tensors (StoredTensors)."""

    def read(self, name: str) -> Tensor:
        """The tensor called ``name``."""


def sparse_name(name: str) -> Optional[str]:
    """The tensor whose mask is stored under ``name``; None: another part, or no sparse tensor."""
    for end in (MASK, CODE):
        if name.endswith(end):
            return name.removesuffix(end)
    return None


def is_part(name: str) -> bool:
    """Whether ``name`` is of a part of a sparse tensor beside its mask."""
    return name.endswith((VALUES, SPARSE_SHAPE))


def pack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as stored: those with enough zeros become a mask and their other values.

    The zero test is on bits, so that -0.0 survives.
    """
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        value = value.contiguous()
        size = value.element_size()
        bits = value.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[size]).flatten()
        kept = bits != 0
        most = int(0.95 * value.numel()) * size
        room = most - int(kept.sum()) * size
        stored, end = (b"", "") if room <= 0 else _shorter(np.packbits(kept.numpy()).tobytes())
        if len(stored) < room:
            packed[name + end] = torch.frombuffer(bytearray(stored), dtype=torch.uint8)
            packed[name + VALUES] = value.flatten()[kept]
            packed[name + SPARSE_SHAPE] = torch.tensor(value.shape, dtype=torch.int64, device="cpu")
        else:
            packed[name] = value
    return packed


def unpacked(stored: Stored, mask: str) -> Tensor:
    """The tensor whose mask is called ``mask``. Raises ValueError for a code that does not tell as
    many bits as the tensor has numbers, and where there are not as many values as bits that are
    set."""
    name = sparse_name(mask)
    assert name is not None
    shape = stored.read(name + SPARSE_SHAPE).tolist()
    values = stored.read(name + VALUES)
    count = math.prod(shape)
    bits = stored.read(mask).numpy()
    if mask.endswith(CODE):
        bits = np.frombuffer(_decoded(bits.tobytes(), (count + 7) // 8, mask), np.uint8)
    kept = torch.from_numpy(np.unpackbits(bits, count=count)).bool()
    if len(values) != int(kept.sum()):  # a single one would be taken for all
        raise ValueError(f"{len(values)} values of {name} for {int(kept.sum())} places")
    whole = torch.zeros(count, dtype=values.dtype, device=values.device)
    whole[kept] = values
    return whole.view(shape)


def _shorter(mask: bytes) -> tuple[bytes, str]:
    """The mask as stored, and the end of its name."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    code = coder.compress(mask) + coder.flush()
    return (code, CODE) if len(code) < len(mask) else (mask, MASK)


def _decoded(code: bytes, length: int, name: str) -> bytes:
    decoder = zlib.decompressobj(-15)
    try:
        mask = decoder.decompress(code, length + 1)
    except zlib.error as problem:
        raise ValueError(f"{name} is no deflate stream ({problem})") from None
    if len(mask) != length or not decoder.eof:
        raise ValueError(f"{name} tells other than {length} bytes")
    return mask
