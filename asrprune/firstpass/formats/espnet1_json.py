"""n-best lists in ESPnet1's ``data.json``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.files import PathLike, read_json
from asrprune.firstpass.reading import strict_json

_NAME = re.compile(r"target1\[([1-9][0-9]{0,5})\]")


def read_espnet1_json(path: PathLike) -> Iterator[NBest]:
    """Yield ``{"utts": {utt: {"output": [{"name": "target1[n]", "rec_text", "score"}]}}}``.

    The rank is the number in ``name``. ``score`` is a total, read as the acoustic score; LM None.
    ``<eos>`` is dropped, ``<space>`` and the sign U+2581 of word pieces become spaces. ``text`` is
    the reference. Raises InputError naming the utterance for other layouts, ranks that come
    twice, scores that are not finite, and references that differ.
    """
    table = read_json(path)
    utts = table.get("utts") if isinstance(table, dict) else None
    if not isinstance(utts, dict) or not utts:
        raise InputError(path, None, "no 'utts'", "ESPnet's data.json with results")
    for utt, entry in utts.items():
        try:
            yield _nbest(utt, entry)
        except ValueError as problem:
            found = f"utterance {utt[:80]}: {problem}"
            raise InputError(path, None, found, "ESPnet's data.json with results") from None


def _nbest(utt: str, entry: Any) -> NBest:
    outputs = entry.get("output") if isinstance(entry, dict) else None
    if not isinstance(outputs, list) or not outputs:
        raise ValueError("no list 'output'")
    hyps: dict[int, Hypothesis] = {}
    refs: set[str] = set()
    for output in outputs:
        match = _NAME.fullmatch(strict_json.string(output, "name"))
        if match is None or int(match.group(1)) in hyps:
            raise ValueError(f"name {output['name'][:40]!r} is not target1[n], each n once")
        text = strict_json.string(output, "rec_text").replace("<eos>", "")
        text = " ".join(text.replace("\u2581", " ").replace("<space>", " ").split())
        score = strict_json.number(output.get("score"), "score")
        hyps[int(match.group(1))] = Hypothesis(text, score)
        if "text" in output:
            refs.add(" ".join(strict_json.string(output, "text").split()))
    if len(refs) > 1:
        raise ValueError("different references in 'text'")
    ref = next(iter(refs)) if refs else None
    return NBest(utt, tuple(hyps[rank] for rank in sorted(hyps)), None, ref)
