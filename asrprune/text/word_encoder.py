"""Token ids of single words, for scorers that meet the words one after the other."""

from __future__ import annotations

from collections.abc import Iterable

from asrprune.text.tokenizer import Tokenizer


class WordEncoder:
    """Token ids of words, each word encoded once.

    SentencePiece's pieces never cross a word boundary, so that the ids of a sentence are those of
    its words laid end to end. (Measured: equal on 100,000 sentences of 19th-century prose,
    unigram, 4,000 pieces; a test draws others.)
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, tuple[int, ...]] = {}

    def learn(self, words: Iterable[str]) -> None:
        """Encode those that are new, all at once."""
        # not `set - keys`, which goes through all keys for each word that a search asks for
        new = sorted({word for word in words if word not in self._known})
        if new:
            self._known.update(zip(new, map(tuple, self._tokenizer.encode_batch(new))))

    def __call__(self, word: str) -> tuple[int, ...]:
        """The ids of one word."""
        self.learn((word,))
        return self._known[word]
