"""The baseline: a dense model of the same size that has learnt nothing yet."""

from __future__ import annotations

import torch

from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.masks import Masks
from asrprune.prune.methods.choices import refuse_masks
from asrprune.prune.methods.method import Options, Scorer, unreachable
from asrprune.prune.methods.method import prunable_parameters as count
from asrprune.prune.surgery.units import keep_units


def scratch(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Make a smaller dense model with random weights: what pruning must beat at an equal budget.

    Every block keeps the same share of its key and value heads (rounded), with all query heads that
    share them, and then of its neurons such that ``keep`` parameters are left as nearly as widths
    allow; no score is read. Give it the tokens that the parent was trained on, and it is a model
    trained from scratch; with distillation, the same with a teacher. Raises ValueError for a masked
    model or a size out of reach.
    """
    refuse_masks(masks)
    attention, ffn = model.anatomy.couplings
    share = keep / max(sum(count(model, options.matrices).values()), 1)
    for block in model.layers():
        groups = block.attn.kv_heads
        kept = max(round(share * groups), min(options.min_heads, groups))
        keep_units(block, attention, (block.attn.owners < kept).nonzero().flatten())
    widths = [block.shape.ffn for block in model.layers()]
    ffn_names = tuple(name for name in options.matrices if name in ffn.matrices)
    in_ffn = sum(count(model, ffn_names).values())
    elsewhere = sum(count(model, options.matrices).values()) - in_ffn
    if in_ffn == 0 or not keep - elsewhere >= 0:
        raise unreachable(keep, elsewhere)
    share = min((keep - elsewhere) / in_ffn, 1.0)
    for block, width in zip(model.layers(), widths):
        target = round(share * width / options.multiple_of) * options.multiple_of
        left = min(max(target, min(options.min_width, width)), width)
        keep_units(block, ffn, torch.arange(left))
    model.load_state_dict(TransformerLM(model.shape).state_dict())
