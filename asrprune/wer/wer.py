"""Word errors of hypotheses against references, joined by utterance id (alignment by jiwer)."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from typing import Optional

import jiwer
import numpy as np
from numpy.typing import NDArray

from asrprune.core.counts import ErrorCounts, ErrorTable
from asrprune.core.spool import Spool, SpooledDict
from asrprune.core.units import RATES, WORD
from asrprune.errors import InputError
from asrprune.wer.hints import id_hint
from asrprune.wer.marks import COSTS, Alignment, Choice, Costs, Deletable, Marked, align_marked

MODES = ("strict", "present", "all")
"""What to do with references that have no hypothesis: refuse, leave out, count as deleted."""

Rows = NDArray[np.int64]

LARGEST_PLAIN_TABLE, LARGEST_TABLE = 10**11, 10**7
"""Pairs of words (reference, hypothesis) of an utterance that is aligned: of plain words, and of
references with marks or alignments with sclite's costs, which take 50 bytes each."""

log = logging.getLogger(__name__)

_SPLIT = jiwer.Compose([jiwer.ReduceToListOfListOfWords()])


@dataclass(frozen=True)
class UtteranceErrors:
    """One scored utterance. ``present`` is False where mode ``all`` filled in an empty one."""

    utt: str
    ref: str
    hyp: str
    alignment: Alignment
    present: bool = True

    @property
    def counts(self) -> ErrorCounts:
        """The errors of the alignment."""
        return _count(self.alignment)


@dataclass(frozen=True)
class Scoring:
    """Every scored utterance in reference order, and what could not be joined.

    ``missing``: references without a hypothesis; ``unknown``: hypotheses without a reference,
    which are never scored. Both are empty in mode ``strict``. ``unit`` (of UNITS) is what the
    "words" here are. The utterances are a tuple, or lie on disk and are read anew by each loop;
    ``table`` holds the errors of each.
    """

    utterances: Collection[UtteranceErrors]
    table: ErrorTable = field(repr=False, compare=False)
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unit: str = WORD

    @cached_property
    def counts(self) -> ErrorCounts:
        """The errors of all utterances together."""
        return self.table.total

    @cached_property
    def sentence_errors(self) -> int:
        """How many utterances have at least one word error."""
        return sum(one.errors > 0 for one in self.table)

    @property
    def rate(self) -> str:
        """What the error rate is called: WER, or that of another unit (CER, MER)."""
        return RATES[self.unit]

    def kaldi_lines(self, rate: Optional[str] = None) -> str:
        """The three lines that Kaldi's ``compute-wer`` prints, each with its line end.

        ``rate`` is printed for WER (default: that of the unit). Raises ValueError when nothing was
        scored or no reference word was: no rate exists then.
        """
        counts = self.counts
        if counts.words == 0:
            raise ValueError(f"{len(self.utterances)} utterances with 0 reference words; need 1")
        partial = " [PARTIAL]" if self.missing else ""
        return (
            f"%{rate or self.rate} {_two_decimals(counts.errors, counts.words)} "
            f"[ {counts.errors} / {counts.words}, {counts.insertions} ins, "
            f"{counts.deletions} del, {counts.substitutions} sub ]{partial}\n"
            f"%SER {_two_decimals(self.sentence_errors, len(self.utterances))} "
            f"[ {self.sentence_errors} / {len(self.utterances)} ]\n"
            f"Scored {len(self.utterances)} sentences, "
            f"{len(self.missing)} not present in hyp.\n"
        )


def align_words(ref: str, hyp: str) -> Alignment:
    """A cheapest alignment of two word sequences (each error costs 1), in reading order.

    Where several are cheapest the choice is jiwer's: the number of errors is the same for every
    tool, their split into substitutions, deletions and insertions may differ.

    >>> align_words("a b c", "a x c d")
    (('a', 'a'), ('b', 'x'), ('c', 'c'), (None, 'd'))
    """
    ref_words, hyp_words = ref.split(), hyp.split()
    # jiwer 3 refuses an empty reference; with an empty side there is nothing to align
    if not ref_words or not hyp_words:
        deleted = tuple((word, None) for word in ref_words)
        inserted = tuple((None, word) for word in hyp_words)
        return (*deleted, *inserted)
    output = jiwer.process_words(
        " ".join(ref_words),
        " ".join(hyp_words),
        reference_transform=_SPLIT,
        hypothesis_transform=_SPLIT,
    )
    return tuple(_pairs(output.alignments[0], ref_words, hyp_words))


