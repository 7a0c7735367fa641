"""Perplexity of a text under a Transformer or an n-gram model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Union

import numpy as np

from asrprune.core.counts import PerplexitySum
from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.ngram import NgramLM
from asrprune.lm.training.nll import TOKENS_PER_BATCH, stream_nll
from asrprune.text.corpus import TokenStream
from asrprune.text.tokenizer import Tokenizer

_SENTENCES_AT_ONCE = 5000

Lines = Iterable[tuple[int, str]]
"""Line number from 1, and the normalised line."""


@dataclass(frozen=True)
class TextPerplexity:
    """``total`` over all sentences; ``empty_lines`` were left out.

    ``oov_left_out`` counts OOV words of probability 0: they are in none of the sums of ``total``.
    """

    total: PerplexitySum
    empty_lines: int
    oov_left_out: int = 0

    def to_json(self) -> dict[str, Union[int, float]]:
        """All counts and the four perplexities; of natural-log scores, ``</s>`` always scored."""
        return {
            "ppl_token": self.total.ppl_token,
            "ppl_word": self.total.ppl_word,
            "ppl_word_no_eos": self.total.ppl_word_no_eos,
            "ppl_char": self.total.ppl_char,
            "nll": self.total.nll,
            "tokens": self.total.tokens,
            "words": self.total.words,
            "characters": self.total.characters,
            "sentences": self.total.sentences,
            "oov": self.total.oov,
            "oov_left_out": self.oov_left_out,
            "empty_lines": self.empty_lines,
        }

    def summary(self) -> str:
        """The same in one line."""
        total = self.total
        left_out = f", {self.oov_left_out} OOV words left out" if self.oov_left_out else ""
        return (
            f"perplexity {total.ppl_word:.2f} per word with </s>, {total.ppl_word_no_eos:.2f} per "
            f"word without, {total.ppl_token:.2f} per token, {total.ppl_char:.3f} per character; "
            f"{total.sentences} sentences, "
            f"{total.words} words, {total.oov} OOV{left_out}"
        )


def transformer_perplexity(
    model: TransformerLM,
    tokenizer: Tokenizer,
    lines: Lines,
    path: PathLike,
    tokens_per_batch: int = TOKENS_PER_BATCH,
) -> TextPerplexity:
    """The perplexity of a text; reads it in blocks, so it may be larger than memory.

    A word with a character that the tokeniser never saw counts as OOV and is scored with its
    ``<unk>`` piece. Raises InputError naming the line for a sentence that is longer than the model
    can take.
    """
    limit = model.max_positions - 1 - len(tokenizer.prompt)
    total, empty = PerplexitySum(), 0
    for block in _blocks(lines):
        kept = [(number, line) for number, line in block if line]
        empty += len(block) - len(kept)
        encoded = tokenizer.encode_batch([line for _, line in kept])
        for (number, _), ids in zip(kept, encoded):
            if len(ids) > limit:
                raise InputError(path, number, f"a sentence of {len(ids)} tokens", f"<= {limit}")
        stream = TokenStream.from_sentences(
            encoded, tokenizer.begin, tokenizer.end, tokenizer.prompt
        )
        nll = stream_nll(model, stream, np.arange(len(encoded)), tokens_per_batch)
        total += PerplexitySum(
            nll=float(nll.sum()),
            tokens=stream.n_tokens + stream.n_sentences,
            words=sum(len(line.split()) for _, line in kept),
            sentences=len(kept),
            oov=sum(tokenizer.count_unknown(line) for _, line in kept),
            characters=sum(_characters(line.split()) for _, line in kept),
        )
    return TextPerplexity(total, empty)


def ngram_perplexity(model: NgramLM, lines: Lines) -> TextPerplexity:
    """The perplexity of a text under an n-gram model; a word is a token.

    OOV words are scored as ``<unk>``. If the model has none, they have probability 0 and are left
    out of the log-probability and of the tokens and words, as SRILM does it.
    """
    total, empty, left_out = PerplexitySum(), 0, 0
    for _, line in lines:
        if not line:
            empty += 1
            continue
        log_probs, oov = model.word_log_probs(line)
        n_oov, n_words = int(oov.sum()), len(oov) - 1
        words = line.split()
        if not model.has_unknown:
            words = [word for word, unknown in zip(words, oov.tolist()) if not unknown]
            log_probs, left_out = log_probs[~oov], left_out + n_oov
            n_words -= n_oov
        total += PerplexitySum(
            nll=-float(log_probs.sum()),
            tokens=n_words + 1,
            words=n_words,
            sentences=1,
            oov=n_oov if model.has_unknown else 0,
            characters=_characters(words),
        )
    return TextPerplexity(total, empty, left_out)


def _characters(words: Sequence[str]) -> int:
    """Those of the words and one behind each."""
    return sum(map(len, words)) + len(words)


def _blocks(lines: Lines) -> Iterator[list[tuple[int, str]]]:
    block: list[tuple[int, str]] = []
    for line in lines:
        block.append(line)
        if len(block) == _SENTENCES_AT_ONCE:
            yield block
            block = []
    if block:
        yield block
