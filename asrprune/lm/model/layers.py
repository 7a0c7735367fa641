"""The token embedding, which may be the output layer too."""

from __future__ import annotations

import math
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from asrprune.lm.model.matrices import draw


class TokenEmbedding(nn.Module):
    """Token embedding and output layer: one table for both (tied), or one each.

    Tied and whole: ``weight`` [V, D]. Tied and factored: ``weight`` [V, rank] and ``projection``
    [rank, D]. Not tied: ``weight`` and ``output`` [V, D].
    """

    output: Optional[nn.Parameter]
    projection: Optional[nn.Parameter]

    def __init__(
        self, vocab_size: int, d_model: int, rank: Optional[int] = None, tied: bool = True
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, d_model if rank is None else rank))
        draw(self.weight, std=0.02)
        self.register_parameter("projection", None)
        self.register_parameter("output", None)
        if rank is not None:
            self.projection = nn.Parameter(torch.empty(rank, d_model))
            draw(self.projection, std=1.0 / math.sqrt(max(rank, 1)))
        if not tied:
            self.output = nn.Parameter(torch.empty(vocab_size, d_model))
            draw(self.output, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = functional.embedding(tokens, self.weight)  # [..., D or rank]
        return vectors if self.projection is None else vectors @ self.projection  # [..., D]

    @property
    def tied(self) -> bool:
        """Whether the embedding is the output layer too."""
        return self.output is None

    @property
    def output_weight(self) -> nn.Parameter:
        """What ``features`` are multiplied with for the logits: [V, D or rank]."""
        return self.weight if self.output is None else self.output

    @property
    def vocab_size(self) -> int:
        """Number of tokens V."""
        return self.weight.shape[0]

    def features(self, hidden: Tensor) -> Tensor:
        """What the rows of ``output_weight`` are multiplied with: [..., D] to [..., D or rank]."""
        if self.projection is None:
            return hidden
        return functional.linear(hidden, self.projection)

    def logits(self, hidden: Tensor) -> Tensor:
        """Unnormalised log-probabilities of the next token, [..., D] to [..., V]."""
        return functional.linear(self.features(hidden), self.output_weight)
