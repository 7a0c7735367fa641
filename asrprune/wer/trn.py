"""NIST ``trn`` transcripts for sclite: ``word word (utt)``, one utterance a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from asrprune.files import PathLike, write_text
from asrprune.wer.wer import Scoring


def write_trn(path: PathLike, texts: Mapping[str, str]) -> None:
    """Write ``words (utt)`` lines in the order given; an empty transcript is ``(utt)``.

    sclite takes what stands before the first ``-`` or ``_`` of the id as the speaker, and reads
    words in braces or parentheses as alternatives and optional words.
    """
    with write_text(path) as stream:
        for utt, text in texts.items():
            stream.write(f"{text} ({utt})\n" if text else f"({utt})\n")


def write_trn_pair(folder: PathLike, scoring: Scoring) -> None:
    """Write ``ref.trn`` and ``hyp.trn``, ready for ``sclite -r ref.trn -h hyp.trn -i rm``."""
    root = Path(folder)
    write_trn(root / "ref.trn", {one.utt: one.ref for one in scoring.utterances})
    write_trn(root / "hyp.trn", {one.utt: one.hyp for one in scoring.utterances})
