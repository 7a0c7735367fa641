"""Lines of transcript files: NIST's trn, stm and ctm, and icefall's recogs."""

from __future__ import annotations

import ast
import math
import re
import warnings
from dataclasses import dataclass
from typing import Optional

IGNORED = "IGNORE_TIME_SEGMENT_IN_SCORING"
COMMENT = ";;"
_ID = re.compile(r"[^()\s]+\)")
_LABEL = re.compile(r"<[^<>\s]*>")
_NO_SPEECH = re.compile(r"\{[A-Z_]+\}|\(\d\)")
_RECOGS = re.compile(r"(\S+):\t(ref|hyp)=\[(.*)\]")
_STRING = re.compile(  # as Python writes it
    r"""\s*('[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*")\s*(?:,\s*|$)"""
)
_RECOGS_TIMES = re.compile(r"\S+:\t(timestamp|len)\w*=.*")


@dataclass(frozen=True)
class Segment:
    """A line of an stm file. ``words`` is None where the segment is not to be scored; ``label`` is
    what stands in <...> before the words, "" for none. Times are seconds."""

    file: str
    channel: str
    speaker: str
    begin_s: float
    end_s: float
    label: str
    words: Optional[tuple[str, ...]]

    @property
    def utt(self) -> str:
        """``file_channel_begin_end``, times in centiseconds."""
        begin, end = round(self.begin_s * 100), round(self.end_s * 100)
        return f"{self.file}_{self.channel}_{begin:07d}_{end:07d}"


@dataclass(frozen=True)
class TimedWord:
    """A line of a ctm file; times are seconds."""

    file: str
    channel: str
    begin_s: float
    duration_s: float
    word: str


def parse_trn(line: str) -> tuple[str, tuple[str, ...]]:
    """(utterance id, words) of ``word word (id)``; marks like ``{ a / b }`` are kept as they are.

    Raises ValueError for a line that does not end in an id in parentheses.

    >>> parse_trn("so { um / @ } yes (spk1-001)")
    ('spk1-001', ('so', '{', 'um', '/', '@', '}', 'yes'))
    """
    text, opened, end = line.rstrip().rpartition("(")
    if not opened or _ID.fullmatch(end) is None:
        raise ValueError(f"{line[:60]!r}")
    return end[:-1], tuple(text.split())


def parse_stm(line: str) -> Optional[Segment]:
    """The segment of ``file channel speaker begin end [<label>] words``; None for a comment.

    A first word in <...> is the label, as <NA>, <F0_M> or <o,f0,male>; a second one is a word.
    IGNORE_TIME_SEGMENT_IN_SCORING in any case, alone, is no text. Of TED-LIUM's notes are left out:
    noises {NOISE}, pronunciations (2), and the segment's name (file-...) behind the words. Marks
    like ``{ a / b }`` are kept as they are. Raises ValueError for fewer than 5 columns, and for
    times that are no numbers or run backwards.

    >>> parse_stm("talk 1 spk 0.5 2 <o,f0,male> it 's gone (2) {NOISE} (talk-0.5-2)").words
    ('it', "'s", 'gone')
    """
    if line.startswith(COMMENT):
        return None
    fields = line.split()
    if len(fields) < 5:
        raise ValueError(f"{len(fields)} columns")
    begin, end = (_seconds(field) for field in fields[3:5])
    if begin > end:
        raise ValueError(f"times {fields[3]} and {fields[4]}")
    words: Optional[tuple[str, ...]] = tuple(fields[5:])
    label = ""
    if words and _LABEL.fullmatch(words[0]):
        label, words = words[0], words[1:]
    if words and words[-1].startswith(f"({fields[0]}-") and words[-1].endswith(")"):
        words = words[:-1]
    if words and [word.upper() for word in words] == [IGNORED]:
        words = None
    if words is not None:
        words = tuple(word for word in words if not _NO_SPEECH.fullmatch(word))
    return Segment(fields[0], fields[1], fields[2], begin, end, label, words)


def parse_ctm(line: str) -> Optional[TimedWord]:
    """The word of ``file channel begin duration word [confidence [type [speaker]]]``; None for a
    comment.

    Raises ValueError for another number of columns, times that are no numbers, and the lines of
    alternations (<ALT_BEGIN>).
    """
    if line.startswith(COMMENT):
        return None
    fields = line.split()
    if len(fields) > 4 and fields[4].startswith("<ALT"):
        raise ValueError(f"an alternation {fields[4]}")
    if not 5 <= len(fields) <= 8:
        raise ValueError(f"{len(fields)} columns")
    return TimedWord(fields[0], fields[1], _seconds(fields[2]), _seconds(fields[3]), fields[4])


def parse_recogs(line: str) -> Optional[tuple[str, str, tuple[str, ...]]]:
    """(utterance id, "ref" or "hyp", words) of ``utt:<tab>ref=['word', ...]``; None for a line of
    time stamps.

    Raises ValueError for other lines.

    >>> parse_recogs("u1:\\thyp=['a', 'cat']")
    ('u1', 'hyp', ('a', 'cat'))
    """
    if _RECOGS_TIMES.fullmatch(line):
        return None
    match = _RECOGS.fullmatch(line.rstrip())
    if match is None:
        raise ValueError(f"{line[:60]!r}")
    words, listed, at = list[str](), match.group(3).strip(), 0
    while at < len(listed):
        found = _STRING.match(listed, at)
        if found is None:
            utt, rest = match.group(1)[:60], listed[at : at + 60]
            raise ValueError(f"{utt}: {rest!r} where a word in quotes should be")
        words.append(_unescaped(found.group(1)))
        at = found.end()
    return match.group(1), match.group(2), tuple(" ".join(words).split())


def _unescaped(literal: str) -> str:
    """The string that Python's ``literal`` stands for."""
    if "\\" not in literal:
        return literal[1:-1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # escapes that there are not
            text = str(ast.literal_eval(literal))
        text.encode("utf-8")  # half a surrogate pair
        return text
    except (ValueError, SyntaxError):
        raise ValueError(f"{literal[:60]} is no string of Python") from None


def _seconds(field: str) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not 0.0 <= value < math.inf or "_" in field:
        raise ValueError(f"time {field[:40]!r}")
    return value
