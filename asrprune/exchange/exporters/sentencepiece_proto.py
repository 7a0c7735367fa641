"""What stands in a SentencePiece model: its protocol buffer, read without the library for them.

Source: sentencepiece_model.proto: ModelProto has pieces (1: piece 1, score 2, type 3), trainer_spec
(2: model_type 3, treat_whitespace_as_suffix 24) and normalizer_spec (3: precompiled_charsmap 2,
add_dummy_prefix 3, remove_extra_whitespaces 4, escape_whitespaces 5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

_VARINT, _EIGHT_BYTES, _TEXT, _FOUR_BYTES = 0, 1, 2, 5
_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}

Value = Union[int, bytes]


@dataclass(frozen=True)
class SentencePieceFacts:
    """``kind``: unigram, bpe, word or char. ``types`` are 1 normal, 2 unknown, 3 control, 4 user
    defined, 5 unused, 6 byte. ``charsmap`` is the table by
    which characters are normalised, empty for none."""

    kind: str
    names: tuple[str, ...]
    scores: tuple[float, ...]
    types: tuple[int, ...]
    charsmap: bytes
    dummy_prefix: bool
    one_space: bool
    suffix: bool
    """Whether a space belongs to the word before it."""


def sentencepiece_facts(proto: bytes) -> SentencePieceFacts:
    """Of a model that the library has loaded."""
    names: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    trainer: dict[int, Value] = {}
    normaliser: dict[int, Value] = {}
    for number, value in _fields(proto):
        if number == 1:
            piece = dict(_fields(_bytes(value)))
            names.append(_bytes(piece.get(1, b"")).decode())
            scores.append(struct.unpack("<f", _bytes(piece.get(2, bytes(4))))[0])
            types.append(int(piece.get(3, 1)))
        elif number == 2:
            trainer.update(_fields(_bytes(value)))
        elif number == 3:
            normaliser.update(_fields(_bytes(value)))
    kind = int(trainer.get(3, 1))
    return SentencePieceFacts(
        _KINDS.get(kind, str(kind)),
        tuple(names),
        tuple(scores),
        tuple(types),
        charsmap=_bytes(normaliser.get(2, b"")),
        dummy_prefix=bool(normaliser.get(3, 1)),
        one_space=bool(normaliser.get(4, 1)),
        suffix=bool(trainer.get(24, 0)),
    )


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(number, value) of a message's fields; four and eight bytes as they are."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, place = _varint(data, place)
            yield number, value
            continue
        if wire == _TEXT:
            length, place = _varint(data, place)
        else:
            length = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}[wire]
        yield number, data[place : place + length]
        place += length


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def _bytes(value: Value) -> bytes:
    assert isinstance(value, bytes)
    return value
