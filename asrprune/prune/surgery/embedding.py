"""The tied embedding in fewer bytes: as a product of two factors, or with zeros."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

import torch
from torch import Tensor

from asrprune.lm.model.factors import balance
from asrprune.lm.model.layers import TokenEmbedding
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch
from asrprune.lm.training.distributed import ProcessGroup
from asrprune.prune.selection import lowest
from asrprune.prune.statistics import MatrixStatistics, own_batches
from asrprune.prune.surgery.factorisation import activation_aware


def factor_embedding(
    model: TransformerLM,
    rank: int,
    batches: Iterable[Batch],
    max_tokens: int,
    processes: Optional[ProcessGroup] = None,
) -> TokenEmbedding:
    """The embedding [V, D] as ``[V, rank] x [rank, D]``, for input and output alike.

    Least squares over the logits that the data asks for: of all products of this rank it loses
    least of ``sum_v p(v) E (h . d_v)^2``, where d_v is the change of token v's vector, h the
    final hidden state and p(v) the share of v among the tokens, each counted once more than seen.
    Both are measured on the first ``max_tokens`` tokens (whole batches) of ``batches``, which
    ``processes`` share out.

    Raises ValueError when that saves nothing, ``batches`` holds no token, or the output layer is
    not tied to the embedding.
    """
    if not model.embedding.tied:
        raise ValueError("embedding_rank is given; expected 0, as the output layer is not tied")
    whole = model.embedding.weight.detach()
    stored = whole.numel()
    if model.embedding.projection is not None:
        stored += model.embedding.projection.numel()
        whole = whole @ model.embedding.projection.detach()
    vocab_size, width = whole.shape
    if not 1 <= rank * (vocab_size + width) < stored:
        most = (stored - 1) // (vocab_size + width)
        raise ValueError(f"embedding_rank is {rank}; expected 1 <= embedding_rank <= {most}")
    processes = ProcessGroup(device=model.device) if processes is None else processes
    own = own_batches(batches, max_tokens, processes)
    gram, counts = _measured(model, own, processes)
    root = _shares(counts).sqrt()[:, None]  # [V, 1]
    vectors, projection = activation_aware(whole.double() * root, MatrixStatistics(gram=gram))
    factors = balance((vectors / root)[:, :rank], projection[:rank])
    made = TokenEmbedding(vocab_size, width, rank).to(whole.device)
    assert made.projection is not None
    with torch.no_grad():
        made.weight.copy_(factors[0])
        made.projection.copy_(factors[1])
    return made


def embedding_mask(
    model: TransformerLM,
    sparsity: float,
    batches: Iterable[Batch],
    max_tokens: int,
    processes: Optional[ProcessGroup] = None,
) -> Tensor:
    """Which weights of the tied embedding [V, D] stay (True) when the share ``sparsity`` leaves.

    Those with the largest ``w_vd^2 sqrt(p(v)) E h_d^2`` stay, with h and p(v) as for
    ``factor_embedding``. With p(v) instead of its root that would be each weight's own part in the
    logits' error there; but each row is read as an input too, and of the exponents that were tried
    the root left the lowest perplexity (tests/bench/RESULTS.md).

    Raises ValueError when the embedding is not tied or has factors, or ``batches`` holds no token.
    """
    check_maskable(model)
    processes = ProcessGroup(device=model.device) if processes is None else processes
    gram, counts = _measured(model, own_batches(batches, max_tokens, processes), processes)
    weight = model.embedding.weight.detach().double()
    scores = weight.square() * _shares(counts).sqrt()[:, None] * gram.diagonal()
    return ~lowest(scores, round(sparsity * scores.numel()))


def check_maskable(model: TransformerLM) -> None:
    """Raises ValueError when the embedding is not tied or has factors."""
    if not model.embedding.tied:
        raise ValueError("embedding_sparsity is given; expected 0: the output layer is not tied")
    if model.embedding.projection is not None:
        raise ValueError(
            "embedding_sparsity is given; expected 0, as the embedding has two factors"
        )


def _shares(counts: Tensor) -> Tensor:
    """p(v) [V], each token counted once more than seen."""
    return (counts + 1.0).div(counts.sum() + len(counts))


def _measured(
    model: TransformerLM, batches: Iterable[Batch], processes: ProcessGroup
) -> tuple[Tensor, Tensor]:
    """Second moment of the final hidden state [D, D], and how often each token occurred [V]."""
    width, vocab_size = model.width, model.embedding.vocab_size
    gram = torch.zeros(width, width, dtype=torch.float64, device=model.device)
    counts = torch.zeros(vocab_size, dtype=torch.float64, device=model.device)
    training = model.training
    model.eval()
    for batch in batches:
        scored = batch.targets != IGNORED
        with torch.no_grad():
            hidden = model(batch.tokens)[0][scored].double()  # [N, D]
        gram += hidden.T @ hidden
        counts += torch.bincount(batch.targets[scored], minlength=vocab_size)
    model.train(training)
    processes.add_up([gram, counts])
    seen = counts.sum()
    if not seen:
        raise ValueError("no token to measure the embedding on; expected at least one")
    return gram / seen, counts
