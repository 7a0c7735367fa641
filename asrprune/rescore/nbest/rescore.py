"""Choosing the best hypothesis of every utterance under given weights."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from asrprune.core.hypothesis import NBest
from asrprune.core.weights import ScoreWeights
from asrprune.rescore.decisions import minimum_risk
from asrprune.rescore.nbest.scored_list import ScoredList, totals


@dataclass(frozen=True)
class Rescored:
    """An n-best list in its new order, best first. ``changed``: the first hypothesis is another
    one than before. ``unscored``: the best total is -inf, so the first pass's choice stands."""

    nbest: NBest
    changed: bool
    unscored: bool

    @property
    def best(self) -> str:
        """The words of the best hypothesis, "" for an empty list."""
        return self.nbest.hyps[0].text if self.nbest.hyps else ""


@dataclass
class RescoringSummary:
    """What ``rescore`` did. ``search_wall_s`` is the time for combining and sorting alone."""

    utterances: int = 0
    changed: int = 0
    unscored: int = 0
    empty_lists: int = 0
    search_wall_s: float = 0.0


def rescore(
    lists: Iterable[ScoredList],
    weights: ScoreWeights,
    summary: RescoringSummary,
    path: str = "n-best",
    posterior_scale: Optional[float] = None,
) -> Iterator[Rescored]:
    """Every list sorted by its total score, highest first, streaming; fills in ``summary``.

    Equal totals keep the order of the first pass. A single hypothesis needs no scores. With a
    ``posterior_scale`` the hypothesis with the fewest expected word errors over the list (of those
    with a finite total, posteriors exp(scale * total)) is put in front. ``path`` names the n-best
    file in errors; see ``totals`` for what is raised.
    """
    for scored in lists:
        start = time.perf_counter()
        if len(scored.nbest.hyps) > 1:
            total = totals(scored, weights, path)
        else:  # no choice to make, so no score is needed (silence has none)
            total = np.zeros(len(scored.nbest.hyps))
        order = np.argsort(-total, kind="stable").tolist()
        finite = [index for index in order if np.isfinite(total[index])]
        if posterior_scale is not None and len(finite) > 1:
            words = [scored.units(index) for index in finite]
            chosen = finite[minimum_risk(words, total[finite], posterior_scale)]
            order = [chosen, *(index for index in order if index != chosen)]
        hyps = tuple(scored.nbest.hyps[index] for index in order)
        summary.search_wall_s += time.perf_counter() - start
        result = Rescored(
            replace(scored.nbest, hyps=hyps),
            changed=bool(order) and hyps[0].text != scored.nbest.hyps[0].text,
            unscored=bool(order) and bool(np.isneginf(total[order[0]])),
        )
        summary.utterances += 1
        summary.changed += result.changed
        summary.unscored += result.unscored
        summary.empty_lists += not order
        yield result
