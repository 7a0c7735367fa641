"""A Kaldi decode folder end to end: lattices in, rescored lattices and their errors out."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asrprune.core.lattice.lattice import Lattice
from asrprune.core.lattice.paths import best_path
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.table import FORMATS, read_items
from asrprune.wer.wer import Scoring, score_texts

REFS = {"s-1": "the cat", "s-2": "a cat"}
WORDS = "<eps> 0\nthe 1\na 2\ncat 3\ncap 4\n"
LATTICES = {
    "s-1": "0\t1\t1\t1.0,20.0,7_7\n0\t1\t2\t1.5,19.0,7_8\n"
    "1\t2\t4\t1.0,30.0,\n1\t2\t3\t3.0,31,\n2\n",
    "s-2": "0\t1\t2\t2.0,20.0,\n1\t2\t3\t1.0,30.0,9\n1\t2\t4\t1.0,28.0,9_9\n2\t0.5,0.0,\n",
}
COST = {"": 0.0, "the": 1.0, "a": 1.25, "cat": 1.0, "cap": 5.0}
"""The new LM: negative natural log of each word."""


@pytest.fixture
def decode(tmp_path: Path) -> Path:
    folder = tmp_path / "decode"
    folder.mkdir()
    for job, (utt, text) in enumerate(LATTICES.items(), start=1):
        (folder / f"lat.{job}.gz").write_bytes(gzip.compress(f"{utt} \n{text}\n".encode()))
    (folder / "num_jobs").write_text("2\n", encoding="utf-8")
    (tmp_path / "words.txt").write_text(WORDS, encoding="utf-8")
    return folder


def _read(folder: Path, words: Path) -> list[Lattice]:
    items = list(read_items("kaldi-lat", str(folder), {"words": str(words)}))
    return [item for item in items if isinstance(item, Lattice)]


def _rescored(lattice: Lattice) -> Lattice:
    return replace(lattice, lm=np.array([-COST[word] for word in lattice.arc_words()]))


@pytest.mark.parametrize("name", ["kaldi-lat", "kaldi-lat-plain", "kaldi-lat-binary"])
def test_rescored_folders_score_as_kaldi_would(tmp_path: Path, decode: Path, name: str) -> None:
    words = tmp_path / "words.txt"
    entry = FORMATS[name]
    assert entry.write is not None
    out = tmp_path / "rescored"
    ours = [_rescored(lattice) for lattice in _read(decode, words)]
    entry.write(str(out), iter(ours), words=str(words), like=str(decode))
    assert sorted(path.name for path in out.iterdir()) == ["lat.1.gz", "lat.2.gz", "num_jobs"]
    again = _read(out, words)
    scorings: dict[tuple[int, float], Scoring] = {}
    for lmwt in (1, 10):
        for penalty in (0.0, 0.5):
            weights = ScoreWeights(1.0 / lmwt, 1.0, (), -penalty)
            hyps = {one.utt: best_path(one, weights) for one in again}
            assert hyps == {one.utt: best_path(one, weights) for one in ours}
            texts = {utt: hyp.text for utt, hyp in hyps.items() if hyp is not None}
            scorings[lmwt, penalty] = score_texts(REFS, texts)
    # at LMWT 10 the new LM finds every "cat"; "a" and "the" differ by less than the acoustics
    best = min(scorings, key=lambda key: (scorings[key].counts.wer_percent, *key))
    assert best == (10, 0.0)
    assert scorings[best].kaldi_lines().startswith("%WER 0.00 [ 0 / 4, 0 ins, 0 del, 0 sub ]")
    assert scorings[1, 0.0].kaldi_lines().startswith("%WER 25.00 [ 1 / 4,")
