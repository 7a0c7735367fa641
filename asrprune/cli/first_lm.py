"""``convert --first-lm``: scores of an n-gram for lattices that came without an LM."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from asrprune.core.lattice.lattice import Lattice
from asrprune.core.lattice.ngram_scores import expand_lm
from asrprune.errors import InputError

_log = logging.getLogger(__name__)


class FirstLM:
    """The n-gram LM at ``path`` as the first pass's LM of the lattices of ``source``.

    Raises InputError for a file that is no n-gram, MissingPackage without KenLM.
    """

    def __init__(self, path: str, source: str) -> None:
        from asrprune.lm.ngram import NgramLM

        self._lm = NgramLM(path)
        self._path = path
        self._source = source
        self._states: dict[tuple[str, ...], Any] = {("<s>",): self._lm.begin()}
        self._words: dict[str, bool] = {}

    def __call__(self, lattice: Lattice) -> Lattice:
        """The same paths with ln P(word | history) on the arcs and ln P(</s>) on the last one.

        Exact: states are split until each has one history. Raises InputError naming the utterance
        for a lattice that has LM scores.
        """
        if lattice.lm is not None:
            found = f"utterance {lattice.utt}: LM scores of the first pass"
            expected = "lattices without, which --first-lm is for"
            raise InputError(self._source, None, found, expected)
        for word in lattice.words[1:]:
            if word not in self._words:
                self._words[word] = bool(self._lm.word_log_probs(word)[1][0])
        scored = expand_lm(lattice, self._score, self._lm.order, sentence_end=True)
        return replace(scored, weights=lattice.weights)

    def log(self) -> None:
        """Say how much of the lattices the LM knows."""
        unknown = [word for word, is_unknown in self._words.items() if is_unknown]
        shown = f" ({' '.join(unknown[:5])} ...)" if unknown else ""
        level = logging.WARNING if 20 * len(unknown) > len(self._words) else logging.INFO
        text = "%s: %d of %d words of the lattices are unknown%s"
        _log.log(level, text, self._path, len(unknown), len(self._words), shown)

    def _score(self, history: tuple[str, ...], word: str) -> float:
        return self._lm.step(self._state(history), word)[0]

    def _state(self, history: tuple[str, ...]) -> Any:
        # a history that does not begin with <s> is as long as the LM looks back: what is before it,
        # here <s>, has no effect
        if not history:
            return self._states["<s>",]
        if history not in self._states:
            before = self._state(history[:-1])
            self._states[history] = self._lm.step(before, history[-1])[1]
        return self._states[history]