def count_errors(
    ref: str, hyp: str, marked: Optional[Marked] = None, costs: Costs = COSTS["equal"]
) -> ErrorCounts:
    """The word errors of one hypothesis; either text may be empty. ``marked`` stands in the place
    of a reference with alternatives.

    >>> count_errors("i saw a cat", "i saw cat").deletions
    1
    """
    return _scored("", ref, hyp, True, marked, costs).counts


def score_texts(
    refs: Mapping[str, str],
    hyps: Mapping[str, str],
    mode: str = "strict",
    *,
    ref_name: str = "reference",
    hyp_name: str = "hypothesis",
    marked: Optional[Mapping[str, Marked]] = None,
    costs: Costs = COSTS["equal"],
    unit: str = WORD,
    on_disk: bool = False,
) -> Scoring:
    """The errors of ``hyps`` against ``refs`` (utterance id -> words), as ``compute-wer`` does it.

    Modes: ``strict`` wants exactly one hypothesis for every reference; ``present`` leaves out
    references without one; ``all`` scores them as empty. The last two leave out hypotheses
    without a reference and list them. ``ref_name`` and ``hyp_name`` (file names) are for messages.
    ``marked`` holds the references with alternatives or optional words, whose ``ref`` in the result
    is the reading that fits best; ``unit`` says what the words are that the texts consist of.
    With ``on_disk`` the utterances of the result are kept in a temporary file.
    Raises InputError in mode ``strict`` that names the first utterances in the way, and in any
    mode when no utterance or no reference word is left to score.
    """
    missing, unknown = match_ids(refs, hyps, mode, ref_name=ref_name, hyp_name=hyp_name)
    table = ErrorTable()

    def scored() -> Iterator[UtteranceErrors]:
        for utt, ref, hyp in _joined(refs, hyps):
            if hyp is not None or mode == "all":
                marks = marked.get(utt) if marked else None
                one = _scored(utt, ref, hyp or "", hyp is not None, marks, costs, hyp_name)
                table.append(one.counts)
                yield one

    utterances = Spool(scored()) if on_disk else tuple(scored())
    scoring = Scoring(utterances, table, missing, unknown, unit)
    if not scoring.counts.words:
        found = f"no reference words in the {len(utterances)} utterances to score"
        raise InputError(ref_name, None, found, "at least one word")
    return scoring


def shared_rows(first: Scoring, second: Scoring) -> tuple[Rows, Rows]:
    """The utterances of both, in the order of the first: their numbers [U] in each of the two."""
    numbers = SpooledDict((one.utt, number) for number, one in enumerate(second.utterances))
    rows = array("q"), array("q")
    for number, one in enumerate(first.utterances):
        other = numbers.get(one.utt)
        if other is not None:
            rows[0].append(number)
            rows[1].append(other)
    return np.array(rows[0], np.int64), np.array(rows[1], np.int64)


def _scored(
    utt: str,
    ref: str,
    hyp: str,
    present: bool,
    marked: Optional[Marked],
    costs: Costs,
    hyp_name: str = "hypothesis",
) -> UtteranceErrors:
    if marked is None and costs == COSTS["equal"]:
        _check_table(utt, ref.count(" ") + 1, hyp, LARGEST_PLAIN_TABLE, hyp_name)
        return UtteranceErrors(utt, ref, hyp, align_words(ref, hyp), present)
    if marked is None:
        marked = tuple(Choice(((word,),)) for word in ref.split())
    words = sum(len(one) for choice in marked for one in choice.alternatives)
    _check_table(utt, words, hyp, LARGEST_TABLE, hyp_name)
    alignment = align_marked(marked, hyp.split(), costs)
    chosen = " ".join(word for word, _ in alignment if word is not None)
    return UtteranceErrors(utt, chosen, hyp, alignment, present)


