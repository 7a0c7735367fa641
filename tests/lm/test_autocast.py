"""``torch.autocast`` around a call: scores stay those of the weights' numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import asrprune
from asrprune.api.example import SENTENCES, tiny_lm
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.onnx_runtime.calibration import drawn_sentences
from asrprune.lm.open import open_early, open_padded
from asrprune.lm.scoring.forests import ScoringOptions
from asrprune.lm.training.batches import make_batch
from asrprune.lm.training.nll import sentence_nll

TEXTS = [list(SENTENCES), list(SENTENCES[:1])]


def scores(name: str, folder: Path) -> Any:
    """What the one called ``name`` makes of the tiny LM."""
    cpu = EngineOptions(threads=1, device="cpu")
    model = tiny_lm().model
    if name == "drawn":
        return drawn_sentences(model, 1, 2)
    if name == "perplexity":
        return sentence_nll(model, make_batch([np.arange(3, 9), np.arange(5, 20)])).numpy()
    if name == "words":
        words = asrprune.open_lm(tiny_lm()).words()
        (found,) = words.score_words([[text.split() for text in SENTENCES]])
        return np.concatenate(found)
    if name == "padded":
        lm = open_padded(folder, cpu, ScoringOptions(100))
        return np.concatenate(lm.score_lists(TEXTS))
    if name == "early":
        lists = [np.zeros(len(one)) for one in TEXTS]
        early = open_early(folder, "torch", cpu).score_lists(TEXTS, lists, 1.0)
        return np.concatenate([one.lm for one in early])
    return np.concatenate(asrprune.open_lm(tiny_lm(), name).score_lists(TEXTS))


@pytest.mark.parametrize(
    "name", ["torch", "sparse", "padded", "early", "words", "perplexity", "drawn"]
)
def test_autocast_of_the_caller_has_no_part_in_scores(name: str, tmp_path: Path) -> None:
    folder = asrprune.save_checkpoint(tmp_path / "lm", tiny_lm())
    expected = scores(name, folder)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = scores(name, folder)
        assert torch.is_autocast_enabled("cpu")
    if name == "drawn":
        assert found == expected
    else:
        np.testing.assert_array_equal(found, expected)
