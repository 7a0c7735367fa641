"""Structured: FFN neurons and attention heads leave whole, and matrices become smaller."""

from __future__ import annotations

import torch
from torch import Tensor

from asrprune.lm.layers import AnyLinear, LowRankLinear
from asrprune.lm.shape import ATTENTION_LINEARS, FFN_LINEARS
from asrprune.lm.transformer import Block, TransformerLM
from asrprune.prune.compaction import keep_heads, keep_neurons
from asrprune.prune.gates import Gate, entry, whole
from asrprune.prune.methods.method import (
    Masks,
    Options,
    Scorer,
    matrix_key,
    prunable_parameters,
    unreachable,
)
from asrprune.prune.selection import Chain, choose_levels

SLACK = 1 / 2000
"""Share of the kept parameters by which a size may be missed to lose less."""


def structured(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Remove the neurons and heads that lose least score per parameter saved, over all blocks.

    FFN widths become multiples of ``multiple_of``. Neurons are pruned when both FFN matrices are
    among ``options.matrices``, heads when all four of attention are. Raises ValueError when that
    leaves nothing to prune, for a masked model, or for a size out of reach.
    """
    if masks:
        raise ValueError("the model is masked; structured pruning starts from an unmasked one")
    gates = _gates(model, options)
    if not gates:
        raise ValueError(
            f"matrices {', '.join(options.matrices)} hold no whole group; expected both of "
            f"{', '.join(FFN_LINEARS)} or all of {', '.join(ATTENTION_LINEARS)}"
        )
    scores = [score.double().sum(0) for score in scorer.scores(model, gates)]
    kept_counts = [_levels(gate, len(score), options) for gate, score in zip(gates, scores)]
    chains = [
        unit_chain(gate.key, score, counts, gate.cost)
        for gate, score, counts in zip(gates, scores, kept_counts)
    ]
    total = sum(prunable_parameters(model, options.matrices).values())
    least = total - sum(chain.saved[-1] for chain in chains)
    if keep < least:
        raise unreachable(keep, least)
    levels = choose_levels(chains, max(total - keep, 0), round(keep * SLACK))
    for gate, score, counts, level in zip(gates, scores, kept_counts, levels):
        if level == 0:
            continue
        index, _, name = gate.key.partition(".")
        block: Block = model.blocks[int(index)]  # type: ignore[assignment]
        kept = best(score, counts[level])
        if name == "ffn.down":
            keep_neurons(block, kept)
        else:
            keep_heads(block, kept)


def best(scores: Tensor, count: int) -> Tensor:
    """Ascending indices of the ``count`` highest scores; of equal ones the later are taken.

    Taking away the lowest with stable ties and keeping these is the same split.
    """
    return torch.argsort(scores, stable=True)[len(scores) - count :].sort().values


def unit_chain(name: str, scores: Tensor, kept: list[int], cost: int, first: int = 0) -> Chain:
    """Levels that keep ``kept`` units each (falling), where a unit costs ``cost`` parameters.

    ``first``: parameters that level 0 holds more than its units (a dense matrix against the
    factors of all its components: negative).
    """
    lost = torch.cat([scores.new_zeros(1), scores.sort().values.cumsum(0)])  # [n + 1]
    saved = tuple(
        0 if level == 0 else (kept[0] - count) * cost + first for level, count in enumerate(kept)
    )
    return Chain(name, saved, tuple(float(lost[len(scores) - count]) for count in kept))


def _gates(model: TransformerLM, options: Options) -> list[Gate]:
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
    return linear.rank if isinstance(linear, LowRankLinear) else linear.in_features


def _input_cost(linear: AnyLinear) -> int:
    """Parameters that one input of a matrix holds."""
    return linear.rank if isinstance(linear, LowRankLinear) else linear.out_features


def _levels(gate: Gate, units: int, options: Options) -> list[int]:
    """How many units each level keeps, falling from what there is."""
    if gate.columns > 1 or gate.key.endswith("attn.o"):
        return list(range(units, min(options.min_heads, units) - 1, -1))
    return kept_counts(units, units - 1, options.min_width, options.multiple_of)


def kept_counts(now: int, most: int, least: int, multiple: int) -> list[int]:
    """``now``, then the multiples of ``multiple`` from ``most`` down to ``least``.

    >>> kept_counts(20, 19, 8, 8)
    [20, 16, 8]
    """
    top = most // multiple * multiple
    return [now, *(count for count in range(top, -1, -multiple) if least <= count < now)]
