"""Keys and values that stay between passes: in whatever order nodes are computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.nodes import CachedModel
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.trie import Forest, build_forest
from tests.small_lm import drawn_model

SIZES = (13, 16, 2, 4, 16, 12)
SHAPES = {
    "gpt2": ModelShape.uniform(*SIZES),
    "llama": ModelShape.uniform(*SIZES, architecture="llama", kv_heads=2, head_dim=8),
}
LISTS = [[[3, 4, 5], [3, 4, 6, 7], [8], [8, 9, 10, 11], []], [[4, 4], [5, 4, 3]]]
TARGET = 6


def path(forest: Forest, node: int) -> list[int]:
    """The tokens from the root to the node."""
    above = [] if forest.parent[node] < 0 else path(forest, int(forest.parent[node]))
    return [*above, int(forest.tokens[node])]


def expected(model: TransformerLM, forest: Forest) -> list[float]:
    """ln p(TARGET | path) of every node, each path by itself."""
    with torch.no_grad():
        last = [model(torch.tensor([path(forest, node)]))[0][0, -1] for node in range(len(forest))]
        return [float(model.logits(one).log_softmax(-1)[TARGET]) for one in last]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("width", [2, 100])
def test_waves_in_any_order_give_the_scores_of_whole_paths(name: str, width: int) -> None:
    """Every wave computes some of what it can reach, drawn; one forest after another."""
    model = drawn_model(SHAPES[name])
    cached = CachedModel(model, torch.float32, EngineOptions(threads=1, device="cpu"))
    draw = np.random.default_rng(0)
    for lists in (LISTS, LISTS[::-1]):
        forest = build_forest(lists, bos=1)
        cached.start(forest)
        found = np.full(len(forest), np.nan)
        computed = np.zeros(len(forest), bool)
        waves = 0
        while not computed.all():
            ready = ~computed & ((forest.parent < 0) | computed[forest.parent])
            wave = np.flatnonzero(ready & (draw.random(len(forest)) < 0.5))
            for batch in cached.batches(wave, computed, 8, width):
                sources = np.arange(len(batch.nodes))
                targets = np.full(len(batch.nodes), TARGET)
                found[batch.nodes] = cached.compute(batch, sources, targets)
                computed[batch.nodes] = True
            waves += 1
        assert waves > 4
        np.testing.assert_allclose(found, expected(model, forest), rtol=0, atol=1e-4)
