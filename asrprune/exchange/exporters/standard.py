"""Which LMs have a shape that the standard formats can say: dense blocks that are all alike."""

from __future__ import annotations

import copy
from typing import Optional

import torch
from torch import nn

from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM


def without_empty_blocks(model: TransformerLM) -> TransformerLM:
    """The same LM without the blocks that have neither heads nor an FFN; ``model`` itself where it
    has none such, or no others.

    Such a block adds its biases to every place; here the last matrix before it does, or else the
    positions.
    """
    kept = [block.heads > 0 or block.ffn > 0 for block in model.shape.blocks]
    if all(kept) or not any(kept):
        return model
    made = copy.deepcopy(model)
    layers = made.layers()
    last = made.anatomy.writers[-1]
    with torch.no_grad():
        into = made.positions
        for block, stays in zip(layers, kept):
            if stays:
                into = block.linear(last).bias
                continue
            for name in made.anatomy.writers:
                bias = block.linear(name).bias
                if bias is not None:
                    assert into is not None  # an architecture has biases, or none
                    into.add_(bias)
    made.blocks = nn.ModuleList(block for block, stays in zip(layers, kept) if stays)
    return made


def obstacle(shape: ModelShape) -> Optional[str]:
    """Why no standard configuration says ``shape``; None where one does."""
    if shape.embedding_rank is not None:
        return "an embedding of low rank"
    if not shape.blocks:
        return "an LM without blocks"
    for index, block in enumerate(shape.blocks):
        for name, form in block.linears.items():
            return f"{index}.{name} of rank {form.rank}"
        if block != shape.blocks[0]:
            return f"block {index} of another shape than block 0"
    block = shape.blocks[0]
    if block.heads == 0 or block.ffn == 0:
        return "blocks without " + ("attention" if block.heads == 0 else "an FFN")
    if block.groups is not None and len(set(block.groups)) > 1:
        return "key and value heads with different numbers of query heads"
    if shape.architecture == "gpt2":
        if block.groups is not None:
            return "a gpt2 whose heads share keys and values"
        if block.heads * shape.head_dim != shape.d_model:
            heads = f"{block.heads} heads of {shape.head_dim}"
            return f"a gpt2 of width {shape.d_model} with {heads}, which transformers has equal"
    elif shape.d_model % block.heads:
        return f"a width of {shape.d_model}, no multiple of {block.heads} heads"
    return None
