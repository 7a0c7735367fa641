"""Results of Whisper as JSON: openai-whisper, faster-whisper, whisper.cpp."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Optional

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.units import unspaced_words
from asrprune.files import PathLike
from asrprune.firstpass.formats.result_json import plain_text, read_results
from asrprune.firstpass.on_bad import REFUSE, NoHypothesisError, OnBad
from asrprune.firstpass.reading import strict_json

_log = logging.getLogger(__name__)
_LISTS = ("hypotheses", "nbest", "alternatives")


def read_whisper_json(path: PathLike, bad: OnBad = REFUSE) -> Iterator[NBest]:
    """Yield the result of a file or of every ``*.json`` of a folder, ids as of ``read_results``.

    The programs write one transcript: ``{"text", "segments": [...]}`` (openai-whisper, OpenAI's
    API, and tools around faster-whisper), a list of faster-whisper's segments, or
    ``{"transcription": [{"text"}]}`` (whisper.cpp). It becomes a list of one hypothesis without
    scores, and a warning says so: a segment's ``avg_logprob`` is a mean over a window of 30 s, of
    which the segments are parts, so no total of the utterance can be had from it. Segments are
    apart by a space, also where a tool has stripped theirs, but for scripts without spaces (Han,
    kana, Thai, ...); whisper.cpp's keep their own spaces, since they may be parts of words.

    Alternatives, where a script of the user's wrote them as ``hypotheses``, ``nbest`` or
    ``alternatives``, or as a list of openai-whisper's ``DecodingResult``, are read with their
    score: ``score`` or ``sum_logprob``, else ``avg_logprob`` times (number of ``tokens`` + 1), as
    Whisper counts; None without those. It is a natural log and holds Whisper's own LM; it is read
    as the acoustic score, LM None. ``duration`` is the audio's, in seconds.

    ``bad`` decides what becomes of an empty list. Raises InputError naming the utterance for other
    layouts. Source: openai-whisper ``transcribe.py``, ``decoding.py``; faster-whisper
    ``transcribe.py``, class Segment; whisper.cpp ``examples/cli``, ``output_json``.
    """
    single = 0
    durations: list[Optional[float]] = []

    def hypotheses(value: Any) -> list[Hypothesis]:
        nonlocal single
        durations[:] = [_duration(value)]
        several = _alternatives(value)
        if several is not None:
            return [_alternative(entry) for entry in several]
        single += 1
        return [Hypothesis(_transcript(value))]

    for nbest in read_results(path, hypotheses, bad, "Whisper's JSON with text or alternatives"):
        yield replace(nbest, audio_s=durations[0])
    if single:
        text = "%s: %d results hold one transcript and no alternatives: nothing to rescore in them"
        _log.warning(text, path, single)


def _alternatives(value: Any) -> Optional[list[Any]]:
    if isinstance(value, dict):
        names = [name for name in _LISTS if name in value]
        if len(names) > 1:
            raise ValueError(f"both {' and '.join(names)}")
        entries = value[names[0]] if names else None
    else:  # segments have times, results of decoding have none
        is_list = isinstance(value, list)
        timed = is_list and all(isinstance(one, dict) and "start" in one for one in value)
        entries = value if is_list and not (timed and value) else None
    if entries is None:
        return None
    if not isinstance(entries, list):
        raise ValueError("alternatives that are no list")
    if not entries:
        raise NoHypothesisError("an empty list of alternatives")
    return entries


def _alternative(entry: Any) -> Hypothesis:
    text = plain_text(entry, "text")
    for name in ("score", "sum_logprob"):
        if entry.get(name) is not None:
            return Hypothesis(text, strict_json.number(entry[name], name))
    mean, tokens = entry.get("avg_logprob"), entry.get("tokens")
    if mean is None or not isinstance(tokens, list):
        return Hypothesis(text)
    return Hypothesis(text, strict_json.number(mean, "avg_logprob") * (len(tokens) + 1))


def _transcript(value: Any) -> str:
    if isinstance(value, dict) and "text" in value:
        return plain_text(value, "text")
    parts = value
    if isinstance(value, dict):
        parts = value.get("transcription", value.get("segments"))
    if not isinstance(parts, list):
        raise ValueError("neither 'text' nor a list 'transcription' or 'segments'")
    texts = [strict_json.string(part, "text") for part in parts]
    pieces = isinstance(value, dict) and "transcription" in value
    return " ".join(("".join(texts) if pieces else _joined(texts)).split())


def _joined(segments: list[str]) -> str:
    text, last = [], ""
    for segment in segments:
        signs = [sign for sign in segment if sign.isalnum()]
        text.append(segment if _touch(last, *signs[:1]) else f" {segment}")
        last = signs[-1] if signs else last
    return "".join(text)


def _touch(*signs: str) -> bool:
    """Whether no space is due between letters or digits: one is of a script without spaces, and no
    other of a script with them."""
    unspaced = [unspaced_words(sign)[0] > 0 for sign in signs]
    return any(unspaced) and all(one or not sign.isalpha() for one, sign in zip(unspaced, signs))


def _duration(value: Any) -> Optional[float]:
    seconds = value.get("duration") if isinstance(value, dict) else None
    if seconds is None:
        return None
    number = strict_json.number(seconds, "duration")
    if number < 0:
        raise ValueError(f"duration {number}")
    return number
