"""Scoring files where Kaldi's ``steps/scoring/score_kaldi_wer.sh`` leaves them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from asrprune.core.units import WORD
from asrprune.files import PathLike, write_text
from asrprune.wer.kaldi_text import kaldi_text_writer
from asrprune.wer.wer import Scoring, UtteranceErrors, operation

NO_WORD = "***"
"""Stands where an alignment has no word; a word spelled so cannot be told from it."""

_OPS_WIDTH = 16  # wer_ops_details.pl pads words to the longest one, but no further


def write_kaldi_layout(
    folder: PathLike, scoring: Scoring, bootci_lines: str, final: Optional[PathLike] = None
) -> None:
    """Write ``wer`` and ``scoring_kaldi/`` into ``folder``, each file whole or not at all.

    ``scoring_kaldi`` holds ``best_wer``, ``test_filt.txt`` (the references scored) and
    ``wer_details/{per_utt,ops,wer_bootci}``; ``bootci_lines`` goes into the last one. Other units
    than words go where ``score_kaldi_cer.sh`` leaves characters: ``cer``, ``best_cer``,
    ``test_filt.chars.txt``, ``cer_details`` (``mer`` for mixed units); as there, the line in them
    says %WER, which is what ``utils/best_wer.sh`` looks for. ``best_wer`` names the file in
    ``final``, where the files will stand in the end (default: ``folder``).
    """
    root = Path(folder)
    name = scoring.rate.lower()
    details = root / "scoring_kaldi" / f"{name}_details"
    lines = scoring.kaldi_lines("WER")
    _write(root / name, lines)
    first_line = lines.splitlines()[0]
    _write(root / "scoring_kaldi" / f"best_{name}", f"{first_line} {Path(final or root) / name}\n")
    filtered = "test_filt.txt" if scoring.unit == WORD else "test_filt.chars.txt"
    with kaldi_text_writer(root / "scoring_kaldi" / filtered) as put:
        for one in scoring.utterances:
            put(one.utt, one.ref)
    with write_text(details / "per_utt") as stream:
        for one in scoring.utterances:
            stream.writelines(per_utt_lines(one))
    with write_text(details / "ops") as stream:
        stream.writelines(ops_lines(scoring))
    _write(details / f"{name}_bootci", bootci_lines)


def per_utt_lines(one: UtteranceErrors) -> Iterator[str]:
    """The ``ref``, ``hyp``, ``op`` and ``#csid`` lines of an utterance, columns centred.

    Source: the output of Kaldi's ``wer_per_utt_details.pl --special-symbol '***'``.
    """
    refs, hyps, ops = [], [], []
    for ref_word, hyp_word in one.alignment:
        op = operation(ref_word, hyp_word)
        ref, hyp = ref_word or NO_WORD, hyp_word or NO_WORD
        width = max(len(ref), len(hyp))
        refs.append(_centred(ref, width))
        hyps.append(_centred(hyp, width))
        ops.append(_centred(op, width))
    yield f"{one.utt} ref  {'  '.join(refs)}\n"
    yield f"{one.utt} hyp  {'  '.join(hyps)}\n"
    yield f"{one.utt} op   {'  '.join(ops)}\n"
    counts = one.counts
    csid = (counts.correct, counts.substitutions, counts.insertions, counts.deletions)
    yield f"{one.utt} #csid {' '.join(map(str, csid))}\n"


def ops_lines(scoring: Scoring) -> Iterator[str]:
    """How often each (ref, hyp) word pair was aligned: by operation, then most frequent first.

    Source: the output of Kaldi's ``wer_ops_details.pl``, sorted as the scoring script sorts it.
    """
    pairs = Counter(
        (operation(ref, hyp), ref or NO_WORD, hyp or NO_WORD)
        for one in scoring.utterances
        for ref, hyp in one.alignment
    )
    rows = sorted(
        ((_OPERATIONS[kind], -count, ref, hyp) for (kind, ref, hyp), count in pairs.items()),
    )
    words = [word for _, ref, hyp in pairs for word in (ref, hyp)]
    word_width = min(_OPS_WIDTH, max(map(len, words), default=0))
    count_width = len(str(max(pairs.values(), default=0)))
    for name, negative, ref, hyp in rows:
        columns = (f"{ref:>{word_width}}", f"{hyp:>{word_width}}", f"{-negative:>{count_width}}")
        yield f"{name:<14}{'    '.join(columns)}\n"


_OPERATIONS = {"C": "correct", "S": "substitution", "D": "deletion", "I": "insertion"}


def _centred(word: str, width: int) -> str:
    right = (width - len(word)) // 2
    return " " * (width - len(word) - right) + word + " " * right


def _write(path: Path, text: str) -> None:
    with write_text(path) as stream:
        stream.write(text)
