"""What every LM of a study is measured on: text, n-best lists, lattices, and the clock."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lattice_sets import read_lattice_sets

from asrprune.api.first_pass import read_nbest
from asrprune.api.lms import open_lm
from asrprune.api.rescoring import rescore_nbest, tune_weights
from asrprune.api.scoring import score_nbest
from asrprune.cli.main import call
from asrprune.core.hypothesis import NBest
from asrprune.core.record import a, a_list_of, a_number, an_object_of, read_record
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.files import read_lines, write_json
from asrprune.lm.open import is_ngram
from asrprune.lm.protocol import LanguageModel
from asrprune.wer.wer import count_errors

BLOCKS = 40
"""Parts of the held-out text; intervals resample them."""
TUNING = "weights.json"
"""The score weights of the dense LM, by list: [of even utterances, of odd ones]."""
DENSE = "dense"


def heldout_blocks(path: Path) -> list[list[str]]:
    """The sentences of the held-out text in BLOCKS parts of neighbours. Raises InputError for fewer
    sentences."""
    lines = [line for _, line in read_lines(path) if line.strip()]
    if len(lines) < BLOCKS:
        raise InputError(path, None, f"{len(lines)} sentences", f"{BLOCKS} at least")
    edges = np.linspace(0, len(lines), BLOCKS + 1).astype(int)
    return [lines[start:stop] for start, stop in zip(edges, edges[1:])]


def read_lists(exp: Path) -> dict[str, list[NBest]]:
    """Name -> lists. Raises InputError for an utterance without a reference or a hypothesis."""
    found = {}
    for path in sorted((exp / "lists").glob("*.jsonl.gz")):
        lists = read_nbest(path)
        for one in lists:
            if one.ref is None or not one.hyps:
                raise InputError(path, None, f"{one.utt} as it is", "a reference, and hypotheses")
        found[path.name.removesuffix(".jsonl.gz")] = lists
    return found


def errors_of(lists: Iterable[NBest], chosen: Mapping[str, str]) -> list[int]:
    """Word errors of each utterance, in the order of the lists."""
    return [count_errors(str(one.ref), chosen[one.utt]).errors for one in lists]


@dataclass(frozen=True)
class Engines:
    """What scores lists, and what lattices: perplexities are always those of ``torch``."""

    lists: str = "torch"
    lattices: str = "torch"

    def settings(self) -> dict[str, str]:
        """As cells keep them; those made before lattices had a choice stay valid."""
        named = {"engine": self.lists}
        return named if self.lattices == "torch" else named | {"lattice_engine": self.lattices}


class Measurement:
    """What every LM of a study is measured on."""

    def __init__(self, exp: Path, engines: Engines) -> None:
        self.exp = exp
        self.blocks = heldout_blocks(exp / "heldout.txt")
        self.lists = read_lists(exp)
        self.lattices = read_lattice_sets(exp)
        if twice := self.lists.keys() & self.lattices.keys():
            expected = "another name than that of lists"
            raise InputError(exp / "lattices", None, ", ".join(sorted(twice)), expected)
        self._engines = engines

    def nll(self, lm: LanguageModel) -> list[float]:
        """-ln P of each block, in nats."""
        return [round(-float(scores.sum()), 3) for scores in lm.score_lists(self.blocks)]

    def scores(self, path: Path) -> dict[str, dict[str, Any]]:
        """Name -> LM scores of the lists, by an engine that is fast rather than exact."""
        lm = self._open(path, self._engines.lists)
        return {name: score_nbest(lm, lists) for name, lists in self.lists.items()}

    def tune(self, path: Path) -> None:
        """Write TUNING for the LM."""
        halves = {}
        for name, scores in self.scores(path).items():
            lists = self.lists[name]
            refs = {one.utt: str(one.ref) for one in lists}
            tuned = [tune_weights(lists[n::2], scores, refs, objective="errors") for n in (0, 1)]
            halves[name] = [asdict(one.weights) for one in tuned]
        for name, one in self.lattices.items():
            halves[name] = [asdict(w) for w in one.tuned(path, self._engines.lattices)]
        write_json(self.exp / TUNING, halves)

    def errors(self, path: Path) -> dict[str, list[int]]:
        """List or lattices -> word errors of each utterance, each half under the weights of the
        other."""
        take = an_object_of(a_list_of(a(ScoreWeights)))
        halves = take(read_record(self.exp / TUNING).values)
        found = {}
        for name, scores in self.scores(path).items():
            lists, (of_even, of_odd) = self.lists[name], halves[name]
            chosen = rescore_nbest(lists[0::2], scores, of_odd)
            chosen |= rescore_nbest(lists[1::2], scores, of_even)
            found[name] = errors_of(lists, chosen)
        if self.lattices:
            lm = self._open(path, self._engines.lattices)
            for name, one in self.lattices.items():
                found[name] = one.errors(lm, *halves[name])
        return found

    def _open(self, path: Path, engine: str) -> LanguageModel:
        return open_lm(path) if is_ngram(path) else open_lm(path, engine, threads=1)

    def speed(self, paths: Sequence[Path]) -> list[dict[str, float]]:
        """Times as fast as the dense LM's padded float32 batch (``times_padded``), and as the dense
        LM beside it (``times_dense``), each with its fastest engine."""
        out = self.exp / "speed" / str(paths[0]).replace("/", "-")
        systems = [f"{n}={path}" for n, path in enumerate([self.exp / DENSE, *paths])]
        lists = sorted((self.exp / "lists").glob("*.jsonl.gz"))[0]
        how = ["--nbest", str(lists), "--limit", "8", "--repeats", "3", "--engine", "fastest"]
        how += ["--threads", "1", "--baseline", "padded", "--no-check", "--out", str(out)]
        call(["bench", "--system", *systems, *how])
        found = [_speed_up(out / str(n) / "bench.json") for n in range(len(systems))]
        shutil.rmtree(out)
        return [
            {"times_padded": round(one, 3), "times_dense": round(one / found[0], 4)}
            for one in found[1:]
        ]


def _speed_up(path: Path) -> float:
    return read_record(path).part("times_padded").get("median", a_number)
