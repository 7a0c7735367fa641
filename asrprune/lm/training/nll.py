"""-ln P of whole sentences: what validation and perplexity add up."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch, sorted_batches
from asrprune.lm.training.loss import LOGITS_AT_ONCE
from asrprune.text.corpus import TokenStream

TOKENS_PER_BATCH = 4096
"""Padded tokens of one forward pass."""


def sentence_nll(model: TransformerLM, batch: Batch) -> Tensor:
    """-ln P(sentence, </s> | <s>) of each sentence: [B] float64.

    The model must be in evaluation mode; logits are made for a bounded number of positions at a
    time, log-softmax is float32 and the sum float64.
    """
    sums = torch.zeros(len(batch.tokens), dtype=torch.float64, device=batch.tokens.device)
    rows = max(1, LOGITS_AT_ONCE // model.embedding.vocab_size)
    with torch.no_grad():
        hidden, _ = model(batch.tokens)  # [B, T, D]
        sentence, place = (batch.targets != IGNORED).nonzero(as_tuple=True)  # [N], [N]
        for start in range(0, len(sentence), rows):
            where = sentence[start : start + rows], place[start : start + rows]
            logits = model.logits(hidden[where]).float()  # [n, V]
            nll = functional.cross_entropy(logits, batch.targets[where], reduction="none")
            sums.index_add_(0, where[0], nll.double())
    return sums


def stream_nll(
    model: TransformerLM,
    stream: TokenStream,
    indices: NDArray[np.int64],
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> NDArray[np.float64]:
    """-ln P of the sentences ``indices`` of the stream, in that order: [len(indices)] float64.

    The model is put in evaluation mode for it and then back. Each sentence must fit the model.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    values = np.zeros(stream.n_sentences)
    for group, batch in sorted_batches(stream, indices, tokens_per_batch):
        values[group] = sentence_nll(model, batch.to(device)).cpu().numpy()
    model.train(was_training)
    return values[indices]
