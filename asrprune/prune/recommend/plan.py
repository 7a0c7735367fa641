"""Which plan meets a budget at the least cost."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from heapq import heapify, heappop, heappush
from typing import Optional

from asrprune.lm.model.checkpoint import Checkpoint
from asrprune.lm.model.elastic import MEGABYTE
from asrprune.prune.methods import METHODS
from asrprune.prune.methods.method import Options, prunable_parameters
from asrprune.prune.recommend.table import Family, Interval, Row


@dataclass(frozen=True)
class Budget:
    """At most ``megabytes``, or ``share`` of the dense LM's weights file, or ``times`` as fast."""

    megabytes: Optional[float] = None
    share: Optional[float] = None
    times: Optional[float] = None


def parse_budget(text: str) -> Budget:
    """The budget in ``text``. Raises ValueError.

    >>> parse_budget("12MB"), parse_budget("0.5").share, parse_budget("4x").times
    (Budget(megabytes=12.0, share=None, times=None), 0.5, 4.0)
    """
    found = re.fullmatch(r"(\d*\.?\d+)( ?MB|x)?", text, re.ASCII | re.IGNORECASE)
    value = float(found[1]) if found else 0.0
    unit = (found[2] or "").strip().lower() if found else ""
    if not 0 < value < math.inf or (not unit and value > 1):
        expected = "megabytes as 12MB, a share of the LM's file as 0.5, or times as fast as 4x"
        raise ValueError(f"budget {text!r}; expected {expected}")
    if unit == "mb":
        return Budget(megabytes=value)
    return Budget(times=value) if unit == "x" else Budget(share=value)


@dataclass(frozen=True)
class LmSize:
    """``bytes`` of the weights file, of numbers of ``number_bytes``; ``prunable`` of its
    ``parameters`` can be removed; those of ``tables`` (a tied embedding, learned positions; how
    many weights each has) can become zero."""

    bytes: int
    number_bytes: int
    parameters: int
    prunable: int
    tables: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> LmSize:
        """That of a dense LM on disk."""
        model = checkpoint.model
        prunable = sum(prunable_parameters(model, Options().matrices).values())
        parameters = sum(one.numel() for one in model.parameters())
        table = model.embedding
        tables = {}
        if table.tied and table.projection is None:
            tables["embedding"] = table.weight.numel()
        if model.positions is not None:
            tables["positions"] = model.positions.numel()
        number_bytes = checkpoint.stored.itemsize
        return cls(checkpoint.size_bytes(), number_bytes, parameters, prunable, tables)

    def without_zeros(self, zeros: Mapping[str, float]) -> LmSize:
        """This LM with a bit mask in place of the zeros of its tables (table -> share)."""
        saved, gone = 0.0, 0.0
        for table, share in zeros.items():
            gone += share * self.tables[table]
            saved += share * self.tables[table] * self.number_bytes
            saved -= mask_bytes(self.tables[table], share)
        left = self.parameters - round(gone)
        return replace(self, bytes=self.bytes - round(saved), parameters=left)

    def pruned(self, method: str, sparsity: float) -> float:
        """Bytes of the weights file at ``sparsity``; see ``mask_bytes``."""
        if method == "width":  # of the embedding and norms, too, the same share leaves
            return (1.0 - sparsity) * self.bytes
        leaving = float(self.prunable * self.number_bytes)
        rest = self.bytes - leaving
        if method == "width+structured":  # of these the share that leaves the stream
            rest *= (1.0 - sparsity) ** Options().width_share
        masks = mask_bytes(self.prunable, sparsity) if METHODS[method].masks else 0.0
        return rest + masks + (1.0 - sparsity) * leaving


def mask_bytes(weights: int, share: float) -> float:
    """Bytes of the coded mask of so many ``weights`` of which a ``share`` is zero, drawn one by
    one (lm/model/sparse_tensors.py). Those of matrices of unlike shares, or of zeros that stand in
    a pattern, have fewer.

    >>> mask_bytes(1000, 0.5), round(mask_bytes(1000, 0.8), 1), mask_bytes(1000, 1.0)
    (125.0, 91.5, 15.625)
    """
    return weights / 8 * min(_bits_of_a_byte(share) / 8, 1.0)


@lru_cache(maxsize=4096)
def _bits_of_a_byte(share: float) -> float:
    """The mean length of the Huffman code of eight bits of which a ``share`` is zero."""
    nodes = [
        share ** (8 - one.bit_count()) * (1.0 - share) ** one.bit_count() for one in range(256)
    ]
    heapify(nodes)
    bits = 0.0
    while len(nodes) > 1:  # what is joined gets a bit more
        joined = heappop(nodes) + heappop(nodes)
        heappush(nodes, joined)
        bits += joined
    return bits


@dataclass(frozen=True)
class Recommendation:
    """A plan with its expected size and cost; ``zeros`` of tables, as those of Row; ``range``: the
    sparsities that were measured.
    ``speed_ratio`` None: not measured; ``wer_difference`` in points; ``settings`` and
    ``statistics_tokens`` as the nearest measured size was pruned with."""

    family: Family
    zeros: Mapping[str, float]
    sparsity: float
    range: tuple[float, float]
    bytes: float
    perplexity_ratio: Interval
    wer_difference: Optional[Interval]
    speed_ratio: Optional[float]
    settings: tuple[str, ...]
    statistics_tokens: Optional[int]


def nearest(rows: Sequence[Row], parameters: int) -> list[Row]:
    """The rows of the LM whose number of parameters is nearest, by its logarithm."""
    first = min(rows, key=lambda row: abs(math.log(row.parameters / max(parameters, 1))))
    return [row for row in rows if row.lm == first.lm]


