"""Trimming a vocabulary: a tokeniser with the pieces that some words need, and no others.

The words are spelled as before. BPE takes the best of the merges that it may, again and again: a
merge that is never taken in a word is not missed there. Inside a piece that it ends with, it takes
what it would take of the piece's letters alone; so the merges to keep are those of the used pieces,
each spelled by itself, and the pieces on the way. Unigram takes the best path, which stays the best
among fewer. What the words do not need is spelled with smaller pieces from now on: single letters
and bytes stay.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from asrprune.errors import InputError
from asrprune.text.marked import MarkedTokenizer
from asrprune.text.sentence import SentenceMarks

_KINDS = ("BPE", "Unigram")


@dataclass(frozen=True)
class TrimmedPieces:
    """``kept``: the old ids of the new ones, ascending. ``pieces`` is the text of a tokenizer.json
    and ``marks`` the sentence marks, both with the new ids."""

    kept: tuple[int, ...]
    pieces: str
    marks: SentenceMarks


def trimmed(tokenizer: MarkedTokenizer, used: Iterable[int]) -> TrimmedPieces:
    """The tokeniser with the pieces ``used``, what they are made of, single letters, and its marks.

    Raises InputError for a kind of pieces that is not trimmed.
    """
    value: dict[str, Any] = json.loads(tokenizer.pieces_json)
    model = value["model"]
    kind = model.get("type")
    if kind not in _KINDS:
        found = f"pieces of the kind {kind}"
        raise InputError(tokenizer.path, None, found, f"one of {', '.join(_KINDS)}")
    marks = tokenizer.marks
    wanted = {*used, *tokenizer.prompt, *tokenizer.tail, marks.begin, marks.end, marks.unknown}
    added = {one["id"]: one["content"] for one in value.get("added_tokens") or ()}
    kept = _bpe(model, wanted) if kind == "BPE" else _unigram(model, wanted)
    kept |= wanted & added.keys()
    new = {old: index for index, old in enumerate(sorted(kept))}
    value["added_tokens"] = [
        {**one, "id": new[one["id"]]} for one in value.get("added_tokens") or () if one["id"] in new
    ]
    value["post_processor"] = None  # it would add marks by their old ids, and is never asked to
    if kind == "BPE":
        model["vocab"] = {piece: new[old] for piece, old in model["vocab"].items() if old in new}
    else:
        model["vocab"] = [one for old, one in enumerate(model["vocab"]) if old in new]
        model["unk_id"] = new.get(model.get("unk_id"))
    changed = replace(
        marks,
        begin=new[marks.begin],
        end=new[marks.end],
        unknown=new[marks.unknown],
        vocab_size=len(new),
    )
    return TrimmedPieces(tuple(sorted(kept)), json.dumps(value, ensure_ascii=False), changed)


def _bpe(model: dict[str, Any], wanted: set[int]) -> set[int]:
    """The ids to keep; the merges that make none of the wanted pieces leave the model."""
    vocab: Mapping[str, int] = model["vocab"]
    names = {index: piece for piece, index in vocab.items()}
    merges = [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    kept = {index for piece, index in vocab.items() if len(piece) == 1 or _is_byte(piece)}
    if model.get("unk_token") is not None:
        kept.add(vocab[model["unk_token"]])
    taken: set[int] = set()
    for index in wanted & names.keys():
        kept.add(index)
        taken |= _merges_of(names[index], ranks)
    kept |= {vocab["".join(merges[rank])] for rank in taken}
    model["merges"] = [list(merges[rank]) for rank in sorted(taken)]
    return kept


def _merges_of(piece: str, ranks: Mapping[tuple[str, ...], int]) -> set[int]:
    """The merges that BPE takes in the letters of one piece."""
    parts = list(piece)
    taken: set[int] = set()
    while True:
        pairs = [ranks.get(pair, -1) for pair in zip(parts, parts[1:])]
        able = [rank for rank in pairs if rank >= 0]
        if not able:
            return taken
        best = min(able)
        taken.add(best)
        place = pairs.index(best)
        parts[place : place + 2] = ["".join(parts[place : place + 2])]


def _unigram(model: dict[str, Any], wanted: set[int]) -> set[int]:
    """The ids to keep. The least likely piece stays too: what an unknown letter costs is counted
    from it."""
    scores = [score for _, score in model["vocab"]]
    kept = {index for index in wanted if index < len(scores)}
    kept |= {
        index
        for index, (piece, _) in enumerate(model["vocab"])
        if len(piece) == 1 or _is_byte(piece)
    }
    kept.add(scores.index(min(scores)))
    if model.get("unk_id") is not None:
        kept.add(model["unk_id"])
    return kept


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")
