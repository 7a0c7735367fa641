"""What the tests of the adapters have in common: an LM of every kind, and sums of its own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from asrprune.exchange.adapters.incremental import IncrementalLM, State, open_incremental
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.prefixes import PrefixOptions
from asrprune.lm.open import open_lm
from asrprune.lm.protocol import LanguageModel
from tests.exchange.pruned_shapes import SHAPES, save_transducer_lm

CPU = EngineOptions(threads=1, device="cpu")
KINDS = [name for name in SHAPES if "width" not in name]
TEXTS = ["a cat", "the cat", "", "a hat sat", "a cat sat"]
WITH_PARTNERS = "needs the environment of tests/run.sh --with-partners"


def lm_of(
    folder: Path, kind: str = "gpt2", over_long: str = "error"
) -> tuple[IncrementalLM, LanguageModel]:
    """The same LM for searches and for lists; ``tokens.txt`` lies in ``folder``."""
    path = save_transducer_lm(folder, SHAPES[kind])
    options = PrefixOptions(over_long=over_long)
    lm = open_incremental(path, device="cpu", threads=1, options=options)
    return lm, open_lm(path, engine_options=CPU)


def asked_of(lm: IncrementalLM) -> set[int]:
    """The numbers of all states whose scores are asked for from now on."""
    asked: set[int] = set()
    next_scores = lm.next_scores

    def counted(states: Sequence[State]) -> Tensor:
        asked.update(state.number for state in states)
        return next_scores(states)

    lm.next_scores = counted  # type: ignore[method-assign]
    return asked


def sentence_sums(lm: IncrementalLM, sentences: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """ln P(tokens, ``</s>`` | ``<s>``) of sentences of the LM's ids."""
    inner, behind = lm.score_ids(lm.select(lm.start(), [0] * len(sentences)), sentences)
    return inner + lm.end_scores(behind)


def all_sentences(tokens: Sequence[int], longest: int) -> list[tuple[int, ...]]:
    """Every sequence of at most ``longest`` of the tokens."""
    return [
        one for length in range(longest + 1) for one in itertools.product(tokens, repeat=length)
    ]
