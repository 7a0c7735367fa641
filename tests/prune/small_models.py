"""Small models, plain and awkward, and the text that they are pruned on."""

from __future__ import annotations

import numpy as np
import torch

from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.run.scorer import PruningData
from asrprune.text.corpus import TokenStream

V = 30
PRUNERS = [name for name, method in METHODS.items() if not method.fresh]
FREE = Options(min_heads=0, min_width=0, min_rank=0)
TOKENS = torch.tensor([[1, 3, 4, 9], [1, 7, 7, 2]])


SHAPES = {
    "gpt2": ModelShape.uniform(V, 16, 2, 4, 16, 12),
    "llama": ModelShape.uniform(
        V, 16, 2, 4, 16, 12, architecture="llama", kv_heads=2, head_dim=8, tied=False
    ),
    "qwen2": ModelShape.uniform(
        V, 16, 2, 4, 16, 12, architecture="llama", details={"qkv_bias": True}
    ),
}
"""Both architectures, with and without shared key and value heads and a tied output layer."""


def small_data() -> PruningData:
    rng = np.random.default_rng(0)
    sentences = [rng.integers(3, V, size=rng.integers(0, 9)).tolist() for _ in range(40)]
    return PruningData(TokenStream.from_sentences(sentences))


DATA = small_data()


def small_model(heads: int = 2, seed: int = 0) -> TransformerLM:
    torch.manual_seed(seed)
    return TransformerLM(ModelShape.uniform(V, 16, 2, heads, max_positions=12)).eval()


def logits(model: TransformerLM) -> torch.Tensor:
    with torch.no_grad():
        return model.logits(model(TOKENS)[0])


def tied(model: TransformerLM) -> TransformerLM:
    """All weights equal: every score ties with every other of its kind."""
    with torch.no_grad():
        for _, linear in model.linears():
            linear.weight.fill_(0.25)
    return model


def silent(model: TransformerLM) -> TransformerLM:
    """One block whose matrices and biases are all zero."""
    with torch.no_grad():
        for place, linear in model.linears():
            if place.block == 0:
                linear.weight.zero_()
                linear.bias.zero_()
    return model


CASES = {
    "plain": small_model,
    "one head": lambda: small_model(heads=1),
    "ties": lambda: tied(small_model()),
    "all-zero block": lambda: silent(small_model()),
}