def is_met(budget: Budget, size: LmSize) -> bool:
    """Whether the dense LM meets the budget."""
    if budget.times is not None:
        return budget.times <= 1
    return size.bytes <= _most_bytes(budget, size)


def recommend(rows: Sequence[Row], size: LmSize, budget: Budget) -> list[Recommendation]:
    """The best size of each family of plans that meets the budget, the least perplexity first.
    An elastic family of one size is none: `prune` makes it between two. Zeros in tables are for an
    LM that has these.

    Raises ValueError ``found; expected`` where none does.
    """
    families: dict[tuple[Family, tuple[tuple[str, float], ...]], list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.sparsity):
        if row.zeros.keys() <= size.tables.keys():
            families[row.family, tuple(row.zeros.items())].append(row)
    if not families:
        raise ValueError("all plans have zeros in tables that this LM has not; expected others")
    found = [
        _at(size, family, sparsity)
        for family in families.values()
        for sparsity in [_wanted(size, family, budget)]
        if sparsity is not None and (family[0].family[2] != "elastic" or len(family) > 1)
    ]
    if not found:
        raise ValueError(_out_of_reach(list(families.values()), size, budget))
    return sorted(found, key=lambda one: one.perplexity_ratio[0])


def _most_bytes(budget: Budget, size: LmSize) -> float:
    if budget.megabytes is not None:
        return budget.megabytes * MEGABYTE
    assert budget.share is not None
    return budget.share * size.bytes


def _wanted(size: LmSize, family: Sequence[Row], budget: Budget) -> Optional[float]:
    """The least measured or interpolated sparsity that meets the budget, None if none does."""
    if budget.times is None:
        most = _most_bytes(budget, size) + 0.5  # files have whole bytes
        ends = family[0].sparsity, family[-1].sparsity
        steps = range(math.ceil(ends[0] * 1000), math.floor(ends[1] * 1000) + 1)
        tried = sorted({row.sparsity for row in family} | {step / 1000 for step in steps})
        return next((one for one in tried if _bytes(size, family, one) <= most), None)
    timed = [(row.sparsity, row.speed_ratio) for row in family if row.speed_ratio is not None]
    before: Optional[tuple[float, float]] = None
    for sparsity, speed in timed:
        if speed >= budget.times:
            if before is None:
                return sparsity
            part = (budget.times - before[1]) / (speed - before[1])
            exact = before[0] + part * (sparsity - before[0])
            return min(math.ceil(exact * 1000 - 1e-6) / 1000, sparsity)
        before = sparsity, speed
    return None


def _bytes(size: LmSize, family: Sequence[Row], sparsity: float) -> float:
    """Bytes of the weights file of the family's plan at ``sparsity``."""
    below, above, part = _between(family, sparsity)
    left = size.without_zeros(above.zeros)
    known = (1.0 - part) * _excess(size, below) + part * _excess(size, above)
    return left.pruned(above.family[0], sparsity) + known


def _excess(size: LmSize, row: Row) -> float:
    """Bytes that the study's file has more than is expected; 0 where its LM was not of this size.

    Masks may have been written before they were coded; they are no larger now than is expected.
    """
    if not row.bytes or (row.parameters, row.dense_bytes) != (size.parameters, size.bytes):
        return 0.0
    method = row.family[0]
    excess = row.bytes - size.without_zeros(row.zeros).pruned(method, row.sparsity)
    return min(excess, 0.0) if METHODS[method].masks else excess


def _between(family: Sequence[Row], sparsity: float) -> tuple[Row, Row, float]:
    """The measured sizes around ``sparsity``, and which part of the way it is to the second."""
    above = next(row for row in family if row.sparsity >= sparsity)
    below = [row for row in family if row.sparsity <= sparsity][-1]
    span = above.sparsity - below.sparsity
    return below, above, (sparsity - below.sparsity) / span if span else 0.0


def _at(size: LmSize, family: Sequence[Row], sparsity: float) -> Recommendation:
    """The family's plan at ``sparsity``, which lies between those measured."""
    below, above, part = _between(family, sparsity)

    def between(low: float, high: float) -> float:
        return low + part * (high - low)

    def interval(low: Interval, high: Interval) -> Interval:
        mean, least, most = map(between, low, high)
        return mean, least, most

    wer, speed = None, None
    if below.wer_difference is not None and above.wer_difference is not None:
        wer = interval(below.wer_difference, above.wer_difference)
    if below.speed_ratio is not None and above.speed_ratio is not None:
        speed = between(below.speed_ratio, above.speed_ratio)
    ratio = interval(below.perplexity_ratio, above.perplexity_ratio)
    expected = _bytes(size, family, sparsity)
    ends = family[0].sparsity, family[-1].sparsity
    like = below if part < 0.5 else above
    told = like.settings, like.statistics_tokens
    plan = above.family, above.zeros, sparsity
    return Recommendation(*plan, ends, expected, ratio, wer, speed, *told)


def _out_of_reach(families: Sequence[Sequence[Row]], size: LmSize, budget: Budget) -> str:
    if budget.times is not None:
        speeds = [row.speed_ratio for rows in families for row in rows if row.speed_ratio]
        if not speeds:
            return "no speeds in the study for this LM; expected a budget in MB or a share"
        return f"{budget.times:g}x is faster than all measured; expected at most {max(speeds):.3g}x"
    least = min(_bytes(size, rows, rows[-1].sparsity) for rows in families)
    smallest = math.ceil(least / 1000) * 1000 / MEGABYTE
    found = f"{_most_bytes(budget, size) / MEGABYTE:.3f}MB is smaller than all measured"
    share = math.ceil(least / size.bytes * 1000) / 1000
    return f"{found}; expected at least {smallest:.3f}MB ({share:.3f} of this LM's file)"
