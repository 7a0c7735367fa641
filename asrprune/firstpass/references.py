"""References and durations: Kaldi data folders, lhotse, NeMo manifests, stm, trn, ctm, recogs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from asrprune.core.hypothesis import NBest
from asrprune.core.spool import SpooledDict
from asrprune.core.tables import lookup
from asrprune.core.transcripts import COMMENT, parse_ctm, parse_recogs, parse_stm, parse_trn
from asrprune.errors import InputError
from asrprune.files import PathLike, parse_json, read_lines, record_lines
from asrprune.firstpass.reading import strict_json
from asrprune.firstpass.reading.lhotse_cut import supervisions
from asrprune.firstpass.reading.nemo_manifest import read_manifest
from asrprune.firstpass.reading.numbers import log_score


@dataclass(frozen=True)
class Reference:
    """What is known of an utterance before decoding: its transcript and its duration.

    ``text`` holds words separated by single spaces, None where it is not known; ``audio_s`` is the
    duration in seconds, None where it is not known.
    """

    utt: str
    text: Optional[str] = None
    audio_s: Optional[float] = None

    def __post_init__(self) -> None:
        if self.utt.split() != [self.utt]:
            raise ValueError(f"utterance id {self.utt!r} is empty or holds white space")
        if self.text is not None and self.text != " ".join(self.text.split()):
            raise ValueError(f"text {self.text[:40]!r} has repeated or outer white space")
        if self.audio_s is not None and not 0.0 <= self.audio_s < math.inf:
            raise ValueError(f"duration {self.audio_s}; expected seconds >= 0")


def read_references(name: str, path: PathLike) -> Iterator[Reference]:
    """Yield the references of ``path``, whose layout is ``name`` of REFERENCES, in its order.

    Raises InputError as the reader does, and for an utterance that comes twice; ValueError for
    an unknown name.
    """
    read = lookup(REFERENCES, name, "kind of references")
    seen: SpooledDict[int] = SpooledDict()
    for number, reference in enumerate(read(path)):
        if seen.setdefault(reference.utt, number) != number:
            raise InputError(path, None, f"utterance {reference.utt} again", "each once")
        yield reference
    if not seen:
        raise InputError(path, None, "no utterance", "at least one")


def with_reference(item: NBest, table: Mapping[str, Reference], path: PathLike) -> NBest:
    """The list with the reference and the duration of its utterance, where the table knows them.

    Raises InputError for an utterance that the table (read from ``path``) does not have, and for
    another reference than the list has already.
    """
    reference = table.get(item.utt)
    if reference is None:
        found = f"utterance {item.utt} has no reference"
        raise InputError(path, None, found, "the utterances of the n-best lists")
    if item.ref is not None and reference.text is not None and item.ref != reference.text:
        found = f"utterance {item.utt}: {reference.text[:60]!r}"
        raise InputError(path, None, found, f"{item.ref[:60]!r}, as the n-best list has")
    return replace(
        item,
        ref=item.ref if reference.text is None else reference.text,
        audio_s=item.audio_s if reference.audio_s is None else reference.audio_s,
    )


def read_kaldi_data(path: PathLike) -> Iterator[Reference]:
    """Yield the utterances of a data folder in the order of ``text``.

    The duration is that of ``utt2dur``, else of ``segments``, else None. Raises InputError with
    the line for a folder without ``text``, and an utterance of ``text`` that the file of
    durations does not have.
    """
    folder = Path(path)
    durations: Optional[dict[str, float]] = None
    for name, columns in (("utt2dur", 2), ("segments", 4)):
        if durations is None and (folder / name).is_file():
            durations = _durations(folder / name, columns)
    for number, line in read_lines(folder / "text"):
        utt, *words = line.split() or [""]
        if durations is not None and utt not in durations:
            found = f"utterance {utt!r} has no duration"
            raise InputError(folder / "text", number, found, "an utterance of utt2dur or segments")
        audio_s = None if durations is None else durations[utt]
        yield _reference(folder / "text", number, utt, " ".join(words), audio_s)


def _durations(path: Path, columns: int) -> dict[str, float]:
    table: dict[str, float] = {}
    for number, line in read_lines(path):
        fields = line.split()
        if len(fields) != columns or fields[0] in table:
            raise InputError(path, number, f"{line[:60]!r}", f"{columns} columns, each id once")
        try:
            times = [log_score(field) for field in fields[1 if columns == 2 else 2 :]]
        except ValueError as problem:
            raise InputError(path, number, str(problem), "seconds") from None
        table[fields[0]] = times[0] if columns == 2 else times[1] - times[0]
    return table


def read_lhotse(path: PathLike) -> Iterator[Reference]:
    """Yield the utterances of a CutSet or SupervisionSet as JSON lines, one for a supervision.

    A line of a CutSet has ``supervisions``, or ``tracks`` that do; the id, text and duration are
    the supervision's. A cut without supervisions gives its own id and duration without a text.
    Raises InputError with the line for other lines.
    """
    for number, entry in _json_lines(path):
        parts = [entry]
        if "supervisions" in entry or "tracks" in entry:
            try:
                parts = supervisions(entry)
            except ValueError as problem:
                raise InputError(path, number, str(problem), "a lhotse cut") from None
        for part in parts or [{key: entry.get(key) for key in ("id", "duration")}]:
            yield _from_json(path, number, part, "id", "a lhotse cut or supervision")


def read_nemo_manifest(path: PathLike) -> Iterator[Reference]:
    """Yield ``{"audio_filepath", "duration", "text"}`` lines; the ids are those of
    ``reading.nemo_manifest``, which the lists of ``nemo-tsv`` have too.

    Raises InputError with the line for other lines.
    """
    for entry in read_manifest(path):
        yield _reference(path, entry.line, entry.utt, entry.text, entry.audio_s)


def _json_lines(path: PathLike) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in record_lines(path):
        value = parse_json(path, number, line)
        if not isinstance(value, dict):
            raise InputError(path, number, f"{line[:40]!r}", "a JSON object")
        yield number, value


def _from_json(path: PathLike, number: int, entry: Any, id_key: str, expected: str) -> Reference:
    try:
        utt = strict_json.string(entry, id_key)
        text = entry.get("text")
        if text is not None:
            text = " ".join(strict_json.string(entry, "text").split())
        audio_s = entry.get("duration")
        if audio_s is not None:
            audio_s = strict_json.number(audio_s, "duration")
        return Reference(utt, text, audio_s)
    except ValueError as problem:
        raise InputError(path, number, str(problem), expected) from None


def read_trn(path: PathLike) -> Iterator[Reference]:
    """Yield the utterances of a NIST trn file, ``words (id)``, without durations.

    Raises InputError with the line for a line without an id, and for alternations ``{ a / b }``.
    """
    for number, line in read_lines(path):
        if line.startswith(COMMENT):
            continue
        try:
            utt, words = parse_trn(line)
        except ValueError as problem:
            raise InputError(path, number, str(problem), "words (id)") from None
        yield _plain(path, number, utt, words, None)


def read_stm(path: PathLike) -> Iterator[Reference]:
    """Yield the segments of a NIST stm file; the id is ``file_channel_begin_end`` in centiseconds.

    Labels <...> before the words are none of them, nor are TED-LIUM's notes (``parse_stm``).
    Segments marked IGNORE_TIME_SEGMENT_IN_SCORING have no text. Raises InputError with the line for
    other lines, times that are no numbers or run backwards, and alternations.
    """
    for number, line in read_lines(path):
        try:
            segment = parse_stm(line)
        except ValueError as problem:
            raise InputError(path, number, str(problem), "a line of an stm file") from None
        if segment is not None:
            duration = segment.end_s - segment.begin_s
            yield _plain(path, number, segment.utt, segment.words, duration)


def read_ctm(path: PathLike) -> Iterator[Reference]:
    """Yield the files of a NIST ctm file with their words in the order of time, without durations.

    Raises InputError with the line for other lines, and for alternations.
    """
    words: dict[str, list[tuple[float, str]]] = {}
    for number, line in read_lines(path):
        try:
            word = parse_ctm(line)
        except ValueError as problem:
            raise InputError(path, number, str(problem), "a line of a ctm file") from None
        if word is not None:
            words.setdefault(word.file, []).append((word.begin_s, word.word))
    for utt, timed in words.items():
        in_order = sorted(timed, key=lambda pair: pair[0])
        yield _plain(path, None, utt, tuple(word for _, word in in_order), None)


def read_recogs(path: PathLike) -> Iterator[Reference]:
    """Yield the references (``ref=``) of icefall's ``recogs-*.txt``, without durations.

    Raises InputError with the line for other lines.
    """
    for number, line in read_lines(path):
        try:
            entry = parse_recogs(line)
        except ValueError as problem:
            raise InputError(path, number, str(problem), "\"utt:\\tref=['word', ...]\"") from None
        if entry is not None and entry[1] == "ref":
            yield _plain(path, number, entry[0], entry[2], None)


def _plain(
    path: PathLike,
    number: Optional[int],
    utt: str,
    words: Optional[tuple[str, ...]],
    audio_s: Optional[float],
) -> Reference:
    if words is not None and any("{" in word for word in words):
        found = f"utterance {utt}: an alternation {{ / }}"
        expected = (
            "plain words: a list holds one reference (wer and oracle --ref take alternatives)"
        )
        raise InputError(path, number, found, expected)
    return _reference(path, number, utt, None if words is None else " ".join(words), audio_s)


def _reference(
    path: PathLike,
    number: Optional[int],
    utt: str,
    text: Optional[str],
    audio_s: Optional[float],
) -> Reference:
    try:
        return Reference(utt, text, audio_s)
    except ValueError as problem:
        raise InputError(path, number, str(problem), "an utterance") from None


REFERENCES: dict[str, Callable[[PathLike], Iterator[Reference]]] = {
    "kaldi": read_kaldi_data,
    "lhotse": read_lhotse,
    "nemo": read_nemo_manifest,
    "stm": read_stm,
    "trn": read_trn,
    "ctm": read_ctm,
    "recogs": read_recogs,
}
"""name -> reader of references; the utterances' order is the file's."""
