"""One JSON result a file: of Vosk, sherpa-onnx and WeNet's API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.files import PathLike, read_json
from asrprune.firstpass.on_bad import (
    REFUSE,
    NoHypothesisError,
    NothingFoundError,
    OnBad,
    empty_list,
)
from asrprune.firstpass.reading import strict_json
from asrprune.firstpass.reading.folders import utterance_files


def read_vosk_json(path: PathLike, bad: OnBad = REFUSE) -> Iterator[NBest]:
    """Yield ``{"alternatives": [{"text", "confidence"}]}`` of a file or of a folder's ``*.json``.

    Ids are as of ``read_results``. ``confidence`` is the negative of Kaldi's total cost: a natural
    log, read as the acoustic score; LM None. ``bad`` decides what becomes of a result without
    alternatives. Raises InputError naming the utterance for other layouts; a file of several
    segments is not one result and is refused.
    """
    return read_results(
        path, _vosk, bad, "Vosk's JSON with alternatives (SetMaxAlternatives), one segment"
    )


def read_sherpa_json(path: PathLike, bad: OnBad = REFUSE) -> Iterator[NBest]:
    """Yield sherpa-onnx results of a file or of a folder's ``*.json``, ids as of ``read_results``.

    ``hypotheses: [{"text", "score", ...}]``, where a result has them, give the list; where there
    are none (``num_return_paths`` 1) ``text`` is the only hypothesis. The acoustic score is
    ``score``, else the sum of ``ys_log_probs`` or ``ys_probs`` (log probabilities of the tokens,
    without blanks), else None; LM None. Raises InputError naming the utterance for other layouts.
    Source: sherpa-onnx, ``OfflineRecognitionResult::AsJsonString``; issue 3858, pull requests 3859
    and 3953, which propose ``hypotheses``.
    """
    return read_results(path, _sherpa, bad, "a result of sherpa-onnx as JSON")


def read_wenet_json(path: PathLike, bad: OnBad = REFUSE) -> Iterator[NBest]:
    """Yield results of WeNet's API, ``{"nbest": [{"sentence"}], "type": "final_result"}``, of a
    file or of a folder's ``*.json``, ids as of ``read_results``.

    In rank order, without scores; all of them None. A sentence's pieces are not read. Raises
    InputError naming the utterance for other layouts, a partial result among them.
    """
    return read_results(path, _wenet, bad, "a final result of WeNet's API as JSON")


def read_results(
    path: PathLike, hypotheses: Callable[[Any], list[Hypothesis]], bad: OnBad, expected: str
) -> Iterator[NBest]:
    """Yield the results of a file or of a folder's ``*.json``, one a file; the id is its name
    without ``.json`` and the suffix of an audio file before that (``u1.wav.json``).

    ``hypotheses`` takes the JSON value; it raises NoHypothesisError for a list of none, of which
    ``bad`` decides what becomes, and ValueError for what it cannot read: InputError naming the
    utterance, with ``expected``.
    """
    for utt, file in utterance_files(path, ".json", of_audio=True):
        value = read_json(file)
        try:
            hyps = hypotheses(value)
        except NoHypothesisError as problem:
            yield from bad(NothingFoundError(file, None, empty_list(utt), str(problem)))
            continue
        except ValueError as problem:
            raise InputError(file, None, f"utterance {utt}: {problem}", expected) from None
        yield NBest(utt, tuple(hyps))


def as_object(value: Any) -> dict[str, Any]:
    """A JSON object. Raises ValueError for another value."""
    if not isinstance(value, dict):
        raise ValueError(f"a JSON {type(value).__name__}")
    return value


def plain_text(entry: Any, name: str) -> str:
    """The string called ``name`` of a JSON object, white space reduced to single spaces."""
    return " ".join(strict_json.string(entry, name).split())


def _vosk(value: Any) -> list[Hypothesis]:
    entries = _list(as_object(value).get("alternatives"), "alternatives")
    return [
        Hypothesis(
            plain_text(entry, "text"), strict_json.number(entry.get("confidence"), "confidence")
        )
        for entry in entries
    ]


def _sherpa(value: Any) -> list[Hypothesis]:
    result = as_object(value)
    several = result.get("hypotheses")
    if several:  # none: the decoder was asked for one path, which stands beside it
        return [_sherpa_path(entry) for entry in _list(several, "hypotheses")]
    return [_sherpa_path(result)]


def _sherpa_path(entry: Any) -> Hypothesis:
    text = plain_text(entry, "text")
    if "score" in entry:
        return Hypothesis(text, strict_json.number(entry["score"], "score"))
    for name in ("ys_log_probs", "ys_probs"):
        if name in entry:
            values = entry[name]
            if not isinstance(values, list):
                raise ValueError(f"{name} is not a list")
            if values:
                return Hypothesis(text, sum(strict_json.number(one, name) for one in values))
    return Hypothesis(text)


def _wenet(value: Any) -> list[Hypothesis]:
    result = as_object(value)
    kind = result.get("type")
    if kind != "final_result":
        raise ValueError(f"type {kind!r}")
    return [Hypothesis(plain_text(one, "sentence")) for one in _list(result.get("nbest"), "nbest")]


def _list(entries: Any, name: str) -> list[Any]:
    if not isinstance(entries, list):
        raise ValueError(f"no list {name!r}")
    if not entries:
        raise NoHypothesisError(f"an empty {name!r}")
    return entries
