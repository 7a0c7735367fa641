"""Which labels of a decoder's output are words."""

from __future__ import annotations

import re

_BOUNDARIES = {"!NULL", "!ENTER", "!EXIT", "!SENT_START", "!SENT_END", "<s>", "</s>", "<eps>"}
_SILENCE = {"<sil>", "<SIL>", "SIL", "-pau-"}
_FILLER = re.compile(r"\[(?!UNK\])[A-Z_]+\]|\+\+[^+\s]+\+\+")
_PRONUNCIATION = re.compile(r"(?<=.)\(\d+\)$")


def plain_word(label: str) -> str:
    """The word that ``label`` stands for, "" for fillers, silence and sentence boundaries.

    The number of an alternative pronunciation is dropped. ``[SPEECH]`` and ``++NOISE++`` are
    fillers; ``<unk>`` and ``[UNK]`` are words.

    >>> plain_word("was(2)"), plain_word("[NOISE]"), plain_word("!NULL"), plain_word("<unk>")
    ('was', '', '', '<unk>')
    """
    if label in _BOUNDARIES or label in _SILENCE or _FILLER.fullmatch(label):
        return ""
    return _PRONUNCIATION.sub("", label)
