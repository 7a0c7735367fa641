"""Log-probabilities of chosen tokens without the full [nodes, V] log-softmax."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

VOCAB_CHUNK = 2048
"""Columns of the output layer that are multiplied at a time (ENGINES.md: fastest and small)."""

_PAIR_CHUNK = 8192

_LOGITS_AT_ONCE = 1 << 26


def log_sum_exp(features: Tensor, weight: Tensor, chunk: int = VOCAB_CHUNK) -> Tensor:
    """ln sum_v exp(features . weight_v) for every row: [N, D], [V, D] to [N], float32.

    The vocabulary is taken ``chunk`` columns at a time with a running maximum M and sum S of
    exp(logit - M), so memory is N * chunk. The products are formed in the dtype of ``features``;
    maximum, exponentials and sums are always float32. A GPU takes rows at a time instead
    (``log_sum_exp_of_rows``): there memory then does not grow with N.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; expected >= 1")
    if features.is_cuda:
        return log_sum_exp_of_rows(features, weight)
    maximum = features.new_full((len(features),), -torch.inf, dtype=torch.float32)
    total = torch.zeros_like(maximum)
    for part in torch.split(weight, chunk):
        logits = functional.linear(features, part).float()  # [N, chunk]
        new_maximum = torch.maximum(maximum, logits.amax(dim=1))
        logits.sub_(new_maximum[:, None]).exp_()
        total = total * (maximum - new_maximum).exp_() + logits.sum(dim=1)
        maximum = new_maximum
    return maximum + total.log()


def log_sum_exp_of_rows(
    features: Tensor, weight: Tensor, logits_at_once: int = _LOGITS_AT_ONCE
) -> Tensor:
    """The same in as many rows at a time as have at most so many logits: a logit less its
    log-probability. torch reads and writes each logit once for it, as it computes a softmax in one
    kernel on a GPU, in float32."""

    def one(part: Tensor) -> Tensor:
        logits = functional.linear(part, weight)  # [n, V]
        return logits[:, 0].float() - logits.log_softmax(1, dtype=torch.float32)[:, 0]

    rows = max(1, logits_at_once // len(weight))
    return torch.cat([one(part) for part in torch.split(features, rows)])


def pair_logits(features: Tensor, weight: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
    """The logit features[source] . weight[target] of every pair, [P] float32."""
    parts = []
    for start in range(0, len(sources), _PAIR_CHUNK):
        here = slice(start, start + _PAIR_CHUNK)
        parts.append(
            (features[sources[here]] * weight[targets[here]]).sum(dim=1, dtype=torch.float32)
        )
    return torch.cat(parts) if parts else features.new_zeros(0, dtype=torch.float32)


def pair_log_probs(
    features: Tensor,
    weight: Tensor,
    sources: Tensor,
    targets: Tensor,
    chunk: int = VOCAB_CHUNK,
) -> Tensor:
    """ln softmax(features[source] weight^T)[target] of every pair, [P] float64.

    ``features`` [N, D] are what the rows of the output ``weight`` [V, D] are multiplied with;
    ``sources`` [P] index the features and ``targets`` [P] the vocabulary.
    """
    normaliser = log_sum_exp(features, weight, chunk).double()  # [N]
    return pair_logits(features, weight, sources, targets).double() - normaliser[sources]
