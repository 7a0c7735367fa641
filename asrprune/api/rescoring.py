"""Weights tuned on dev, and the best hypotheses under them, of n-best lists and of lattices."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from asrprune.api.first_pass import check_texts, checked_lists, shown
from asrprune.api.lms import AnyLM, as_language_model
from asrprune.core.hypothesis import NBest
from asrprune.core.lattice.lattice import Lattice
from asrprune.core.tables import lookup
from asrprune.core.units import in_units
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.rescore.decisions import DECISIONS
from asrprune.rescore.lattices import modes
from asrprune.rescore.lattices.modes import LATTICE_MODES
from asrprune.rescore.nbest.rescore import RescoringSummary, rescore
from asrprune.rescore.nbest.scored_list import ScoredList, scored_lists
from asrprune.rescore.scores_file import Scores, UtteranceScores
from asrprune.rescore.tuning.tune import Tuned, TuneOptions, tune

ListScores = Mapping[str, Union[NDArray[np.float64], Sequence[float]]]
"""Utterance id -> scores of its hypotheses [H], natural logs, as ``score_nbest`` gives them."""

_TUNE = TuneOptions()
_NBEST_DECISIONS = ("map", "mbr")


def tune_weights(
    lists: Iterable[NBest],
    scores: Union[ListScores, Sequence[ListScores]],
    refs: Optional[Mapping[str, str]] = None,
    *,
    start: Optional[ScoreWeights] = None,
    towards: Optional[ScoreWeights] = None,
    objective: str = _TUNE.objective,
    negative_lm: bool = _TUNE.negative_lm,
    starts: int = _TUNE.starts,
    resamples: int = _TUNE.resamples,
    seed: int = _TUNE.seed,
) -> Tuned:
    """Score weights with few word errors, on a dev set and beyond.

    ``scores`` of one LM, or a list of those of several; the order of the LMs is that of
    ``weights.lm`` in the result. ``refs``: utterance id -> words, by default the lists' own.
    ``start``: the first pass's own weights (default ``ScoreWeights()``), whose acoustic weight is
    kept, and whose ``unit`` errors and the word bonus are counted in. ``towards``: weights of a
    similar LM, which these are drawn to (default: the best mixture with the first pass's LM).
    ``objective``: "expected" word errors, or "errors", counted exactly, which a small dev set
    misleads; only that uses ``starts`` random starting points. ``resamples`` of the utterances give
    the weights' intervals. ``negative_lm``: an LM may be subtracted. ``seed`` is of starts and
    resamples; the same call gives the same weights. Of the result, ``weights`` go into
    ``rescore_nbest``, ``intervals`` are their 95 % intervals, ``held_out_errors`` the word errors
    on halves of dev at weights of the other half, and ``wer_percent`` is the WER on these lists
    (an empty list is an empty hypothesis), ``start_wer_percent`` that without an LM. Never tune on
    the set that you report.

    Raises InputError naming the utterance without a reference or without scores, and where a score
    of the first pass is known for some hypotheses only; TypeError for lists that are not NBest,
    and for other references and weights than these.

    >>> import asrprune
    >>> from asrprune.api.example import tiny_lists, tiny_lm
    >>> lists = tiny_lists()
    >>> tuned = asrprune.tune_weights(lists, asrprune.score_nbest(tiny_lm(), lists))
    >>> tuned.start_errors, tuned.errors, tuned.weights.lm[0] > 0
    (1, 0, True)
    """
    for name, given in (("start", start), ("towards", towards)):
        if given is not None:
            _check_weights(given, name)
    if refs is not None:
        check_texts("refs", refs)
    start = start or ScoreWeights()
    scored = _joined(lists, scores, start.unit)
    options = TuneOptions(
        seed, starts, negative_lm=negative_lm, objective=objective, resamples=resamples
    )
    references = _own_references(scored) if refs is None else refs
    cut = {utt: in_units(ref, start.unit) for utt, ref in references.items()}
    tuned = tune(scored, cut, start, options, "lists", towards)
    return dataclasses.replace(tuned, weights=dataclasses.replace(tuned.weights, unit=start.unit))


def rescore_nbest(
    lists: Iterable[NBest],
    scores: Union[ListScores, Sequence[ListScores]],
    weights: ScoreWeights,
    *,
    decision: str = "map",
    posterior_scale: Optional[float] = None,
) -> dict[str, str]:
    """Utterance id -> words of the best hypothesis under ``weights``, "" for an empty list.

    ``scores`` as in ``tune_weights``, one LM for each of ``weights.lm``; without LMs ([], and no
    LM weight) the first pass's scores decide. ``decision``: "map", the highest total, or "mbr", the
    fewest expected word errors over the list where posteriors are exp(``posterior_scale`` * total).
    Equal totals keep the order of the first pass; so do lists whose totals are all -inf.

    Raises ValueError for another number of LMs than of LM weights, InputError naming the utterance
    without scores or with an unknown score that has a weight, TypeError for lists that are not
    NBest.

    >>> import asrprune
    >>> from asrprune.api.example import tiny_lists, tiny_lm
    >>> lists = tiny_lists()
    >>> weights = asrprune.ScoreWeights(acoustic=1.0, first_lm=0.5, lm=(0.5,))
    >>> asrprune.rescore_nbest(lists, asrprune.score_nbest(tiny_lm(), lists), weights)
    {'utt1': 'the cat sat on the mat', 'utt2': 'a dog saw the cat'}
    >>> asrprune.rescore_nbest(lists, [], asrprune.ScoreWeights())["utt1"]
    'the cat sad on the mat'
    """
    _check_weights(weights)
    lookup(dict.fromkeys(_NBEST_DECISIONS), decision, "decision for n-best lists")
    scale = _posterior_scale(decision, posterior_scale)
    scored = _joined(lists, scores, weights.unit)
    chosen = rescore(scored, weights, RescoringSummary(), "lists", scale)
    return {one.nbest.utt: one.best for one in chosen}


def rescore_lattices(
    lattices: Iterable[Lattice],
    lms: Union[AnyLM, Sequence[AnyLM]],
    weights: ScoreWeights,
    mode: str = "beam",
    *,
    decision: str = "map",
    posterior_scale: Optional[float] = None,
    **options: Any,
) -> dict[str, str]:
    """Utterance id -> words of the best path of its lattice, rescored under ``weights``.

    ``lms``: one LM or several, each as in ``score_nbest``, one for each of ``weights.lm``. ``mode``
    is "beam" (expansion by history), "nbest", "cover" or "exact"; ``options`` are those of the
    mode with the defaults of ``asrprune rescore --help``, such as ``history=4`` or ``paths=200``.
    ``decision``: "map", the highest total; with a ``posterior_scale`` also "mbr" or "consensus",
    the fewest expected word errors over the best hypotheses or over all paths.

    Raises InputError naming the utterance where a lattice cannot be rescored, ValueError for an
    unknown mode, option or decision and for another number of LMs than of LM weights, TypeError
    for what is no lattice or no LM.

    >>> import asrprune
    >>> from asrprune.api.example import tiny_lists, tiny_lm
    >>> from asrprune.core.lattice.union import union_of_nbest
    >>> lattices = [union_of_nbest(nbest) for nbest in tiny_lists()]
    >>> weights = asrprune.ScoreWeights(acoustic=1.0, first_lm=0.5, lm=(0.5,))
    >>> asrprune.rescore_lattices(lattices, tiny_lm(), weights)
    {'utt1': 'the cat sat on the mat', 'utt2': 'a dog saw the cat'}
    """
    _check_weights(weights)
    entry = lookup(LATTICE_MODES, mode, "lattice mode")
    decide = lookup(DECISIONS, decision, "decision")
    scale = _posterior_scale(decision, posterior_scale)
    fields = {field.name: field for field in dataclasses.fields(entry.options)}
    for name in options:
        lookup(fields, name, f"option of mode {mode}")
    given = lms if isinstance(lms, Sequence) and not isinstance(lms, str) else [lms]
    opened = [as_language_model(lm) for lm in given]
    asked = [lm.prefixes() if entry.prefixes else lm.words() for lm in opened]
    checked = _checked_lattices(lattices)
    chosen: dict[str, str] = {}
    found = modes.rescore_lattices(checked, entry, asked, weights, entry.options(**options))
    for scored in found:
        try:
            chosen[scored.lattice.utt] = decide(scored, 1.0 if scale is None else scale)
        except ValueError as problem:
            expected = "lattices with a path that can win"
            raise InputError("lattices", None, str(problem), expected) from None
    return chosen


def _joined(
    lists: Iterable[NBest], scores: Union[ListScores, Sequence[ListScores]], unit: str
) -> list[ScoredList]:
    """The lists with the scores of every LM, by utterance id, counted in ``unit``."""
    checked = checked_lists(lists)
    lms = [scores] if isinstance(scores, Mapping) else list(scores)
    found = [_scores(checked, one, k) for k, one in enumerate(lms)]
    return list(scored_lists(checked, found, unit=unit))


def _scores(lists: Sequence[NBest], values: ListScores, number: int) -> Scores:
    """One LM's scores as ``scored_lists`` takes them, with as many as there are hypotheses."""
    name = f"scores of LM {number + 1}"
    if not isinstance(values, Mapping):
        expected = "utterance id -> scores, as score_nbest gives them"
        raise TypeError(f"{name}: {shown(values)}; expected {expected}")
    utterances: dict[str, UtteranceScores] = {}
    for nbest in lists:
        if nbest.utt not in values:
            continue  # scored_lists names it
        try:
            here = np.asarray(values[nbest.utt], np.float64)
        except (TypeError, ValueError):
            found = f"utterance {nbest.utt}: {shown(values[nbest.utt])}"
            raise InputError(name, None, found, "numbers, one for each hypothesis") from None
        if here.shape != (len(nbest.hyps),):
            found = f"utterance {nbest.utt}: scores of shape {list(here.shape)}"
            raise InputError(name, None, found, f"one for each of {len(nbest.hyps)} hypotheses")
        if (here == math.inf).any():
            found = f"utterance {nbest.utt}: the score inf of a hypothesis"
            raise InputError(name, None, found, "natural logarithms, or -inf")
        utterances[nbest.utt] = UtteranceScores(nbest.utt, nbest.digest, here)
    return Scores(name, {}, utterances)


def _own_references(lists: Sequence[ScoredList]) -> dict[str, str]:
    """The references in the lists; ``tune`` names the utterance that has none."""
    return {one.nbest.utt: one.nbest.ref for one in lists if one.nbest.ref is not None}


def _checked_lattices(lattices: Iterable[Lattice]) -> list[Lattice]:
    checked: dict[str, Lattice] = {}
    for index, lattice in enumerate(lattices):
        if not isinstance(lattice, Lattice):
            found = f"lattices[{index}] is {shown(lattice)}"
            raise TypeError(f"{found}; expected a lattice of asrprune: read_lattices(PATH, FORMAT)")
        if lattice.utt in checked:
            raise ValueError(f"lattices: utterance {lattice.utt} comes twice; expected once")
        checked[lattice.utt] = lattice
    return list(checked.values())


def _check_weights(weights: ScoreWeights, name: str = "weights") -> None:
    if not isinstance(weights, ScoreWeights):
        expected = "asrprune.ScoreWeights, such as tune_weights(...).weights"
        raise TypeError(f"{name} is {shown(weights)}; expected {expected}")


def _posterior_scale(decision: str, scale: Optional[float]) -> Optional[float]:
    """The scale. Raises ValueError unless it is there just where the decision needs it."""
    if decision == "map" and scale is not None:
        raise ValueError(f"posterior_scale is {scale}; expected none with the decision map")
    if decision != "map" and not (scale is not None and 0 < scale < math.inf):
        raise ValueError(f"posterior_scale is {scale}; expected a number > 0 for {decision}")
    return scale
