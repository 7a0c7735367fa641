"""Parametrised tests of which the quick run takes a part; the rest is marked slow."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def slow(cases: Iterable[Any]) -> list[Any]:
    """The cases (a tuple holds the values of several arguments), left out of the quick run."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in cases
    ]


def grid(*axes: Iterable[Any], centre: Sequence[Any]) -> list[Any]:
    """Every combination of the axes. The quick run takes those that differ from ``centre`` in one
    axis at most: it meets every entry of every axis."""
    cases: list[Any] = []
    for case in itertools.product(*axes):
        same = sum(ours == middle for ours, middle in zip(case, centre))
        cases += [case] if same >= len(centre) - 1 else slow([case])
    return cases
