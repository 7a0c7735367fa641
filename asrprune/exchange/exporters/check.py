"""A graph through ONNX Runtime against the LM in torch.

What is compared is ln P of every token of the vocabulary after every token of some sentences, or of
whole sentences, on sentences drawn from the LM itself and some of random tokens: the empty one, and
one as long as the LM's positions allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.exchange.exporters.graphs import Marks, cache_names, state_width
from asrprune.lm.engines.onnx_runtime.calibration import drawn_sentences
from asrprune.lm.model.transformer import TransformerLM

Floats = NDArray[np.float32]

TOLERANCE = 1e-4
"""Nats by which a score may differ, and as a share of it: of float32 both times."""

_LONGEST = 256
_RANDOM_LENGTHS = (0, 1, 2, 7)
_BATCH = 8


@dataclass(frozen=True)
class Difference:
    """The largest difference of a ln P, in nats, and over how many of them; adds up."""

    largest: float = 0.0
    scores: int = 0
    worst_share: float = 0.0
    """Of what TOLERANCE allows; above 1 it is too much."""

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            max(self.largest, other.largest),
            self.scores + other.scores,
            max(self.worst_share, other.worst_share),
        )

    @classmethod
    def of(cls, found: Floats, expected: Floats) -> Difference:
        """Raises nothing: a value that is no number is infinitely far."""
        apart = np.abs(found.astype(np.float64) - expected)
        apart = np.where(np.isfinite(apart), apart, np.inf)
        allowed = TOLERANCE * np.maximum(1.0, np.abs(expected.astype(np.float64)))
        largest = float(apart.max(initial=0.0))
        return cls(largest, apart.size, float((apart / allowed).max(initial=0.0)))


def sentences_for(model: TransformerLM, marks: Marks, drawn: int = 16) -> list[list[int]]:
    """Sentences to compare on, without marks; the same ones for the same model."""
    longest = min(model.max_positions - 1, _LONGEST)
    draw = np.random.default_rng(0)
    lengths = [min(length, longest) for length in (*_RANDOM_LENGTHS, longest)]
    size = model.embedding.vocab_size
    made = [draw.integers(0, size, length).tolist() for length in lengths]
    return made + drawn_sentences(model, marks.begin, marks.end)[:drawn]


def log_probs(model: TransformerLM, sentence: Sequence[int], begin: int) -> Floats:
    """ln P of all tokens after ``begin`` and each token of the sentence, [T+1, V]."""
    with torch.inference_mode():
        hidden, _ = model(torch.tensor([[begin, *sentence]]))
        values: Floats = model.logits(hidden[0]).float().log_softmax(-1).numpy()
    return values


def sentence_nll(model: TransformerLM, sentence: Sequence[int], marks: Marks) -> float:
    """-ln P(sentence, end | begin), summed in float64."""
    every = log_probs(model, sentence, marks.begin)
    wanted = [*sentence, marks.end]
    return -float(every[np.arange(len(wanted)), wanted].astype(np.float64).sum())


Check = Callable[[Any, TransformerLM, Sequence[list[int]], Marks], Difference]
"""(session, LM, sentences, marks) -> how far they are apart."""


def check_logits(
    session: Any, model: TransformerLM, sentences: Sequence[list[int]], marks: Marks
) -> Difference:
    """The form of ``logits_graph``."""
    found = Difference()
    for batch in _batches(sentences):
        tokens = _padded([[marks.begin, *one] for one in batch])
        (logits,) = session.run(["logits"], {"tokens": tokens})
        for one, row in zip(batch, logits):
            expected = log_probs(model, one, marks.begin)
            found += Difference.of(_log_softmax(row[: len(one) + 1]), expected)
    return found


def check_cache(
    session: Any, model: TransformerLM, sentences: Sequence[list[int]], marks: Marks
) -> Difference:
    """The form of ``cache_graph``: rows of all lengths, then two tokens, then one by one."""
    names = cache_names(model)
    found = Difference()
    for batch in _batches([one for one in sentences if len(one) >= 3]):
        rows = [[marks.begin, *one[:-3]] for one in batch]  # of all lengths
        past_lens = np.zeros(len(rows), np.int64)
        cache: dict[str, Floats] = {}
        for index, kept in names.items():
            attn = model.layers()[index].attn
            empty = np.zeros((len(rows), attn.kv_heads, 0, attn.head_dim), np.float32)
            cache |= {kept.past_key: empty, kept.past_value: empty}
        outputs = ["logits", *(name for kept in names.values() for name in (kept.key, kept.value))]
        alone = []
        for row in rows:  # one by one, then together
            first = {name: value[:1] for name, value in cache.items()}
            feed = {"tokens": np.array([row]), "past_lens": past_lens[:1], **first}
            alone.append(session.run(outputs, feed))
        lengths = np.array([len(row) for row in rows])
        for number, name in enumerate(outputs[1:], start=1):
            parts = [made[number] for made in alone]
            together = [_on_the_left(part, lengths.max()) for part in parts]
            cache[f"past_{name}"] = np.concatenate(together)
        expected = [log_probs(model, one, marks.begin) for one in batch]
        for made, one, length in zip(alone, expected, lengths):
            found += Difference.of(_log_softmax(made[0][0]), one[:length])
        past_lens = lengths
        for start, stop in ((-3, -1), (-1, None)):
            tokens = np.array([one[start:stop] for one in batch])
            feed = {"tokens": tokens, "past_lens": past_lens, **cache}
            logits, *present = session.run(outputs, feed)
            for row, one, done in zip(logits, expected, past_lens):
                found += Difference.of(_log_softmax(row), one[done : done + tokens.shape[1]])
            cache = {f"past_{name}": value for name, value in zip(outputs[1:], present)}
            past_lens = past_lens + tokens.shape[1]
    return found


def check_nll(
    session: Any, model: TransformerLM, sentences: Sequence[list[int]], marks: Marks
) -> Difference:
    """The form of ``nll_graph``, whatever its inputs are called."""
    found = Difference()
    names = [one.name for one in session.get_inputs()]
    nothing: list[list[int]] = [[]]
    for batch in [*_batches(sentences), nothing]:
        lengths = np.array([len(one) for one in batch])
        (scores,) = session.run(["nll"], dict(zip(names, (_padded(batch), lengths))))
        expected = np.array([sentence_nll(model, one, marks) for one in batch], np.float32)
        found += Difference.of(scores, expected)
    return found


def check_streaming(
    session: Any, model: TransformerLM, sentences: Sequence[list[int]], marks: Marks
) -> Difference:
    """The form of ``streaming_graph``, asked as sherpa-onnx does."""
    found = Difference()
    names = [one.name for one in session.get_inputs()]
    for sentence in sorted(sentences, key=len)[:: max(1, len(sentences) // 6)]:
        expected = log_probs(model, sentence, marks.begin)
        states = [np.zeros((1, 1, state_width(model)), np.float32)] * 2
        for token, wanted in zip([marks.begin, *sentence], expected):
            feed = dict(zip(names, (np.array([[token]]), *states)))
            scores, *states = session.run(None, feed)
            found += Difference.of(scores[0], wanted)
    return found


def _batches(sentences: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    ordered = sorted(sentences, key=len)
    for start in range(0, len(ordered), _BATCH):
        yield ordered[start : start + _BATCH]


def _padded(rows: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    made = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for number, row in enumerate(rows):
        made[number, : len(row)] = row
    return made


def _on_the_left(part: Floats, length: int) -> Floats:
    """Keys or values [1, G, S, K] filled up to [1, G, length, K]."""
    missing = length - part.shape[2]
    return np.pad(part, ((0, 0), (0, 0), (missing, 0), (0, 0)))


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    made: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return made
