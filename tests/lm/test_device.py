"""Denormals: where they count as 0, and that nothing else of a process changes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from asrprune.lm.device import without_denormals
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.padded import PaddedScorer
from asrprune.lm.engines.pytorch.prefixes import CachedPrefixes
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.open import open_model
from asrprune.lm.training.batches import BatchStream, make_batch
from asrprune.lm.training.loop import Budget, TrainingLoop
from asrprune.lm.training.nll import sentence_nll
from asrprune.lm.training.optimizers import OptimizerConfig
from asrprune.text.corpus import TokenStream
from tests.small_lm import DrawnTokenizer

CPU = EngineOptions(threads=1, device="cpu")
TINY = 1e-40
"""Of float32 a denormal."""

pytestmark = pytest.mark.skipif(
    not torch.set_flush_denormal(False), reason="this processor keeps denormals"
)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)


def flushed() -> tuple[bool, bool]:
    """Whether torch and numpy take a denormal for 0 in this thread."""
    return not torch.tensor([TINY]).mul(1.0).item(), not (np.float32(TINY) * np.float32(1.0))


def test_denormals_are_0_inside_the_block_alone() -> None:
    assert flushed() == (False, False)
    with without_denormals():
        assert flushed() == (True, True)
        with without_denormals():  # an engine in a training run
            assert flushed() == (True, True)
        assert flushed() == (True, True)
    assert flushed() == (False, False)


def test_they_are_kept_again_after_an_error() -> None:
    @without_denormals()
    def fails() -> None:
        assert flushed() == (True, True)
        raise ValueError("no")

    for _ in range(2):  # a decorator serves every call
        with pytest.raises(ValueError, match="no"):
            fails()
        assert flushed() == (False, False)


def test_who_does_without_them_goes_on_so() -> None:
    torch.set_flush_denormal(True)
    with without_denormals():
        assert flushed() == (True, True)
    assert flushed() == (True, True)


def test_lms_compute_without_denormals(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model = TransformerLM(ModelShape.uniform(9, 8, 1, 2, max_positions=8))
    found: list[bool] = []
    forward = TransformerLM.forward

    def watched(*args: Any, **more: Any) -> Any:
        found.append(flushed() == (True, True))
        return forward(*args, **more)

    monkeypatch.setattr(TransformerLM, "forward", watched)
    tokenizer = DrawnTokenizer(lambda texts: [[3, 4] for _ in texts])
    batches = BatchStream(TokenStream.from_sentences([[3, 4, 5]]), 8, 1, 8)
    prefixes = CachedPrefixes(model, tokenizer, engine=CPU)
    uses: dict[str, Callable[[], object]] = {
        "tries": lambda: open_model(model, tokenizer, "torch", CPU).score_lists([["a", "b"]]),
        "padded": lambda: PaddedScorer(model, tokenizer, CPU).score_lists([["a", "b"]]),
        "prefixes": lambda: prefixes.score([(prefixes.root(0), "a")]),
        "perplexity": lambda: sentence_nll(model.eval(), make_batch([np.array([3, 4])])),
        "training": TrainingLoop(model, batches, OptimizerConfig(), Budget(max_steps=1)).step,
    }
    for name, use in uses.items():
        found.clear()
        use()
        assert found, name
        assert all(found), name
        assert flushed() == (False, False)


def test_threads_that_come_up_inside_do_without_them_too() -> None:
    lines = [
        "import torch",
        "from asrprune.lm.device import without_denormals",
        "torch.set_num_threads(2)",
        "with without_denormals():",
        f"    print(int(torch.full((1 << 20,), {TINY}).mul_(1.0).count_nonzero()))",
        f"print(float(torch.tensor([{TINY}]).mul(1.0)) > 0)",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "True"]
