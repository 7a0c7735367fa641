"""The baseline: a dense model of the same size that has learnt nothing yet."""

from __future__ import annotations

import torch

from asrprune.lm.model.transformer import Block, TransformerLM
from asrprune.prune.masks import Masks
from asrprune.prune.methods.choices import refuse_masks
from asrprune.prune.methods.method import Options, Scorer, unreachable
from asrprune.prune.methods.method import prunable_parameters as count
from asrprune.prune.surgery.compaction import keep_heads, keep_neurons


def scratch(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Make a smaller dense model with random weights: what pruning must beat at an equal budget.

    Every block keeps the same share of its heads (rounded) and then of its neurons such that
    ``keep`` parameters are left as nearly as widths allow; no score is read. Give it the tokens
    that the parent was trained on, and it is a model trained from scratch; with distillation, the
    same with a teacher. Raises ValueError for a masked model or a size out of reach.
    """
    refuse_masks(masks)
    share = keep / max(sum(count(model, options.matrices).values()), 1)
    for block in model.blocks:
        assert isinstance(block, Block)
        heads = max(round(share * block.attn.heads), min(options.min_heads, block.attn.heads))
        keep_heads(block, torch.arange(heads))
    widths = [block.shape.ffn for block in model.blocks if isinstance(block, Block)]
    ffn_names = tuple(name for name in options.matrices if name.startswith("ffn."))
    in_ffn = sum(count(model, ffn_names).values())
    elsewhere = sum(count(model, options.matrices).values()) - in_ffn
    if in_ffn == 0 or not keep - elsewhere >= 0:
        raise unreachable(keep, elsewhere)
    share = min((keep - elsewhere) / in_ffn, 1.0)
    for block, width in zip(model.blocks, widths):
        assert isinstance(block, Block)
        target = round(share * width / options.multiple_of) * options.multiple_of
        keep_neurons(block, torch.arange(min(max(target, min(options.min_width, width)), width)))
    model.load_state_dict(TransformerLM(model.shape).state_dict())
