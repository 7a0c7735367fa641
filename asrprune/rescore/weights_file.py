"""Tuned weights on disk, with the set that they were tuned on."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import PurePath
from typing import Any, Optional

from asrprune.core.hypothesis import NBest
from asrprune.core.record import (
    Record,
    a_label,
    a_list_of,
    a_number,
    a_ratio,
    an_object,
    one_of,
    read_record,
)
from asrprune.core.spool import SortedLines
from asrprune.core.units import UNITS, WORD
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.files import PathLike, parse_json, read_lines, write_json

FORMAT, VERSION = "asrprune-weights", 1

log = logging.getLogger(__name__)


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
        """Raise InputError unless the LMs called ``names`` are as many as the LM weights, and for
        the same names in another order. Where names differ, which LM gets which weight is logged:
        an LM may take the place of another. An n-gram's name may end with its order.
        """
        if len(names) != len(self.weights.lm):
            found = f"{len(self.weights.lm)} LM weights ({', '.join(self.lms) or 'none'})"
            raise InputError(path, None, found, f"{len(names)}, one for each LM")
        tuned, given = ([_without_order(name) for name in some] for some in (self.lms, names))
        if tuned == given:
            return
        if sorted(tuned) == sorted(given):
            found = f"LM weights for {', '.join(self.lms)}"
            raise InputError(path, None, found, f"{', '.join(names)}, the order of the LMs")
        pairs = zip(self.weights.lm, self.lms, names)
        texts = [f"{weight:.4g} of {old} to {new}" for weight, old, new in pairs]
        log.info("%s: LM weights go to other LMs: %s", path, ", ".join(texts))


def _without_order(name: str) -> str:
    return re.sub(r" \(\d+-gram\)$", "", name)


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
    return _tuned(read_record(path))


def _tuned(record: Record) -> WeightsFile:
    record.check_format(FORMAT, VERSION, "a weights file")
    weights = _weights(record)
    lms = record.find("lms", a_list_of(a_label)) or ()
    if len(lms) != len(weights.lm):
        found = f"{len(weights.lm)} LM weights, {len(lms)} lms"
        raise InputError(record.path, None, found, "one name per LM weight")
    dev = record.find("dev", an_object) or {}
    provenance = record.find("provenance", an_object) or {}
    return WeightsFile(weights, lms, dev, provenance, record.find("posterior_scale", a_ratio))


def read_any_weights(path: PathLike) -> WeightsFile:
    """Weights of ``tune``, or the first pass's own (without LM weights): whatever ``path`` holds.

    Raises InputError when it holds neither.
    """
    record = read_record(path)
    if record.values.get("format") == FORMAT:
        return _tuned(record)
    return WeightsFile(_weights(record))


def tuned_on(weights: WeightsFile, hashes: Mapping[str, str]) -> bool:
    """Whether the weights were tuned on the set with these ``set_hashes``: the same lists, or
    other lists of the same utterances."""
    return any(weights.dev.get(name) == value for name, value in hashes.items())


def read_first_pass(path: PathLike) -> ScoreWeights:
    """The first pass's own weights: key "weights" of the JSON that ``first-pass`` writes.

    They hold no LM weights. Raises InputError for a file without them.
    """
    return _weights(read_record(path))


def _weights(record: Record) -> ScoreWeights:
    """What stands under "weights", every term but the LMs'. Raises InputError for anything else."""
    if "weights" not in record.values:
        expected = "an object weights with acoustic, first_lm, word_bonus"
        raise InputError(record.path, None, "no weights", expected)
    weights = record.part("weights")
    acoustic, first_lm, word_bonus = (
        weights.get(name, a_number) for name in ("acoustic", "first_lm", "word_bonus")
    )
    lm = weights.find("lm", a_list_of(a_number)) or ()
    unit = weights.find("unit", one_of(*UNITS)) or WORD
    return ScoreWeights(acoustic, first_lm, lm, word_bonus, unit)


class SetHashes:
    """The ``set_hashes`` of lists that are added one by one."""

    def __init__(self) -> None:
        self._lists = SortedLines()
        self._utterances = SortedLines()

    def add(self, nbest: NBest) -> None:
        """Add a list."""
        self._lists.add(f"{nbest.utt} {nbest.digest}")
        self._utterances.add(nbest.utt)

    def value(self) -> dict[str, str]:
        """The hashes of those added so far."""
        return {"nbest_hash": _hash(self._lists), "utterances_hash": _hash(self._utterances)}


def set_hashes(lists: Iterable[NBest]) -> dict[str, str]:
    """``nbest_hash`` of utterances and hypotheses, ``utterances_hash`` of the ids alone.

    Neither depends on the order of the utterances or on how the file is compressed.
    """
    hashes = SetHashes()
    for nbest in lists:
        hashes.add(nbest)
    return hashes.value()


def utterances_hash(utts: SortedLines) -> str:
    """The ``utterances_hash`` of ``set_hashes``, of the ids alone."""
    return _hash(utts)


def reference_hash(refs: Iterable[tuple[str, str]]) -> str:
    """A hash of the references, pairs of id and words in any order."""
    return _hash(SortedLines(f"{utt} {text}" for utt, text in refs))


def _hash(lines: SortedLines) -> str:
    digest, between = hashlib.sha256(), ""
    for line in lines:
        digest.update(f"{between}{line}".encode())
        between = "\n"
    return digest.hexdigest()[:16]


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
        header = parse_json(nbest, number, line)
        name = header.get("set") if isinstance(header, dict) else None
        if isinstance(name, str) and re.match(r"test\b|test[-_.]", name.lower()):
            raise InputError(nbest, number, f"the set {name!r}", expected)
