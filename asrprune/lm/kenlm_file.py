"""What an n-gram model's file states of itself, checked before KenLM believes it.

KenLM takes counts and pointers as they stand: a damaged file makes it ask for any amount of memory,
search without end, or read outside of the file, which ends the process without a message. Here the
counts are compared with the size of the file, and what is followed (pointers, tables of hashes) is
seen to lead nowhere else. Probabilities are not looked at.

Source: KenLM ``lm/binary_format.cc``, ``vocab.hh``, ``search_hashed.hh``, ``search_trie.cc``,
``trie.cc``, ``bhiksha.cc``, ``quantize.hh``, ``util/probing_hash_table.hh``; format version 5.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asrprune.errors import InputError
from asrprune.files import PathLike, open_binary, raw_lines

_MAGIC = b"mmap lm http://kheafield.com/code format version 5\n\0"
_HEAD = struct.Struct("<56s3f2I4xQB3xfi?3xI")
_SANITY = (0.0, 1.0, -0.5, 1, 2**32 - 1, 1)
_PROBING, _REST_PROBING, _TRIE, _QUANTISED, _ARRAY, _QUANTISED_ARRAY = range(6)
_FIRST_WORD = b"<unk>\0"
_AT_ONCE = 1 << 18

Bytes = NDArray[np.uint8]


def is_kenlm_binary(path: PathLike) -> bool:
    """Whether the file begins as KenLM's binary files do."""
    with open_binary(path) as stream:
        return stream.read(4) == _MAGIC[:4]


def check_ngram_file(path: PathLike, plain: PathLike) -> None:
    """Raise InputError for a file whose counts or pointers cannot be; ``plain`` is it, unpacked."""
    if not is_kenlm_binary(plain):
        _check_arpa(path, plain)
        return
    try:
        _check_binary(np.memmap(plain, np.uint8, "r"))
    except (ValueError, struct.error) as problem:
        found = f"a damaged KenLM binary ({problem})"
        raise InputError(path, None, found, "a whole one, of format version 5") from None


def _check_arpa(path: PathLike, plain: PathLike) -> None:
    """An n-gram of n words takes 2 + 2 n bytes at least."""
    needed, place = 0, 1
    with open_binary(plain) as stream:
        for place, line in enumerate(raw_lines(path, stream), start=1):
            if line.startswith(b"\\1-grams"):
                break
            name, _, count = line.strip().partition(b"=")
            order = name.removeprefix(b"ngram").strip()
            if name.startswith(b"ngram ") and b"=" in line:
                if not (order.isdigit() and count.strip().isdigit()):
                    raise InputError(path, place, f"{line[:60]!r}", "ngram ORDER=COUNT")
                if len(order) + len(count) > 24:
                    raise InputError(path, place, f"{line[:60]!r}", "counts of 64 bits")
                needed += int(count) * (2 + 2 * int(order))
    size = np.memmap(plain, np.uint8, "r").size if needed else 0
    if needed > size:
        found = f"counts of n-grams that take {needed} bytes, in {size}"
        raise InputError(path, place, found, "as many n-grams as the file has")


@dataclass(frozen=True)
class _Header:
    """The fixed part: ``model`` is one of six layouts; ``counts`` of n-grams by their length."""

    model: int
    multiplier: float
    has_words: bool
    counts: Sequence[int]
    end: int


def _check_binary(data: Bytes) -> None:
    header = _header(data)
    checks = _probing if header.model in (_PROBING, _REST_PROBING) else _trie
    end = checks(data, header)
    if header.has_words:
        if bytes(data[end : end + len(_FIRST_WORD)]) != _FIRST_WORD or data[-1] != 0:
            raise ValueError(f"its words do not begin at byte {end}")
    elif end != data.size:
        raise ValueError(f"{data.size} bytes instead of {end}")


