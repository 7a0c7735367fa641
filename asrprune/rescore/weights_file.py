"""Tuned weights on disk, with the set that they were tuned on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import PurePath
from typing import Any, Optional

from asrprune.core.hypothesis import NBest
from asrprune.core.units import WORD
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.files import PathLike, read_json, read_lines, write_json

FORMAT, VERSION = "asrprune-weights", 1


@dataclass(frozen=True)
class WeightsFile:
    """``weights`` with the names of their ``lms`` and what is known of the ``dev`` set:
    ``nbest_hash``, ``utterances_hash``, ``ref_hash``, WERs, ... ``posterior_scale``, if tuned, is
    the one of minimum Bayes risk: posteriors are proportional to exp(scale * total)."""

    weights: ScoreWeights
    lms: tuple[str, ...] = ()
    dev: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    posterior_scale: Optional[float] = None

    def check_lms(self, names: Sequence[str], path: PathLike) -> None:
        """Raise InputError unless the LMs called ``names`` are as many as the LM weights."""
        if len(names) != len(self.weights.lm):
            found = f"{len(self.weights.lm)} LM weights ({', '.join(self.lms) or 'none'})"
            raise InputError(path, None, found, f"{len(names)}, one for each scores file")


def write_weights(path: PathLike, value: WeightsFile) -> None:
    """Write the file as JSON, whole or not at all."""
    write_json(
        path,
        {
            "format": FORMAT,
            "version": VERSION,
            "weights": _plain(value.weights),
            "lms": list(value.lms),
            "posterior_scale": value.posterior_scale,
            "dev": dict(value.dev),
            "provenance": dict(value.provenance),
        },
    )


def _plain(weights: ScoreWeights) -> dict[str, Any]:
    """As JSON; the unit stands there where it is not the word, so that older files are the same."""
    plain = {**asdict(weights), "lm": list(weights.lm)}
    if weights.unit == WORD:
        del plain["unit"]
    return plain


def read_weights(path: PathLike) -> WeightsFile:
    """The weights file at ``path``. Raises InputError when it is none."""
    value = read_json(path)
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError(path, None, "not a weights file", f'"format": "{FORMAT}"')
    if value.get("version") != VERSION:
        raise InputError(path, None, f"version {value.get('version')}", f"version {VERSION}")
    weights = parse_weights(path, value.get("weights"))
    lms, dev = value.get("lms", []), value.get("dev", {})
    if not isinstance(lms, list) or not isinstance(dev, dict) or len(lms) != len(weights.lm):
        found = f"{len(weights.lm)} LM weights, lms {lms!r}, dev {type(dev).__name__}"
        raise InputError(path, None, found, "one name per LM weight and an object dev")
    scale = value.get("posterior_scale")
    if scale is not None and not (_is_number(scale) and 0 < scale < math.inf):
        raise InputError(path, None, f"posterior_scale {scale!r}", "a positive number or null")
    return WeightsFile(weights, tuple(lms), dev, value.get("provenance", {}), scale)


def read_any_weights(path: PathLike) -> WeightsFile:
    """Weights of ``tune``, or the first pass's own (without LM weights): whatever ``path`` holds.

    Raises InputError when it holds neither.
    """
    value = read_json(path)
    if isinstance(value, dict) and value.get("format") == FORMAT:
        return read_weights(path)
    return WeightsFile(
        parse_weights(path, value.get("weights") if isinstance(value, dict) else None)
    )


def tuned_on(weights: WeightsFile, hashes: Mapping[str, str]) -> bool:
    """Whether the weights were tuned on the set with these ``set_hashes``: the same lists, or
    other lists of the same utterances."""
    return any(weights.dev.get(name) == value for name, value in hashes.items())


def read_first_pass(path: PathLike) -> ScoreWeights:
    """The first pass's own weights: key "weights" of the JSON that ``first-pass`` writes.

    They hold no LM weights. Raises InputError for a file without them.
    """
    value = read_json(path)
    return parse_weights(path, value.get("weights") if isinstance(value, dict) else None)


def parse_weights(path: PathLike, value: Any) -> ScoreWeights:
    """The weights in a JSON object. Raises InputError for another value or a bad number."""
    names = ("acoustic", "first_lm", "word_bonus")
    if not isinstance(value, dict) or not all(name in value for name in names):
        raise InputError(path, None, "no weights", f"an object weights with {', '.join(names)}")
    lm = value.get("lm", [])
    numbers = [*(value[name] for name in names), *(lm if isinstance(lm, list) else [lm, None])]
    if not all(map(_is_number, numbers)):
        raise InputError(path, None, f"weights {value!r}", "numbers, and a list of them for lm")
    acoustic, first_lm, word_bonus, *rest = map(float, numbers)
    try:
        return ScoreWeights(acoustic, first_lm, tuple(rest), word_bonus, value.get("unit", WORD))
    except ValueError as problem:
        raise InputError(path, None, str(problem), "finite weights of a known unit") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def set_hashes(lists: Sequence[NBest]) -> dict[str, str]:
    """``nbest_hash`` of utterances and hypotheses, ``utterances_hash`` of the ids alone.

    Neither depends on the order of the utterances or on how the file is compressed.
    """
    return {
        "nbest_hash": _hash(f"{nbest.utt} {nbest.digest}" for nbest in lists),
        "utterances_hash": _hash(nbest.utt for nbest in lists),
    }


def reference_hash(refs: Mapping[str, str]) -> str:
    """A hash of the references, in any order."""
    return _hash(f"{utt} {text}" for utt, text in refs.items())


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def names_test_set(path: PathLike) -> bool:
    """Whether a path is called a test set: its file name has the word "test" in it, or its folder
    is called test, test-..., test_clean, test_other or test_set.

    >>> names_test_set("exp/nbest.test-clean.jsonl"), names_test_set("exp/dev/latest.jsonl")
    (True, False)
    """
    parts = PurePath(os.fspath(path)).parts
    if not parts:
        return False
    folder = parts[-2].lower() if len(parts) > 1 else ""
    words = re.split(r"[^a-z]+", parts[-1].lower())
    return "test" in words or bool(re.fullmatch(r"test([-.].*|_(clean|other|set))?", folder))


def refuse_test_set(
    nbest: Optional[PathLike], ref: Optional[PathLike], lattice: Optional[PathLike] = None
) -> None:
    """Raise InputError when the lists, lattices or references are called a test set.

    Called so by a path (see ``names_test_set``), or by the entry "set" of the lists' first line.
    """
    expected = "a dev set: weights are never tuned on test (--allow-test does it all the same)"
    for path in (nbest, ref, lattice):
        if path is not None and names_test_set(path):
            raise InputError(path, None, "a set that is called test", expected)
    if nbest is None:
        return
    for number, line in islice(read_lines(nbest), 1):
        try:
            header = json.loads(line)
        except json.JSONDecodeError as problem:
            raise InputError(nbest, number, f"bad JSON ({problem.msg})", "a header") from None
        name = header.get("set") if isinstance(header, dict) else None
        if isinstance(name, str) and re.match(r"test\b|test[-_.]", name.lower()):
            raise InputError(nbest, number, f"the set {name!r}", expected)