def _check_table(utt: str, words: int, hyp: str, most: int, hyp_name: str) -> None:
    """Raise InputError for texts so long that their alignment would take hours, or all memory."""
    others = hyp.count(" ") + 1
    if words * others > most:
        found = f"utterance {utt}: {words} reference words and {others} of the hypothesis"
        expected = f"{most:.0e} pairs of words at most, in shorter utterances"
        raise InputError(hyp_name, None, found, expected)


def match_ids(
    refs: Mapping[str, object],
    hyps: Mapping[str, object],
    mode: str,
    *,
    ref_name: str,
    hyp_name: str,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(references without hypothesis, hypotheses without reference), each in its own order.

    Raises InputError in mode ``strict`` unless both are empty, which says how the ids differ where
    a rule can be seen; ValueError for an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(MODES)}")
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    if any(one != other for one, other in zip_longest(refs, hyps)):
        missing = tuple(utt for utt in refs if utt not in hyps)
        unknown = tuple(utt for utt in hyps if utt not in refs)
    hint = id_hint(missing, unknown)
    if mode == "strict" and missing:
        found = f"no hypothesis for {_some(missing)}" + (f" ({hint})" if hint else "")
        raise InputError(hyp_name, None, found, f"one for each utterance of {ref_name}")
    if mode == "strict" and unknown:
        found = f"no reference for {_some(unknown)}"
        raise InputError(ref_name, None, found, f"one for each utterance of {hyp_name}")
    if hint:
        log.warning("%s: %s", hyp_name, hint)
    return missing, unknown


def _joined(
    refs: Mapping[str, str], hyps: Mapping[str, str]
) -> Iterator[tuple[str, str, Optional[str]]]:
    """Id, reference and hypothesis, if there is one, of every reference. Where both are in the same
    order, they are read one after the other."""
    others = iter(hyps.items())
    for utt, ref in refs.items():
        other, hyp = next(others, ("", None))
        if other != utt:
            hyp = hyps.get(utt)
        yield utt, " ".join(ref.split()), None if hyp is None else " ".join(hyp.split())


def _some(utts: tuple[str, ...], shown: int = 3) -> str:
    names = ", ".join(utts[:shown])
    more = f" and {len(utts) - shown} more" if len(utts) > shown else ""
    return f"utterance{'s' if len(utts) > 1 else ''} {names}{more}"


def _pairs(
    chunks: list[jiwer.AlignmentChunk], ref: list[str], hyp: list[str]
) -> Iterator[tuple[Optional[str], Optional[str]]]:
    for chunk in chunks:
        ref_part = ref[chunk.ref_start_idx : chunk.ref_end_idx]
        hyp_part = hyp[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "delete":
            yield from ((word, None) for word in ref_part)
        elif chunk.type == "insert":
            yield from ((None, word) for word in hyp_part)
        else:
            yield from zip(ref_part, hyp_part)


def operation(ref: Optional[str], hyp: Optional[str]) -> str:
    """What an aligned pair is: "C" correct, "S", "D" or "I". A Deletable word may be left out.

    >>> operation("a", None), operation(Deletable("uh"), None)
    ('D', 'C')
    """
    if ref is None:
        return "I"
    if hyp is None:
        return "C" if isinstance(ref, Deletable) else "D"
    return "C" if ref == hyp else "S"


def _count(alignment: Alignment) -> ErrorCounts:
    kinds = [operation(ref, hyp) for ref, hyp in alignment]
    return ErrorCounts(*(kinds.count(kind) for kind in "CSDI"))


def _two_decimals(part: int, whole: int) -> str:
    # compute-wer rounds the percentage to a 32-bit float before it prints two decimals
    return f"{np.float32(100.0 * part / whole):.2f}"
