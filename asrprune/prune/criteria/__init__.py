"""CRITERIA: how much a tile of a matrix is worth. Higher = keep. One file each."""

from __future__ import annotations

from asrprune.prune.criteria.activation import activation
from asrprune.prune.criteria.criterion import Criterion
from asrprune.prune.criteria.fisher import fisher, kfac
from asrprune.prune.criteria.gates import gates
from asrprune.prune.criteria.magnitude import magnitude, magnitude_l1, magnitude_normalised
from asrprune.prune.criteria.movement import movement
from asrprune.prune.criteria.page_rank import page_rank
from asrprune.prune.criteria.random import random
from asrprune.prune.criteria.taylor import taylor, taylor_squared

CRITERIA: dict[str, Criterion] = {
    "magnitude": Criterion(magnitude, frozenset(), "sum w^2"),
    "magnitude-l1": Criterion(magnitude_l1, frozenset(), "sum |w|"),
    "magnitude-normalised": Criterion(
        magnitude_normalised, frozenset(), "sum w^2 over the matrix's mean w^2"
    ),
    "random": Criterion(random, frozenset(), "uniform noise (the control)"),
    "taylor": Criterion(taylor, frozenset({"gradient"}), "|sum w g|"),
    "taylor-squared": Criterion(
        taylor_squared, frozenset({"tile_gradient_squared"}), "1/2 E[(sum w g)^2]"
    ),
    "movement": Criterion(
        movement, frozenset({"movement"}), "-sum w g over fine-tuning steps", signed=True
    ),
    "fisher": Criterion(fisher, frozenset({"gradient_squared"}), "1/2 sum w^2 E[g^2], damped"),
    "kfac": Criterion(kfac, frozenset({"gram", "output_gram"}), "1/2 tr(F W G W^T), F damped"),
    "activation": Criterion(activation, frozenset({"input_squared"}), "sum w^2 E[x^2]"),
    "gates": Criterion(
        None,
        frozenset(),
        "cost times the l1 penalty at which a gate on the tile closes",
        together=gates,
    ),
    "page-rank": Criterion(
        None,
        frozenset(),
        "share of the rank that flows through the tile, from FFN to FFN",
        together=page_rank,
    ),
}
"""Name -> criterion, in reading order: from weights alone to data and gradients."""

__all__ = ["CRITERIA", "Criterion"]
