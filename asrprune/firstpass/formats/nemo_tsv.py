"""n-best lists of NeMo's beam search: a TSV beside the manifest that it decoded."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.files import PathLike, record_lines
from asrprune.firstpass.reading.nemo_manifest import ManifestEntry, read_manifest
from asrprune.firstpass.reading.numbers import log_score

_log = logging.getLogger(__name__)
_FAR, _NEAR = 0.5, 0.5
"""A hypothesis belongs elsewhere when more than the first share of its own text's words is wrong,
and at most the second of a neighbour's, and fewer of them."""
_MOST_WORDS = 2000
"""Words of a text that are compared: the time grows with their square."""


def read_nemo_tsv(
    path: PathLike,
    manifest: PathLike,
    manifest_id: Optional[str] = None,
    beam_size: Optional[int] = None,
) -> Iterator[NBest]:
    """Yield the lists of ``text<TAB>score`` lines, equally many for each line of ``manifest``.

    The ids, references and durations are those of ``read_manifest`` (``manifest_id``: its key for
    the ids). The score is a total, read as the acoustic score; LM None.

    NeMo writes fewer lines for an utterance whose beam held fewer hypotheses, and nothing in the
    file tells where one ends. With ``beam_size`` the file must hold so many lines for each: since
    none can have more, each then has exactly these. Without it the lines are divided evenly, and
    each hypothesis is compared with the text of its own manifest line and those of the lines
    around it; one that is far from its own and near to theirs shows a shift, which is refused.

    Raises InputError with the line for lines without one tab, scores that are no numbers, another
    number of lines than these, and a shift.
    """
    if str(path) == "-":
        raise ValueError("path is '-'; the TSV is read twice, so it must be a file")
    entries = read_manifest(manifest, manifest_id)
    beam = _beam(path, sum(1 for _ in record_lines(path)), entries, manifest, beam_size)
    if beam_size is None and beam > 1 and not any(entry.text for entry in entries):
        text = (
            "%s: %d lines for each utterance; that none has fewer cannot be checked without texts"
        )
        _log.warning(text + " in the manifest: --beam-size states it", path, beam)
    lines = record_lines(path)
    for index, entry in enumerate(entries):
        hyps = []
        for number, line in (next(lines) for _ in range(beam)):
            text, tab, score = line.rpartition("\t")
            try:
                if not tab or "\t" in text:
                    raise ValueError(f"{line[:40]!r} does not have one tab")
                hyps.append(Hypothesis(" ".join(text.split()), log_score(score.strip())))
            except ValueError as problem:
                found = f"utterance {entry.utt}: {problem}"
                raise InputError(path, number, found, "text, tab, score") from None
            if beam_size is None:
                _check_place(path, number, hyps[-1].text, entries, index)
        yield NBest(entry.utt, tuple(hyps), entry.audio_s, entry.text)


def _beam(
    path: PathLike,
    n_lines: int,
    entries: Sequence[ManifestEntry],
    manifest: PathLike,
    beam_size: Optional[int],
) -> int:
    count = len(entries)
    if beam_size is not None and n_lines != beam_size * count:
        found = f"{n_lines} lines for the {count} of {Path(manifest).name}"
        expected = f"{beam_size} for each (--beam-size), {beam_size * count} in all"
        raise InputError(path, None, found, expected)
    if n_lines == 0 or n_lines % count:
        found = f"{n_lines} lines for the {count} of {Path(manifest).name}"
        raise InputError(path, None, found, "the same number for each (beam_size)")
    return n_lines // count


def _check_place(
    path: PathLike, number: int, text: str, entries: Sequence[ManifestEntry], index: int
) -> None:
    """Raise InputError when a neighbour's text and not its own is what the hypothesis says."""
    own, words = entries[index], _units(text)
    stated = _units(own.text or "")
    if own.text is None or len(words) < 2:
        return
    shared = _shared(stated, words)
    for other in (index - 1, index + 1):
        near = entries[other] if 0 <= other < len(entries) else None
        there = _units((near and near.text) or "")
        if near is None or len(there) < 2 or _shared(there, words) <= shared:
            continue
        errors, wrong = _errors(stated, words), _errors(there, words)
        if errors > _FAR * len(stated) and wrong <= _NEAR * len(there) and wrong < errors:
            found = (
                f"utterance {own.utt}: {text[:60]!r} has {errors} errors against its own text "
                f"{own.text[:60]!r} and {wrong} against {near.utt}'s {(near.text or '')[:60]!r}"
            )
            expected = "the same number of lines for each utterance (or --beam-size N, if it is so)"
            raise InputError(path, number, found, expected)


def _units(text: str) -> list[str]:
    """Words without case and punctuation, the first _MOST_WORDS; characters of a text that is
    written without spaces."""
    plain = re.sub(r"[^\w\s]", "", text.casefold())
    words = plain.split()
    if len(words) == 1 and not plain.isascii():
        words = list(words[0][:_MOST_WORDS])
    return words[:_MOST_WORDS]


def _shared(first: Sequence[str], second: Sequence[str]) -> int:
    """How many words two texts have in common, which is quickly counted."""
    return sum((Counter(first) & Counter(second)).values())


def _errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """The edit distance in words: ``firstpass`` stands beside ``wer`` and does not import it."""
    row = list(range(len(hypothesis) + 1))
    for place, word in enumerate(reference, start=1):
        diagonal, row[0] = row[0], place
        for column, other in enumerate(hypothesis, start=1):
            substituted = diagonal + (word != other)
            diagonal = row[column]
            row[column] = min(substituted, row[column] + 1, row[column - 1] + 1)
    return row[-1]
