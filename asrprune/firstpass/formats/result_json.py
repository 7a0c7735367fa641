"""One JSON result a file: of Vosk, sherpa-onnx and WeNet's API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.firstpass.reading import strict_json
from asrprune.firstpass.reading.folders import utterance_files


def read_vosk_json(path: PathLike) -> Iterator[NBest]:
    """Yield ``{"alternatives": [{"text", "confidence"}]}`` of a file or of a folder's ``*.json``.

    The id is the file's name. ``confidence`` is the negative of Kaldi's total cost: a natural
    log, read as the acoustic score; LM None. Raises InputError naming the utterance for other
    layouts; a file of several segments is not one result and is refused.
    """
    return _read(path, _vosk, "Vosk's JSON with alternatives (SetMaxAlternatives), one segment")


def read_sherpa_json(path: PathLike) -> Iterator[NBest]:
    """Yield sherpa-onnx results of a file or of a folder's ``*.json``; the id is the file's name.

    ``hypotheses: [{"text", "score"}]``, where a result has them, give the list; else ``text`` is
    the only hypothesis, and its acoustic score the sum of ``ys_log_probs`` or ``ys_probs`` (log
    probabilities of the tokens, without blanks), None when there is none. LM None. Raises
    InputError naming the utterance for other layouts.
    """
    return _read(path, _sherpa, "a result of sherpa-onnx as JSON")


def read_wenet_json(path: PathLike) -> Iterator[NBest]:
    """Yield results of WeNet's API, ``{"nbest": [{"sentence"}], "type": "final_result"}``, of a
    file or of a folder's ``*.json``; the id is the file's name.

    In rank order, without scores; all of them None. A sentence's pieces are not read. Raises
    InputError naming the utterance for other layouts, a partial result among them.
    """
    return _read(path, _wenet, "a final result of WeNet's API as JSON")


def _read(
    path: PathLike, hypotheses: Callable[[Any], list[Hypothesis]], expected: str
) -> Iterator[NBest]:
    for utt, file in utterance_files(path, ".json"):
        value = strict_json.load(file)
        try:
            if not isinstance(value, dict):
                raise ValueError(f"a JSON {type(value).__name__}")
            hyps = hypotheses(value)
        except ValueError as problem:
            raise InputError(file, None, f"utterance {utt}: {problem}", expected) from None
        yield NBest(utt, tuple(hyps))


def _vosk(result: dict[str, Any]) -> list[Hypothesis]:
    return _scored(result.get("alternatives"), "alternatives", "confidence")


def _sherpa(result: dict[str, Any]) -> list[Hypothesis]:
    if "hypotheses" in result:
        return _scored(result["hypotheses"], "hypotheses", "score")
    text = " ".join(strict_json.string(result, "text").split())
    for name in ("ys_log_probs", "ys_probs"):
        if name in result:
            values = result[name]
            if not isinstance(values, list):
                raise ValueError(f"{name} is not a list")
            if values:
                return [Hypothesis(text, sum(strict_json.number(v, name) for v in values))]
    return [Hypothesis(text)]


def _wenet(result: dict[str, Any]) -> list[Hypothesis]:
    kind = result.get("type")
    if kind != "final_result":
        raise ValueError(f"type {kind!r}")
    entries = result.get("nbest")
    if not isinstance(entries, list) or not entries:
        raise ValueError("no list 'nbest'")
    return [Hypothesis(" ".join(strict_json.string(one, "sentence").split())) for one in entries]


def _scored(entries: Any, name: str, score: str) -> list[Hypothesis]:
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"no list {name!r}")
    return [
        Hypothesis(
            " ".join(strict_json.string(entry, "text").split()),
            strict_json.number(entry.get(score), score),
        )
        for entry in entries
    ]
