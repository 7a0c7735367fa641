"""Words of a transcript that are no words of a language, and what each becomes.

Decoders write sentence boundaries, silence, noises and the unknown word among the words. Two
questions are asked of them. Does a word stand in the text that is written and scored by WER? A
reader of a format with its own markers takes those out. What does an LM make of a word that is in
the text? It drops it, or takes it for its own unknown word, the same for lists, lattices and
n-grams. ``KINDS`` says both.

Sources: HTKBook (``!NULL``, ``!ENTER``, ``!SENT_START``), Kaldi's lexicons (``<UNK>``, ``!SIL``,
``<SPOKEN_NOISE>``, ``[NOISE]``), CMU Sphinx (``<sil>``, ``++NOISE++``), SentencePiece (U+2047 for
an unknown piece).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Optional

UNKNOWN, DROP, KEEP = "unknown", "drop", "keep"
TREATMENTS = (UNKNOWN, DROP, KEEP)
"""What an LM makes of a special word: its unknown word, nothing, or a word like others."""


@dataclass(frozen=True)
class SpecialKind:
    """``treatment``: what an LM makes of such a word, one of TREATMENTS; ``words``: which these
    are; ``taken_out``: the formats whose readers take them out of the text, "" for none."""

    treatment: str
    words: str
    taken_out: str = ""

    @property
    def description(self) -> str:
        """All of it in a line."""
        made = {UNKNOWN: "the LM's unknown word", DROP: "dropped by the LM", KEEP: "kept"}
        out = f" (no text in {self.taken_out})" if self.taken_out else ""
        return f"{made[self.treatment]}: {self.words}{out}"


KINDS: Mapping[str, SpecialKind] = MappingProxyType(
    {
        "unknown": SpecialKind(UNKNOWN, "<unk> <UNK> [unk] <oov> <unknown> \u2047"),
        "boundary": SpecialKind(
            DROP,
            "<s> </s> <eps> !NULL !ENTER !EXIT !SENT_START !SENT_END",
            "HTK, pocketsphinx, SRILM; <s> </s> <eps>: Kaldi, k2, OpenFst",
        ),
        "silence": SpecialKind(
            DROP, "<sil> <SIL> SIL !SIL -pau-", "HTK, pocketsphinx, SRILM, but for !SIL"
        ),
        "noise": SpecialKind(
            DROP,
            "<...> [...] ++...++, as <SPOKEN_NOISE>, [noise], <laughter>, ++UM++",
            "HTK, pocketsphinx, SRILM: [CAPITALS] and ++...++",
        ),
    }
)
"""Kind of special word -> what becomes of it."""

_UNKNOWN = re.compile(r"[<\[](?:unk|oov|unknown)[>\]]|\u2581?\u2047+", re.IGNORECASE)
_BOUNDARY = frozenset(KINDS["boundary"].words.split())
_SILENCE = frozenset(KINDS["silence"].words.split())
KALDI_BOUNDARIES = frozenset({"", "<eps>", "<s>", "</s>"})
"""Symbols of a word table that stand for no word of the text. Noise words (``<NOISE>``, ``!SIL``)
stand in it: Kaldi's scoring scripts filter them."""

_TAG = re.compile(r"<[^\s<>]+>|\[[^\s\[\]]+\]|\+\+[^+\s]+\+\+")
_SPHINX_SILENCE = _SILENCE - {"!SIL"}
_SPHINX_NOISE = re.compile(r"\[(?!UNK\])[A-Z_]+\]|\+\+[^+\s]+\+\+")
_FIRST_CHARACTERS = frozenset("<[+!-S\u2047\u2581")


def kind_of(word: str) -> Optional[str]:
    """The kind of a special word, None for a word of a language.

    >>> kind_of("<UNK>"), kind_of("!SIL"), kind_of("[noise]"), kind_of("</s>"), kind_of("Sam")
    ('unknown', 'silence', 'noise', 'boundary', None)
    """
    if not word or word[0] not in _FIRST_CHARACTERS:
        return None
    if _UNKNOWN.fullmatch(word):
        return "unknown"
    if word in _BOUNDARY:
        return "boundary"
    if word in _SILENCE:
        return "silence"
    return "noise" if _TAG.fullmatch(word) else None


def treatment(word: str, own: Mapping[str, str] = MappingProxyType({})) -> Optional[str]:
    """What an LM makes of ``word``: one of TREATMENTS, None for a word of a language.

    ``own`` says so for single words, and goes before the table.

    >>> treatment("<laughter>"), treatment("<laughter>", {"<laughter>": "keep"}), treatment("a")
    ('drop', 'keep', None)
    """
    if word in own:
        return own[word]
    kind = kind_of(word)
    return None if kind is None else KINDS[kind].treatment


def in_sphinx_text(label: str) -> bool:
    """Whether a label of an HTK or CMU Sphinx decoder stands in the text: all but boundaries,
    silence and noises; ``<unk>`` and ``[UNK]`` do."""
    special = label in _BOUNDARY or label in _SPHINX_SILENCE or _SPHINX_NOISE.fullmatch(label)
    return not special
