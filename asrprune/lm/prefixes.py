"""Scores of words behind prefixes: what a search asks that meets the words one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asrprune.lm.ngram import NgramLM

SENTENCE_END = "</s>"


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


class NgramPrefixes:
    """A PrefixLM of an n-gram model: KenLM's states."""

    def __init__(self, lm: NgramLM) -> None:
        self._lm = lm
        self._states: dict[int, Any] = {}
        self._made = 0
        self.tokens = 0

    @property
    def name(self) -> str:
        return self._lm.name

    def root(self, group: int) -> int:
        return self._add(self._lm.begin())

    def child(self, prefix: int, word: str) -> int:
        return self._add(self._lm.step(self._states[prefix], word)[1])

    def score(self, pairs: Sequence[tuple[int, str]]) -> NDArray[np.float64]:
        self.tokens += len(pairs)
        return np.array([self._lm.step(self._states[prefix], word)[0] for prefix, word in pairs])

    def keep(self, prefixes: Iterable[int]) -> None:
        self._states = {prefix: self._states[prefix] for prefix in set(prefixes)}

    def _add(self, state: Any) -> int:
        self._made += 1
        self._states[self._made] = state
        return self._made
