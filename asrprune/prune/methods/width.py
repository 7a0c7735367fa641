"""Width: directions of the residual stream leave, and every matrix gets narrower."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from asrprune.lm.model.layers import AnyLinear, DenseLinear
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.gates import Gate, entry, whole
from asrprune.prune.masks import Masks, matrix_key
from asrprune.prune.methods.choices import best, refuse_masks
from asrprune.prune.methods.low_rank import opened
from asrprune.prune.methods.method import Options, Scorer, prunable_parameters, unreachable
from asrprune.prune.surgery.factorisation import damped
from asrprune.prune.surgery.residual import (
    NORMS,
    READERS,
    WRITERS,
    Cut,
    Place,
    fold_norms,
    ones_apart,
    rewrite,
)


def width(model: TransformerLM, keep: int, scorer: Scorer, options: Options, masks: Masks) -> None:
    """Remove the directions of the residual stream that lose least score.

    The stream is written in its principal components, as the norms of all blocks see it (with
    ``factorisation`` svd in those of the matrices that read it, without data). A component's score
    is that of its columns in the matrices that read the stream and its rows in those that write it.
    What is read from a removed component is estimated from those that stay, by least squares over
    the data (not with svd). The width that is left is a multiple of ``multiple_of``, so sizes are
    met to the nearest one. All matrices get narrower, also those that are not among
    ``options.matrices`` and so do not count; embedding, positions and norms too. Raises ValueError
    for a masked model or a size out of reach.

    Source: Ashkboos et al. 2024 (SliceGPT, arXiv 2401.15024) for the principal components.
    """
    refuse_masks(masks)
    size = model.positions.shape[1]
    left = _width_for(model, keep, options)
    if left == size:
        return
    fold_norms(model)
    grams = {} if options.factorisation == "svd" else _read(model, scorer)
    directions = _principal(_sum(model, grams.values() if grams else _weights(model)))
    kept = best(_scores(model, directions, scorer), left - 1)
    rewrite(model, _cut(model, directions, kept, grams), mean_free=False)


def _width_for(model: TransformerLM, keep: int, options: Options) -> int:
    """The width whose prunable parameters are nearest to ``keep``; the present one at most."""
    size = model.positions.shape[1]
    now = sum(prunable_parameters(model, options.matrices).values())
    if now <= keep:
        return size
    step = options.multiple_of
    widths = [size, *range((size - 1) // step * step, 1, -step)]
    linears = [(name, one) for _, name, one in model.linears() if name in options.matrices]
    stored = {one: sum(_stored(name, linear, one) for name, linear in linears) for one in widths}
    if keep < stored[widths[-1]]:
        raise unreachable(keep, stored[widths[-1]])
    nearest: int = min(widths, key=lambda one: (abs(stored[one] - keep), one))
    return nearest


def _stored(name: str, linear: AnyLinear, width: int) -> int:
    """Parameters of a matrix in a model of this width; see ``rewrite`` for what turns dense."""
    inputs, outputs = linear.in_features, linear.out_features
    if name in WRITERS:
        outputs = width
    else:
        inputs = width
    dense = inputs * outputs
    if isinstance(linear, DenseLinear):
        return dense
    rank = linear.rank
    if linear.shape.kind == "pivoted":
        return dense if rank >= min(inputs, outputs) else rank * (inputs + outputs - rank)
    return min(rank * (inputs + outputs), dense)


def _read(model: TransformerLM, scorer: Scorer) -> dict[Place, Tensor]:
    """E[n n^T] of what each norm puts out, [D, D] float64; norms that nothing reads are not in."""
    gates: dict[Place, Gate] = {}
    for index, name, linear in model.linears():
        for norm in NORMS:
            if name == READERS[norm][0] and linear.out_features:
                gates[index, norm] = Gate(matrix_key(index, name), linear, entry(linear), 1, 1, 1)
    found = scorer.statistics(model, list(gates.values()), frozenset({"gram"}))
    return {place: one.need("gram").double() for place, one in zip(gates, found)}


def _weights(model: TransformerLM) -> Iterator[Tensor]:
    """W^T W of every matrix that reads the stream: [D, D] float64."""
    for _, name, linear in model.linears():
        if name not in WRITERS:
            weight = whole(linear).double()
            yield weight.T @ weight


def _sum(model: TransformerLM, parts: Iterable[Tensor]) -> Tensor:
    size = model.positions.shape[1]
    total = torch.zeros(size, size, dtype=torch.float64, device=model.positions.device)
    for part in parts:
        total += part
    return total


def _principal(moment: Tensor) -> Tensor:
    """Its eigenvectors apart from the vector of ones, largest eigenvalue first: [D, D - 1]."""
    apart = ones_apart(len(moment)).to(moment.device)
    vectors: Tensor = torch.linalg.eigh(apart.T @ moment @ apart).eigenvectors.flip(1)
    return apart @ vectors


def _scores(model: TransformerLM, directions: Tensor, scorer: Scorer) -> Tensor:
    """The score of every direction: [D - 1]."""
    turned = copy.deepcopy(opened(model))
    rewrite(turned, Cut(directions), mean_free=True)
    gates = []
    for index, name, linear in turned.linears():
        if 0 in (linear.in_features, linear.out_features, getattr(linear, "rank", 1)):
            continue
        key = matrix_key(index, name)
        part = entry(linear)
        if name in WRITERS:
            part = part if isinstance(linear, DenseLinear) else "A"
            columns = getattr(linear, part).shape[1]
            gates.append(Gate(key, linear, part, 1, columns, cost=columns))
        else:
            rows = getattr(linear, part).shape[0]
            gates.append(Gate(key, linear, part, rows, 1, cost=rows))
    total = directions.new_zeros(directions.shape[1])
    for score in scorer.scores(turned, gates):
        total += score.double().flatten()
    return total


def _cut(model: TransformerLM, directions: Tensor, kept: Tensor, grams: dict[Place, Tensor]) -> Cut:
    """The stream in the ``kept`` directions, with what stands for the others.

    Within them the axes are those in which the weights of the last norm are diagonal.
    """
    gone = torch.ones(directions.shape[1], dtype=torch.bool, device=directions.device)
    gone[kept] = False
    stay, lost = directions[:, kept], directions[:, gone]
    weights = model.norm.weight.detach().double()[:, None]
    stay = stay @ torch.linalg.eigh(stay.T @ (weights * stay)).eigenvectors
    apart = ones_apart(len(kept) + 1).to(directions.device)  # [k, k - 1]
    readers, shares = {}, {}
    for place, gram in grams.items():
        inner = stay.T @ gram @ stay
        guess = torch.linalg.solve(damped(inner), stay.T @ gram @ lost).T  # lost from stay
        readers[place] = (stay + lost @ guess) @ apart.T
        shares[place] = float(inner.trace() / gram.trace())
    return Cut(stay @ apart.T, readers, shares)
