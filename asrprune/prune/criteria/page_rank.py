"""Page rank: what passes much of the rank of the features before it is worth much."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asrprune.lm.model.anatomy import Block, Coupling
from asrprune.lm.model.matrices import FactoredLinear
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.criteria.criterion import Sample
from asrprune.prune.groups import Group
from asrprune.prune.statistics import collect


def page_rank(model: TransformerLM, groups: Sequence[Group], sample: Sample) -> list[Tensor]:
    """The rank that flows through a tile, 1 on average per parameter that a matrix's tiles save.

    The rank of a feature is ``sum |w| r`` over the features r that make it, times its root mean
    square; the ranks of a layer's features add up to 1. The chain begins with the inputs of the
    first FFN, by their root mean squares, and goes from FFN to FFN; attention reads the stream with
    the rank that it has in front of its block. A feature's rank leaves it by all weights of its
    column in proportion to ``|w|``: a neuron's score is its rank.

    Source: Hoffmann, Budhathoki and Kleindessner 2024 (LLM-Rank, arXiv 2410.13299), for the
    neurons of the FFN, which are pruned there by the same number in every block; heads,
    components and single weights are ours, and that matrices are compared with each other.
    """
    probes = [
        Group(place, linear, linear.entry, 1, 1, cost=1)
        for place, linear in model.linears()
        if place.name in (model.anatomy.ffn.source, *model.anatomy.writers)
    ]
    inner = [group for group in groups if group.part == "A"]
    found = collect(
        model,
        [*probes, *inner],
        sample.batches(model),
        frozenset({"gram"}),
        sample.max_tokens,
        sample.processes,
    )
    grams = {probe.place: one.need("gram") for probe, one in zip(probes, found)}
    ranks = _ranks(model, grams)
    sizes = {
        group.parameter: _size(one.need("gram")) for group, one in zip(inner, found[len(probes) :])
    }
    scores = []
    for group in groups:
        rank = ranks[group.place]
        if group.part == "A":
            assert isinstance(group.linear, FactoredLinear)
            rank = _normal(group.linear.B.detach().abs() @ rank * sizes[group.parameter])
        flow = group.tile_sum(_shares(group.matrix.detach()) * rank)
        scores.append(_normal(flow) * group.cost * flow.numel())
    return scores


def _ranks(model: TransformerLM, grams: dict[Place, Tensor]) -> dict[Place, Tensor]:
    """Those of the inputs of every matrix."""
    ffn = model.anatomy.ffn
    stream = torch.ones(model.width, device=model.device)
    for number, block in enumerate(model.layers()):
        if block.linear(ffn.source).out_features:
            stream = _size(grams[Place(number, ffn.source)])
            break
    ranks = {}
    stream = _normal(stream)
    for number, block in enumerate(model.layers()):
        for coupling in model.anatomy.couplings:
            reader = Place(number, coupling.reader)
            hidden = _normal(_passed(block, coupling, stream) * _size(grams[reader]))
            for name in coupling.makers:
                ranks[Place(number, name)] = stream
            ranks[reader] = hidden
        if len(hidden):  # of the FFN, which comes last
            weight = block.linear(ffn.reader).product().detach()
            size = (weight @ grams[reader] * weight).sum(1).clamp(min=0.0).sqrt()
            stream = _normal(weight.abs() @ hidden * size)
    return ranks


def _passed(block: Block, coupling: Coupling, stream: Tensor) -> Tensor:
    """What the inputs of a coupling's reader get of the rank of the stream."""
    passed = block.linear(coupling.source).product().detach().abs() @ stream
    if not coupling.heads:
        return passed
    owners = block.attn.owners.to(passed.device)
    return passed.view(-1, block.attn.head_dim)[owners].flatten()


def _size(gram: Tensor) -> Tensor:
    """Root mean squares of features."""
    return gram.diagonal().clamp(min=0.0).sqrt()


def _shares(weight: Tensor) -> Tensor:
    """|w| of [out, in] over the sum of its column; 0 in a column of zeros."""
    size = weight.abs()
    return torch.nan_to_num(size / size.sum(0, keepdim=True), nan=0.0)


def _normal(values: Tensor) -> Tensor:
    """Values >= 0 over their sum; zeros where that is 0."""
    total = values.sum()
    return values / total if total > 0 else values
