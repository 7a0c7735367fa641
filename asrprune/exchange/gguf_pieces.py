"""The tokeniser in a GGUF file as a tokenizer.json of the library ``tokenizers``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Optional, Protocol

from asrprune.core.config import shown
from asrprune.core.tables import lookup
from asrprune.errors import InputError
from asrprune.files import PathLike

_CONTROL, _USER_DEFINED, _UNKNOWN = 3, 4, 2


class Values(Protocol):
    """The keys of a GGUF file."""

    path: PathLike
    values: dict[str, Any]

    def value(self, key: str, kind: type, otherwise: Any = None) -> Any:
        """The value of ``key``. Raises InputError where it is missing or of another kind."""


_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
_REST = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"


def _split(pattern: str) -> dict[str, Any]:
    """Cut at a pattern, then spell bytes."""
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [cut, {**_BYTES, "use_regex": False}]}


_DIGITS = {"type": "Digits", "individual_digits": True}
_PRE: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gpt-2": (_BYTES, {}),
    "smollm": ({"type": "Sequence", "pretokenizers": [_DIGITS, _BYTES]}, {}),
    "llama-bpe": (_split(f"{_CONTRACTIONS}\\p{{N}}{{1,3}}{_REST}"), {"ignore_merges": True}),
    "qwen2": (_split(f"{_CONTRACTIONS}\\p{{N}}{_REST}"), {"normalizer": {"type": "NFC"}}),
}
"""``tokenizer.ggml.pre`` -> how text is cut into words, and what else the tokeniser does."""


def words_cut_as(value: Mapping[str, Any]) -> Optional[str]:
    """The ``tokenizer.ggml.pre`` whose rules those of a tokenizer.json are; None: none of them."""
    for name, (before, more) in _PRE.items():
        normalizer = value.get("normalizer")
        ignoring = bool(value["model"].get("ignore_merges"))
        same = _rules(value.get("pre_tokenizer")) == _rules(before)
        fits = ignoring == more.get("ignore_merges", False)
        if same and fits and normalizer == more.get("normalizer"):
            return name
    return None


def _rules(value: Any) -> Any:
    """A pre-tokeniser without what says nothing about ids."""
    if isinstance(value, dict):
        kept = {key: _rules(one) for key, one in value.items() if key != "trim_offsets"}
        if kept.get("type") == "ByteLevel":
            kept.setdefault("use_regex", True)
        return kept
    return [_rules(one) for one in value] if isinstance(value, list) else value


def pieces_of(file: Values) -> str:
    """The text of the tokenizer.json that the pieces and merges of a GGUF file make.

    Raises InputError for a tokeniser that is not rebuilt exactly, by name.
    """
    kind = file.value("tokenizer.ggml.model", str)
    if kind != "gpt2":
        expected = "gpt2 (byte-level BPE); other tokenizers come with the Hugging Face folder"
        raise InputError(file.path, None, f"tokenizer.ggml.model is {shown(kind)}", expected)
    if file.values.get("tokenizer.ggml.add_space_prefix"):
        found = "tokenizer.ggml.add_space_prefix is true"
        raise InputError(file.path, None, found, "byte-level BPE without it")
    try:
        before, more = lookup(_PRE, file.value("tokenizer.ggml.pre", str), "tokenizer.ggml.pre")
    except ValueError as problem:
        raise InputError(file.path, None, str(problem), "one that is rebuilt here") from None
    pieces = _strings(file, "tokenizer.ggml.tokens")
    vocab = {piece: index for index, piece in enumerate(pieces)}
    if len(vocab) != len(pieces):
        raise InputError(file.path, None, "a piece twice", "each piece once")
    merges = [merge.split(" ") for merge in _strings(file, "tokenizer.ggml.merges")]
    types = file.value("tokenizer.ggml.token_type", list, [1] * len(pieces))
    if len(types) != len(pieces):
        found = f"{len(types)} types of {len(pieces)} pieces"
        raise InputError(file.path, None, found, "a type a piece")
    added = [
        {
            "id": index,
            "content": pieces[index],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind != _USER_DEFINED,
        }
        for index, kind in enumerate(types)
        if kind in (_CONTROL, _UNKNOWN, _USER_DEFINED)
    ]
    model = {
        "type": "BPE",
        "vocab": vocab,
        "merges": merges,
        "ignore_merges": more.get("ignore_merges", False),
    }
    value = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": more.get("normalizer"),
        "pre_tokenizer": before,
        "decoder": _BYTES,
        "model": model,
    }
    return json.dumps(value, ensure_ascii=False)


def _strings(file: Values, key: str) -> list[str]:
    found: list[str] = file.value(key, list)
    if not all(isinstance(one, str) for one in found):
        raise InputError(file.path, None, f"{key} of other than strings", "a list of strings")
    return found
