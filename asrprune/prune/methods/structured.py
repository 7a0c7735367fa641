"""Structured: FFN neurons and attention heads leave whole, and matrices become smaller."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from asrprune.lm.model.layers import AnyLinear, DenseLinear
from asrprune.lm.model.shapes import ATTENTION_LINEARS, FFN_LINEARS
from asrprune.lm.model.transformer import Block, TransformerLM
from asrprune.prune.gates import Gate, entry, whole
from asrprune.prune.masks import Masks, matrix_key
from asrprune.prune.methods.choices import (
    Choice,
    best,
    kept_counts,
    refuse_masks,
    shrink,
    unit_chain,
)
from asrprune.prune.methods.method import Options, Scorer
from asrprune.prune.surgery.compaction import keep_heads, keep_neurons


def structured(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Remove the neurons and heads that lose least score per parameter saved, over all blocks.

    FFN widths become multiples of ``multiple_of``. Neurons are pruned when both FFN matrices are
    among ``options.matrices``, heads when all four of attention are. Raises ValueError when that
    leaves nothing to prune, for a masked model, or for a size out of reach.
    """
    refuse_masks(masks)
    choices = group_choices(model, scorer, options)
    if not choices:
        raise ValueError(
            f"matrices {', '.join(options.matrices)} hold no whole group; expected both of "
            f"{', '.join(FFN_LINEARS)} or all of {', '.join(ATTENTION_LINEARS)}"
        )
    shrink(model, keep, choices, options)


def group_choices(model: TransformerLM, scorer: Scorer, options: Options) -> list[Choice]:
    """How far the FFN and the attention of every block can shrink, one choice each."""
    gates = group_gates(model, options)
    choices = []
    for gate, score in zip(gates, scorer.scores(model, gates)):
        units = score.double().sum(0)
        counts = _levels(gate, len(units), options)
        saved = [(len(units) - count) * gate.cost for count in counts]
        chain = unit_chain(gate.key, units, counts, saved)
        choices.append(Choice(chain, partial(_keep_best, model, gate.key, units, counts)))
    return choices


def _keep_best(
    model: TransformerLM, key: str, scores: Tensor, counts: list[int], level: int
) -> None:
    index, _, name = key.partition(".")
    block = model.blocks[int(index)]
    assert isinstance(block, Block)
    kept = best(scores, counts[level])
    if name == "ffn.down":
        keep_neurons(block, kept)
    else:
        keep_heads(block, kept)


def group_gates(model: TransformerLM, options: Options) -> list[Gate]:
    """Gates whose tile columns are the neurons and the heads of every block."""
    gates = []
    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        if set(FFN_LINEARS) <= set(options.matrices):
            up, down = block.ffn.up, block.ffn.down
            cost = _output_cost(up) + _input_cost(down)
            gates.append(_gate(matrix_key(index, "ffn.down"), down, up, 1, cost))
        if set(ATTENTION_LINEARS) <= set(options.matrices):
            attention = block.attn
            one = sum(_output_cost(linear) for linear in (attention.q, attention.k, attention.v))
            cost = attention.head_dim * (one + _input_cost(attention.o))
            key = matrix_key(index, "attn.o")
            gates.append(_gate(key, attention.o, attention.v, attention.head_dim, cost))
    return gates


def _gate(key: str, out: AnyLinear, source: AnyLinear, columns: int, cost: int) -> Gate:
    part = entry(out)
    height = getattr(out, part).shape[0]
    feeding = whole(source).square().sum(1)
    return Gate(key, out, part, max(height, 1), columns, max(cost, 1), feeding)


def _output_cost(linear: AnyLinear) -> int:
    """Parameters that one output of a matrix holds."""
    return linear.in_features if isinstance(linear, DenseLinear) else linear.rank


def _input_cost(linear: AnyLinear) -> int:
    """Parameters that one input of a matrix holds."""
    return linear.out_features if isinstance(linear, DenseLinear) else linear.rank


def _levels(gate: Gate, units: int, options: Options) -> list[int]:
    """How many units each level keeps, falling from what there is."""
    if gate.columns > 1 or gate.key.endswith("attn.o"):
        return list(range(units, min(options.min_heads, units) - 1, -1))
    return kept_counts(units, units - 1, options.min_width, options.multiple_of)
