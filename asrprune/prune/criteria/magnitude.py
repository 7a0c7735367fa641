"""Magnitude: what is small is worth little."""

from __future__ import annotations

import torch
from torch import Tensor

from asrprune.prune.groups import Group
from asrprune.prune.statistics import MatrixStatistics


def magnitude(group: Group, statistics: MatrixStatistics, generator: torch.Generator) -> Tensor:
    """Sum of w^2 over each tile; with feeding weights u_j of column j, of w_ij^2 ||u_j||^2.

    For one weight this ranks as |w| does. For component i of a product A B it is
    ``||a_i||^2 ||b_i||^2``: the squared singular value when A B is an SVD. For a neuron it is
    the product of the squared norms of its incoming and outgoing weights, which does not change
    when scale moves from one to the other.

    Source: Hanson and Pratt 1988; Han et al. 2015 (arXiv 1506.02626).
    """
    squares = group.matrix.detach().square()
    if group.feeding is not None:
        squares = squares * group.feeding
    return group.tile_sum(squares)


def magnitude_l1(group: Group, statistics: MatrixStatistics, generator: torch.Generator) -> Tensor:
    """Sum of |w| over each tile; with feeding weights u_j of column j, of |w_ij| ||u_j||."""
    sizes = group.matrix.detach().abs()
    if group.feeding is not None:
        sizes = sizes * group.feeding.sqrt()
    return group.tile_sum(sizes)


def magnitude_normalised(
    group: Group, statistics: MatrixStatistics, generator: torch.Generator
) -> Tensor:
    """The scores of ``magnitude`` over the mean square of a weight of the whole matrix.

    Multiplying a matrix by a number changes nothing, so that matrices of small weights are not
    emptied first. The mean square is that of the product for a product of factors whose
    components are orthogonal (an SVD). All zero for a matrix of zeros.
    """
    scores = magnitude(group, statistics, generator)
    mean = scores.sum() / max(group.linear.in_features * group.linear.out_features, 1)
    return scores / mean if mean > 0 else scores
