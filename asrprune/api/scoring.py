"""LM scores of n-best lists."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from asrprune.api.first_pass import checked_lists
from asrprune.api.lms import AnyLM, as_language_model
from asrprune.core.hypothesis import NBest
from asrprune.rescore.lmscore import score_lists


def score_nbest(lm: AnyLM, lists: Iterable[NBest]) -> dict[str, NDArray[np.float64]]:
    """Utterance id -> LM scores of its hypotheses, float64 [H], in the order of the list.

    A score is ln P(words, </s> | <s>), natural log, higher is better. ``lm`` is what ``open_lm``,
    ``load_checkpoint`` or ``prune_lm`` gave; equal prefixes of an utterance's hypotheses are
    computed once. -inf is the score of a hypothesis that the LM holds for impossible.

    Raises TypeError for another LM and for lists that are not NBest (``open_lm(...).score_lists``
    scores plain strings), ValueError for an utterance that comes twice, InputError naming the
    utterance for a hypothesis that the LM cannot score, such as one with too many tokens.

    >>> import asrprune
    >>> from asrprune.api.example import tiny_lists, tiny_lm
    >>> scores = asrprune.score_nbest(tiny_lm(), tiny_lists())
    >>> sad, sat = scores["utt1"]  # the cat sad on the mat, the cat sat on the mat
    >>> bool(sat > sad)
    True
    """
    checked = checked_lists(lists)
    scores = score_lists("lists", checked, as_language_model(lm))
    return {nbest.utt: values for nbest, values in zip(checked, scores)}
