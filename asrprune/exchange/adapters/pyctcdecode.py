"""pyctcdecode: our LM as its ``AbstractLanguageModel``, asked when a word is complete.

The score of a word is ``alpha`` ln P(word | words before it) + ``beta``; with the last word comes
``alpha`` times ln P of the end. A word that the search has not finished scores 0, or, where
``words`` are known, ``partial_offset`` if none of them begins so.

A Transformer looks back to ``<s>``, so ``order`` is the whole sentence: pyctcdecode merges
hypotheses that end in the same ``order`` - 1 words, and must not merge others.

Source: pyctcdecode 0.5.0 (language_model.py, decoder.py). It asks numpy to be older than 2 but runs
without that: ``pip install --no-deps pyctcdecode==0.5.0 pygtrie``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from asrprune.exchange.adapters.incremental import IncrementalLM, State
from asrprune.exchange.adapters.partner import partner

INSTALL = "--no-deps pyctcdecode==0.5.0 pygtrie==2.5.0"


def word_lm(
    lm: IncrementalLM,
    alpha: float = 0.5,
    beta: float = 1.5,
    words: Iterable[str] | None = None,
    partial_offset: float = -10.0,
) -> Any:
    """An ``AbstractLanguageModel`` for ``BeamSearchDecoderCTC(alphabet, language_model)``.

    ``alpha`` and ``beta`` weigh ln P and words (pyctcdecode's defaults), ``words`` is a vocabulary
    that the search should stay in. Raises ImportError without pyctcdecode.
    """
    return _class()(lm, alpha, beta, words, partial_offset)


@functools.cache
def _class() -> type:
    base = partner("pyctcdecode.language_model", INSTALL)

    class WordLM(base.AbstractLanguageModel):  # type: ignore[misc, name-defined]
        def __init__(
            self,
            lm: IncrementalLM,
            alpha: float,
            beta: float,
            words: Iterable[str] | None,
            partial_offset: float,
        ) -> None:
            self._lm = lm
            self.alpha, self.beta, self.partial_offset = alpha, beta, partial_offset
            self._starts: frozenset[str] | None = None
            if words is not None:
                self._starts = frozenset(
                    word[:length] for word in words for length in range(1, len(word) + 1)
                )

        @property
        def order(self) -> int:
            return self._lm.max_tokens + 2  # words, and the marks

        def get_start_state(self) -> tuple[State, bool]:
            return self._lm.start()[0], True

        def score_partial_token(self, partial_token: str) -> float:
            known = self._starts is None or partial_token in self._starts
            return 0.0 if known else self.partial_offset

        def score(
            self, prev_state: tuple[State, bool], word: str, is_last_word: bool = False
        ) -> tuple[float, tuple[State, bool]]:
            """The state holds whether a word would be the first one. At the end "" may come for no
            word: nothing but the end is scored then."""
            state, first = prev_state
            value = 0.0
            if word:
                ids = self._lm.tokenizer.encode_word(word, first)
                sums, behind = self._lm.score_ids([state], [ids])
                state, first = behind[0], first and not ids
                value = self.alpha * float(sums[0]) + self.beta
            if is_last_word:
                value += self.alpha * float(self._lm.end_scores([state])[0])
            return value, (state, first)

        def reset_params(self, **params: Any) -> None:
            for name, value in params.items():
                if name not in ("alpha", "beta", "partial_offset"):
                    raise ValueError(f"unknown {name!r}; expected alpha, beta or partial_offset")
                setattr(self, name, value)

    return WordLM
