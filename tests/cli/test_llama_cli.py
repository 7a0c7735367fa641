"""The whole path with a llama: trained, pruned every way, and asked by lists and lattices."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import from_arcs
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.jsonl import write_nbest
from asrprune.firstpass.formats.slf import write_slf_files
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.open import open_lm
from asrprune.wer.kaldi_text import read_kaldi_text
from tests.quick import slow

WORDS = ["in", "the", "beginning", "god", "created", "heaven", "and", "earth"]
MODEL = {
    "model.architecture": "llama",
    "model.d_model": 16,
    "model.n_heads": 4,
    "model.kv_heads": 2,
    "model.n_layers": 2,
    "model.tied": "false",
    "model.details.qkv_bias": "true",
    "model.max_positions": 32,
    "max_steps": 6,
    "tokens_per_batch": 300,
    "precision": "fp32",
}
LISTS = [
    NBest(
        f"u{number}",
        tuple(
            Hypothesis(" ".join(WORDS[(number + i) % 8 : (number + i) % 8 + 3]), -9.0 - i, -3.0)
            for i in range(6)
        ),
        audio_s=1.0,
    )
    for number in range(4)
]


def call(*args: object) -> int:
    return main([str(arg) for arg in args])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    draw = random.Random(0)
    lines = [" ".join(draw.choices(WORDS, k=draw.randint(1, 8))) for _ in range(200)]
    (folder / "text").write_text("\n".join(lines) + "\n", encoding="utf-8")
    flags = ["--vocab-size", 40, "--model-type", "bpe", "--out", folder / "data"]
    assert call("tokenize", "--text", folder / "text", "--valid", folder / "text", *flags) == 0
    settings = [part for item in MODEL.items() for part in ("--set", f"{item[0]}={item[1]}")]
    out = folder / "lm"
    assert call("train", "--data", folder / "data", *settings, "--out", out) == 0
    write_nbest(folder / "nbest.jsonl", LISTS, {})
    return folder


def test_the_checkpoint_says_what_was_trained(place: Path) -> None:
    config = json.loads((place / "lm" / "config.json").read_text(encoding="utf-8"))
    assert config["architecture"] == "llama"
    shape = load_checkpoint(place / "lm").model.shape
    assert (shape.blocks[0].heads, shape.blocks[0].groups, shape.tied) == (4, (2, 2), False)
    assert dict(shape.details) == {"qkv_bias": True}
    assert shape.blocks[0].ffn == 48  # 8/3 of 16, to a multiple of 8


@pytest.mark.parametrize("method", ["structured", *slow(["low-rank", "width", "unstructured"])])
def test_members_are_scored_by_lists_and_lattices(place: Path, method: str) -> None:
    out = place / method
    flags = ["--data", place / "data", "--method", method, "--sparsity", "0.3,0.5"]
    more = ["--schedule", "linear", "--steps", 2, "--fine-tune-tokens", 600, "--device", "cpu"]
    more += ["--set", "options.min_width=4", "--set", "options.multiple_of=2"]
    more += ["--set", "options.min_rank=2", "--statistics-tokens", 200]
    assert call("prune", "--lm", place / "lm", *flags, *more, "--out", out) == 0
    lm = out / "sparsity-0.50"
    nbest, scores = place / "nbest.jsonl", out / "scores"
    for engine in ("torch", "onnx"):
        assert (
            call("lmscore", "--lm", lm, "--nbest", nbest, "--engine", engine, "--out", scores) == 0
        )
    weights = {"acoustic": 0.1, "first_lm": 0.0, "word_bonus": 0.0, "lm": [1.0]}
    head = {"format": "asrprune-weights", "version": 1, "weights": weights}
    (out / "w.json").write_text(json.dumps({**head, "lms": ["lm"]}), encoding="utf-8")
    common = ["--weights", out / "w.json"]
    assert call("rescore", "--nbest", nbest, "--scores", scores, *common, "--out", out / "hyp") == 0
    early = ["--early-lm", lm, "--out", out / "early"]
    assert call("rescore", "--nbest", nbest, *common, *early) == 0
    best = read_kaldi_text(out / "hyp")
    assert read_kaldi_text(out / "early") == best
    texts = [[hyp.text for hyp in one.hyps] for one in LISTS]
    for one, values in zip(LISTS, open_lm(lm).score_lists(texts)):
        totals = [0.1 * float(hyp.acoustic or 0.0) for hyp in one.hyps] + values
        assert best[one.utt] == one.hyps[int(np.argmax(totals))].text


def test_the_beam_over_a_lattice_finds_what_scoring_all_finds(place: Path) -> None:
    arcs = [
        (i, i + 1, word, -float(i), -1.0)
        for i, slot in enumerate((WORDS[:2], WORDS[2:5], WORDS[5:7]))
        for word in slot
    ]
    first = ScoreWeights(1.0, 1.0, (), 0.0)
    write_slf_files(place / "slf", [from_arcs("u", 4, 0, 3, arcs, weights=first)])
    weights = {"acoustic": 1.0, "first_lm": 0.0, "word_bonus": 0.0, "lm": [1.0]}
    head = {"format": "asrprune-weights", "version": 1, "weights": weights}
    (place / "w.json").write_text(json.dumps({**head, "lms": ["lm"]}), encoding="utf-8")
    flags = ["--lattice", place / "slf", "--format", "slf", "--lm", place / "lm"]
    flags += ["--weights", place / "w.json", "--device", "cpu"]
    none = ["--history", "none", "--beam", "none", "--state-hypotheses", "none"]
    none += ["--frontier", "none"]
    assert call("rescore", *flags, "--mode", "beam", *none, "--out", place / "beam") == 0
    assert call("rescore", *flags, "--mode", "exact", "--out", place / "exact") == 0
    assert read_kaldi_text(place / "beam") == read_kaldi_text(place / "exact")
    texts = [f"{a} {b} {c}" for a in WORDS[:2] for b in WORDS[2:5] for c in WORDS[5:7]]
    scores = open_lm(place / "lm").score_lists([texts])[0]
    assert read_kaldi_text(place / "beam")["u"] == texts[int(np.argmax(scores))]
