"""Scores of a lattice in SLF: what the base and the scales of its header make of a link's."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Optional

from asrprune.core.weights import ScoreWeights

_BESIDE = {"r": "prscale", "ds": "duscale", **{f"x{n}": f"x{n}scale" for n in range(1, 10)}}
"""Score of a link beside the acoustic one -> its scale: pronunciation, duration, SRILM's extra."""
_DEFAULTS = {
    **{"acscale": 1.0, "lmscale": 1.0, "ngscale": 1.0, "wdpenalty": 0.0},
    **dict.fromkeys(_BESIDE.values(), 0.0),
    "prscale": 1.0,
}
SCALES = tuple(_DEFAULTS)
"""The header fields that scale scores, the word penalty among them."""


class LogConverter:
    """Turns a score in the file's ``base=`` (default e; 0: plain numbers) into a natural log."""

    def __init__(self, base: float) -> None:
        self.base = base

    def __call__(self, value: float) -> float:
        if self.base == 0.0:
            return math.log(value) if value > 0.0 else -math.inf
        return value * math.log(self.base)


@dataclass(frozen=True)
class LinkScores:
    """What the fields of a link count in its acoustic and in its LM score: field -> factor.

    ``lm`` is empty where the links have no LM scores. ``weights`` are the scales of the header,
    None where it states none; with them the total of a path is HTK's and SRILM's.
    """

    acoustic: dict[str, float]
    lm: dict[str, float]
    weights: Optional[ScoreWeights]


def link_scores(
    stated: Mapping[str, float], fields: Collection[str], to_ln: LogConverter
) -> LinkScores:
    """The factors by the scales that the header states, for links that have ``fields``.

    SRILM's total of a link is acscale a + lmscale l + ngscale n + prscale r + duscale ds + x1scale
    x1 + ... + wdpenalty; scales that are not stated are 1, duscale and those of x 0. What is beside
    a counts in acoustic units, or not at all where acscale is 0. The n-gram score n counts in units
    of l; it is the LM score, and ngscale its weight, where there is no l or lmscale is 0.
    """
    scale = {**_DEFAULTS, **stated}
    acoustic, first_lm, ngram = scale["acscale"], scale["lmscale"], scale["ngscale"]
    beside = {field: scale[name] / acoustic if acoustic else 0.0 for field, name in _BESIDE.items()}
    lm = {"l": 1.0} if "l" in fields else {}
    if "n" in fields and ngram and lm and first_lm:
        lm["n"] = ngram / first_lm
    elif "n" in fields and ngram:
        lm, first_lm = {"n": 1.0}, ngram
    weights = None
    if {"acscale", "lmscale", "wdpenalty"} & set(stated) or first_lm != 1.0:
        penalty = scale["wdpenalty"]
        bonus = penalty if to_ln.base == 0.0 else to_ln(penalty)
        weights = ScoreWeights(acoustic, first_lm, (), bonus)
    counted = {field: factor for field, factor in beside.items() if factor and field in fields}
    return LinkScores({"a": 1.0, **counted}, lm, weights)
