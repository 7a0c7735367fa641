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
from asrprune.lm.training.batches import IGNORED, make_batch
from asrprune.lm.training.nll import TOKENS_PER_BATCH, sentence_nll, stream_nll
from asrprune.lm.windows import ALL_SCORED, windows
from asrprune.text.corpus import TokenStream
from asrprune.text.tokenizer import Tokenizer

_SENTENCES_AT_ONCE = 5000

Lines = Iterable[tuple[int, str]]
"""Line number from 1, and the normalised line."""


@dataclass(frozen=True)
class TextPerplexity:
    """``total`` over all sentences; ``empty_lines`` were left out.

    ``oov_left_out`` counts OOV words of probability 0: they are in none of the sums of ``total``.
    ``over_long`` sentences are scored with a sliding context.
    """

    total: PerplexitySum
    empty_lines: int
    oov_left_out: int = 0
    over_long: int = 0

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
            "over_long": self.over_long,
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
    over_long: str = "error",
) -> TextPerplexity:
    """The perplexity of a text; reads it in blocks, so it may be larger than memory.

    A word with a character that the tokeniser never saw counts as OOV and is scored with its
    ``<unk>`` piece. A sentence that is longer than the model can take raises InputError naming the
    line, or with ``over_long`` "window" is scored with a sliding context, as ``lmscore`` does it.
    Raises ValueError for another ``over_long``.
    """
    if over_long not in ALL_SCORED:
        raise ValueError(f"over_long is {over_long!r}; expected {', '.join(ALL_SCORED)}")
    limit = model.max_positions - 1 - len(tokenizer.prompt)
    total, empty, n_long = PerplexitySum(), 0, 0
    for block in _blocks(lines):
        kept = [(number, line) for number, line in block if line]
        empty += len(block) - len(kept)
        encoded = tokenizer.encode_batch([line for _, line in kept])
        for (number, _), ids in zip(kept, encoded):
            if len(ids) > limit and over_long == "error":
                found = f"a sentence of {len(ids)} tokens"
                raise InputError(path, number, found, f"<= {limit} (see --over-long)")
        fitting = [ids for ids in encoded if len(ids) <= limit]
        stream = TokenStream.from_sentences(
            fitting, tokenizer.begin, tokenizer.end, tokenizer.prompt
        )
        nll = float(stream_nll(model, stream, np.arange(len(fitting)), tokens_per_batch).sum())
        beyond = [ids for ids in encoded if len(ids) > limit]
        nll += sum(_windows_nll(model, tokenizer, ids, limit, tokens_per_batch) for ids in beyond)
        n_long += len(beyond)
        total += PerplexitySum(
            nll=nll,
            tokens=sum(len(ids) + 1 for ids in encoded),
            words=sum(len(line.split()) for _, line in kept),
            sentences=len(kept),
            oov=sum(tokenizer.count_unknown(line) for _, line in kept),
            characters=sum(_characters(line.split()) for _, line in kept),
        )
    return TextPerplexity(total, empty, over_long=n_long)


def _windows_nll(
    model: TransformerLM, tokenizer: Tokenizer, ids: list[int], limit: int, tokens_per_batch: int
) -> float:
    """-ln P of a sentence longer than ``limit`` tokens, with a sliding context."""
    cut, first, total = windows(len(ids), limit), len(tokenizer.prompt), 0.0
    size = max(1, tokens_per_batch // (limit + 1 + first))
    training = model.training
    model.eval()
    for start in range(0, len(cut), size):
        some = cut[start : start + size]
        batch = make_batch(
            [np.array(ids[one.start : one.stop]) for one in some],
            begin=tokenizer.begin,
            end=tokenizer.end,
            prompt=tokenizer.prompt,
        )
        for row, one in enumerate(some):
            batch.targets[row, : first + one.scored - one.start] = IGNORED
            if not one.last:
                batch.targets[row, first + one.stop - one.start] = IGNORED  # no </s> here
        total += float(sentence_nll(model, batch.to(model.device)).sum())
    model.train(training)
    return total


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
