"""Anchored: smaller matrices are fitted to what the uncut model puts out, on what they now get."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from asrprune.core.tables import lookup
from asrprune.lm.model.matrices import (
    DenseLinear,
    FactoredLinear,
    InterpolativeLinear,
    LowRankLinear,
    Matrix,
)
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.methods.method import Options, Scorer, whole_statistics
from asrprune.prune.paired import PairedMoments
from asrprune.prune.statistics import MatrixStatistics
from asrprune.prune.surgery.factorisation import DAMPING, FACTORISATIONS, Factorisation

ANCHORED = "anchored"
"""What ``options.compensation`` calls it."""


def anchored(before: TransformerLM, model: TransformerLM, scorer: Scorer, options: Options) -> None:
    """Least squares: smaller matrices put out what the whole ones did, on the inputs they now get.

    In the order in which a token passes them, every matrix of ``model`` that pruning has made
    smaller at the inputs or in rank becomes, in place, the W' of least ``E ||W x - W' x'||^2``
    (with biases), x and x' its inputs in ``before`` and in ``model`` as fitted so far, drawn a
    little to what it was; of a factored one the components of W' that ``options.factorisation``
    puts first. What is lost in one matrix is so made up for in the next.

    Source: AA-SVD (arXiv 2604.02119): anchored to the original outputs, with shifted inputs.
    """
    factorise, needs = lookup(FACTORISATIONS, options.factorisation, "factorisation")
    whole, smaller = dict(before.linears()), dict(model.linears())
    to_fit = {place: whole[place] for place in smaller if _fits(whole[place], smaller[place])}
    factored = {p: one for p, one in to_fit.items() if isinstance(smaller[p], FactoredLinear)}
    known = whole_statistics(before, factored, scorer, needs & {"output_gram"})
    for index in range(len(model.layers())):
        for coupling in model.anatomy.couplings:
            for names in (coupling.makers, (coupling.reader,)):
                places = [place for name in names if (place := Place(index, name)) in to_fit]
                if not places:
                    continue
                for place, moments in scorer.paired(before, model, places).items():
                    output_gram = known[place].output_gram if place in known else None
                    pair = to_fit[place], smaller[place]
                    model.put(place, _fitted(*pair, moments, output_gram, factorise))


def _fits(whole: Matrix, smaller: Matrix) -> bool:
    """Whether the matrix has all of its outputs, and became smaller otherwise."""
    changed = smaller.shape != whole.shape or smaller.in_features != whole.in_features
    return changed and smaller.weights > 0 and smaller.out_features == whole.out_features


def _fitted(
    whole: Matrix,
    smaller: Matrix,
    moments: PairedMoments,
    output_gram: Optional[Tensor],
    factorise: Factorisation,
) -> Matrix:
    like = whole.product()
    w, start = whole.product().detach().double(), smaller.product().detach().double()
    mean, other_mean = moments.mean, moments.other_mean
    if whole.bias is None:  # nothing takes up a shift of the means
        mean, other_mean = torch.zeros_like(mean), torch.zeros_like(other_mean)
    cross = moments.cross - torch.outer(mean, other_mean)
    gram = moments.gram - torch.outer(other_mean, other_mean)
    size = gram.diagonal().mean()
    ridge = DAMPING * (size if size > 0 else torch.ones_like(size))
    solid = gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    best = torch.linalg.solve(solid, (w @ cross + ridge * start).T).T  # [out, in']
    if not isinstance(smaller, FactoredLinear):
        return DenseLinear(best.to(like), _bias(whole, w @ mean - best @ other_mean))
    statistics = MatrixStatistics(gram=gram, output_gram=output_gram)
    a, b = (part.double() for part in factorise(best, statistics))
    a, b = a[:, : smaller.rank], b[: smaller.rank]
    bias = _bias(whole, w @ mean - a @ (b @ other_mean))
    form = InterpolativeLinear if isinstance(smaller, InterpolativeLinear) else LowRankLinear
    return form.from_factors(a.to(like), b.to(like), bias)


def _bias(whole: Matrix, shift: Tensor) -> Optional[Tensor]:
    """The bias that makes up for a shift of the mean output, if there is one."""
    if whole.bias is None:
        return None
    return (whole.bias.detach().double() + shift).to(whole.bias)
