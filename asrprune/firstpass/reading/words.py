"""Which labels of a decoder's output are words."""

from __future__ import annotations

import re

from asrprune.core.special_words import in_sphinx_text

_PRONUNCIATION = re.compile(r"(?<=.)\(\d+\)$")


def plain_word(label: str) -> str:
    """The word that ``label`` stands for, "" for fillers, silence and sentence boundaries.

    The number of an alternative pronunciation is dropped. ``[SPEECH]`` and ``++NOISE++`` are
    fillers; ``<unk>`` and ``[UNK]`` are words.

    >>> plain_word("was(2)"), plain_word("[NOISE]"), plain_word("!NULL"), plain_word("<unk>")
    ('was', '', '', '<unk>')
    """
    return _PRONUNCIATION.sub("", label) if in_sphinx_text(label) else ""
