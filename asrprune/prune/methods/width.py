"""Width: d_model is reduced, and every matrix gets narrower."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from asrprune.lm.model.matrices import Matrix
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.groups import Group
from asrprune.prune.masks import TABLES, Masks
from asrprune.prune.methods.choices import best, refuse_masks
from asrprune.prune.methods.low_rank import opened
from asrprune.prune.methods.method import Options, Scorer, prunable_parameters, unreachable
from asrprune.prune.surgery.factorisation import damped
from asrprune.prune.surgery.residual import (
    Cut,
    NormPlace,
    fold_norms,
    ones_apart,
    read_directions,
    rewrite,
)


def width(model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks) -> None:
    """Reduce d_model: remove the directions of the residual stream that lose least score.

    The stream is written in its principal components, as the norms of all blocks see it (with
    ``factorisation`` svd in those of the matrices that read it, without data). A component's score
    is that of its columns in the matrices that read the stream and its rows in those that write it.
    What is read from a removed component is estimated from those that stay, by least squares over
    the data (not with svd). The width that is left is a multiple of ``multiple_of``, so sizes are
    met to the nearest one. All matrices get narrower, also those that are not among
    ``options.matrices`` and so do not count; embedding, positions and norms too. Raises ValueError
    for a masked model, its tables too, or a size out of reach.

    Source: Ashkboos et al. 2024 (SliceGPT, arXiv 2401.15024) for the principal components.
    """
    refuse_masks(masks)
    for table in TABLES:
        if table in masks:
            raise ValueError(
                f"the table {table.name} has zeros that width would fill; expected "
                f"{table.name}_sparsity above 0, which makes them anew, or another method"
            )
    size = model.width
    left = _width_for(model, keep, options)
    if left == size:
        return
    fold_norms(model)
    grams = {} if options.factorisation == "svd" else _read(model, scorer)
    directions = _principal(model, _sum(model, grams.values() if grams else _weights(model)))
    coordinates = left if model.anatomy.norm == "rms" else left - 1
    kept = best(_scores(model, directions, scorer), coordinates)
    rewrite(model, _cut(model, directions, kept, grams), mean_free=False)


def _width_for(model: TransformerLM, keep: int, options: Options) -> int:
    """The width whose prunable parameters are nearest to ``keep``; the present one at most."""
    size = model.width
    now = sum(prunable_parameters(model, options.matrices).values())
    if now <= keep:
        return size
    step = options.multiple_of
    widths = [size, *range((size - 1) // step * step, 1, -step)]
    linears = [one for one in model.linears() if one[0].name in options.matrices]
    stored = {
        one: sum(_stored(model, place, linear, one) for place, linear in linears) for one in widths
    }
    if keep < stored[widths[-1]]:
        raise unreachable(keep, stored[widths[-1]])
    nearest: int = min(widths, key=lambda one: (abs(stored[one] - keep), one))
    return nearest


def _stored(model: TransformerLM, place: Place, linear: Matrix, width: int) -> int:
    """Parameters of a matrix in a model of this width; see ``rewrite`` for what turns dense."""
    if place.name in model.anatomy.writers:
        return linear.size_with(linear.in_features, width)
    return linear.size_with(width, linear.out_features)


def _read(model: TransformerLM, scorer: Scorer) -> dict[NormPlace, Tensor]:
    """E[n n^T] of what each norm puts out, [D, D] float64; norms that nothing reads are not in."""
    groups: dict[NormPlace, Group] = {}
    for index, block in enumerate(model.layers()):
        for norm, readers in model.anatomy.readers.items():
            linear = block.linear(readers[0])
            if linear.out_features:
                place = Place(index, readers[0])
                groups[index, norm] = Group(place, linear, linear.entry, 1, 1, 1)
    found = scorer.statistics(model, list(groups.values()), frozenset({"gram"}))
    return {place: one.need("gram").double() for place, one in zip(groups, found)}


def _weights(model: TransformerLM) -> Iterator[Tensor]:
    """W^T W of every matrix that reads the stream: [D, D] float64."""
    for place, linear in model.linears():
        if place.name not in model.anatomy.writers:
            weight = linear.product().detach().double()
            yield weight.T @ weight


def _sum(model: TransformerLM, parts: Iterable[Tensor]) -> Tensor:
    size = model.width
    total = torch.zeros(size, size, dtype=torch.float64, device=model.device)
    for part in parts:
        total += part
    return total


def _principal(model: TransformerLM, moment: Tensor) -> Tensor:
    """Its eigenvectors among the directions that are read, largest eigenvalue first: [D, n]."""
    apart = read_directions(model).to(moment.device)
    vectors: Tensor = torch.linalg.eigh(apart.T @ moment @ apart).eigenvectors.flip(1)
    return apart @ vectors


def _scores(model: TransformerLM, directions: Tensor, scorer: Scorer) -> Tensor:
    """The score of every direction: [n]."""
    turned = copy.deepcopy(opened(model))
    rewrite(turned, Cut(directions), mean_free=True)
    groups = []
    for place, linear in turned.linears():
        if 0 in (linear.in_features, linear.out_features, *next(iter(linear.parts.values())).shape):
            continue
        if place.name in turned.anatomy.writers:
            part = list(linear.parts)[-1]
            columns = linear.parts[part].shape[1]
            groups.append(Group(place, linear, part, 1, columns, cost=columns))
        else:
            rows = linear.parts[linear.entry].shape[0]
            groups.append(Group(place, linear, linear.entry, rows, 1, cost=rows))
    total = directions.new_zeros(directions.shape[1])
    for score in scorer.scores(turned, groups):
        total += score.double().flatten()
    return total


def _cut(
    model: TransformerLM, directions: Tensor, kept: Tensor, grams: dict[NormPlace, Tensor]
) -> Cut:
    """The stream in the ``kept`` directions, with what stands for the others.

    Within them the axes are those in which the weights of the last norm are diagonal. Coordinates
    of a model with layer norms are one more, orthogonal to the vector of ones.
    """
    gone = torch.ones(directions.shape[1], dtype=torch.bool, device=directions.device)
    gone[kept] = False
    stay, lost = directions[:, kept], directions[:, gone]
    weights = model.norm.weight.detach().double()[:, None]  # type: ignore[operator]
    stay = stay @ torch.linalg.eigh(stay.T @ (weights * stay)).eigenvectors
    apart = torch.eye(len(kept), dtype=torch.float64, device=directions.device)
    if model.anatomy.norm == "layer":
        apart = ones_apart(len(kept) + 1).to(directions.device)  # [k, k - 1]
    readers, shares = {}, {}
    for place, gram in grams.items():
        inner = stay.T @ gram @ stay
        guess = torch.linalg.solve(damped(inner), stay.T @ gram @ lost).T  # lost from stay
        readers[place] = (stay + lost @ guess) @ apart.T
        shares[place] = float(inner.trace() / gram.trace())
    return Cut(stay @ apart.T, readers, shares)
