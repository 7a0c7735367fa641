"""n-best lists of parakeet.cpp (``parakeet-cli transcribe --beam-size N --nbest N``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.files import PathLike
from asrprune.firstpass.formats.result_json import as_object, plain_text, read_results
from asrprune.firstpass.on_bad import REFUSE, NoHypothesisError, OnBad
from asrprune.firstpass.reading import strict_json


def read_parakeet_json(path: PathLike, bad: OnBad = REFUSE) -> Iterator[NBest]:
    """Yield ``{"hypotheses": [{"text", "score", "normalized_score", "tokens": [{"id"}]}]}`` of a
    file or of a folder's ``*.json``, one result a file; ids as of ``read_results``.

    ``score``, the natural log of the path's probability under the transducer, is read as the
    acoustic score; LM None. With ``score_norm`` the decoder ranked by ``normalized_score``, which
    is not kept, so another order than that of ``score`` is the file's own. ``bad`` decides what
    becomes of an empty list. Raises InputError naming the utterance for other layouts, the single
    transcript of the greedy decoder among them.
    Source: parakeet.cpp (github.com/mudler/parakeet.cpp), ``docs/tdt-nbest.md``.
    """
    return read_results(path, _hypotheses, bad, "parakeet.cpp's JSON with hypotheses (--nbest N)")


def _hypotheses(value: Any) -> list[Hypothesis]:
    result = as_object(value)
    entries = result.get("hypotheses")
    if entries is None and "text" in result:
        raise ValueError("one transcript without alternatives")
    if not isinstance(entries, list):
        raise ValueError("no list 'hypotheses'")
    if not entries:
        raise NoHypothesisError("an empty 'hypotheses'")
    return [_hypothesis(entry) for entry in entries]


def _hypothesis(entry: Any) -> Hypothesis:
    text = plain_text(entry, "text")
    tokens = entry.get("tokens")
    if tokens is not None:
        if not isinstance(tokens, list):
            raise ValueError("tokens is not a list")
        tokens = tuple(_id(token) for token in tokens)
    return Hypothesis(text, strict_json.number(entry.get("score"), "score"), None, tokens)


def _id(token: Any) -> int:
    number = token.get("id") if isinstance(token, dict) else None
    if type(number) is not int:
        raise ValueError(f"a token {str(token)[:40]!r} without an id")
    return number
