"""The ranges of activations that static int8 needs, measured on text.

The text is sentences of the caller's, or, without any, sentences drawn from the model itself with
a fixed seed: a model trained on a text draws text like it, so that a checkpoint can be quantised
alone and always in the same way.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Optional

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.lm.device import cpu_threads, without_autocast
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.onnx_runtime.graph import TAP, Range, build_graph
from asrprune.lm.engines.onnx_runtime.session import import_onnxruntime, open_session
from asrprune.lm.engines.onnx_runtime.writer import Floats
from asrprune.lm.model.transformer import TransformerLM
from asrprune.text.corpus import open_corpus
from asrprune.text.tokenizer import Tokenizer

SENTENCES = 256
"""How many sentences are used at most."""

_DRAWN, _DRAWN_LENGTH = 64, 64
_BATCH = 16
_BINS = 2048
_SHRINK = np.linspace(1.0, 0.1, 19)


def int8_graph(
    model: TransformerLM,
    options: EngineOptions,
    tokenizer: Optional[Tokenizer],
    signed: bool,
    log_softmax: bool = True,
) -> bytes:
    """The model as a serialised int8 graph, calibrated as ``options`` say.

    ``tokenizer`` reads the calibration text, and without one it is drawn from the model.
    ``signed``: whether the runtime multiplies signed weights exactly (saturation.py).
    ``log_softmax``: as of ``build_graph``. Raises ValueError for a text without a tokeniser,
    MissingPackage without onnx and onnxruntime.
    """
    begin, end = (1, 2) if tokenizer is None else (tokenizer.begin, tokenizer.end)
    with cpu_threads(options.threads):
        if options.calibration is None:
            sentences = drawn_sentences(model, begin, end)
        elif tokenizer is None:
            raise ValueError("a calibration text needs the LM's tokeniser")
        else:
            limit = model.shape.max_positions - len(tokenizer.prompt)
            read = read_sentences(options.calibration, tokenizer, limit)
            sentences = [[*tokenizer.prompt, *ids] for ids in read]
        ranges = measure_ranges(model, sentences, begin, options.threads)
    return bytes(
        build_graph(model, ranges, signed=signed, log_softmax=log_softmax).SerializeToString()
    )


def measure_ranges(
    model: TransformerLM,
    sentences: Sequence[Sequence[int]],
    begin: int,
    threads: Optional[int] = None,
) -> dict[str, Range]:
    """The range of the input of the weight matrices: the one of least squared rounding error.

    ``sentences`` are token ids without ``<s>``, which is ``begin``, and ``</s>``. They are gone
    through twice, for the smallest and largest values and for a histogram between them; candidates
    shrink either end, so that rare outliers are clipped where that costs less than coarser steps
    for everything else.
    ``threads``: CPU threads, None leaves the runtime's own choice.

    Raises ValueError when there is no sentence, or when an input is not finite.
    """
    if not sentences:
        raise ValueError("no sentences to calibrate on; expected at least one")
    session = open_session(build_graph(model, tap=True).SerializeToString(), threads)
    ends: dict[str, tuple[float, float]] = {}
    for name, values in _activations(session, sentences, begin):
        low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
        if not np.isfinite([low, high]).all():
            raise ValueError(
                f"the input of {name} goes from {low} to {high}; expected finite numbers"
            )
        before = ends.get(name, (0.0, 0.0))
        ends[name] = min(before[0], low), max(before[1], high)
    counts = {name: np.zeros(_BINS, np.int64) for name in ends}
    for name, values in _activations(session, sentences, begin):
        counts[name] += np.histogram(values, _BINS, _widened(*ends[name]))[0]
    return {name: best_range(counts[name], *_widened(*ends[name])) for name in ends}


def best_range(counts: NDArray[np.int64], low: float, high: float) -> Range:
    """The range within ``low <= 0 <= high`` whose 256 values stand for a histogram best.

    ``counts`` has equal bins from ``low`` to ``high``; best is the least sum of squared errors,
    the wider range where two are equal.
    """
    edges = np.linspace(low, high, len(counts) + 1)
    filled = np.flatnonzero(counts)
    values = ((edges[1:] + edges[:-1]) / 2)[filled]
    weights = counts[filled].astype(np.float64)
    best, least = Range(low, high), np.inf
    for below in _SHRINK if low < 0 else _SHRINK[:1]:
        ends = high * (_SHRINK if high > 0 else _SHRINK[:1])
        spans = [Range(float(low * below), float(end)) for end in ends]
        scales = np.array([[span.scale] for span in spans])
        zeros = np.array([[span.zero_point] for span in spans])
        steps = values / scales  # [spans, bins]
        np.rint(steps, out=steps)
        np.clip(steps, -zeros, 255 - zeros, out=steps)
        steps *= scales
        steps -= values
        errors = np.square(steps, out=steps) @ weights  # [spans]
        if errors.min() < least:
            best, least = spans[int(errors.argmin())], float(errors.min())
    return best


def drawn_sentences(model: TransformerLM, begin: int, end: int, seed: int = 0) -> list[list[int]]:
    """Sentences drawn token by token from the model, without ``begin`` and ``end``.

    One that has not ended after some tens of tokens is cut. Each has random numbers of its own, so
    that it stays the same when others end, which are computed no further. Equal for equal seeds on
    one machine.
    """
    longest = min(_DRAWN_LENGTH, model.shape.max_positions - 1)
    chances = np.random.default_rng(seed).random((longest, _DRAWN))
    sentences: list[list[int]] = [[] for _ in range(_DRAWN)]
    open_ones = np.arange(_DRAWN)
    token = torch.full((_DRAWN, 1), begin)
    past = None
    with torch.inference_mode(), without_autocast():
        for place in range(longest):
            seen = torch.ones(1, 1, 1, place + 1, dtype=torch.bool)
            hidden, past = model(token, torch.full_like(token, place), seen, past)
            token = _drawn(model.logits(hidden[:, -1]), chances[place, open_ones])  # [B, 1]
            goes_on = token[:, 0] != end
            if not goes_on.all():
                open_ones, token = open_ones[goes_on.numpy()], token[goes_on]
                past = [(key[goes_on], value[goes_on]) for key, value in past]
            for number, drawn in zip(open_ones.tolist(), token[:, 0].tolist()):
                sentences[number].append(drawn)
            if not len(open_ones):
                break
    return sentences


def _drawn(logits: torch.Tensor, chances: NDArray[np.float64]) -> torch.Tensor:
    """For every row of ``logits`` [B, V] the token at ``chances`` [B] of the way through its
    distribution, [B, 1]; ``torch.multinomial`` draws V random numbers a row for the same."""
    below = logits.float().softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)  # [B, V]
    wanted = torch.from_numpy(chances)[:, None] * below[:, -1:]
    return torch.searchsorted(below, wanted, right=True).clamp_(max=logits.shape[1] - 1)


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


def _activations(
    session: Any, sentences: Sequence[Sequence[int]], begin: int
) -> Iterator[tuple[str, Floats]]:
    """The inputs of the weight matrices at all places that are no padding, batch by batch."""
    only_wanted = import_onnxruntime().RunOptions()
    only_wanted.only_execute_path_to_fetches = True  # leaves the output layer out
    names = [output.name for output in session.get_outputs() if output.name.startswith(TAP)]
    ordered = sorted(sentences, key=len)
    for start in range(0, len(ordered), _BATCH):
        rows = ordered[start : start + _BATCH]
        length = len(rows[-1]) + 1
        tokens = np.zeros((len(rows), length), np.int64)
        for number, ids in enumerate(rows):
            tokens[number, : len(ids) + 1] = [begin, *ids]
        widths = np.array([len(ids) + 1 for ids in rows])
        places = np.arange(len(rows) * length).reshape(len(rows), length)
        columns = places % length
        valid = np.flatnonzero(columns < widths[:, None])
        feed = {
            "tokens": tokens,
            "positions": columns,
            "last": places - columns + length - 1,
            "keys": places,
            "nodes": valid,
            "sources": np.zeros(0, np.int64),
            "targets": np.zeros(0, np.int64),
        }
        for name, values in zip(names, session.run(names, feed, only_wanted)):
            at_nodes = name.removeprefix(TAP).startswith("output")
            yield name.removeprefix(TAP), values if at_nodes else values[valid]
