"""References and hypotheses in any of the layouts that scorers exchange, told from their lines."""

from __future__ import annotations

import logging
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import fspath
from typing import Optional

from asrprune.core.tables import lookup
from asrprune.core.transcripts import (
    COMMENT,
    Segment,
    TimedWord,
    parse_ctm,
    parse_recogs,
    parse_stm,
    parse_trn,
)
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.wer.kaldi_layout import NO_WORD
from asrprune.wer.kaldi_text import parse_kaldi_text

Lines = Sequence[tuple[int, str]]
SIDES = ("ref", "hyp")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Texts:
    """What a file says: ``texts`` (utterance id -> words), in its order.

    ``format`` is a name of TEXT_FORMATS. ``segments`` are those of an stm file, ``words`` those of
    a ctm file, by which the two are joined; ``ignored`` are utterances that are not to be scored.
    ``lines`` are the numbers of the utterances' lines, where they have one each.
    """

    path: str
    format: str
    texts: Mapping[str, str]
    segments: tuple[Segment, ...] = ()
    words: tuple[TimedWord, ...] = ()
    ignored: frozenset[str] = frozenset()
    lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def marked(self) -> bool:
        """Whether braces are alternatives in it, whatever the options say."""
        return self.format in ("trn", "stm")


def read_texts(path: PathLike, name: Optional[str] = None, side: str = "ref") -> Texts:
    """The texts of ``path`` in the layout ``name`` of TEXT_FORMATS (None: as ``detect`` says).

    ``side`` is "ref" or "hyp": which of the two is wanted of a file that holds both. A layout that
    was detected and is not Kaldi's is logged. Raises InputError with the line for lines of another
    layout, an utterance that comes twice, blank lines, and a file without utterances; ValueError
    for an unknown name.
    """
    lines = list(read_lines(path))
    if name is None:
        name = detect(path, lines)
        if name != "kaldi":
            log.info("%s: read as %s (--%s-format kaldi: as Kaldi text)", path, name, side)
    found = lookup(TEXT_FORMATS, name, "format of texts")(path, lines, side)
    if not found.texts and not found.ignored:
        raise InputError(path, None, "no utterance", f"at least one, as {name}")
    return found


def detect(path: PathLike, lines: Lines) -> str:
    """The layout that the lines are in: "kaldi" unless all of them fit another one.

    A trn must have ids that all differ, and more than one line or a digit in the id: a Kaldi text
    whose lines end in "(noise)" is none. Raises InputError for n-best lists.
    """
    texts = [line for _, line in lines if line.strip() and not line.startswith(COMMENT)]
    if not texts:
        return "kaldi"
    if texts[0].startswith("{") and '"' in texts[0] and texts[0].rstrip().endswith("}"):
        found, expected = (
            "JSON lines, as n-best lists are",
            "texts (rescore and convert write them)",
        )
        raise InputError(path, lines[0][0], found, expected)
    for name, fits in _FITS.items():
        if fits(texts, fspath(path)):
            return name
    return "kaldi"


def texts_of_ctm(hyp: Texts, refs: Texts) -> dict[str, str]:
    """The words of a ctm file by the utterances of the references.

    By the segments of an stm, as sclite does it: a word belongs to the first segment of its file
    and channel that ends behind its middle (the last one, if none does), so that words between
    segments are insertions; those in segments that are not scored are left out. Words of a file
    and channel without a segment are left out and logged. Of other references the utterance is the
    file. An utterance without a word is "".
    """
    if not refs.segments:
        return {**dict.fromkeys(refs.texts, ""), **hyp.texts}
    found: dict[str, list[str]] = {one.utt: [] for one in refs.segments if one.words is not None}
    by_channel: dict[tuple[str, str], list[Segment]] = {}
    ends: dict[tuple[str, str], list[float]] = {}  # of the segments so far, the last
    for segment in sorted(refs.segments, key=lambda one: one.begin_s):
        key = segment.file, segment.channel.upper()
        by_channel.setdefault(key, []).append(segment)
        until = ends.setdefault(key, [])
        until.append(max([segment.end_s, *until[-1:]]))
    foreign = 0
    for word in sorted(hyp.words, key=lambda one: one.begin_s):
        middle = word.begin_s + word.duration_s / 2
        key = word.file, word.channel.upper()
        if key not in by_channel:
            foreign += 1
            continue
        place = min(bisect_left(ends[key], middle), len(ends[key]) - 1)
        found.get(by_channel[key][place].utt, []).append(word.word)
    if foreign:
        log.warning("%s: left out %d words of files without a segment", hyp.path, foreign)
    return {utt: " ".join(words) for utt, words in found.items()}


def _texts(
    path: PathLike,
    name: str,
    pairs: Iterable[tuple[int, str, str]],
) -> Texts:
    """Of (line number, utterance, words); each utterance once."""
    texts: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for number, utt, text in pairs:
        if utt in texts:
            found = f"utterance {utt} again (first on line {numbers[utt]})"
            raise InputError(path, number, found, "each utterance once")
        texts[utt], numbers[utt] = text, number
    return Texts(fspath(path), name, texts, lines=numbers)


def _kaldi(path: PathLike, lines: Lines, side: str) -> Texts:
    texts = parse_kaldi_text(path, lines)
    numbers = dict(zip(texts, (number for number, _ in lines)))
    return Texts(fspath(path), "kaldi", texts, lines=numbers)


