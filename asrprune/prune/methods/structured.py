"""Structured: FFN neurons and attention heads leave whole, and matrices become smaller."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asrprune.lm.model.anatomy import Anatomy, Block, Coupling
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.groups import Group
from asrprune.prune.masks import Masks
from asrprune.prune.methods.choices import Choice, kept_counts, refuse_masks, shrink, unit_chain
from asrprune.prune.methods.method import Options, Scorer
from asrprune.prune.selection import Chain
from asrprune.prune.surgery.units import keep_units, unit_cost


def structured(
    model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks
) -> None:
    """Remove the neurons and heads that lose least score per parameter saved, over all blocks.

    FFN widths become multiples of ``multiple_of``. Neurons are pruned when all FFN matrices are
    among ``options.matrices``, heads when all of attention are. Where several query heads share a
    key and value head they leave together, or one by one with ``head_unit`` query, the best of
    each group excepted. Raises ValueError when that leaves nothing to prune, for a masked model,
    or for a size out of reach.
    """
    refuse_masks(masks)
    choices = unit_choices(model, scorer, options)
    if not choices:
        raise no_whole_unit(model.anatomy, options)
    shrink(model, keep, choices, scorer, options)


def no_whole_unit(anatomy: Anatomy, options: Options) -> ValueError:
    """The error for matrices that hold no unit of which every part may leave."""
    expected = " or all of ".join(
        ", ".join(one.matrices) for one in (anatomy.ffn, anatomy.attention)
    )
    return ValueError(
        f"matrices {', '.join(options.matrices)} hold no whole unit; expected all of {expected}"
    )


def unit_choices(model: TransformerLM, scorer: Scorer, options: Options) -> list[Choice]:
    """How far the FFN and the attention of every block can shrink, one choice each."""
    return [Choice(one.chain, one.keep) for one in unit_places(model, scorer, options)]


@dataclass(frozen=True)
class UnitPlace:
    """The neurons of an FFN, or an attention's heads, scored: level l of ``chain`` leaves
    ``counts[l]`` of them."""

    place: Place
    block: Block
    coupling: Coupling
    units: Units
    counts: list[int]
    chain: Chain

    def keep(self, level: int) -> None:
        """Leave in the block what the level leaves."""
        keep_units(self.block, self.coupling, self.units.kept(self.counts[level]))


def unit_places(model: TransformerLM, scorer: Scorer, options: Options) -> list[UnitPlace]:
    """FFN and attention of every block, as far as ``options.matrices`` holds them."""
    found = unit_groups(model, options)
    places = []
    for (block, coupling, group), score in zip(found, scorer.scores(model, [g for *_, g in found])):
        units = _units(block, coupling, score.double().sum(0), options)
        counts = _levels(coupling, len(units.scores), units.least, options)
        saved = [units.saved(count) for count in counts]
        chain = unit_chain(str(group.place), units.scores[units.order], counts, saved)
        places.append(UnitPlace(group.place, block, coupling, units, counts, chain))
    return places


def unit_groups(model: TransformerLM, options: Options) -> list[tuple[Block, Coupling, Group]]:
    """Groups whose tile columns are the neurons and the query heads of every block."""
    groups = []
    for index, block in enumerate(model.layers()):
        for coupling in reversed(model.anatomy.couplings):  # FFN first
            if not set(coupling.matrices) <= set(options.matrices):
                continue
            reader, source = block.linear(coupling.reader), block.linear(coupling.source)
            part = reader.entry
            height, columns = getattr(reader, part).shape[0], 1
            feeding = source.product().detach().square().sum(1)
            own, shared = unit_cost(block, coupling)
            if coupling.heads:
                columns = block.attn.head_dim
                owners = block.attn.owners.to(feeding.device)
                feeding = feeding.view(-1, columns)[owners].flatten()
                own += round(shared * block.attn.kv_heads / max(block.attn.heads, 1))
            place = Place(index, coupling.reader)
            group = Group(place, reader, part, max(height, 1), columns, max(own, 1), feeding)
            groups.append((block, coupling, group))
    return groups


@dataclass(frozen=True)
class Units:
    """What leaves at a time: ``owner`` [members] is the unit of each neuron or query head;
    ``scores`` and ``costs`` [units] are what is lost and saved with a unit. ``least`` units stay;
    of the others those with the least score per weight leave first."""

    owner: Tensor
    scores: Tensor
    costs: Tensor
    least: int

    @property
    def order(self) -> Tensor:
        """Units in the order in which they leave; of equal ones the earlier first."""
        return torch.argsort(self.scores / self.costs.clamp(min=1), stable=True)

    def saved(self, count: int) -> int:
        """Weights saved where ``count`` units stay."""
        return int(self.costs[self.order[: len(self.order) - count]].sum())

    def kept(self, count: int) -> Tensor:
        """The members that stay, ascending."""
        stays = torch.zeros(len(self.scores), dtype=torch.bool, device=self.scores.device)
        stays[self.order[len(self.order) - count :]] = True
        return stays[self.owner].nonzero().flatten()


def _units(block: Block, coupling: Coupling, scores: Tensor, options: Options) -> Units:
    """The units of a coupling, from the scores of its neurons or query heads."""
    own, shared = unit_cost(block, coupling)
    every = torch.arange(len(scores), device=scores.device)
    costs = torch.full_like(every, own)
    least = min(options.min_heads, len(scores)) if coupling.heads else 0
    if not coupling.heads or block.attn.groups is None:
        return Units(every, scores, costs, least)
    owners = block.attn.owners.to(scores.device)
    sizes = torch.tensor(block.attn.groups, dtype=torch.long, device=scores.device)
    if options.head_unit == "group":
        sums = torch.zeros(len(sizes), dtype=scores.dtype, device=scores.device)
        sums.index_add_(0, owners, scores)
        return Units(owners, sums, sizes * own + shared, min(options.min_heads, len(sizes)))
    held = scores.clone()
    for group in range(len(sizes)):  # the best of each group leaves last, and that is not offered
        held[torch.where(owners == group, scores, -torch.inf).argmax()] = torch.inf
    return Units(every, held, costs, max(len(sizes), least))


def _levels(coupling: Coupling, units: int, least: int, options: Options) -> list[int]:
    """How many units each level keeps, falling from what there is."""
    if coupling.heads:
        return list(range(units, least - 1, -1))
    return kept_counts(units, units - 1, options.min_width, options.multiple_of)
