"""What rescoring knows of a language model: nothing but this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from asrprune.core.composition import check_characters

Floats = NDArray[np.float64]
Words = Sequence[str]

SENTENCE_END = "</s>"


@dataclass(frozen=True)
class ScoringStats:
    """What scoring did; adds up. ``tokens``: predicted tokens of all hypotheses, ``</s>`` counted.
    ``unique_tokens``: the same after merging equal prefixes. ``computed``: places of all forward
    passes, with padding and repeated paths. ``wall_s`` counts everything from text to scores.
    """

    sentences: int = 0
    tokens: int = 0
    unique_tokens: int = 0
    computed: int = 0
    over_long: int = 0
    wall_s: float = 0.0

    def __add__(self, other: ScoringStats) -> ScoringStats:
        return ScoringStats(
            self.sentences + other.sentences,
            self.tokens + other.tokens,
            self.unique_tokens + other.unique_tokens,
            self.computed + other.computed,
            self.over_long + other.over_long,
            self.wall_s + other.wall_s,
        )


class UnscorableError(ValueError):
    """A hypothesis got no usable score; ``index`` is (number of its list, number in the list)."""

    def __init__(self, index: tuple[int, int], sentence: str, problem: str) -> None:
        self.index = index
        self.problem = problem
        start = sentence if len(sentence) <= 60 else sentence[:60] + "..."
        super().__init__(f"{start!r} {problem}")


def checked_sentences(lists: Iterable[Iterable[str]]) -> list[list[str]]:
    """``lists`` as lists, whatever can be read once. Raises TypeError unless they are of sentences:
    a sentence in the place of a list would be scored letter by letter; ValueError as
    ``check_characters`` does."""
    checked = []
    for number, sentences in enumerate(lists):
        if isinstance(sentences, str):
            found = f"lists[{number}] is the string {sentences[:60]!r}"
            raise TypeError(f"{found}; expected a list of sentences, those of one utterance")
        checked.append(list(sentences))
        for index, sentence in enumerate(checked[-1]):
            if not isinstance(sentence, str):
                found = f"lists[{number}][{index}] is a {type(sentence).__name__}"
                raise TypeError(f"{found}; expected a sentence (a string of words)")
            check_characters(sentence)
    return checked


def checked_words(lists: Iterable[Iterable[Words]]) -> list[list[Words]]:
    """The same for lists of hypotheses that are lists of words."""
    checked = []
    for number, hyps in enumerate(lists):
        if isinstance(hyps, str):
            found = f"lists[{number}] is the string {hyps[:60]!r}"
            raise TypeError(f"{found}; expected a list of hypotheses, each a list of words")
        checked.append(list(hyps))
        for index, words in enumerate(checked[-1]):
            if isinstance(words, str):
                found = f"lists[{number}][{index}] is the string {words[:60]!r}"
                raise TypeError(f"{found}; expected a list of words")
    return checked


@dataclass(frozen=True)
class Runtime:
    """What computes an LM's scores: ``engine``, one of ENGINES (None: a model without one),
    ``device``, "cpu" or "cuda:0 (name of the GPU)", and ``note``, what the engine chose by itself
    ("" where it had no choice). ``choice``: how the engine was found where it was to be the fastest
    here, the fields of ``lm.engines.choice.Choice``."""

    engine: Optional[str] = None
    device: str = "cpu"
    note: str = ""
    choice: Optional[Mapping[str, Any]] = None


@runtime_checkable
class LanguageModel(Protocol):
    """Scores whole sentences: ``ln P(words, </s> | <s>)``, higher is better.

    Dense, pruned, quantised and n-gram models are interchangeable behind it.
    """

    @property
    def name(self) -> str:
        """Short description for tables and logs."""

    @property
    def runtime(self) -> Runtime:
        """What computes the scores."""

    @property
    def stats(self) -> ScoringStats:
        """What all calls so far have done."""

    def score_lists(self, lists: Sequence[Sequence[str]]) -> list[Floats]:
        """One float64 array per list, one score per sentence of it, in the same order.

        A list holds the hypotheses of one utterance: they share prefixes, and a model may use
        that. A sentence's score does not depend on what else is scored with it (beyond 1e-4 nats
        in fp32). "" is the empty sentence: ln P(</s> | <s>). -inf stays -inf; NaN is an error.
        Raises TypeError for a string where a list of sentences is expected.
        """

    def words(self) -> WordScorer:
        """The same model, asked for the score of every word."""

    def prefixes(self) -> PrefixLM:
        """The same model, asked word by word in a search; it starts with no prefix.

        Raises ValueError where the model cannot be asked so (its engine keeps nothing).
        """


class WordScorer(Protocol):
    """Scores hypotheses word by word.

    ``tokens`` counts the forward positions (or n-grams) that all calls so far have computed.
    """

    tokens: int

    @property
    def name(self) -> str:
        """Short description for tables and logs."""

    def score_words(self, lists: Sequence[Sequence[Words]]) -> list[list[Floats]]:
        """[words + 1] float64 for every hypothesis of every list: ln P of each word given those
        before it, then of ``</s>``; their sum is the sentence's score. -inf for all of them where
        the model cannot score the hypothesis. Raises UnscorableError for NaN or +inf, TypeError
        for a string where a list of words is expected."""


class PrefixLM(Protocol):
    """A language model over prefixes, each known by a number that ``root`` or ``child`` gave.

    ``tokens`` counts the forward positions (or n-grams) that all calls so far have computed.
    """

    tokens: int

    @property
    def name(self) -> str:
        """Short description for tables and logs."""

    def root(self, group: int) -> int:
        """The empty prefix (``<s>``) of the utterance ``group``; its prefixes stay together."""

    def child(self, prefix: int, word: str) -> int:
        """``prefix`` with one word more; only words whose score was finite."""

    def score(self, pairs: Sequence[tuple[int, str]]) -> NDArray[np.float64]:
        """ln P(word | prefix) of every pair, [P]; the word may be SENTENCE_END. -inf where the
        model cannot score it. Many pairs at once are cheaper than one by one."""

    def keep(self, prefixes: Iterable[int]) -> None:
        """Forget all prefixes but these."""
