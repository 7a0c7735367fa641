"""A small LM of pieces, and CTC: all sentences that a few frames can say, with their best paths."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.exchange.adapters.incremental import IncrementalLM, open_incremental
from asrprune.lm.engines.pytorch.prefixes import PrefixOptions
from tests.exchange.pruned_shapes import GPT2, save_transducer_lm

Logits = NDArray[np.float32]


def peaked_lm(folder: Path, options: PrefixOptions | None = None, shape=GPT2) -> IncrementalLM:
    """An LM whose opinions are strong enough to turn a search."""
    lm = open_incremental(save_transducer_lm(folder, shape), "cpu", options=options, threads=1)
    with torch.no_grad():
        lm._store._model.norm.weight.mul_(3.0)
    return lm


def drawn_logits(frames: int, tokens: int, seed: int) -> Logits:
    """ln P [frames, tokens]."""
    logits = torch.randn(frames, tokens, generator=torch.Generator().manual_seed(seed))
    return logits.log_softmax(-1).numpy()


def lm_scores(core: IncrementalLM, sentences: Sequence[Sequence[int]]) -> list[float]:
    """ln P of sentences of token ids and their ends."""
    sums, behind = core.score_ids(core.start() * len(sentences), sentences)
    return (sums + core.end_scores(behind)).tolist()


def said(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    """Tokens of a path: repeats are one, blanks none."""
    return tuple(token for token, _ in itertools.groupby(path) if token != blank)


def best_paths(logits: Logits, blank: int, add: bool = False) -> dict[tuple[int, ...], float]:
    """The score of every sentence: of its best path, or of all its paths together."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        score = float(sum(logits[frame, token] for frame, token in enumerate(path)))
        key = said(path, blank)
        both = np.logaddexp if add else max
        found[key] = float(both(found[key], score)) if key in found else score
    return found
