"""Sums from which rates are computed at the end: word errors and log-probabilities."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorCounts:
    """What an alignment of reference and hypothesis words found; ``+`` adds two of them.

    ``words`` counts reference words (correct + substitutions + deletions).

    >>> total = ErrorCounts(correct=3, substitutions=1) + ErrorCounts(insertions=1)
    >>> total.errors, total.words, total.wer_percent
    (2, 4, 50.0)
    """

    correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __post_init__(self) -> None:
        for name in ("correct", "substitutions", "deletions", "insertions"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected >= 0")

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        if not isinstance(other, ErrorCounts):
            return NotImplemented
        return ErrorCounts(
            self.correct + other.correct,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def words(self) -> int:
        """The number of reference words."""
        return self.correct + self.substitutions + self.deletions

    @property
    def hyp_words(self) -> int:
        """The number of hypothesis words."""
        return self.correct + self.substitutions + self.insertions

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer_percent(self) -> float:
        """Errors per 100 reference words.

        Without reference words: NaN if there are no errors either, infinity if there are.
        """
        if self.words == 0:
            return math.inf if self.errors else math.nan
        return 100.0 * self.errors / self.words


class ErrorTable(Collection[ErrorCounts]):
    """The ErrorCounts of many utterances in their order, 16 bytes each.

    ``values`` holds correct, substitutions, deletions, insertions of one after the other.
    """

    def __init__(self, counts: Iterable[ErrorCounts] = ()) -> None:
        self.values = array("i")
        for one in counts:
            self.append(one)

    def append(self, counts: ErrorCounts) -> None:
        """Add those of one more utterance."""
        self.values.extend(
            (counts.correct, counts.substitutions, counts.deletions, counts.insertions)
        )

    @property
    def total(self) -> ErrorCounts:
        """The errors of all utterances together."""
        return ErrorCounts(*(sum(self.values[kind::4]) for kind in range(4)))

    def words(self, number: int) -> int:
        """Reference words of one utterance, which are counted from 0."""
        return sum(self.values[4 * number : 4 * number + 3])

    def __len__(self) -> int:
        return len(self.values) // 4

    def __iter__(self) -> Iterator[ErrorCounts]:
        for start in range(0, len(self.values), 4):
            yield ErrorCounts(*self.values[start : start + 4])

    def __contains__(self, counts: object) -> bool:
        return any(one == counts for one in self)


@dataclass(frozen=True)
class PerplexitySum:
    """Negative log-probability of sentences and what it is counted over; ``+`` adds two of them.

    ``nll`` = -sum of ln P(sentence, </s> | <s>), so it always holds the ``</s>`` terms. ``tokens``
    are the model's predictions including one ``</s>`` a sentence; ``words`` are the words of the
    text, ``</s>`` left out; ``oov`` is how many of them the model does not know. ``characters`` are
    those of the words and one behind each of them (a space, or the sentence's end).

    >>> half = PerplexitySum(nll=2 * math.log(8), tokens=2, words=1, sentences=1)
    >>> both = half + half
    >>> round(both.ppl_token, 6), round(both.ppl_word, 6), round(both.ppl_word_no_eos, 6)
    (8.0, 8.0, 64.0)
    """

    nll: float = 0.0
    tokens: int = 0
    words: int = 0
    sentences: int = 0
    oov: int = 0
    characters: int = 0

    def __post_init__(self) -> None:
        if math.isnan(self.nll):
            raise ValueError("nll is NaN; expected a number or inf")
        for name in ("tokens", "words", "sentences", "oov", "characters"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected >= 0")
        if self.oov > self.words:
            raise ValueError(f"oov is {self.oov}; expected at most words = {self.words}")

    def __add__(self, other: PerplexitySum) -> PerplexitySum:
        if not isinstance(other, PerplexitySum):
            return NotImplemented
        return PerplexitySum(
            self.nll + other.nll,
            self.tokens + other.tokens,
            self.words + other.words,
            self.sentences + other.sentences,
            self.oov + other.oov,
            self.characters + other.characters,
        )

    @property
    def ppl_token(self) -> float:
        """exp(nll / tokens), ``</s>`` among the tokens; NaN without tokens."""
        return _perplexity(self.nll, self.tokens)

    @property
    def ppl_word(self) -> float:
        """exp(nll / (words + sentences)): ``</s>`` counts as a word; NaN for an empty text.

        Comparable between models whose tokens differ; SRILM calls it ``ppl``.
        """
        return _perplexity(self.nll, self.words + self.sentences)

    @property
    def ppl_char(self) -> float:
        """exp(nll / characters): comparable between models whose words differ too."""
        return _perplexity(self.nll, self.characters)

    @property
    def ppl_word_no_eos(self) -> float:
        """exp(nll / words): ``</s>`` is in the sum but not in the denominator; NaN without words.

        SRILM calls it ``ppl1``. Larger than ``ppl_word``, most of all for short sentences.
        """
        return _perplexity(self.nll, self.words)


def _perplexity(nll: float, events: int) -> float:
    if events == 0:
        return math.nan
    try:
        return math.exp(nll / events)
    except OverflowError:
        return math.inf
