"""Choosing what to remove."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrprune.prune.selection import Chain, choose_levels, lowest


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.data())
def test_lowest_is_exact_and_stable(values: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(values)))
    mask = lowest(torch.tensor(values, dtype=torch.float), count)
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    assert mask.nonzero().flatten().tolist() == sorted(order[:count])


def test_lowest_refuses_nan_and_impossible_counts() -> None:
    with pytest.raises(ValueError, match="NaN"):
        lowest(torch.tensor([1.0, float("nan")]), 1)
    with pytest.raises(ValueError, match="count is 3"):
        lowest(torch.zeros(2), 3)


def test_a_dear_first_level_is_weighed_with_what_it_opens() -> None:
    dear = Chain("dear", (0, 1, 101), (0.0, 5.0, 6.0))  # 6 per 101 together
    cheap = Chain("cheap", (0, 50, 100), (0.0, 4.0, 8.0))  # 8 per 100
    assert choose_levels([dear, cheap], 101) == [2, 0]
    assert choose_levels([dear, cheap], 50) == [0, 1]
    assert choose_levels([dear, cheap], 201) == [2, 2]
    assert choose_levels([dear, cheap], 0) == [0, 0]
    with pytest.raises(ValueError, match="the most is 201"):
        choose_levels([dear, cheap], 202)


@given(
    st.lists(st.lists(st.floats(0, 10), min_size=1, max_size=6), min_size=1, max_size=4),
    st.integers(1, 9),
    st.floats(0, 1),
)
def test_chosen_levels_miss_by_less_than_one_step(
    losses: list[list[float]], step: int, share: float
) -> None:
    chains = [
        Chain(str(i), tuple(range(0, step * len(loss) + 1, step)), (0.0, *np.cumsum(sorted(loss))))
        for i, loss in enumerate(losses)
    ]
    remove = round(share * sum(chain.saved[-1] for chain in chains))
    levels = choose_levels(chains, remove)
    saved = sum(chain.saved[level] for chain, level in zip(chains, levels))
    assert abs(saved - remove) <= step / 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=3),
    st.integers(0, 40),
)
def test_of_equal_steps_those_go_that_lose_least(losses: list[list[int]], count: int) -> None:
    """Against every choice of levels, where losses rise ever faster and a step saves 10."""
    chains = [
        Chain(str(number), tuple(range(0, 10 * len(one) + 1, 10)), (0.0, *np.cumsum(sorted(one))))
        for number, one in enumerate(losses)
    ]
    steps = min(count, sum(map(len, losses)))
    levels = choose_levels(chains, 10 * steps)
    assert sum(levels) == steps
    lost = sum(chain.loss[level] for chain, level in zip(chains, levels))
    every = itertools.product(*(range(len(one) + 1) for one in losses))
    assert lost == min(
        sum(chain.loss[level] for chain, level in zip(chains, each))
        for each in every
        if sum(each) == steps
    )


def test_a_size_may_be_missed_a_little_to_lose_less() -> None:
    chains = [Chain("dear", (0, 10), (0.0, 9.0)), Chain("cheap", (0, 11), (0.0, 1.0))]
    assert choose_levels(chains, 10) == [1, 0]
    assert choose_levels(chains, 10, slack=1) == [0, 1]


@pytest.mark.parametrize(
    ("saved", "loss", "problem"),
    [
        ((0, 2), (0.0,), "do not fit"),
        ((1, 2), (0.0, 1.0), "do not fit"),
        ((0, 2, 2), (0.0, 1.0, 2.0), "do not grow"),
        ((0, 2, 3), (0.0, 2.0, 1.0), "losses fall"),
        ((0, 2), (0.0, float("nan")), "losses fall or are NaN"),
    ],
)
def test_chains_that_cannot_be(
    saved: tuple[int, ...], loss: tuple[float, ...], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Chain("c", saved, loss)


def test_what_is_removed_already_is_lowest() -> None:
    scores = torch.tensor([[3.0, -torch.inf], [0.0, -torch.inf]])
    assert lowest(scores, 2).tolist() == [[False, True], [False, True]]
    assert lowest(scores, 3).tolist() == [[False, True], [True, True]]
