"""The tokeniser of an LM as a GGUF file states it, where llama.cpp cuts text as it does.

Two kinds do: byte-level BPE that came with an import (``gpt2`` there), and SentencePiece's Unigram
(``t5`` there, whatever the architecture). SentencePiece's own BPE is refused: llama.cpp has it for
models that spell unknown characters in bytes, and ends with an error at a character that ours calls
``<unk>``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asrprune.exchange.exporters.sentencepiece_proto import sentencepiece_facts
from asrprune.exchange.gguf_pieces import words_cut_as
from asrprune.text.marked import MarkedTokenizer, is_byte_level
from asrprune.text.sentencepiece import SentencePieceModel
from asrprune.text.tokenizer import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""llama.cpp's kinds of pieces."""

_BPE_OPTIONS = (
    "dropout",
    "unk_token",
    "continuing_subword_prefix",
    "end_of_word_suffix",
    "fuse_unk",
    "byte_fallback",
)


@dataclass(frozen=True)
class Vocabulary:
    """``values``: keys of ``tokenizer.ggml`` and their values. ``plain`` is a piece of ordinary
    letters. ``reads_text``: whether they say how text is cut, or ids alone."""

    values: Mapping[str, Any] = field(default_factory=dict)
    plain: int = 0
    reads_text: bool = True


class NoVocabularyError(ValueError):
    """A tokeniser that llama.cpp does not have; the text says why."""


def vocabulary_of(tokenizer: Tokenizer) -> Vocabulary:
    """Raises NoVocabularyError for a tokeniser that llama.cpp would follow otherwise or not."""
    pieces = tokenizer.model
    if isinstance(pieces, MarkedTokenizer):
        values = _byte_level(pieces)
    else:
        assert isinstance(pieces, SentencePieceModel)
        values = _unigram(pieces.proto)
    marks = {
        "bos_token_id": tokenizer.begin,
        "eos_token_id": tokenizer.end,
        "unknown_token_id": tokenizer.unknown,
        "add_bos_token": True,
        "add_eos_token": False,
    }
    return Vocabulary({**values, **marks}, _plain(values))


def ids_alone(vocab_size: int, begin: int, end: int) -> Vocabulary:
    """A vocabulary of which llama.cpp knows the size and the marks: its pieces are ``[id]``."""
    names = [f"[{index}]" for index in range(vocab_size)]
    types = [CONTROL if index in (begin, end) else USER_DEFINED for index in range(vocab_size)]
    values = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": names,
        "token_type": types,
        "merges": ["[ ]"],
        "bos_token_id": begin,
        "eos_token_id": end,
        "add_bos_token": False,
        "add_eos_token": False,
    }
    plain = next((index for index in range(vocab_size) if index not in (begin, end)), 0)
    return Vocabulary(values, plain, reads_text=False)


def _plain(values: Mapping[str, Any]) -> int:
    """A piece of letters that stand for themselves in every kind."""
    names, types = values["tokens"], values["token_type"]
    for index, (name, kind) in enumerate(zip(names, types)):
        if kind == NORMAL and name.isascii() and name.isalpha():
            return index
    raise NoVocabularyError("a tokenizer without a piece of Latin letters")


def _byte_level(pieces: MarkedTokenizer) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(pieces.pieces_json)
    model = value["model"]
    if model.get("type") != "BPE" or not is_byte_level(pieces.pieces_json):
        raise NoVocabularyError(f"imported pieces of the kind {model.get('type')}")
    for option in _BPE_OPTIONS:
        if model.get(option):
            raise NoVocabularyError(f"BPE with {option}")
    before = words_cut_as(value)
    if before is None:
        raise NoVocabularyError("byte-level BPE with words cut in a way of its own")
    merges = [one.split(" ") if isinstance(one, str) else one for one in model["merges"]]
    added = {one["id"]: bool(one.get("special")) for one in value.get("added_tokens") or ()}
    names, types = [], []
    for index in range(pieces.vocab_size):
        name = pieces.piece(index)
        names.append(name or f"[PAD{index}]")
        if index in added:
            types.append(CONTROL if added[index] else USER_DEFINED)
        else:
            types.append(NORMAL if name else UNUSED)
    return {
        "model": "gpt2",
        "pre": before,
        "tokens": names,
        "token_type": types,
        "merges": [" ".join(merge) for merge in merges],
    }


def _unigram(proto: bytes) -> dict[str, Any]:
    facts = sentencepiece_facts(proto)
    if facts.kind != "unigram":
        raise NoVocabularyError(f"SentencePiece of the kind {facts.kind}")
    if facts.suffix:
        raise NoVocabularyError("SentencePiece with spaces behind words")
    return {
        **({"precompiled_charsmap": facts.charsmap} if facts.charsmap else {}),
        "model": "t5",
        "tokens": list(facts.names),
        "scores": list(facts.scores),
        "token_type": list(facts.types),
        "add_space_prefix": facts.dummy_prefix,
        "remove_extra_whitespaces": facts.one_space,
    }
