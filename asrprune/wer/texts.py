"""References and hypotheses in any of the layouts that scorers exchange, told from their lines."""

from __future__ import annotations

import logging
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from os import fspath
from os.path import isfile
from typing import Optional

from asrprune.core.spool import Spool, SpooledColumn, SpooledDict
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
from asrprune.wer.kaldi_text import add_once, parse_kaldi_text

Lines = Iterable[tuple[int, str]]
"""Numbers and lines of a file; what says so can be gone through again."""

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


def read_texts(
    path: PathLike, name: Optional[str] = None, side: str = "ref", has_option: bool = True
) -> Texts:
    """The texts of ``path`` in the layout ``name`` of TEXT_FORMATS (None: as ``detect`` says).

    ``side`` is "ref" or "hyp": which of the two is wanted of a file that holds both. A layout that
    was detected and is not Kaldi's is logged, with the option to say another (``has_option``:
    the verb has it). Raises InputError with the line for lines of another
    layout, an utterance that comes twice, blank lines, and a file without utterances; ValueError
    for an unknown name.
    """
    lines = _rereadable(path)
    if name is None:
        name = detect(path, lines)
        if name != "kaldi":
            option = f" (--{side}-format kaldi: as Kaldi text)" if has_option else ""
            log.info("%s: read as %s%s", path, name, option)
    found = lookup(TEXT_FORMATS, name, "format of texts")(path, lines, side)
    if not found.texts and not found.ignored:
        raise InputError(path, None, "no utterance", f"at least one, as {name}")
    return found


class _File(Iterable[tuple[int, str]]):
    """The lines of a file that is opened anew for each loop over them."""

    def __init__(self, path: PathLike) -> None:
        self._path = path

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return read_lines(self._path)


def _rereadable(path: PathLike) -> Lines:
    """The lines of a file as often as they are wanted; a pipe is read into a temporary file."""
    again = fspath(path) != "-" and isfile(path)
    return _File(path) if again else Spool(read_lines(path))


def detect(path: PathLike, lines: Lines) -> str:
    """The layout that the lines are in: "kaldi" unless all of them fit another one. They must be
    lines that can be gone through again.

    A trn must have ids that all differ, and more than one line or a digit in the id: a Kaldi text
    whose lines end in "(noise)" is none. Raises InputError for n-best lists.
    """
    first = next(_told(lines), None)
    if first is None:
        return "kaldi"
    if first.startswith("{") and '"' in first and first.rstrip().endswith("}"):
        found, expected = (
            "JSON lines, as n-best lists are",
            "texts (rescore and convert write them)",
        )
        raise InputError(path, 1, found, expected)
    for name, fits in _FITS.items():
        if fits(_told(lines), fspath(path)):
            return name
    return "kaldi"


def _told(lines: Lines) -> Iterator[str]:
    """The lines that tell the layout."""
    return (line for _, line in lines if line.strip() and not line.startswith(COMMENT))


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
    found: SpooledDict[tuple[str, int]] = SpooledDict()
    for number, utt, text in pairs:
        add_once(path, found, utt, text, number)
    return _spooled(path, name, found)


def _spooled(path: PathLike, name: str, found: SpooledDict[tuple[str, int]]) -> Texts:
    return Texts(fspath(path), name, SpooledColumn(found, 0), lines=SpooledColumn(found, 1))


def _kaldi(path: PathLike, lines: Lines, side: str) -> Texts:
    return _spooled(path, "kaldi", parse_kaldi_text(path, lines))


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


def _fits_trn(texts: Iterator[str], path: str) -> bool:
    utts: SpooledDict[int] = SpooledDict()
    for number, text in enumerate(texts):
        try:
            utt, _ = parse_trn(text)
        except ValueError:
            return False
        if utts.setdefault(utt, number) != number:
            return False
    return path.endswith(".trn") or len(utts) > 1 or re.search(r"\d", next(iter(utts))) is not None


def _fits_stm(texts: Iterator[str], path: str) -> bool:
    clear = path.endswith(".stm")
    for text in texts:
        try:
            segment = parse_stm(text)
        except ValueError:
            return False
        # "utt 1 2 3 4 yes" may be a Kaldi text: an stm has labels, or decimal points in its times
        if not clear and segment is not None:
            clear = bool(segment.label) or "." in "".join(text.split()[3:5])
    return clear


def _fits_ctm(texts: Iterator[str], path: str) -> bool:
    clear = path.endswith(".ctm")
    for text in texts:
        try:
            word = parse_ctm(text)
        except ValueError:
            return False
        # "utt a 1 2 b" may be a Kaldi text: times of a ctm have a decimal point somewhere
        clear = clear or (word is not None and "." in "".join(text.split()[2:4]))
    return clear


def _fits_recogs(texts: Iterator[str], path: str) -> bool:
    return all(re.match(r"\S+:\t(ref|hyp|timestamp|len)\w*=", text) for text in texts)


def _fits_per_utt(texts: Iterator[str], path: str) -> bool:
    wanted = ("ref", "hyp", "op", "#csid")
    utt, place = "", 0
    for text in texts:
        match = _PER_UTT.fullmatch(text)
        if match is None or match.group(2) != wanted[place]:
            return False
        if place and match.group(1) != utt:
            return False
        utt, place = match.group(1), (place + 1) % 4
    return place == 0


_FITS: dict[str, Callable[[Iterator[str], str], bool]] = {
    "recogs": _fits_recogs,
    "per-utt": _fits_per_utt,
    "trn": _fits_trn,
    "stm": _fits_stm,
    "ctm": _fits_ctm,
}
