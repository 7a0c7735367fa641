"""The compiled engine against the reference; compiling takes seconds, so one engine serves all."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch

from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.compiled import with_two_rows
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.engines.table import open_engine
from asrprune.lm.model.shapes import BlockShape, LinearShape, ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.lm.trie import BatchPlan, build_forest, cut
from tests.small_lm import DrawnTokenizer

POSITIONS = 12
CPU = EngineOptions(threads=1, device="cpu")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # of its own modules

needs_compiler = pytest.mark.skipif(
    not hasattr(torch, "compile") or shutil.which(os.environ.get("CXX", "g++")) is None,
    reason="no torch 2, or no C++ compiler here",
)


def encode_batch(texts):
    return [[int(word) for word in text.split()] for text in texts]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    forms = {"attn.q": LinearShape("low_rank", 2), "ffn.up": LinearShape("pivoted", 3)}
    blocks = (BlockShape(2, 16, forms), BlockShape(0, 0, {}))
    return TransformerLM(ModelShape(19, 8, 4, POSITIONS, blocks)).eval()


@pytest.fixture(scope="module")
def compiled(model):
    return open_engine("torch-compile", model, CPU)


@pytest.mark.slow  # compiles for half a minute
@needs_compiler
@pytest.mark.parametrize(
    "lists",
    [
        [["3 4 5 6", "3 4 7", ""], ["8"], []],
        [[""]],
        [["3"]],
        [[" ".join(["5"] * (POSITIONS - 1))]],
        [[f"{first} {second}" for first in range(3, 19) for second in range(3, 19)]] * 9,
    ],
)
def test_scores_are_the_reference_s_and_nothing_is_compiled_again(model, compiled, lists):
    exact = TransformerScorer(
        TorchEngine(model, torch.float32, CPU), DrawnTokenizer(encode_batch), POSITIONS
    )
    found = TransformerScorer(compiled, DrawnTokenizer(encode_batch), POSITIONS)
    assert found.runtime.device == "cpu"
    with torch._dynamo.config.patch(error_on_recompile=True):
        scores = found.score_lists(lists)
    for one, other in zip(scores, exact.score_lists(lists)):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


@pytest.mark.parametrize("lists", [[[""]], [["3 4 5", "3 6"], ["7"]]])
def test_padding_changes_no_score(model, lists):
    forest = build_forest([encode_batch(texts) for texts in lists], bos=1)
    batch, _ = BatchPlan(forest, eos=2).batch(next(cut(forest, 64)))
    padded = with_two_rows(batch)
    assert len(batch.tokens) == 1
    assert len(padded.tokens) == 2
    assert with_two_rows(padded) is padded
    engine = TorchEngine(model, torch.float32, CPU)
    np.testing.assert_allclose(engine.log_probs(padded), engine.log_probs(batch), atol=1e-5)


@pytest.mark.parametrize("start", ["", "backend='inductor' raised:\n"])
def test_what_cannot_be_compiled_is_refused_in_one_line(model, monkeypatch, start):
    class NoCompiler(torch.nn.Module):
        def forward(self, *_, **__):
            raise RuntimeError(f"{start}No working C++ compiler\n\nSet TORCH..")

    def compile_nothing(model, dynamic):
        broken = NoCompiler()
        broken.weight = model.positions
        return broken

    monkeypatch.setattr(torch, "compile", compile_nothing, raising=False)
    reason = f"torch cannot compile the model: {start.strip()} ?No working C.. compiler$"
    with pytest.raises(ValueError, match=reason):
        open_engine("torch-compile", model, CPU)
    monkeypatch.delattr(torch, "compile")
    with pytest.raises(ValueError, match="needs torch 2; found torch"):
        open_engine("torch-compile", model, CPU)
