"""NeMo's manifests, JSON lines that say what was decoded, and ids for it: NeMo has none."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Optional

from asrprune.errors import InputError
from asrprune.files import PathLike, parse_json, record_lines
from asrprune.firstpass.reading import strict_json
from asrprune.firstpass.reading.utterance_ids import folders_and_name, id_of_path

_AUDIO_KEYS = ("audio_filepath", "audio_filename", "audio_file")


@dataclass(frozen=True)
class ManifestEntry:
    """One line: where it stands, the id, the transcript (None where it has none), its seconds."""

    line: int
    utt: str
    text: Optional[str]
    audio_s: Optional[float]


def read_manifest(path: PathLike, id_key: Optional[str] = None) -> list[ManifestEntry]:
    """The entries of a manifest in its order; blank lines at its end are none.

    The id is the entry ``id_key`` of every line, where that is given. Else it is the name of the
    audio file without its suffix, white space as ``_`` (``id_of_path``). Names that come several
    times get what tells them apart, and only those do: as many folders before them as that takes
    (``spk7-001``); of one file several times, begin and end of the segment in centiseconds
    (``ses01-0000320-0000530``, as in stm); of the same segment again, the line (``...-line7``).

    Raises InputError with the line for anything but JSON objects with a file and numbers that are
    none, for ids that come twice under ``id_key``, and for a manifest without a line.
    """
    entries = [(number, _object(path, number, line)) for number, line in record_lines(path)]
    if not entries:
        raise InputError(path, None, "no utterance", "a NeMo manifest")
    if id_key is None:
        ids = _unique([_named(path, number, entry) for number, entry in entries])
    else:
        ids = [_stated(path, number, entry, id_key) for number, entry in entries]
    first: dict[str, int] = {}
    found = []
    for (number, entry), utt in zip(entries, ids):
        if utt in first:
            again = f"utterance {utt} again (first on line {first[utt]})"
            raise InputError(path, number, again, "ids that differ")
        first[utt] = number
        found.append(_entry(path, number, utt, entry))
    return found


@dataclass(frozen=True)
class _Place:
    """What the id of an entry is made of."""

    line: int
    parts: tuple[str, ...]
    begin_s: float
    end_s: Optional[float]

    def name(self, folders: int) -> str:
        """The file's name with so many folders before it."""
        return "-".join(self.parts[-1 - folders :])

    @property
    def segment(self) -> str:
        end = "end" if self.end_s is None else f"{round(100 * self.end_s):07d}"
        return f"{round(100 * self.begin_s):07d}-{end}"


def _unique(places: list[_Place]) -> list[str]:
    files: dict[str, set[tuple[str, ...]]] = {}
    for place in places:
        files.setdefault(place.name(0), set()).add(place.parts)
    folders = {}
    for name, same in files.items():
        folders[name] = 0
        while len({one[-1 - folders[name] :] for one in same}) < len(same):
            folders[name] += 1
    names = [place.name(folders[place.name(0)]) for place in places]
    for tell in (lambda place: place.segment, lambda place: f"line{place.line}"):
        counts = Counter(names)
        names = [
            f"{name}-{tell(place)}" if counts[name] > 1 else name
            for name, place in zip(names, places)
        ]
    return names


def _named(path: PathLike, number: int, entry: dict[str, Any]) -> _Place:
    audio = next((entry[key] for key in _AUDIO_KEYS if isinstance(entry.get(key), str)), None)
    utt = None if audio is None or "\0" in audio else id_of_path(audio)
    if audio is None or not utt:
        found = "no 'audio_filepath'" if audio is None else f"audio_filepath {audio[:60]!r}"
        raise InputError(path, number, found, "the path of an audio file")
    try:
        begin, length = _seconds(entry, "offset") or 0.0, _seconds(entry, "duration")
    except ValueError as problem:
        raise InputError(path, number, f"utterance {utt}: {problem}", "seconds >= 0") from None
    folders = ["_".join(part.split()) for part in folders_and_name(audio)[:-1]]
    return _Place(number, (*folders, utt), begin, None if length is None else begin + length)


def _stated(path: PathLike, number: int, entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    utt = str(value) if type(value) in (str, int) else ""
    if not utt or utt.split() != [utt]:
        found = f"no {key!r}" if value is None else f"{key} {str(value)[:60]!r}"
        raise InputError(path, number, found, "an utterance id without white space")
    return utt


def _entry(path: PathLike, number: int, utt: str, entry: dict[str, Any]) -> ManifestEntry:
    try:
        text = None if entry.get("text") is None else strict_json.string(entry, "text")
        audio_s = _seconds(entry, "duration")
    except ValueError as problem:
        found = f"utterance {utt}: {problem}"
        raise InputError(path, number, found, "a line of a NeMo manifest") from None
    return ManifestEntry(number, utt, None if text is None else " ".join(text.split()), audio_s)


def _seconds(entry: dict[str, Any], name: str) -> Optional[float]:
    value = entry.get(name)
    if value is None:
        return None
    seconds = strict_json.number(value, name)
    if seconds < 0:
        raise ValueError(f"{name} {seconds}")
    return seconds


def _object(path: PathLike, number: int, line: str) -> dict[str, Any]:
    value = parse_json(path, number, line)
    if not isinstance(value, dict):
        raise InputError(path, number, f"{line[:40]!r}", "a JSON object")
    return value
