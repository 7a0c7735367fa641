"""Models of every stored form, away from their first values, to write in other coordinates."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from asrprune.lm.model.shapes import BlockShape, LinearShape, ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.run.scorer import PruningData
from asrprune.prune.surgery.residual import ones_apart
from asrprune.text.corpus import TokenStream

V, D = 30, 16
LINEARS = {
    "attn.q": LinearShape("low_rank", 3),
    "attn.o": LinearShape("low_rank", 4),
    "ffn.up": LinearShape("pivoted", 5),
    "ffn.down": LinearShape("pivoted", 6),
}
SHAPES = {
    "dense": ModelShape.uniform(V, D, 2, 2, max_positions=12),
    "factored": ModelShape(V, D, 8, 12, (BlockShape(2, 20, LINEARS), BlockShape(1, 12))),
    "factored embedding": ModelShape(V, D, 8, 12, (BlockShape(2, 20),), embedding_rank=5),
    "empty sublayers": ModelShape(V, D, 8, 12, (BlockShape(0, 20), BlockShape(2, 0))),
    "no block": ModelShape(V, D, 8, 12, ()),
}
TOKENS = torch.tensor([[1, 3, 4, 9], [1, 7, 7, 2]])


def random_model(shape: ModelShape, equal_last_norm: bool = True) -> TransformerLM:
    """Every parameter away from its first value; the last norm may have equal weights."""
    torch.manual_seed(0)
    model = TransformerLM(shape).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        if equal_last_norm:
            model.norm.weight.fill_(1.3)
    return model


def logits(model: TransformerLM) -> Tensor:
    with torch.no_grad():
        return model.logits(model(TOKENS)[0])


def random_directions(size: int) -> Tensor:
    """An orthonormal basis [size, size - 1] apart from the vector of ones."""
    turn = torch.linalg.qr(torch.randn(size - 1, size - 1, dtype=torch.float64))[0]
    return ones_apart(size) @ turn


def data() -> PruningData:
    rng = np.random.default_rng(0)
    sentences = [rng.integers(3, V, size=rng.integers(0, 9)).tolist() for _ in range(40)]
    return PruningData(TokenStream.from_sentences(sentences))
