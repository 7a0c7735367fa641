"""Results of NVIDIA's NIM and Riva speech services as JSON."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.files import PathLike
from asrprune.firstpass.formats.result_json import as_object, plain_text, read_results
from asrprune.firstpass.on_bad import REFUSE, NoHypothesisError, OnBad

_log = logging.getLogger(__name__)


def read_nim_json(path: PathLike, bad: OnBad = REFUSE) -> Iterator[NBest]:
    """Yield the answer of a file or of every ``*.json`` of a folder, ids as of ``read_results``.

    ``{"results": [{"alternatives": [{"transcript", "confidence"}]}]}`` is the gRPC answer
    (``RecognizeResponse``; ask with ``max_alternatives``): the alternatives of its one result, or,
    of several results with one alternative each, their texts in a row. ``{"text"}`` is the answer
    of the HTTP service, which has no alternatives. Scores are None: ``confidence`` is not
    normalised, and the service does not promise it; a warning says where lists hold one
    hypothesis only.

    ``bad`` decides what becomes of an answer without results. Raises InputError naming the
    utterance for other layouts, for a partial result (``isFinal`` false), and for several results
    with several alternatives, of which no list can be made: recognise one utterance a request.
    Source: riva_asr.proto and the ASR NIM's HTTP reference, docs.nvidia.com.
    """
    single = 0

    def hypotheses(value: Any) -> list[Hypothesis]:
        nonlocal single
        hyps = _hypotheses(as_object(value))
        single += len(hyps) == 1
        return hyps

    expected = "NIM's JSON with results and alternatives, or with text"
    yield from read_results(path, hypotheses, bad, expected)
    if single:
        text = "%s: %d results hold one transcript and no alternatives: nothing to rescore in them"
        _log.warning(text, path, single)


def _hypotheses(answer: dict[str, Any]) -> list[Hypothesis]:
    if "results" not in answer and "text" in answer:
        return [Hypothesis(plain_text(answer, "text"))]
    results = answer.get("results")
    if not isinstance(results, list):
        raise ValueError("neither a list 'results' nor 'text'")
    lists = [texts for texts in map(_alternatives, results) if texts]  # some say nothing
    if not lists:
        raise NoHypothesisError("no alternative in 'results'")
    if len(lists) == 1:
        return [Hypothesis(text) for text in lists[0]]
    if any(len(texts) > 1 for texts in lists):
        raise ValueError(f"{len(lists)} results with several alternatives")
    return [Hypothesis(" ".join(text for texts in lists for text in texts if text))]


def _alternatives(result: Any) -> list[str]:
    entry = as_object(result)
    if entry.get("isFinal", entry.get("is_final", True)) is not True:
        raise ValueError("a partial result (isFinal is not true)")
    several = entry.get("alternatives", [])
    if not isinstance(several, list):
        raise ValueError("alternatives is not a list")
    # proto's JSON leaves out what is empty
    return [plain_text({"transcript": "", **as_object(one)}, "transcript") for one in several]