def _header(data: Bytes) -> _Header:
    magic, *sanity, order, multiplier, model, has_words, _ = _HEAD.unpack(bytes(data[: _HEAD.size]))
    if not magic.startswith(_MAGIC) or tuple(sanity) != _SANITY:
        raise ValueError("another version, or another machine's")
    if not 2 <= order <= 32 or not 0 <= model <= _QUANTISED_ARRAY:
        raise ValueError(f"order {order}, layout {model}")
    if not 1.0 < multiplier < math.inf:
        raise ValueError(f"a probing multiplier of {multiplier}")
    counts = struct.unpack(f"<{order}Q", bytes(data[_HEAD.size : _HEAD.size + 8 * order]))
    if min(counts) < 1 or max(counts) > 8 * data.size:
        raise ValueError(f"{max(counts)} n-grams in {data.size} bytes")
    return _Header(model, multiplier, has_words, counts, -(-(_HEAD.size + 8 * order) // 8) * 8)


def _part(data: Bytes, start: int, size: int) -> Bytes:
    if start + size > data.size:
        raise ValueError(f"{data.size} bytes instead of {start + size} or more")
    return data[start : start + size]


def _probing(data: Bytes, header: _Header) -> int:
    """Tables of hashes: where they end. Each needs an empty place, at which a search stops."""
    weights = 8 if header.model == _PROBING else 12
    counts = header.counts
    (bound,) = struct.unpack("<I", bytes(_part(data, header.end + 4, 4)))
    at = header.end + 8
    entry = np.dtype([("key", "<u8"), ("word", "<u4")])
    words = _table(data, at, counts[0], header.multiplier, entry)
    at += words.nbytes
    for block in _blocks(words):
        if bound > counts[0] + 1 or (block["word"] >= bound).any():
            raise ValueError(f"the number of a word beyond {bound}")
    at += weights * (counts[0] + 1)
    for order, count in enumerate(counts[1:], start=2):
        size = 4 if order == len(counts) else weights
        table = _table(
            data, at, count, header.multiplier, np.dtype([("key", "<u8"), ("", f"V{size}")])
        )
        at += table.nbytes
    return at


def _table(data: Bytes, start: int, count: int, multiplier: float, entry: Any) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        scaled = float(np.float32(multiplier) * np.float32(count))
    if not scaled < data.size:
        raise ValueError(f"a table for {count} n-grams in {data.size} bytes")
    places = max(count + 1, int(scaled))
    table: NDArray[Any] = _part(data, start, places * entry.itemsize).view(entry)
    if all((block["key"] != 0).all() for block in _blocks(table)):
        raise ValueError("a table of hashes without an empty place")
    return table


def _blocks(table: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(table), _AT_ONCE):
        yield table[start : start + _AT_ONCE]


class _Bits(NamedTuple):
    """Bits of an entry: of the word, of its weights, of the pointer that stands in it."""

    word: int
    weights: int
    pointer: int

    @property
    def entry(self) -> int:
        return sum(self)


def _trie(data: Bytes, header: _Header) -> int:
    """Sorted n-grams: where they end. Each points to the begin of the longer ones that follow it;
    pointers rise and stay within these."""
    counts = header.counts
    quantised = header.model in (_QUANTISED, _QUANTISED_ARRAY)
    (known,) = struct.unpack("<Q", bytes(_part(data, header.end, 8)))
    if known > counts[0]:
        raise ValueError(f"{known} of {counts[0]} words")
    at = header.end + 8 + 8 * counts[0]
    weight_bits, last_bits = 63, 31
    if quantised:
        version, probability, backoff = (int(one) for one in _part(data, at, 3))
        if version != 2 or not 1 <= probability <= 25 or backoff > 25:
            raise ValueError(f"quantised to {probability} and {backoff} bits, version {version}")
        weight_bits, last_bits = probability + backoff, probability
        middle = 4 * (2**probability + 2**backoff)
        at += 8 + (len(counts) - 2) * middle + 4 * 2**probability
    unigrams = _part(data, at, 16 * (counts[0] + 2))
    _check_pointers([unigrams.view("<u8")[1::2][: counts[0] + 1]], counts[1])
    at += unigrams.size
    for order in range(2, len(counts)):
        at = _middle(data, at, header, order, weight_bits)
    word = counts[0].bit_length()
    return at + ((1 + counts[-1]) * (word + last_bits) + 7) // 8 + 8


def _middle(data: Bytes, at: int, header: _Header, order: int, weights: int) -> int:
    """The n-grams of ``order`` words: where they end."""
    count, longer = header.counts[order - 1], header.counts[order]
    pointer, offsets = longer.bit_length(), np.zeros(0, np.uint64)
    if header.model in (_ARRAY, _QUANTISED_ARRAY):
        version, most = (int(one) for one in _part(data, at, 2))
        if version != 0:
            raise ValueError(f"pointers of version {version}")
        chopped = _chopped(count + 1, longer, most)
        places = (longer >> (pointer - chopped)) + 1
        offsets = _part(data, -(-at // 8) * 8 + 8, 8 * places).view("<u8")
        if offsets[0] != 0 or (offsets[1:] < offsets[:-1]).any():
            raise ValueError("offsets of pointers that do not rise from 0")
        pointer -= chopped
        at += 8 * (1 + places) + 7
    bits = _Bits(header.counts[0].bit_length(), weights, pointer)
    size = ((1 + count) * bits.entry + 7) // 8 + 8
    _check_pointers(_pointers(_part(data, at, size), count + 1, bits, offsets), longer)
    return at + size


def _chopped(entries: int, longer: int, most: int) -> int:
    """How many high bits of the pointers stand in a table of offsets of their own."""
    required = longer.bit_length()
    costs = [
        (longer >> (required - chop)) * 64 - entries * chop
        for chop in range(min(required, most) + 1)
    ]
    return costs.index(min(costs))


def _pointers(
    entries: Bytes, count: int, bits: _Bits, offsets: NDArray[np.uint64]
) -> Iterator[NDArray[np.uint64]]:
    """The pointers of ``count`` entries, in blocks; ``offsets``: from which entry on the high bits
    of a pointer are 0, 1, ..."""
    words = np.ndarray((entries.size - 7,), "<u8", entries, strides=(1,))  # at every byte
    mask = np.uint64((1 << bits.pointer) - 1)
    for start in range(0, count, _AT_ONCE):
        places = np.arange(start, min(count, start + _AT_ONCE), dtype=np.uint64)
        first = places * np.uint64(bits.entry) + np.uint64(bits.word + bits.weights)
        found = (words[first >> np.uint64(3)] >> (first & np.uint64(7))) & mask
        if len(offsets):
            high = np.searchsorted(offsets, places, side="right").astype(np.uint64) - np.uint64(1)
            found |= high << np.uint64(bits.pointer)
        yield found


def _check_pointers(blocks: Any, longer: int) -> None:
    before = 0
    for block in blocks:
        if int(block[0]) < before or (block[1:] < block[:-1]).any() or int(block[-1]) > longer:
            raise ValueError(f"pointers that do not rise to {longer} at most")
        before = int(block[-1])