def _trn(path: PathLike, lines: Lines, side: str) -> Texts:
    def pairs() -> Iterable[tuple[int, str, str]]:
        for number, line in lines:
            if line.startswith(COMMENT):
                continue
            try:
                utt, words = parse_trn(line)
            except ValueError as problem:
                found = str(problem) if line.strip() else "a blank line"
                raise InputError(path, number, found, "'word word ... (utt)', a trn") from None
            yield number, utt, " ".join(words)

    return _texts(path, "trn", pairs())


def _stm(path: PathLike, lines: Lines, side: str) -> Texts:
    segments: list[Segment] = []

    def pairs() -> Iterable[tuple[int, str, str]]:
        for number, line in lines:
            try:
                segment = parse_stm(line)
            except ValueError as problem:
                found = str(problem) if line.strip() else "a blank line"
                raise InputError(path, number, found, "a line of an stm file") from None
            if segment is not None:
                segments.append(segment)
                yield number, segment.utt, " ".join(segment.words or ())

    whole = _texts(path, "stm", pairs())
    ignored = frozenset(one.utt for one in segments if one.words is None)
    kept = {utt: text for utt, text in whole.texts.items() if utt not in ignored}
    return replace(whole, texts=kept, segments=tuple(segments), ignored=ignored)


def _ctm(path: PathLike, lines: Lines, side: str) -> Texts:
    words: list[TimedWord] = []
    channels: dict[str, str] = {}
    for number, line in lines:
        try:
            word = parse_ctm(line)
        except ValueError as problem:
            found = str(problem) if line.strip() else "a blank line"
            raise InputError(path, number, found, "a line of a ctm file") from None
        if word is not None:
            words.append(word)
            channels.setdefault(word.file, word.channel)
    texts: dict[str, list[str]] = {}
    for word in sorted(words, key=lambda one: one.begin_s):
        texts.setdefault(word.file, []).append(word.word)
    joined = {utt: " ".join(texts[utt]) for utt in channels}
    return Texts(fspath(path), "ctm", joined, (), tuple(words))


def _recogs(path: PathLike, lines: Lines, side: str) -> Texts:
    def pairs() -> Iterable[tuple[int, str, str]]:
        for number, line in lines:
            if not line.strip():
                continue
            try:
                entry = parse_recogs(line)
            except ValueError as problem:
                expected = "\"utt:\\tref=['word', ...]\" or hyp=, as icefall's recogs"
                raise InputError(path, number, str(problem), expected) from None
            if entry is not None and entry[1] == side:
                yield number, entry[0], " ".join(entry[2])

    return _texts(path, "recogs", pairs())


_PER_UTT = re.compile(r"(\S+) (ref|hyp|op|#csid)( .*)?")


def _per_utt(path: PathLike, lines: Lines, side: str) -> Texts:
    def pairs() -> Iterable[tuple[int, str, str]]:
        for number, line in lines:
            match = _PER_UTT.fullmatch(line)
            if match is None:
                raise InputError(path, number, f"{line[:60]!r}", "'utt ref ...', as per_utt")
            if match.group(2) == side:
                words = (match.group(3) or "").split()
                yield number, match.group(1), " ".join(word for word in words if word != NO_WORD)

    return _texts(path, "per-utt", pairs())


TEXT_FORMATS: dict[str, Callable[[PathLike, Lines, str], Texts]] = {
    "kaldi": _kaldi,
    "trn": _trn,
    "stm": _stm,
    "ctm": _ctm,
    "recogs": _recogs,
    "per-utt": _per_utt,
}
"""Name -> reader of (path, lines, side): Kaldi's text, NIST's trn, stm and ctm, icefall's
``recogs-*.txt``, Kaldi's ``wer_details/per_utt``; ``wer --out`` writes all but stm and ctm."""


def _fits_trn(texts: Sequence[str], path: str) -> bool:
    try:
        utts = [parse_trn(text)[0] for text in texts]
    except ValueError:
        return False
    sure = path.endswith(".trn") or len(utts) > 1 or re.search(r"\d", utts[0]) is not None
    return sure and len(set(utts)) == len(utts)


def _fits_stm(texts: Sequence[str], path: str) -> bool:
    try:
        segments = [parse_stm(text) for text in texts]
    except ValueError:
        return False
    # "utt 1 2 3 4 yes" may be a Kaldi text: an stm has labels, or decimal points in its times
    clear = any(
        one.label or "." in "".join(text.split()[3:5]) for one, text in zip(segments, texts) if one
    )
    return path.endswith(".stm") or clear


def _fits_ctm(texts: Sequence[str], path: str) -> bool:
    try:
        words = [parse_ctm(text) for text in texts]
    except ValueError:
        return False
    # "utt a 1 2 b" may be a Kaldi text: times of a ctm have a decimal point somewhere
    return path.endswith(".ctm") or (
        any(one is not None for one in words)
        and any("." in text.split()[2] or "." in text.split()[3] for text in texts)
    )


def _fits_recogs(texts: Sequence[str], path: str) -> bool:
    return all(re.match(r"\S+:\t(ref|hyp|timestamp|len)\w*=", text) for text in texts)


def _fits_per_utt(texts: Sequence[str], path: str) -> bool:
    wanted = ("ref", "hyp", "op", "#csid")
    matches = [_PER_UTT.fullmatch(text) for text in texts]
    if len(texts) % 4 or None in matches:
        return False
    found = [match.group(1, 2) for match in matches if match is not None]
    return all(
        kind == wanted[place % 4] and utt == found[place - place % 4][0]
        for place, (utt, kind) in enumerate(found)
    )


_FITS: dict[str, Callable[[Sequence[str], str], bool]] = {
    "recogs": _fits_recogs,
    "per-utt": _fits_per_utt,
    "trn": _fits_trn,
    "stm": _fits_stm,
    "ctm": _fits_ctm,
}
