"""COMPENSATIONS: how the kept weights make up for the removed ones (OBS, SparseGPT, AA-SVD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable

import torch
from torch import Tensor

from asrprune.core.tables import lookup
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.groups import Group
from asrprune.prune.masks import Masks
from asrprune.prune.methods.anchored import ANCHORED, anchored
from asrprune.prune.methods.method import Scorer
from asrprune.prune.surgery.factorisation import damped

ENTRIES_AT_ONCE = 1 << 24
"""Numbers in the systems of equations that exist at one time."""

Compensation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``compensate(weight, kept, gram)``: the new weights [out, in], zero where ``kept`` is False."""


def none(weight: Tensor, kept: Tensor, gram: Tensor) -> Tensor:
    """No compensation: the kept weights as they are."""
    return weight.masked_fill(~kept, 0.0)


def obs(weight: Tensor, kept: Tensor, gram: Tensor) -> Tensor:
    """Least squares: of all weights with these zeros those that change the output least.

    For every row w with kept places S and the others R, ``E (w x - v x)^2`` over v that is zero
    in R is least for ``v_S = w_S + G_SS^-1 G_SR w_R``, G = E[x x^T] damped. Removing one weight
    gives the update ``-w_q / [G^-1]_qq G^-1_:q``. Rows from which nothing goes stay bit for bit.
    Time grows as out * in^3.

    Source: Hassibi and Stork 1993 (optimal brain surgeon), eq. 5, for several weights at once;
    Frantar and Alistarh 2023 (SparseGPT, arXiv 2301.00774), eq. 2, which it solves exactly.
    """
    compensated = none(weight, kept, gram)
    rows = ((weight != 0) & ~kept).any(1).nonzero().flatten()
    g = damped(gram.double())
    size = len(g)
    identity = torch.eye(size, dtype=g.dtype, device=g.device)
    for part in torch.split(rows, max(1, ENTRIES_AT_ONCE // max(size * size, 1))):
        stay = kept[part].double()  # [n, in]
        lost = weight[part].double() * (1.0 - stay)
        both = stay[:, :, None] * stay[:, None, :]
        systems = both * g + (1.0 - stay)[:, :, None] * identity  # G_SS and ones, [n, in, in]
        change = torch.linalg.solve(systems, (lost @ g) * stay)  # [n, in]
        compensated[part] += (change * stay).to(weight.dtype)
    return compensated


OF_MASKS: dict[str, tuple[Compensation, frozenset[str]]] = {
    "none": (none, frozenset()),
    "obs": (obs, frozenset({"gram"})),
}
"""Those of the methods that write zeros: name -> (function, statistics that it reads)."""
COMPENSATIONS: dict[str, tuple[Callable[..., object], frozenset[str]]] = {
    **OF_MASKS,
    ANCHORED: (anchored, frozenset({"gram", "output_gram"})),
}
"""All of them, with that of the methods that make matrices smaller (``fits``)."""


def put_masks(
    model: TransformerLM, groups: Sequence[Group], masks: Masks, scorer: Scorer, name: str
) -> None:
    """Write zeros where ``masks`` say so in the groups' matrices, and compensate in what stays.

    Input statistics are those of the model as it is before any of these zeros.
    """
    compensate, needs = lookup(OF_MASKS, name, "compensation of masks")
    for group, found in zip(groups, scorer.statistics(model, groups, needs)):
        weight, kept = group.matrix.detach(), masks[group.place]
        gram = found.need("gram") if "gram" in needs else weight.new_zeros(0, 0)
        with torch.no_grad():
            group.matrix.copy_(compensate(weight, kept, gram))
