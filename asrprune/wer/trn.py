"""NIST ``trn`` transcripts for sclite: ``word word (utt)``, one utterance a line."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Optional

from asrprune.files import PathLike, write_text
from asrprune.wer.wer import Scoring

log = logging.getLogger(__name__)


def write_trn(path: PathLike, texts: Iterable[tuple[str, str]]) -> None:
    """Write ``words (utt)`` lines of (utt, words) in their order; an empty transcript is ``(utt)``.

    sclite takes what stands before the first ``-`` or ``_`` of the id as the speaker, and reads
    words in braces or parentheses as alternatives and optional words.
    """
    with write_text(path) as stream:
        for utt, text in texts:
            stream.write(f"{text} ({utt})\n" if text else f"({utt})\n")


def write_trn_pair(folder: PathLike, scoring: Scoring, final: Optional[PathLike] = None) -> None:
    """Write ``ref.trn`` and ``hyp.trn``, ready for ``sclite -r ref.trn -h hyp.trn -i rm``.

    What sclite would read otherwise is logged as a warning; it has no way to write such words.
    Warnings name the files in ``final``, where they will stand in the end (default: ``folder``).
    """
    root = Path(folder)
    for side in ("ref", "hyp"):
        name = f"{side}.trn"
        write_trn(root / name, _texts(scoring, side))
        for problem in misread_by_sclite(_texts(scoring, side)):
            log.warning("%s: %s", Path(final or root) / name, problem)


def _texts(scoring: Scoring, side: str) -> Iterator[tuple[str, str]]:
    return ((one.utt, getattr(one, side)) for one in scoring.utterances)


def misread_by_sclite(texts: Iterable[tuple[str, str]]) -> list[str]:
    """What sclite reads otherwise than it stands in ``texts`` (utterance id and words): words with
    brackets, comments, ids without a speaker.

    >>> misread_by_sclite([("1001", "can you help")])
    ['1 id has no - or _ (1001): sclite -i rm cannot tell the speaker from it']
    """
    marked = ids = 0
    first_marked = first_id = comment = ""
    for utt, text in texts:
        words = [word for word in text.split() if set(word) & set("(){}")]
        marked += len(words)
        if words and not first_marked:
            first_marked = f"(utterance {utt}: {words[0]})"
        if text.startswith(";;"):
            comment = comment or utt
        if not set(utt[1:-1]) & set("-_"):
            ids += 1
            first_id = first_id or utt
    found = []
    if marked:
        what = "1 word holds" if marked == 1 else f"{marked} words hold"
        found.append(
            f"{what} ( ) {{ }} {first_marked}: sclite reads optional words and alternatives"
        )
    if comment:
        found.append(f"utterance {comment} begins with ;;: sclite takes it for a comment")
    if ids:
        what = "1 id has" if ids == 1 else f"{ids} ids have"
        found.append(f"{what} no - or _ ({first_id}): sclite -i rm cannot tell the speaker from it")
    return found
