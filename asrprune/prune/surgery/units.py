"""Units that leave whole: FFN neurons, and attention heads with what they share."""

from __future__ import annotations

import torch
from torch import Tensor

from asrprune.lm.model.anatomy import Block, Coupling


def keep_units(block: Block, coupling: Coupling, kept: Tensor) -> None:
    """Leave only the units ``kept`` (ascending indices) in the block: neurons, or query heads.

    A key and value head leaves with the last of the query heads that share it.
    """
    if coupling.heads:
        _keep_heads(block, coupling, kept)
        return
    for name in coupling.makers:
        block.put(name, block.linear(name).keep_outputs(kept))
    block.put(coupling.reader, block.linear(coupling.reader).keep_inputs(kept))


def count_units(block: Block, coupling: Coupling) -> int:
    """Neurons, or query heads, that the block has."""
    return block.attn.heads if coupling.heads else block.linear(coupling.source).out_features


def unit_cost(block: Block, coupling: Coupling) -> tuple[int, int]:
    """Weights that leave with a neuron or a query head alone, and those that leave with a key and
    value head once none of its query heads is left (0 where nothing is shared)."""
    outputs = {name: block.linear(name).output_cost for name in coupling.makers}
    own = sum(outputs.values()) + block.linear(coupling.reader).input_cost
    if not coupling.heads:
        return own, 0
    size = block.attn.head_dim
    if block.attn.groups is None:
        return size * own, 0
    shared = sum(outputs[name] for name in coupling.makers[1:])  # the first makes the queries
    return size * (own - shared), size * shared


def _keep_heads(block: Block, coupling: Coupling, kept: Tensor) -> None:
    attention = block.attn
    owners = attention.owners.to(kept.device)[kept]
    shared, sizes = torch.unique(owners, return_counts=True)  # ascending
    query, *others = coupling.makers
    block.put(query, block.linear(query).keep_outputs(_rows(kept, attention.head_dim)))
    for name in others:
        block.put(name, block.linear(name).keep_outputs(_rows(shared, attention.head_dim)))
    reader = block.linear(coupling.reader)
    block.put(coupling.reader, reader.keep_inputs(_rows(kept, attention.head_dim)))
    if attention.groups is not None:
        attention.groups = tuple(sizes.tolist())
    attention.heads = len(kept)


def _rows(heads: Tensor, size: int) -> Tensor:
    """The outputs that the heads have in a matrix."""
    return (heads[:, None] * size + torch.arange(size, device=heads.device)).flatten()
