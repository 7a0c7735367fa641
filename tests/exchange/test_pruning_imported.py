"""An imported LM is pruned on every axis, trimmed, fine-tuned with distillation and scored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import asrprune
from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.exchange.importing import ImportOptions, import_lm
from asrprune.firstpass.formats.jsonl import write_nbest
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.open import open_lm
from asrprune.prune.methods import METHODS
from tests.exchange.foreign_folders import write_hugging_face
from tests.quick import slow

SENTENCES = ["the cat sat on the mat", "a cat sat", "the hat", "don't the cats sit"] * 3
FREE = {"multiple_of": 1, "min_heads": 0, "min_width": 0, "min_rank": 0}
QUICK = ("structured", "low-rank")


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 with a prompt, a full stop and a newline around its sentences, trimmed."""
    root = tmp_path_factory.mktemp("imported")
    details = {"qkv_bias": True}
    shape = ModelShape.uniform(
        300, 16, 2, 4, 32, 40, architecture="llama", kv_heads=2, head_dim=8, details=details
    )
    write_hugging_face(root / "in", "qwen2", shape)
    options = ImportOptions(prompt="the mat:", sentence_form="stop-newline")
    import_lm("hugging-face", root / "in", root / "whole", options)
    (root / "text").write_text("".join(f"{line}\n" for line in SENTENCES))
    argv = ["trim", "--lm", str(root / "whole"), "--text", str(root / "text")]
    assert main([*argv, "--out", str(root / "lm")]) == 0
    return root / "lm"


@pytest.mark.parametrize("method", [*QUICK, *slow([m for m in METHODS if m not in QUICK])])
def test_every_method_prunes_it(lm: Path, method: str) -> None:
    checkpoint = load_checkpoint(lm)
    half = 0.5 if METHODS[method].masks or method != "depth" else 0.49
    options = FREE if not METHODS[method].masks else {}
    (made,) = asrprune.prune_lm(
        checkpoint, SENTENCES, "taylor", method, "one-shot", (half,), options=options
    )
    scores = open_lm(lm).score_lists([SENTENCES[:4]])[0]
    pruned = asrprune.open_lm(made).score_lists([SENTENCES[:4]])[0]
    assert np.isfinite(pruned).all()
    assert not np.allclose(scores, pruned)
    assert made.tokenizer().prompt == checkpoint.tokenizer().prompt


def test_verbs_from_packing_to_scores(lm: Path, tmp_path: Path) -> None:
    text = lm.parent / "text"
    taken = ["--tokenizer", str(lm / "tokenizer.json"), "--out", str(tmp_path / "data")]
    assert main(["tokenize", "--text", str(text), "--valid", str(text), *taken]) == 0
    argv = ["prune", "--lm", str(lm), "--data", str(tmp_path / "data"), "--method", "structured"]
    argv += ["--criterion", "kfac", "--sparsity", "0.3,0.5", "--steps", "2", "--distill"]
    argv += ["--fine-tune-tokens", "200", "--set", "fine_tuning.batch_tokens=128"]
    argv += ["--set", "options.multiple_of=1", "--threads", "1", "--device", "cpu"]
    assert main([*argv, "--out", str(tmp_path / "small")]) == 0
    member = tmp_path / "small" / "sparsity-0.50"
    lists = [NBest("u1", tuple(Hypothesis(one, -1.0, -2.0) for one in SENTENCES[:3]), 2.0)]
    write_nbest(tmp_path / "nbest", lists)
    argv = ["lmscore", "--lm", str(member), "--nbest", str(tmp_path / "nbest")]
    assert main([*argv, "--out", str(tmp_path / "scores"), "--engine", "torch"]) == 0
    line = json.loads((tmp_path / "scores").read_text().splitlines()[1])
    expected = open_lm(member).score_lists([SENTENCES[:3]])[0]
    np.testing.assert_allclose(line["scores"], expected, atol=1e-4)
