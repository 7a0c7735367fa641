"""Elastic LMs: one set of factored matrices that holds every smaller LM of a range as a prefix.

The components of each matrix stand in the order in which they leave, the last first, and the
config says from which matrix the next ones go. So a cut to any size takes no data.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Optional, Union

import numpy as np
from numpy.typing import NDArray

from asrprune.lm.model.matrices import LowRankLinear
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM

Size = Union[float, str]
"""How small: the sparsity, or as text that or the megabytes of the weights file ("12MB")."""
MEGABYTE = 1e6


@dataclass(frozen=True)
class Elastic:
    """In which order the components of a model's factored matrices leave, from its own size on.

    ``sizes``: the sparsities that were asked for; all from the least to the greatest are served.
    ``prunable``: weights of the dense ancestor's prunable matrices; ``kept``: those of them that
    the model has, uncut. ``costs``: matrix -> weights that leave with ``multiple`` of its
    components. ``order``: numbers of matrices in ``costs`` with spaces between them; each takes the
    last ``multiple`` components from its matrix.
    """

    sizes: tuple[float, ...]
    prunable: int
    kept: int
    multiple: int
    costs: Mapping[str, int]
    order: str

    def __post_init__(self) -> None:
        if not self.sizes or not all(0.0 <= size <= 1.0 for size in self.sizes):
            raise ValueError(f"sizes {list(self.sizes)}; expected fractions")
        if self.multiple < 1 or not 0 <= self.kept <= self.prunable or self.prunable < 1:
            raise ValueError(f"multiple {self.multiple}, kept {self.kept} of {self.prunable}")
        for name, cost in self.costs.items():
            if not 0 < cost <= self.kept:
                raise ValueError(f"cost {cost} of {name}; expected 1 to {self.kept}")
        if re.fullmatch(r"(\d{1,9}( \d{1,9})*)?", self.order, re.ASCII) is None:
            raise ValueError("an order that is not of numbers with spaces between them")
        if self._numbers.size and self._numbers.max() >= len(self.costs):
            raise ValueError(f"matrix {self._numbers.max()} in the order of {len(self.costs)}")

    @cached_property
    def _numbers(self) -> NDArray[np.int64]:
        return np.array(self.order.split(), dtype=np.int64)

    @cached_property
    def saved(self) -> NDArray[np.int64]:
        """Weights that a cut by 0, 1, ... steps leaves out, [steps + 1]."""
        costs = np.array(list(self.costs.values()), dtype=np.int64)
        return np.concatenate([[0], np.cumsum(costs[self._numbers])]).astype(np.int64)

    @property
    def steps(self) -> int:
        """Those of the cut to the smallest size."""
        return len(self._numbers)

    def sparsity(self, steps: int) -> float:
        """Fraction of the prunable weights that is gone after a cut by ``steps``."""
        return 1.0 - (self.kept - int(self.saved[steps])) / self.prunable

    def steps_at(self, sparsity: float) -> int:
        """The cut that comes nearest to it."""
        removed = round(sparsity * self.prunable) - (self.prunable - self.kept)
        return int(np.abs(self.saved - removed).argmin())

    def steps_to(self, size: Size, file_bytes: int, number_bytes: int) -> int:
        """The cut that comes nearest to a sparsity, or the first that fits into so many megabytes.

        ``file_bytes`` has the uncut weights file, of numbers of ``number_bytes``. Raises ValueError
        for a size outside the range that is served, or that is none.
        """
        sparsity, budget = parse_size(size)
        low, high = min(self.sizes), max(self.sizes)
        if sparsity is not None:
            if low <= sparsity <= high:
                return self.steps_at(sparsity)
        else:
            assert budget is not None
            sizes = file_bytes - number_bytes * self.saved
            if sizes[-1] <= budget <= _kilobytes(file_bytes):
                return int((sizes <= budget).argmax())
        least = _kilobytes(file_bytes - number_bytes * int(self.saved[-1]))
        raise ValueError(
            f"size {size} is outside the range of this elastic LM; expected a sparsity from "
            f"{low:g} to {high:g}, or {least / MEGABYTE:.3f}MB to "
            f"{_kilobytes(file_bytes) / MEGABYTE:.3f}MB"
        )

    def ranks(self, model: TransformerLM, steps: int) -> dict[Place, int]:
        """The rank that every matrix of ``costs`` has after a cut of the ``model`` by ``steps``."""
        gone = Counter(self._numbers[:steps].tolist())
        return {
            place: linear.B.shape[0] - self.multiple * gone[number]
            for number, (place, linear) in enumerate(self._matrices(model))
        }

    def cut(self, model: TransformerLM, steps: int) -> None:
        """Cut the model in place: each matrix keeps the first of its components."""
        for place, rank in self.ranks(model, steps).items():
            linear = model.layers()[place.block].linear(place.name)
            assert isinstance(linear, LowRankLinear)
            if rank < linear.rank:
                model.put(place, LowRankLinear(linear.A[:, :rank], linear.B[:rank], linear.bias))

    def use(self, model: TransformerLM, steps: Optional[int]) -> None:
        """Let the model compute as if it were cut by ``steps``; None: as it is. Gradients go into
        its own weights."""
        ranks = {} if steps is None else self.ranks(model, steps)
        for place, linear in self._matrices(model):
            linear.used = ranks.get(place)

    def check(self, model: TransformerLM) -> None:
        """Raises ValueError where the model does not have the matrices that this speaks of."""
        gone = Counter(self._numbers.tolist())
        for number, (place, linear) in enumerate(self._matrices(model)):
            cost = self.multiple * (linear.in_features + linear.out_features)
            if cost != list(self.costs.values())[number]:
                raise ValueError(f"{place}: a cost that is not {cost}")
            if self.multiple * gone[number] > linear.rank:
                raise ValueError(f"{place}: more components than its {linear.rank}")

    def _matrices(self, model: TransformerLM) -> list[tuple[Place, LowRankLinear]]:
        """Raises ValueError for one that is not there as two factors."""
        stored = {str(place): (place, linear) for place, linear in model.linears()}
        found = []
        for name in self.costs:
            place, linear = stored.get(name, (None, None))
            if place is None or not isinstance(linear, LowRankLinear):
                raise ValueError(f"no factored matrix {name}")
            found.append((place, linear))
        return found


def _kilobytes(count: int) -> int:
    """Bytes, rounded up to whole thousands, as messages show them."""
    return -(-count // 1000) * 1000


def parse_size(size: Size) -> tuple[Optional[float], Optional[float]]:
    """``(sparsity, bytes)``, one of which is None. Raises ValueError for anything else.

    >>> parse_size(0.5), parse_size("0.5"), parse_size("12MB")
    ((0.5, None), (0.5, None), (None, 12000000.0))
    """
    found = re.fullmatch(r"(\d*\.?\d+)( ?MB)?", str(size), re.ASCII | re.IGNORECASE)
    value = float(found[1]) if found else -1.0
    if found and found[2]:
        return None, value * MEGABYTE
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"size {size!r}; expected a sparsity from 0 to 1, or megabytes as 12MB")
    return value, None
