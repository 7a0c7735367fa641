"""Score weights from a dev set: few expected word errors, checked on its held-out halves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Optional

import numpy as np
from numpy.typing import NDArray

from asrprune.core.weights import ScoreWeights
from asrprune.rescore.nbest.scored_list import Floats, ScoredList
from asrprune.rescore.tuning.exact_search import fewest_errors
from asrprune.rescore.tuning.held_out import (
    Intervals,
    Search,
    bootstrap_weights,
    expected_on_folds,
    fold_errors,
    most_restrained,
)
from asrprune.rescore.tuning.parts import (
    SCALES,
    START,
    WITH_LM,
    Part,
    believed,
    make_parts,
)
from asrprune.rescore.tuning.problem import (
    Limits,
    Problem,
    from_vector,
    make_problem,
    vector,
)
from asrprune.rescore.tuning.smooth_search import Mixtures, Pull, search

OBJECTIVES = ("expected", "errors")
SHARPNESS = 12.0
"""Posteriors of the expected errors: a total that is as much worse as acoustic scores vary within
a list counts exp(-12)."""
STRENGTHS = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Strengths of the pull towards the centre that are tried, beside none but the centre itself."""
WITHOUT = "without LM"


@dataclass(frozen=True)
class TuneOptions:
    """``objective``: "expected" word errors, smooth and drawn towards a centre; or "errors", those
    of the best hypotheses counted exactly (MERT), which finds lower ones on dev and is easily
    misled by a small one. ``seed``: of the resamples and of the random starts. ``resamples`` of the
    utterances for the intervals (0: none). ``largest``, ``negative_lm`` as in Limits. Only for
    "expected": ``parts``, whether halves of dev judge what start weights, scales and LMs bring; and
    ``fallback``, whether LMs that they do not speak for get weight 0, and the first pass's own
    weights stay where tuning them brings nothing either (``parts.believed``). Only for "errors":
    ``starts``, random starting points beside the fixed ones, and ``rounds``, most passes over all
    directions from one start."""

    seed: int = 1
    starts: int = 20
    rounds: int = 20
    largest: float = 20.0
    negative_lm: bool = False
    objective: str = "expected"
    resamples: int = 100
    parts: bool = True
    fallback: bool = True

    def __post_init__(self) -> None:
        if self.starts < 0 or self.rounds < 1 or not self.largest > 0 or self.resamples < 0:
            raise ValueError(
                f"bad options {self}; expected starts and resamples >= 0, rounds and largest > 0"
            )
        if self.fallback and not self.parts:
            raise ValueError("fallback without parts; expected both, or no fallback")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective {self.objective!r}; expected one of {OBJECTIVES}")


@dataclass(frozen=True)
class Tuned:
    """The weights found, their word errors on dev, and for comparison those of the ``start``
    weights with every LM weight at 0. ``words`` counts reference words.

    Of the objective "expected": ``centre``, what the weights with the LMs are drawn to;
    ``strength``, how strongly (None: they are the centre itself), as chosen on held-out halves of
    dev; ``held_out_errors``: word errors at weights of the other half; ``parts``: what start
    weights, scales and LMs bring; ``taken``, the part that ``weights`` are, and their
    ``intervals``.
    """

    weights: ScoreWeights
    errors: int
    start_errors: int
    words: int
    utterances: int
    centre: Optional[ScoreWeights] = None
    strength: Optional[float] = None
    held_out_errors: Mapping[str, int] = field(default_factory=dict)
    intervals: Optional[Intervals] = None
    parts: tuple[Part, ...] = ()
    taken: str = WITH_LM

    @property
    def wer_percent(self) -> float:
        """WER on dev at ``weights``."""
        return 100.0 * self.errors / self.words

    @property
    def start_wer_percent(self) -> float:
        """WER on dev at the starting weights, LM weights 0."""
        return 100.0 * self.start_errors / self.words


