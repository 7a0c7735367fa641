"""Choosing what to remove: an exact number of tiles, or levels of nested options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

import torch
from torch import Tensor


def lowest(scores: Tensor, count: int) -> Tensor:
    """A boolean mask, True at the ``count`` lowest scores; of equal ones the first are taken.

    ``scores`` of any shape; -inf stands for what is removed already, so masks stay nested.
    Raises ValueError when count is outside 0..number of scores, or a score is NaN.
    """
    flat = scores.flatten()
    if not 0 <= count <= flat.numel():
        raise ValueError(f"count is {count}; expected 0 <= count <= {flat.numel()}")
    if torch.isnan(flat).any():
        raise ValueError("a score is NaN; expected numbers")
    mask = torch.zeros(flat.numel(), dtype=torch.bool, device=flat.device)
    mask[torch.argsort(flat, stable=True)[:count]] = True
    return mask.view(scores.shape)


def nearest_count(kept: Callable[[int], int], keep: int, counts: range) -> int:
    """Which of ``counts`` leaves ``kept(count)`` nearest to ``keep``, of two the first; ``kept``
    falls with the count.

    >>> nearest_count(lambda count: 10 - 3 * count, 5, range(4))
    2
    """
    least, most = counts[0], counts[-1]
    while least < most:
        middle = (least + most) // 2
        if kept(middle) > keep:
            least = middle + 1
        else:
            most = middle
    if least > counts[0] and kept(least - 1) - keep <= keep - kept(least):
        return least - 1
    return least


@dataclass(frozen=True)
class Chain:
    """Nested options of one place (a matrix's rank, a block's neurons): level 0 removes nothing.

    ``saved[l]`` and ``loss[l]`` are the parameters saved and the summed score lost at level l,
    against level 0; ``saved`` grows strictly, ``loss`` does not fall.
    """

    name: str
    saved: tuple[int, ...]
    loss: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.saved) != len(self.loss) or self.saved[:1] != (0,):
            raise ValueError(f"{self.name}: levels {self.saved} and {self.loss} do not fit")
        if any(b <= a for a, b in zip(self.saved, self.saved[1:])):
            raise ValueError(f"{self.name}: saved parameters {self.saved} do not grow")
        if any(not b >= a for a, b in zip(self.loss, self.loss[1:])):
            raise ValueError(f"{self.name}: losses fall or are NaN")

    def segments(self) -> list[tuple[float, int, int]]:
        """``(loss per parameter, from level, to level)``, the rate growing along the list.

        A level that costs much per parameter but opens the way to cheap ones is merged with
        them (the lower convex hull of loss over parameters saved).
        """
        merged: list[tuple[float, int, int]] = []
        for level in range(1, len(self.saved)):
            first = level - 1
            while True:
                rate = self._rate(first, level)
                if not merged or merged[-1][0] <= rate:
                    break
                first = merged.pop()[1]
            merged.append((rate, first, level))
        return merged

    def _rate(self, low: int, high: int) -> float:
        return (self.loss[high] - self.loss[low]) / (self.saved[high] - self.saved[low])


def choose_levels(chains: Sequence[Chain], remove: int, slack: int = 0) -> list[int]:
    """The level of every chain such that about ``remove`` parameters go at little lost score.

    Greedy over all chains by lost score per parameter saved (ties: the first chain), then one
    last move that meets ``remove`` best; among moves that miss it by at most ``slack`` (or by
    no more than the best) the one that loses least.

    Raises ValueError when ``remove`` is negative or more than all chains together can save.
    """
    reachable = sum(chain.saved[-1] for chain in chains)
    if not 0 <= remove <= reachable:
        raise ValueError(f"cannot remove {remove} parameters; the most is {reachable}")
    levels = [0] * len(chains)
    queue = sorted(
        (rate, number, low, high)
        for number, chain in enumerate(chains)
        for rate, low, high in chain.segments()
    )
    left = remove
    for _, number, low, high in queue:
        step = chains[number].saved[high] - chains[number].saved[low]
        if levels[number] != low:
            continue
        if step > left:
            break
        levels[number] = high
        left -= step
    while left > slack:
        move = _last_move(chains, levels, left, slack)
        if move is None:
            break
        number, level = move
        left -= chains[number].saved[level] - chains[number].saved[levels[number]]
        levels[number] = level
    return levels


def _last_move(
    chains: Sequence[Chain], levels: Sequence[int], left: int, slack: int
) -> Optional[tuple[int, int]]:
    """The chain and level that bring what is ``left`` nearest to 0; None when nothing does."""
    moves = []
    for number, chain in enumerate(chains):
        now = levels[number]
        for level in range(now + 1, len(chain.saved)):
            gain = chain.saved[level] - chain.saved[now]
            miss = abs(left - gain)
            if miss < left:
                moves.append((miss, chain.loss[level] - chain.loss[now], number, level))
            if gain >= left:
                break
    if not moves:
        return None
    allowed = max(slack, min(moves)[0])
    _, _, number, level = min(
        (move for move in moves if move[0] <= allowed), key=lambda move: (move[1], move[0], move[2])
    )
    return number, level
