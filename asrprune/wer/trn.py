"""NIST ``trn`` transcripts for sclite: ``word word (utt)``, one utterance a line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from asrprune.files import PathLike, write_text
from asrprune.wer.wer import Scoring

log = logging.getLogger(__name__)


def write_trn(path: PathLike, texts: Mapping[str, str]) -> None:
    """Write ``words (utt)`` lines in the order given; an empty transcript is ``(utt)``.

    sclite takes what stands before the first ``-`` or ``_`` of the id as the speaker, and reads
    words in braces or parentheses as alternatives and optional words.
    """
    with write_text(path) as stream:
        for utt, text in texts.items():
            stream.write(f"{text} ({utt})\n" if text else f"({utt})\n")


def write_trn_pair(folder: PathLike, scoring: Scoring, final: Optional[PathLike] = None) -> None:
    """Write ``ref.trn`` and ``hyp.trn``, ready for ``sclite -r ref.trn -h hyp.trn -i rm``.

    What sclite would read otherwise is logged as a warning; it has no way to write such words.
    Warnings name the files in ``final``, where they will stand in the end (default: ``folder``).
    """
    root = Path(folder)
    refs = {one.utt: one.ref for one in scoring.utterances}
    hyps = {one.utt: one.hyp for one in scoring.utterances}
    for name, texts in (("ref.trn", refs), ("hyp.trn", hyps)):
        write_trn(root / name, texts)
        for problem in misread_by_sclite(texts):
            log.warning("%s: %s", Path(final or root) / name, problem)


def misread_by_sclite(texts: Mapping[str, str]) -> list[str]:
    """What sclite reads otherwise than it stands in ``texts`` (utterance id -> words): words with
    brackets, comments, ids without a speaker.

    >>> misread_by_sclite({"1001": "can you help"})
    ['1 id has no - or _ (1001): sclite -i rm cannot tell the speaker from it']
    """
    marked = [
        (utt, word)
        for utt, text in texts.items()
        for word in text.split()
        if set(word) & set("(){}")
    ]
    comments = [utt for utt, text in texts.items() if text.startswith(";;")]
    ids = [utt for utt in texts if not set(utt[1:-1]) & set("-_")]
    found = []
    if marked:
        what = "1 word holds" if len(marked) == 1 else f"{len(marked)} words hold"
        example = f"(utterance {marked[0][0]}: {marked[0][1]})"
        found.append(f"{what} ( ) {{ }} {example}: sclite reads optional words and alternatives")
    if comments:
        found.append(f"utterance {comments[0]} begins with ;;: sclite takes it for a comment")
    if ids:
        what = "1 id has" if len(ids) == 1 else f"{len(ids)} ids have"
        found.append(f"{what} no - or _ ({ids[0]}): sclite -i rm cannot tell the speaker from it")
    return found
