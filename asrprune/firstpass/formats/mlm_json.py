"""n-best lists in the JSON layout of mlm-scoring (Salazar et al. 2020; Shin et al. 2019)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.files import PathLike, read_json, write_text
from asrprune.firstpass.on_bad import (
    REFUSE,
    NoHypothesisError,
    NothingFoundError,
    OnBad,
    empty_list,
)
from asrprune.firstpass.reading import strict_json

_KEY = re.compile(r"hyp_([0-9]{1,9})")


def read_mlm_json(path: PathLike, bad: OnBad = REFUSE) -> Iterator[NBest]:
    """Yield ``{"utt": {"ref": ..., "hyp_1": {"score": s, "text": t}, ...}}`` as n-best lists.

    ``score`` is a natural-log total of the first pass; it is read as the acoustic score, and the
    LM score is unknown. Hypotheses are ordered by the number in their key. White space inside a
    text is reduced to single spaces. ``bad`` decides what becomes of an utterance without
    hypotheses. Raises InputError with the utterance id for other layouts,
    scores that are not finite, and an utterance that comes twice.
    """
    for utt, entry in _load(path).items():
        try:
            nbest = _nbest(utt, entry)
        except NoHypothesisError as problem:
            ref = entry.get("ref")
            yield from bad(NothingFoundError(path, None, empty_list(utt, ref=ref), str(problem)))
            continue
        except ValueError as problem:
            raise InputError(
                path, None, f"utterance {utt}: {problem}", "mlm-scoring JSON"
            ) from None
        yield nbest


def write_mlm_json(path: PathLike, nbests: Iterable[NBest]) -> None:
    """Write n-best lists; ``score`` is the acoustic score.

    The score of the empty hypothesis is 0 in a list where it stands alone and has none. Raises
    ValueError for another hypothesis that has an LM score (one number cannot hold both: write a
    combined score) or no acoustic score, and for an utterance that comes twice.
    """
    table: dict[str, dict[str, Any]] = {}
    for nbest in nbests:
        if nbest.utt in table:
            raise ValueError(f"utterance {nbest.utt} comes twice")
        entry: dict[str, Any] = {} if nbest.ref is None else {"ref": nbest.ref}
        hyps = (Hypothesis("", 0.0),) if nbest.silent else nbest.hyps
        for rank, hyp in enumerate(hyps, start=1):
            if hyp.acoustic is None or hyp.lm is not None:
                found = f"acoustic {hyp.acoustic}, LM {hyp.lm}"
                raise ValueError(f"utterance {nbest.utt}: mlm-json holds one score, not {found}")
            entry[f"hyp_{rank}"] = {"score": hyp.acoustic, "text": hyp.text}
        table[nbest.utt] = entry
    with write_text(path) as stream:
        json.dump(table, stream, indent=2, ensure_ascii=False, allow_nan=False)
        stream.write("\n")


def _load(path: PathLike) -> dict[str, Any]:
    table = read_json(path)
    if not isinstance(table, dict):
        raise InputError(path, None, f"a JSON {type(table).__name__}", "an object of utterances")
    if not table:
        raise InputError(path, None, "no utterance", "at least one")
    return table


def _nbest(utt: str, entry: Any) -> NBest:
    if not isinstance(entry, dict):
        raise ValueError("is not an object")
    ranked: list[tuple[int, Hypothesis]] = []
    for key, value in entry.items():
        match = _KEY.fullmatch(key)
        if key == "ref":
            continue
        if match is None or not isinstance(value, dict) or set(value) != {"score", "text"}:
            raise ValueError(f"{key!r} is neither 'ref' nor hyp_N with a score and a text")
        score, text = value["score"], value["text"]
        score = strict_json.number(score, f"{key}: score")
        if not isinstance(text, str):
            raise ValueError(f"{key}: text {text!r} is not a string")
        ranked.append((int(match.group(1)), Hypothesis(" ".join(text.split()), score)))
    ref = entry.get("ref")
    if ref is not None and not isinstance(ref, str):
        raise ValueError(f"ref {ref!r} is not a string")
    if not ranked:
        empty_list(utt)  # whose id may be none
        raise NoHypothesisError("no hypothesis")
    return NBest(utt, tuple(hyp for _, hyp in sorted(ranked, key=lambda pair: pair[0])), None, ref)
