"""Scoring files as icefall's ``decode.py`` writes them: ``recogs-``, ``errs-``, ``wer-summary-``.

Other tools find results by these names and section titles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

from asrprune.files import PathLike, write_text
from asrprune.wer.marks import Alignment
from asrprune.wer.wer import Scoring, operation

NO_WORD = "*"


def write_icefall_layout(
    folder: PathLike, scorings: Mapping[str, Scoring], set_name: str = "test"
) -> None:
    """Write the files of one test set decoded under several settings (settings -> scoring).

    Unlike icefall, whose ``errs-`` and ``recogs-`` files of one setting overwrite those of the
    one before, the setting is in every name: ``errs-{set_name}-{setting}.txt``.
    Raises ValueError for names that cannot be part of a file name.
    """
    root = Path(folder)
    for name in (set_name, *scorings):
        if not name or "/" in name or "\0" in name:
            raise ValueError(f"name {name!r} is empty or holds a slash; it becomes a file name")
    for settings, scoring in scorings.items():
        with write_text(root / f"recogs-{set_name}-{settings}.txt") as stream:
            stream.writelines(recogs_lines(scoring))
        with write_text(root / f"errs-{set_name}-{settings}.txt") as stream:
            stream.writelines(errs_lines(scoring))
    with write_text(root / f"wer-summary-{set_name}.txt") as stream:
        names = {scoring.rate for scoring in scorings.values()}
        stream.write(f"settings\t{names.pop() if len(names) == 1 else 'WER'}\n")
        best_first = sorted(scorings.items(), key=lambda item: item[1].counts.wer_percent)
        for settings, scoring in best_first:
            stream.write(f"{settings}\t{scoring.counts.wer_percent:.2f}\n")


def recogs_lines(scoring: Scoring) -> Iterator[str]:
    """Two lines an utterance, words as a Python list."""
    for one in scoring.utterances:
        yield f"{one.utt}:\tref={one.ref.split()}\n"
        yield f"{one.utt}:\thyp={one.hyp.split()}\n"


def errs_lines(scoring: Scoring) -> Iterator[str]:
    """The total, every utterance with its errors marked, and tables of errors and of words.

    Source: the output of ``write_error_stats`` in icefall's ``utils.py``. The alignment is ours,
    so where several are cheapest, single lines may differ from icefall's; totals do not.
    """
    total = scoring.counts
    yield f"%WER = {total.wer_percent:.2f}\n"
    yield (
        f"Errors: {total.insertions} insertions, {total.deletions} deletions, "
        f"{total.substitutions} substitutions, over {total.words} reference words "
        f"({total.correct} correct)\n"
    )
    yield (
        "Search below for sections starting with PER-UTT DETAILS:, "
        "SUBSTITUTIONS:, DELETIONS:, INSERTIONS:, PER-WORD STATS:\n"
    )
    yield "\nPER-UTT DETAILS: corr or (ref->hyp)  \n"
    for one in scoring.utterances:
        yield f"{one.utt}:\t{marked(one.alignment)}\n"
    pairs = Counter(
        pair
        for one in scoring.utterances
        for pair in one.alignment
        if operation(*pair) != "C" or None not in pair  # not an optional word left out
    )
    yield "\nSUBSTITUTIONS: count ref -> hyp\n"
    yield from _table(
        (count, (ref, hyp))
        for (ref, hyp), count in pairs.items()
        if ref is not None and hyp is not None and ref != hyp
    )
    yield "\nDELETIONS: count ref\n"
    yield from _table((count, (ref,)) for (ref, hyp), count in pairs.items() if ref and hyp is None)
    yield "\nINSERTIONS: count hyp\n"
    yield from _table((count, (hyp,)) for (ref, hyp), count in pairs.items() if hyp and ref is None)
    yield from _word_lines(pairs)


def marked(alignment: Alignment) -> str:
    """The words in order, neighbouring errors merged into one ``(ref->hyp)``.

    >>> marked((("a", "a"), ("b", "x"), ("c", None), (None, "d")))
    'a (b c->x d)'
    >>> marked((("a", None),))
    '(a->*)'
    """
    parts: list[str] = []
    refs: list[str] = []
    hyps: list[str] = []
    for ref, hyp in (*alignment, ("", "")):  # the sentinel counts as correct and flushes
        if ref != hyp:
            refs += [ref] if ref else []
            hyps += [hyp] if hyp else []
            continue
        if refs or hyps:
            parts.append(f"({' '.join(refs) or NO_WORD}->{' '.join(hyps) or NO_WORD})")
            refs, hyps = [], []
        if ref:
            parts.append(ref)
    return " ".join(parts)


def _word_lines(pairs: Counter[tuple[Optional[str], Optional[str]]]) -> Iterator[str]:
    correct: Counter[str] = Counter()
    in_ref: Counter[str] = Counter()
    in_hyp: Counter[str] = Counter()
    for (ref, hyp), count in pairs.items():
        if ref:
            in_ref[ref] += count
        if hyp:
            in_hyp[hyp] += count
        if ref and ref == hyp:
            correct[ref] += count
    words = in_ref.keys() | in_hyp.keys()
    # an occurrence in ref or hyp that is not part of a correct pair is one error of that word
    errors = {word: in_ref[word] + in_hyp[word] - 2 * correct[word] for word in words}
    yield "\nPER-WORD STATS: word  corr tot_errs count_in_ref count_in_hyp\n"
    for word in sorted(words, key=lambda word: (errors[word], word), reverse=True):
        yield f"{word}   {correct[word]} {errors[word]} {in_ref[word]} {in_hyp[word]}\n"


def _table(rows: Iterator[tuple[int, tuple[str, ...]]]) -> Iterator[str]:
    for count, words in sorted(rows, reverse=True):
        yield f"{count}   {' -> '.join(words)}\n"
