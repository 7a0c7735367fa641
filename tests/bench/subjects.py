"""What the scripts of this folder measure on: lists, a model, and turns.

``--nbest`` is a canonical file, or one of ../shared/data (see real_lists.py). ``--lm`` is a
checkpoint; without it the model is random and every distinct word is one token: speed and the share
of equal prefixes are real then, errors are not.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from real_lists import read_shared

from asrprune.core.hypothesis import NBest
from asrprune.firstpass.formats.jsonl import read_nbest
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.padded import PaddedScorer
from asrprune.lm.engines.table import open_engine
from asrprune.lm.model.checkpoint import Checkpoint, load_checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.rescore.bench.bench import spread
from asrprune.text.tokenizer import Tokenizer


def add_subject_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nbest", required=True)
    parser.add_argument("--lm", help="checkpoint folder; a random model without")
    parser.add_argument("--layers", type=int, default=6, help="of a random model")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=5000)
    parser.add_argument("--limit", type=int, help="only so many utterances")
    parser.add_argument("--repeats", type=int, default=3)


def read_lists(path: str, limit: int | None) -> list[NBest]:
    shared = ".json" in Path(path).suffixes
    return spread(list(read_shared(Path(path)) if shared else read_nbest(path)), limit)


@dataclass(frozen=True)
class Subject:
    """A model and how it turns texts into tokens."""

    checkpoint: Checkpoint
    tokenizer: Tokenizer

    @property
    def model(self) -> TransformerLM:
        return self.checkpoint.model

    def scorer(self, engine: str, threads: int) -> TransformerScorer:
        """Scoring over tries with one of ENGINES."""
        made = open_engine(engine, self.model, EngineOptions(threads, "cpu"))
        return TransformerScorer(made, self.tokenizer, self.model.shape.max_positions)

    def padded(self, threads: int) -> PaddedScorer:
        return PaddedScorer(self.model, self.tokenizer, EngineOptions(threads, "cpu"))


def open_subject(path: str | None, layers: int = 6, width: int = 512, vocab: int = 5000) -> Subject:
    if path is not None:
        checkpoint = load_checkpoint(path)
        return Subject(checkpoint, checkpoint.tokenizer())
    torch.manual_seed(0)
    shape = ModelShape.uniform(vocab, width, layers, max(1, width // 64))
    return Subject(Checkpoint(TransformerLM(shape).eval(), Path(), ""), WordTokenizer(vocab))


class NumberTokenizer:
    """Words are token ids already."""

    begin, end, unknown, vocab_size = 1, 2, 0, 1 << 31
    prompt: tuple[int, ...] = ()
    tail: tuple[int, ...] = ()

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of every text."""
        return [[int(word) for word in text.split()] for text in texts]

    def count_unknown(self, text: str) -> int:
        """None."""
        return 0


class WordTokenizer:
    """Every distinct word is one token, the next free one."""

    begin, end, unknown = 1, 2, 0
    prompt: tuple[int, ...] = ()
    tail: tuple[int, ...] = ()

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self._ids: dict[str, int] = {}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of every text."""
        size = self.vocab_size - 3
        return [
            [3 + self._ids.setdefault(word, len(self._ids)) % size for word in text.split()]
            for text in texts
        ]

    def count_unknown(self, text: str) -> int:
        """None."""
        return 0


def take_turns(
    runs: Mapping[str, Callable[[], object]], repeats: int, threads: int
) -> dict[str, list[float]]:
    """Seconds of every run, [repeats]: each turn takes all of them, after one turn for warm-up.

    With one thread it is the CPU time of this process, which other processes disturb least; with
    more it is wall time.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = clock()
            run()
            if turn:
                times[name].append(clock() - start)
    return times


def speed_up(base: Sequence[float], other: Sequence[float]) -> float:
    """How many times as fast the other is: the median over the turns."""
    return statistics.median(a / b for a, b in zip(base, other))
