"""n-best lists of HyPoradise: rank order only, no ids, no scores."""

from __future__ import annotations

from collections.abc import Iterator
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


def read_hyporadise(path: PathLike, bad: OnBad = REFUSE) -> Iterator[NBest]:
    """Yield ``[{"input": [text, ...], "output": ref}, ...]`` as n-best lists without scores.

    The format has no ids: the n-th entry is called ``n`` with leading zeros ("000001" first), so
    the file's order is part of the data. Hypotheses that come again keep their first place only
    (the data set fills up its lists with copies). ``bad`` decides what becomes of an entry without
    hypotheses. Raises InputError with the number of the entry.
    """
    table = read_json(path)
    if not isinstance(table, list):
        raise InputError(path, None, f"a JSON {type(table).__name__}", "an array of utterances")
    if not table:
        raise InputError(path, None, "no utterance", "at least one")
    for number, entry in enumerate(table, start=1):
        try:
            nbest = _nbest(f"{number:06d}", entry)
        except NoHypothesisError as problem:
            instead = empty_list(f"{number:06d}", ref=entry.get("output"))
            yield from bad(NothingFoundError(path, None, instead, str(problem)))
            continue
        except ValueError as problem:
            found = f"entry {number}: {problem}"
            raise InputError(path, None, found, '{"input": [texts], "output": ref}') from None
        yield nbest


def _nbest(utt: str, entry: Any) -> NBest:
    texts = entry.get("input") if isinstance(entry, dict) else None
    if not isinstance(texts, list):
        raise ValueError("no list 'input' of hypotheses")
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("'input' holds something else than strings")
    ref = entry.get("output")
    if ref is not None and not isinstance(ref, str):
        raise ValueError(f"output {ref!r} is not a string")
    if not texts:
        raise NoHypothesisError("an empty 'input'")
    distinct = dict.fromkeys(" ".join(text.split()) for text in texts)
    return NBest(utt, tuple(Hypothesis(text) for text in distinct), None, ref)
