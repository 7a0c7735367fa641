"""How many nodes torch computes in a forward pass: as many as are fastest and as there is memory
for."""

from __future__ import annotations

import torch

from asrprune.lm.engines.engine import GPU_TOKEN_BUDGET, cpu_token_budget
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.trie import QUERIES

_SHARE = 0.8  # of the free memory, since pieces of it cannot be used
_OUTPUT_BYTES = 1 << 29  # logits and log-probabilities that exist at one time


def token_budget(model: TransformerLM, device: torch.device, deepest: int) -> int:
    """``Engine.token_budget`` of torch for a model on ``device``: on a GPU at least one path, and
    no more than the memory that is free now holds."""
    if device.type != "cuda":
        return cpu_token_budget(1)
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    fitting = int((_SHARE * free - _OUTPUT_BYTES) / node_bytes(model, deepest))
    return max(deepest, min(GPU_TOKEN_BUDGET, fitting))


def node_bytes(model: TransformerLM, deepest: int) -> int:
    """What a pass holds at most for each of its nodes, of tries ``deepest`` nodes deep: keys and
    values of every block, what one block computes, and the mask."""
    shape, size = model.shape, model.dtype.itemsize
    seen = QUERIES + deepest  # keys that a row attends to
    copies = seen / QUERIES  # of each key and value
    kept = sum(2 * block.kv_heads for block in shape.blocks) * shape.head_dim * copies
    heads = max((block.heads for block in shape.blocks), default=0) * shape.head_dim
    ffn = max((block.ffn for block in shape.blocks), default=0)
    inside = max(4 * heads + 4 * heads * copies, 3 * ffn)
    stream = 6 * shape.d_model
    return int(size * (kept + inside + stream + 2 * seen) + 4 * seen)
