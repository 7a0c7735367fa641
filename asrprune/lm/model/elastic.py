"""Elastic LMs: one set of weights that holds every smaller LM of a range as a prefix.

The components of each factored matrix, and the neurons of each FFN, stand in the order in which
they leave, the last first, and the config says from where the next ones go. So a cut to any size
takes no data.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Optional, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrprune.lm.model.matrices import DenseLinear, InterpolativeLinear, LowRankLinear, Matrix
from asrprune.lm.model.shapes import Place
from asrprune.lm.model.transformer import TransformerLM

Size = Union[float, str]
"""How small: the sparsity, or as text that or the megabytes of the weights file ("12MB"). Where an
LM is opened also how fast ("2.5x"): see ``asrprune.lm.elastic_speed``."""
MEGABYTE = 1e6
ORDER_BYTES = 8
"""Of a row of an interpolative decomposition in the weights file."""
ORDER_NAME = 96
"""Bytes there that say where the order of a matrix's rows is, at most."""


@dataclass(frozen=True)
class Elastic:
    """In which order the components of a model's factored matrices leave, from its own size on,
    and the neurons of its FFNs.

    ``sizes``: the sparsities that were asked for; all from the least to the greatest are served.
    ``prunable``: weights of the dense ancestor's prunable matrices; ``kept``: those of them that
    the model has, uncut. ``costs``: matrix -> weights that leave with ``multiple`` of its
    components. ``order``: numbers of matrices in ``costs`` with spaces between them; each takes the
    last ``multiple`` components from its matrix.

    ``neurons``: the matrices of ``costs`` that stand for the FFN whose outputs they make, all of
    whose matrices are dense -> biases that leave with ``multiple`` of its neurons, which are its
    components.

    ``pivoted``: matrix -> rank uncut, where a cut stores the factored matrices of ``costs`` as
    interpolative decompositions (or whole, at full rank); empty where it keeps two factors. With r
    of an [out, in] matrix's components r (out + in - r) weights are stored then, which is what
    ``kept`` counts, and the checkpoint itself, of factors, is larger than the largest cut.
    ``rows``: of all these matrices, which a cut stores the order of.
    """

    sizes: tuple[float, ...]
    prunable: int
    kept: int
    multiple: int
    costs: Mapping[str, int]
    order: str
    pivoted: Mapping[str, int] = field(default_factory=dict)
    rows: int = 0
    neurons: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.sizes or not all(0.0 <= size <= 1.0 for size in self.sizes):
            raise ValueError(f"sizes {list(self.sizes)}; expected fractions")
        if self.multiple < 1 or not 0 <= self.kept <= self.prunable or self.prunable < 1:
            raise ValueError(f"multiple {self.multiple}, kept {self.kept} of {self.prunable}")
        for name, cost in self.costs.items():
            if not 0 < cost <= self.kept:
                raise ValueError(f"cost {cost} of {name}; expected 1 to {self.kept}")
        if not self.neurons.keys() <= self.costs.keys():
            raise ValueError("neurons has a matrix that costs has not")
        for name, biases in self.neurons.items():
            if not 0 <= biases <= self.kept:
                raise ValueError(f"{biases} biases of {name}; expected 0 to {self.kept}")
        factored = [name for name in self.costs if name not in self.neurons]
        if self.pivoted and list(self.pivoted) != factored:
            raise ValueError("pivoted does not have the factored matrices of costs")
        if not 0 <= self.rows <= self.kept:
            raise ValueError(f"{self.rows} rows; expected 0 to {self.kept}")
        for name, rank in self.pivoted.items():
            if not 0 < rank <= self.kept:
                raise ValueError(f"rank {rank} of {name}; expected 1 to {self.kept}")
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
        costs = np.array(list(self.costs.values()), dtype=np.int64)[self._numbers]
        if self.pivoted:
            ranks = np.array([self.pivoted.get(name, 0) for name in self.costs], dtype=np.int64)
            before = ranks[self._numbers] - self.multiple * _times_before(self._numbers)
            products = ranks[self._numbers] > 0
            costs[products] -= self.multiple * (2 * before[products] - self.multiple)
        return _cumulative(costs)

    @cached_property
    def _saved_biases(self) -> NDArray[np.int64]:
        """Biases that a cut by 0, 1, ... steps leaves out, [steps + 1]."""
        biases = np.array([self.neurons.get(name, 0) for name in self.costs], dtype=np.int64)
        return _cumulative(biases[self._numbers])

    def saved_bytes(self, steps: int, number_bytes: int) -> int:
        """Bytes of the weights file, of numbers of ``number_bytes``, that the LM which is cut by
        ``steps`` does without, to some bytes a matrix."""
        squares = sum(rank * rank for rank in self.pivoted.values())
        orders = ORDER_BYTES * self.rows + ORDER_NAME * len(self.pivoted)
        numbers = int(self.saved[steps] + self._saved_biases[steps])
        return number_bytes * (squares + numbers) - orders

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
            gone = self.saved + self._saved_biases
            sizes = file_bytes - number_bytes * gone - self.saved_bytes(0, number_bytes)
            if sizes[-1] <= budget <= _kilobytes(int(sizes[0])):
                return int((sizes <= budget).argmax())
        least, most = (
            _kilobytes(file_bytes - self.saved_bytes(cut, number_bytes)) for cut in (self.steps, 0)
        )
        raise ValueError(
            f"size {size} is outside the range of this elastic LM; expected a sparsity from "
            f"{low:g} to {high:g}, or {least / MEGABYTE:.3f}MB to "
            f"{most / MEGABYTE:.3f}MB"
        )

    def units(self, model: TransformerLM, steps: int) -> dict[Place, int]:
        """The rank, or the number of neurons, that is left to every matrix of ``costs`` after a cut
        of the ``model`` by ``steps``."""
        gone = Counter(self._numbers[:steps].tolist())
        return {
            place: _count(linear) - self.multiple * gone[number]
            for number, (place, linear) in enumerate(self._matrices(model))
        }

    def cut(self, model: TransformerLM, steps: int) -> None:
        """Cut the model in place: each matrix keeps the first of its components, each FFN the
        first of its neurons."""
        for place, count in self.units(model, steps).items():
            linear = model.layers()[place.block].linear(place.name)
            if isinstance(linear, DenseLinear):
                first = torch.arange(count, device=linear.weight.device)
                for maker in model.anatomy.ffn.makers:
                    made = model.layers()[place.block].linear(maker)
                    model.put(Place(place.block, maker), made.keep_outputs(first))
                model.put(place, linear.keep_inputs(first))
                continue
            assert isinstance(linear, LowRankLinear)
            if self.pivoted or count < linear.rank:
                model.put(place, self._made(linear.A[:, :count], linear.B[:count], linear.bias))

    def _made(self, a: Tensor, b: Tensor, bias: Optional[Tensor]) -> Matrix:
        """A matrix of a cut from its components."""
        if self.pivoted:
            return InterpolativeLinear.from_factors(a.detach(), b.detach(), bias)
        return LowRankLinear(a, b, bias)

    def use(self, model: TransformerLM, steps: Optional[int]) -> None:
        """Let the model compute as if it were cut by ``steps``; None: as it is. Gradients go into
        its own weights."""
        left = {} if steps is None else self.units(model, steps)
        for place, linear in self._matrices(model):
            count = left.get(place)
            if isinstance(linear, LowRankLinear):
                linear.used = count
                continue
            linear.used = (None, count)
            for made in _makers(model, place):
                made.used = (count, None)

    def check(self, model: TransformerLM) -> None:
        """Raises ValueError where the model does not have the matrices that this speaks of."""
        gone = Counter(self._numbers.tolist())
        for number, (place, linear) in enumerate(self._matrices(model)):
            name, cost = str(place), linear.in_features + linear.out_features
            if isinstance(linear, DenseLinear):
                makers = _makers(model, place)
                cost = linear.out_features + sum(made.in_features for made in makers)
                biases = self.multiple * sum(made.bias is not None for made in makers)
                if self.neurons[name] != biases:
                    raise ValueError(f"{place}: biases that are not {biases}")
            if self.costs[name] != self.multiple * cost:
                raise ValueError(f"{place}: a cost that is not {self.multiple * cost}")
            if self.multiple * gone[number] > _count(linear):
                raise ValueError(f"{place}: more components than its {_count(linear)}")
            most = min(_count(linear), linear.in_features, linear.out_features)
            if name in self.pivoted and not self.pivoted[name] == _count(linear) == most:
                raise ValueError(f"{place}: a rank that is not {most}")

    def _matrices(
        self, model: TransformerLM
    ) -> list[tuple[Place, Union[LowRankLinear, DenseLinear]]]:
        """Those of ``costs``. Raises ValueError for one that is not there as two factors, or of an
        FFN that is not dense."""
        stored = {str(place): (place, linear) for place, linear in model.linears()}
        found: list[tuple[Place, Union[LowRankLinear, DenseLinear]]] = []
        for name in self.costs:
            place, linear = stored.get(name, (None, None))
            if name in self.neurons:
                if place is None or place.name != model.anatomy.ffn.reader:
                    raise ValueError(f"no FFN whose outputs {name} makes")
                if not isinstance(linear, DenseLinear) or not _makers(model, place):
                    raise ValueError(f"{name}: an FFN that is not dense")
                found.append((place, linear))
                continue
            if place is None or not isinstance(linear, LowRankLinear):
                raise ValueError(f"no factored matrix {name}")
            found.append((place, linear))
        return found


