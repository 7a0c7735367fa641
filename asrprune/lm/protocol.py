"""What rescoring knows of a language model: nothing but this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class LanguageModel(Protocol):
    """Scores whole sentences: ``ln P(words, </s> | <s>)``, higher is better.

    Dense, pruned, quantised and n-gram models are interchangeable behind it.
    """

    @property
    def name(self) -> str:
        """Short description for tables and logs."""

    def score_lists(self, lists: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
        """One float64 array per list, one score per sentence of it, in the same order.

        A list holds the hypotheses of one utterance: they share prefixes, and a model may use
        that. A sentence's score does not depend on what else is scored with it (beyond 1e-4 nats
        in fp32). "" is the empty sentence: ln P(</s> | <s>). -inf stays -inf; NaN is an error.
        """
