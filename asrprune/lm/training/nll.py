"""-ln P of whole sentences: what validation and perplexity add up."""

from __future__ import annotations

from typing import Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from asrprune.lm.device import without_autocast, without_denormals
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch, make_batch, sorted_batches
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.lm.training.loss import LOGITS_AT_ONCE
from asrprune.text.corpus import TokenStream

TOKENS_PER_BATCH = 4096
"""Padded tokens of one forward pass."""


@without_denormals()
def sentence_nll(model: TransformerLM, batch: Batch) -> Tensor:
    """-ln P(sentence, </s> | <s>) of each sentence: [B] float64.

    The model must be in evaluation mode; logits are made for a bounded number of positions at a
    time, log-softmax is float32 and the sum float64.
    """
    sums = torch.zeros(len(batch.tokens), dtype=torch.float64, device=batch.tokens.device)
    sentence, place = (batch.targets != IGNORED).nonzero(as_tuple=True)  # [N], [N]
    wanted = batch.targets[sentence, place]  # [N]

    with torch.no_grad(), without_autocast():
        hidden = model(batch.tokens)[0][sentence, place]  # [N, D]
        rows = max(1, LOGITS_AT_ONCE // model.embedding.vocab_size)
        for start in range(0, len(hidden), rows):
            here = slice(start, start + rows)
            logits = model.logits(hidden[here]).float()  # [n, V]
            nll = functional.cross_entropy(logits, wanted[here], reduction="none").double()  # [n]
            sums.index_add_(0, sentence[here], nll)
    return sums


def stream_nll(
    model: TransformerLM,
    stream: TokenStream,
    indices: NDArray[np.int64],
    tokens_per_batch: int = TOKENS_PER_BATCH,
    group: Optional[ProcessGroup] = None,
) -> NDArray[np.float64]:
    """-ln P of the sentences ``indices`` of the stream, in that order: [len(indices)] float64.

    The model is put in evaluation mode for it and then back. Each sentence must fit the model. The
    processes of ``group`` share out the batches; all get all values, those of one process.
    """
    device = model.device
    rank, world = (0, 1) if group is None else (group.rank, group.world)
    was_training = model.training
    model.eval()
    values, count = np.zeros(stream.n_sentences), 0
    for members, batch in sorted_batches(stream, indices, tokens_per_batch):
        count = batch.number + 1
        if batch.number % world == rank:
            values[members] = sentence_nll(model, batch.to(device)).cpu().numpy()
    if 0 < count % world <= rank:  # a model that is split needs every process for each pass
        sentence_nll(model, make_batch([]).to(device))
    model.train(was_training)
    if group is None:
        return values[indices]
    found = torch.from_numpy(values[indices]).to(device)
    group.add_up([found])
    return found.cpu().numpy()