def _count(linear: Union[LowRankLinear, DenseLinear]) -> int:
    """Components: those of a product, or the neurons that a dense matrix reads."""
    return linear.rank if isinstance(linear, LowRankLinear) else linear.in_features


def _makers(model: TransformerLM, place: Place) -> list[DenseLinear]:
    """The matrices that make the neurons of an FFN; empty where one of them is not dense."""
    block = model.layers()[place.block]
    makers = [block.linear(name) for name in model.anatomy.ffn.makers]
    dense = [made for made in makers if isinstance(made, DenseLinear)]
    return dense if len(dense) == len(makers) else []


def _cumulative(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of the first 0, 1, ... values, [n + 1]."""
    return np.concatenate([[0], np.cumsum(values)]).astype(np.int64)


def _times_before(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each number stands in front of its place.

    >>> _times_before(np.array([3, 5, 3, 3, 5])).tolist()
    [0, 0, 1, 2, 1]
    """
    by_number = np.argsort(numbers, kind="stable")
    ordered = numbers[by_number]
    starts = np.searchsorted(ordered, ordered)  # where each number's run begins
    times = np.empty(len(numbers), np.int64)
    times[by_number] = np.arange(len(numbers)) - starts
    return times


def _kilobytes(count: int) -> int:
    """Bytes, rounded up to whole thousands, as messages show them."""
    return -(-count // 1000) * 1000


def parse_size(size: Size) -> tuple[Optional[float], Optional[float]]:
    """``(sparsity, bytes)``, one of which is None. Raises ValueError for anything else.

    >>> parse_size(0.5), parse_size("0.5"), parse_size("0.063648MB")
    ((0.5, None), (0.5, None), (None, 63648.0))
    """
    found = re.fullmatch(r"(\d*\.?\d+)( ?MB)?", str(size), re.ASCII | re.IGNORECASE)
    value = float(found[1]) if found else -1.0
    if found and found[2]:
        return None, round(value * MEGABYTE, 3)  # the number of bytes that was meant
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"size {size!r}; expected a sparsity from 0 to 1, or megabytes as 12MB")
    return value, None


def parse_speed(size: object) -> Optional[float]:
    """How many times as fast as the whole LM, None for a size that is no speed.

    >>> parse_speed("2.5x"), parse_speed("12MB"), parse_speed(0.5)
    (2.5, None, None)
    """
    found = re.fullmatch(r"(\d*\.?\d+) ?x", str(size), re.ASCII | re.IGNORECASE)
    return float(found[1]) if found else None
