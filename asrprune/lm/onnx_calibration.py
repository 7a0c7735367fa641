"""The ranges of activations that static int8 needs, measured on text.

The text is sentences of the caller's, or, without any, sentences drawn from the model itself with
a fixed seed: a model trained on a text draws text like it, so that a checkpoint can be quantised
alone and always in the same way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.lm.onnx_engine import open_session
from asrprune.lm.onnx_graph import TAP, Floats, Range, build_graph
from asrprune.lm.transformer import TransformerLM
from asrprune.text.corpus import open_corpus
from asrprune.text.tokenizer import BOS, EOS, Tokenizer

SENTENCES = 256
"""How many sentences are used at most."""

_DRAWN, _DRAWN_LENGTH = 64, 64
_BATCH = 16
_BINS = 2048
_SHRINK = np.linspace(1.0, 0.1, 19)


def measure_ranges(model: TransformerLM, sentences: Sequence[Sequence[int]]) -> dict[str, Range]:
    """The range of the input of every weight matrix: the one of least squared rounding error.

    ``sentences`` are token ids without ``<s>`` and ``</s>``. They are gone through twice, for the
    smallest and largest values and for a histogram between them; candidates shrink either end, so
    that rare outliers are clipped where that costs less than coarser steps for everything else.

    Raises ValueError when there is no sentence.
    """
    if not sentences:
        raise ValueError("no sentences to calibrate on; expected at least one")
    session = open_session(build_graph(model, tap=True).SerializeToString())
    ends: dict[str, tuple[float, float]] = {}
    for name, values in _activations(session, sentences):
        low, high = ends.get(name, (0.0, 0.0))
        ends[name] = min(low, float(values.min())), max(high, float(values.max()))
    counts = {name: np.zeros(_BINS) for name in ends}
    for name, values in _activations(session, sentences):
        counts[name] += np.histogram(values, _BINS, _widened(*ends[name]))[0]
    return {name: best_range(counts[name], *_widened(*ends[name])) for name in ends}


def best_range(counts: NDArray[np.float64], low: float, high: float) -> Range:
    """The range within ``low <= 0 <= high`` whose 256 values stand for a histogram best.

    ``counts`` has equal bins from ``low`` to ``high``; best is the least sum of squared errors,
    the wider range where two are equal.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    values = (edges[1:] + edges[:-1]) / 2
    best, least = Range(low, high), np.inf
    for below in _SHRINK if low < 0 else _SHRINK[:1]:
        for above in _SHRINK if high > 0 else _SHRINK[:1]:
            span = Range(low * below, high * above)
            codes = np.clip(np.round(values / span.scale) + span.zero_point, 0, 255)
            error = float(counts @ (values - (codes - span.zero_point) * span.scale) ** 2)
            if error < least:
                best, least = span, error
    return best


def drawn_sentences(model: TransformerLM, seed: int = 0) -> list[list[int]]:
    """Sentences drawn token by token from the model, without ``<s>`` and ``</s>``.

    One that has not ended after some tens of tokens is cut. Equal for equal seeds on one machine.
    """
    generator = torch.Generator().manual_seed(seed)
    longest = min(_DRAWN_LENGTH, model.shape.max_positions - 1)
    token = torch.full((_DRAWN, 1), BOS)
    drawn: list[torch.Tensor] = []
    past = None
    with torch.inference_mode():
        for place in range(longest):
            seen = torch.ones(1, 1, 1, place + 1, dtype=torch.bool)
            hidden, past = model(token, torch.full((_DRAWN, 1), place), seen, past)
            chances = model.logits(hidden[:, -1]).float().softmax(dim=-1)
            token = torch.multinomial(chances, 1, generator=generator)
            drawn.append(token)
    rows = torch.cat(drawn, dim=1).tolist() if drawn else [[] for _ in range(_DRAWN)]
    return [row[: row.index(EOS)] if EOS in row else row for row in rows]


def read_sentences(path: PathLike, tokenizer: Tokenizer, max_positions: int) -> list[list[int]]:
    """At most SENTENCES sentences of a text file or a data folder's training set, spread over it.

    Those that the model has no positions for are left out. Raises InputError when none is left,
    and for a data folder whose tokeniser is not the model's.
    """
    if os.path.isdir(path):
        corpus = open_corpus(path)
        if corpus.vocab_size != tokenizer.vocab_size:
            found = f"a vocabulary of {corpus.vocab_size}"
            raise InputError(path, None, found, f"{tokenizer.vocab_size}, as the model has")
        stream = corpus.stream("train")
        fitting = np.flatnonzero(np.asarray(stream.lengths) < max_positions)
        chosen = fitting[_spread(len(fitting))]
        sentences = [stream.sentence(int(index)).tolist() for index in chosen]
    else:
        lines = [line for _, line in read_lines(path) if line.strip()]
        every = tokenizer.encode_batch(lines) if lines else []
        every = [ids for ids in every if len(ids) < max_positions]
        sentences = [every[index] for index in _spread(len(every))]
    if not sentences:
        raise InputError(path, None, "no sentence that fits the model", "text to calibrate on")
    return sentences


def _spread(count: int) -> NDArray[np.int64]:
    size = min(count, SENTENCES)
    return np.arange(size, dtype=np.int64) * count // max(size, 1)


def _widened(low: float, high: float) -> tuple[float, float]:
    """The same ends, apart from each other."""
    return (low, high) if high > low else (low - 1e-6, high + 1e-6)


def _activations(session: Any, sentences: Sequence[Sequence[int]]) -> Iterator[tuple[str, Floats]]:
    """The inputs of all weight matrices at all places that are no padding, batch by batch."""
    names = [output.name for output in session.get_outputs() if output.name.startswith(TAP)]
    ordered = sorted(sentences, key=len)
    for start in range(0, len(ordered), _BATCH):
        rows = ordered[start : start + _BATCH]
        length = len(rows[-1]) + 1
        tokens = np.zeros((len(rows), length), np.int64)
        for number, ids in enumerate(rows):
            tokens[number, : len(ids) + 1] = [BOS, *ids]
        widths = np.array([len(ids) + 1 for ids in rows])
        places = np.arange(length)
        valid = np.flatnonzero(places < widths[:, None])
        feed = {
            "tokens": tokens,
            "positions": np.tile(places, (len(rows), 1)),
            "last": np.full((len(rows), length), length - 1),
            "nodes": valid,
            "sources": np.zeros(0, np.int64),
            "targets": np.zeros(0, np.int64),
        }
        for name, values in zip(names, session.run(names, feed)):
            at_nodes = name.removeprefix(TAP).startswith("output")
            yield name.removeprefix(TAP), values if at_nodes else values[valid]
