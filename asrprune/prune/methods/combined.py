"""Combined methods: low rank and neurons in one selection, and width before structured."""

from __future__ import annotations

from dataclasses import replace

from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.masks import Masks
from asrprune.prune.methods.choices import refuse_masks, shrink
from asrprune.prune.methods.low_rank import rank_choices
from asrprune.prune.methods.method import Options, Scorer, prunable_parameters
from asrprune.prune.methods.structured import structured, unit_choices
from asrprune.prune.methods.width import width


def low_rank_attention_structured_ffn(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Remove rank-one components of attention's matrices and neurons of the FFN, in one selection.

    All units compete by lost score per parameter saved, so the criterion must mean the same for
    both kinds: those in nats (taylor, taylor-squared, fisher, kfac) do. Raises ValueError for a
    masked model or a size out of reach.
    """
    refuse_masks(masks)
    attention, ffn = parts(model, options)
    choices = rank_choices(model, scorer, attention) + unit_choices(model, scorer, ffn)
    shrink(model, keep, choices, scorer, options)


def parts(model: TransformerLM, options: Options) -> tuple[Options, Options]:
    """The options with the matrices of attention alone, and with those of the FFN."""
    anatomy = model.anatomy
    attention, ffn = (
        tuple(name for name in options.matrices if name in one.matrices)
        for one in (anatomy.attention, anatomy.ffn)
    )
    return replace(options, matrices=attention), replace(options, matrices=ffn)


def width_and_structured(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Reduce d_model, then remove neurons and heads until ``keep`` parameters are left.

    Of the factor by which the prunable parameters shrink, ``width_share`` (an exponent: 1 is method
    width, 0 structured) is left to the first. A narrower stream takes embedding, positions and
    norms along, which neurons and heads do not. What stays is scored anew in between. Raises
    ValueError for a masked model, for matrices without a whole unit, or a size out of reach.
    """
    refuse_masks(masks)
    now = sum(prunable_parameters(model, options.matrices).values())
    if 0 < keep < now:  # neurons and heads may all leave, the stream may not
        between = round(now * (keep / now) ** options.width_share)
        width(model, between, scorer, options, masks)
    structured(model, keep, scorer, options, masks)