def tune(
    lists: Iterable[ScoredList],
    refs: Mapping[str, str],
    start: ScoreWeights,
    options: Optional[TuneOptions] = None,
    path: str = "n-best",
    towards: Optional[ScoreWeights] = None,
) -> Tuned:
    """Weights with few word errors, on dev and beyond; same set, same result.

    The acoustic weight stays as in ``start`` (only ratios matter). A score that no hypothesis has
    keeps weight 0; without acoustic scores the first LM's weight is 1 and anchors the rest. LM
    weights are not negative unless ``options`` allow it, the word bonus may be. A hypothesis with a
    score of -inf never wins.

    The weights are drawn to ``towards``, those of a similar LM, or else to the best of the mixtures
    that put the LMs into the place of a part of the first pass's LM, with any word bonus; how
    strongly, the held-out halves of dev decide, and in doubt strongly. (``towards`` is no part of
    that check: tuned on the same dev set, it has seen both halves.) LMs that do not remove errors
    on such halves get weight 0, unless ``options`` say no ``fallback``.

    Raises InputError when an utterance has no reference, a score is known for some hypotheses
    only, or there is nothing to tune on; ValueError for ``start`` or ``towards`` with another
    number of LM weights than there are LMs (``start`` may have none).
    """
    options = options or TuneOptions()
    problem, begin = make_problem(lists, refs, start, limits_of(options), path)
    if towards is not None and len(towards.lm) != len(begin) - 3:
        raise ValueError(f"towards has {len(towards.lm)} LM weights for {len(begin) - 3} LMs")
    zero_lm = begin.copy()
    zero_lm[2:-1] = 0.0
    if options.objective == "errors":
        found = fewest_errors(problem, begin, options.seed, options.starts, options.rounds)
        return _result(problem, found, zero_lm)
    if towards is None:
        to_centre: Search = Mixtures(problem, begin, sharpness_of(problem)).best
    else:
        fixed = np.clip(vector(towards), problem.low, problem.high)
        to_centre = partial(_constant, fixed)
    everything = np.ones(len(problem.words))
    strength, checked = _checked_strength(problem, to_centre)
    fits: dict[str, Search] = {WITH_LM: partial(_fit, problem, to_centre, strength)}
    parts: tuple[Part, ...] = ()
    if options.parts:
        fits = {START: partial(_constant, zero_lm), SCALES: _scales(problem, zero_lm), **fits}
        parts = _parts(problem, fits)
    taken = believed(parts).name if options.fallback else WITH_LM
    bounds = bootstrap_weights(problem, fits[taken], options.resamples, options.seed)
    return replace(
        _result(problem, fits[taken](everything), zero_lm),
        centre=from_vector(to_centre(everything)),
        strength=strength,
        held_out_errors={WITHOUT: problem.count(zero_lm), **checked},
        intervals=None if bounds is None else Intervals(*map(from_vector, bounds)),
        parts=parts,
        taken=taken,
    )


def _parts(problem: Problem, fits: Mapping[str, Search]) -> tuple[Part, ...]:
    """What each of the ``fits`` comes to, on dev and on its held-out halves."""
    sharpness, everything = sharpness_of(problem), np.ones(len(problem.words))
    return make_parts(
        [
            (name, problem.count(fit(everything)), expected_on_folds(problem, fit, sharpness))
            for name, fit in fits.items()
        ]
    )


def _scales(problem: Problem, zero_lm: Floats) -> Search:
    """The search for weights without LMs, drawn to ``zero_lm`` as strongly as the held-out halves
    speak for."""
    if problem.anchor > 1:  # without acoustic scores nothing is left to scale
        return partial(_constant, zero_lm)
    low, high = problem.low.copy(), problem.high.copy()
    low[2:-1] = high[2:-1] = 0.0
    without = replace(problem, low=low, high=high)
    to_start: Search = partial(_constant, zero_lm)
    strength, _ = _checked_strength(without, to_start)
    return partial(_fit, without, to_start, strength)


def _name(strength: Optional[float]) -> str:
    return "centre" if strength is None else f"strength {strength:g}"


def limits_of(options: TuneOptions) -> Limits:
    """The limits that the options state."""
    return Limits(options.largest, options.negative_lm)


def _result(problem: Problem, found: Floats, zero_lm: Floats) -> Tuned:
    return Tuned(
        weights=from_vector(found),
        errors=problem.count(found),
        start_errors=problem.count(zero_lm),
        words=int(problem.words.sum()),
        utterances=len(problem.words),
    )


def _constant(weights: Floats, counts: Floats) -> Floats:
    return weights


def sharpness_of(problem: Problem) -> float:
    """What totals are multiplied by before they become posteriors."""
    return SHARPNESS / problem.spread


def _fit(problem: Problem, to_centre: Search, strength: Optional[float], counts: Floats) -> Floats:
    centre = to_centre(counts)
    if strength is None:
        return centre
    return search(problem, centre, sharpness_of(problem), Pull(centre, strength), counts)


def _checked_strength(
    problem: Problem, to_centre: Search
) -> tuple[Optional[float], dict[str, int]]:
    """The strength of the pull that held-out halves of dev speak for, and their word errors."""
    found: list[tuple[str, NDArray[np.int64]]] = []
    strengths = {_name(one): one for one in (None, *STRENGTHS)}
    for name, strength in strengths.items():
        found.append((name, fold_errors(problem, partial(_fit, problem, to_centre, strength))))
    chosen = most_restrained(found)
    return strengths[chosen], {name: int(errors.sum()) for name, errors in found}
