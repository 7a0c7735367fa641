"""Audio of a lhotse CutSet file, cut by cut."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.errors import InputError, MissingPackage
from asrprune.files import PathLike, parse_json, read_lines
from asrprune.firstpass.reading.lhotse_cut import supervisions

_NO_CUT = (
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
)
"""What lhotse raises for a cut that it cannot make sense of."""


@dataclass(frozen=True)
class CutLine:
    """One cut of a file, still as its JSON line, so that it can be sent to another process."""

    path: str
    line: int
    utt: str
    ref: Optional[str]
    text: str


def read_cut_lines(path: PathLike, allow_commands: bool = False) -> Iterator[CutLine]:
    """Yield the cuts of a lhotse JSON-lines file (``.jsonl`` or ``.jsonl.gz``) in file order.

    The utterance id is that of the cut's supervision if it has exactly one, else the cut's own;
    ``ref`` joins the texts of the supervisions (None without any) in the order of their times.
    Audio is not opened.
    Raises InputError with the line for bad JSON, a cut without an id, an id with white space or
    one that cannot be a file name, an id that comes twice, and, without ``allow_commands``, for
    audio that is to come out of a command or off the net.
    """
    seen: dict[str, int] = {}
    for number, line in read_lines(path):
        if not line.strip():
            continue
        record = parse_json(path, number, line)
        if not isinstance(record, dict) or not isinstance(record.get("id"), str):
            raise InputError(path, number, f"{line[:40]!r}", "a lhotse cut with an id")
        try:
            parts = supervisions(record)
        except ValueError as problem:
            raise InputError(path, number, str(problem), "lists of objects") from None
        utt = str(parts[0]["id"]) if len(parts) == 1 and "id" in parts[0] else record["id"]
        if utt.split() != [utt] or "/" in utt or "\0" in utt:
            found = f"utterance id {utt!r}"
            raise InputError(path, number, found, "an id without white space and slashes")
        if utt in seen:
            found = f"utterance {utt} again (first on line {seen[utt]})"
            raise InputError(path, number, found, "each utterance once")
        if not allow_commands:
            _refuse_commands(record, path, number, utt)
        seen[utt] = number
        texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
        ref = " ".join(" ".join(texts).split()) if texts else None
        yield CutLine(str(path), number, utt, ref, line)
    if not seen:
        raise InputError(path, None, "no cut", "a lhotse CutSet as JSON lines")


def _sources(record: Any) -> Iterator[dict[str, Any]]:
    """All that lhotse would take for a source of audio: of the recording, the tracks of a mixture,
    an impulse response, a custom field."""
    parts = [record]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            parts.extend(part.values())
            if part.keys() >= {"type", "source", "channels"}:
                yield part
        elif isinstance(part, list):
            parts.extend(part)


def _refuse_commands(record: Any, path: PathLike, line: int, utt: str) -> None:
    """Raise InputError if any audio of the cut is not in a file."""
    for part in _sources(record):
        if part["type"] != "file":
            found = f"utterance {utt}: audio of type {part['type']!r} ({part['source']!r:.60})"
            expected = "audio of type 'file', or --allow-commands to run and fetch such audio"
            raise InputError(path, line, found, expected)


def _missing_file(cut: CutLine) -> Optional[str]:
    """What is to be said of the first file of audio that is not there."""
    for part in _sources(json.loads(cut.text)):
        if part["type"] == "file" and not os.path.exists(str(part["source"])):
            return f"no such file {str(part['source'])!r:.90}"
    return None


def load_audio(cut: CutLine, sampling_rate: int, allow_commands: bool = False) -> NDArray[np.int16]:
    """The samples of a cut's one channel at ``sampling_rate``, 16 bits, shape [n_samples].

    Without ``allow_commands`` files are read by libsndfile alone: lhotse's other readers run
    ffmpeg, which fetches what a name or a playlist says, or give the name to a shell (``.sph``).
    Raises InputError naming the utterance for a line that lhotse does not take as a cut, audio
    that cannot be read, several channels, or samples outside [-1, 1] by more than rounding;
    MissingPackage for what reading or another sampling rate needs.
    """
    try:
        from lhotse.audio.utils import AudioLoadingError, DurationMismatchError
        from lhotse.serialization import deserialize_item
    except ImportError:
        raise MissingPackage("lhotse", "mini") from None
    what = f"utterance {cut.utt}"
    try:
        item: Any = deserialize_item(json.loads(cut.text))
        if item.sampling_rate != sampling_rate:
            item = item.resample(sampling_rate)
        with contextlib.nullcontext() if allow_commands else _libsndfile_alone():
            samples = item.load_audio()
    except (AudioLoadingError, DurationMismatchError, OSError) as problem:
        if isinstance(problem, DurationMismatchError) or "declared samples" in str(problem):
            expected = "as many samples as the recording states"
            raise InputError(
                cut.path, cut.line, f"{what}: audio of another length", expected
            ) from None
        reason = _missing_file(cut) or _first_line(problem)
        found = f"{what}: audio cannot be read ({reason})"
        expected = "readable audio"
        if not allow_commands:
            expected += " (--allow-commands reads what needs ffmpeg or sph2pipe, too)"
        raise InputError(cut.path, cut.line, found, expected) from None
    except ImportError as problem:
        raise MissingPackage(_package(problem), "mini") from None
    except _NO_CUT as problem:
        found = f"{what}: {type(problem).__name__} {_first_line(problem)}"
        raise InputError(cut.path, cut.line, found, "a lhotse cut with a recording") from None
    if samples is None or samples.ndim != 2 or samples.shape[0] != 1:
        shape = None if samples is None else samples.shape
        raise InputError(cut.path, cut.line, f"{what}: audio of shape {shape}", "one channel")
    scaled = np.round(samples[0].astype(np.float64) * 32768.0)
    if scaled.size and not np.abs(scaled).max() <= 33000.0:
        found = f"{what}: samples up to {np.abs(samples).max():.3g}"
        raise InputError(cut.path, cut.line, found, "samples in [-1, 1]")
    # full scale +1.0 has no 16-bit value of its own, and resampling overshoots a little
    limited: NDArray[np.int16] = np.clip(scaled, -32768, 32767).astype(np.int16)
    return limited


@contextlib.contextmanager
def _libsndfile_alone() -> Iterator[None]:
    """lhotse reads audio files with libsndfile, in this process."""
    from lhotse.audio import backend

    before = backend.get_current_audio_backend()
    backend.set_current_audio_backend(backend.CompositeAudioBackend([backend.LibsndfileBackend()]))
    try:
        yield
    finally:
        backend.set_current_audio_backend(before)


def _package(problem: ImportError) -> str:
    """The package that is not there; lhotse leaves its name in the message alone."""
    named = re.search(r"No module named '([\w-]+)", str(problem))
    return problem.name or (named[1] if named else _first_line(problem))


def _first_line(problem: BaseException) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0][:120]
