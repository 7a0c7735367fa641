"""Sentence-aligned batches: every sentence starts after ``<s>`` at position 0, as it is scored.

A batch holds sentences of similar length, padded on the right, up to a budget of tokens. The order
is a function of (seed, epoch); a position in it is three numbers, so that a killed run resumes
with exactly the batches that it had not seen.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asrprune.text.corpus import TokenStream
from asrprune.text.sentencepiece import BOS, EOS

IGNORED = -100
"""Target on padding, as torch's cross entropy spells it."""

POOL_BATCHES = 64
"""Sentences are sorted by length among about this many batches' worth of shuffled sentences."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """``tokens`` [B, T] int64: ``<s>`` and the pieces. ``targets`` [B, T] int64: the pieces and
    ``</s>``, IGNORED on padding. ``number`` counts the batches of the whole run from 0, ``part``
    tells apart what processes share out of one.
    """

    tokens: Tensor
    targets: Tensor
    number: int = 0
    part: int = 0

    @property
    def n_targets(self) -> int:
        """Tokens that are predicted, ``</s>`` counted, padding not."""
        return int((self.targets != IGNORED).sum())

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        tokens = self.tokens.to(device, non_blocking=True)
        return replace(self, tokens=tokens, targets=self.targets.to(device, non_blocking=True))


def make_batch(
    sentences: Sequence[NDArray[np.integer]],
    number: int = 0,
    begin: int = BOS,
    end: int = EOS,
    prompt: Sequence[int] = (),
) -> Batch:
    """One batch of these sentences (ids without ``<s>`` and ``</s>``, which are ``begin`` and
    ``end``), in order. ``prompt`` stands behind every ``<s>`` and is no target. Of no sentences
    there is one row without a target.

    >>> batch = make_batch([np.array([7, 8]), np.array([], dtype=int)])
    >>> batch.tokens.tolist(), batch.targets.tolist()
    ([[1, 7, 8], [1, 2, 2]], [[7, 8, 2], [2, -100, -100]])
    """
    first = len(prompt)  # column whose target is the first word's
    longest = 1 + first + max((len(sentence) for sentence in sentences), default=0)
    tokens = np.full((max(1, len(sentences)), longest), end, dtype=np.int64)
    targets = np.full(tokens.shape, IGNORED, dtype=np.int64)
    tokens[:, : first + 1] = [begin, *prompt]
    for row, sentence in enumerate(sentences):
        n = len(sentence)
        tokens[row, first + 1 : first + n + 1] = sentence
        targets[row, first : first + n] = sentence
        targets[row, first + n] = end
    return Batch(torch.from_numpy(tokens), torch.from_numpy(targets), number)


class BatchStream:
    """Batches without end, epoch after epoch, each epoch in a new order.

    Sentences that with ``<s>`` are longer than ``max_positions`` are skipped: ``n_skipped`` counts
    them and the log says so once. There is one sequence, which does not depend on the number of
    processes: ``world`` share it out, of which this is process ``rank``.

    Raises ValueError when no sentence is left or one alone exceeds ``tokens_per_batch``.
    """

    def __init__(
        self,
        stream: TokenStream,
        tokens_per_batch: int,
        seed: int,
        max_positions: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world}; expected 0 <= rank < world")
        self._stream = stream
        self._budget = tokens_per_batch
        self._seed = seed
        self._rank = rank
        self._world = world
        self._widths = row_widths(stream)
        self._kept = usable_sentences(stream, max_positions)
        self.n_skipped = stream.n_sentences - len(self._kept)
        if len(self._kept) == 0:
            raise ValueError(f"none of {stream.n_sentences} sentences fits {max_positions} tokens")
        longest = int(self._widths[self._kept].max())
        if tokens_per_batch < longest:
            raise ValueError(
                f"tokens_per_batch is {tokens_per_batch}; expected {longest} or more, the longest "
                "sentence"
            )
        mean_width = float(self._widths[self._kept].mean())
        self._pool_size = max(1, int(POOL_BATCHES * tokens_per_batch / mean_width))
        self._epoch, self._pool, self._batch, self._number = 0, 0, 0, 0
        self._order: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._plan: list[NDArray[np.int64]] = []
        self._planned = (-1, -1)

    @property
    def epoch(self) -> int:
        """How often the corpus was gone through."""
        return self._epoch

    @property
    def epoch_targets(self) -> int:
        """Predicted tokens of one epoch, ``</s>`` counted."""
        return int((self._stream.lengths[self._kept] + 1).sum(dtype=np.int64))

    def next_batches(self, count: int) -> list[Batch]:
        """This process's share of the next ``count`` batches: as many in every process.

        Whole batches where ``world`` divides their number, else some sentences of each, which may
        be none. All processes must ask alike.
        """
        if count % self._world == 0:
            return [self.next_batch() for _ in range(count // self._world)]
        parts = []
        for _ in range(count):
            number, indices = self._advance()
            part = self._made(number, indices[self._rank :: self._world])
            parts.append(replace(part, part=self._rank))
        return parts

    def next_batch(self) -> Batch:
        """Of the next ``world`` batches this process's; all must call it equally often."""
        turn = [self._advance() for _ in range(self._world)]
        return self._made(*turn[self._rank])

    def _made(self, number: int, indices: NDArray[np.int64]) -> Batch:
        source = self._stream
        sentences = [source.sentence(int(i)) for i in indices]
        return make_batch(sentences, number, source.begin, source.end, source.prompt)

    def state(self) -> dict[str, int]:
        """The position, the same in every process; plain JSON values."""
        return {
            "epoch": self._epoch,
            "pool": self._pool,
            "batch": self._batch,
            "number": self._number,
        }

    def load_state(self, state: Mapping[str, int]) -> None:
        """Go to a position that ``state`` of a stream with the same arguments gave."""
        self._epoch, self._pool = state["epoch"], state["pool"]
        self._batch, self._number = state["batch"], state["number"]

    def _advance(self) -> tuple[int, NDArray[np.int64]]:
        """The next batch's number and sentences, of all processes' batches."""
        self._make_plan()
        number, indices = self._number, self._plan[self._batch]
        self._number += 1
        self._batch += 1
        if self._batch == len(self._plan):
            self._batch, self._pool = 0, self._pool + 1
            if self._pool * self._pool_size >= len(self._kept):
                self._pool, self._epoch = 0, self._epoch + 1
        return number, indices

    def _make_plan(self) -> None:
        if self._planned == (self._epoch, self._pool):
            return
        if self._planned[0] != self._epoch:
            shuffle = np.random.default_rng([self._seed, self._epoch])
            self._order = shuffle.permutation(self._kept)
        start = self._pool * self._pool_size
        pool = self._order[start : start + self._pool_size]
        self._plan = cut_by_length(pool, self._widths, self._budget)
        mix = np.random.default_rng([self._seed, self._epoch, self._pool])
        mix.shuffle(self._plan)
        self._planned = (self._epoch, self._pool)


def row_widths(stream: TokenStream) -> NDArray[np.int32]:
    """Columns that each sentence takes: it and its prompt with ``<s>``, or with ``</s>``."""
    return stream.lengths + np.int32(1 + len(stream.prompt))


def usable_sentences(stream: TokenStream, max_positions: int) -> NDArray[np.int64]:
    """Indices of the sentences that, with ``<s>``, fit ``max_positions``; logs how many do not."""
    kept = np.flatnonzero(row_widths(stream) <= max_positions).astype(np.int64)
    skipped = stream.n_sentences - len(kept)
    if skipped:
        log.warning(
            "%d of %d sentences are longer than %d tokens: skipped",
            skipped,
            stream.n_sentences,
            max_positions - 1,
        )
    return kept


def cut_by_length(
    indices: NDArray[np.int64], widths: NDArray[np.int32], budget: int
) -> list[NDArray[np.int64]]:
    """Groups of sentences of similar width whose padded size stays within ``budget`` tokens.

    Sorted from short to long; ties keep their order. A sentence wider than the budget is alone.

    >>> widths = np.array([3, 9, 3, 4], dtype=np.int32)
    >>> [group.tolist() for group in cut_by_length(np.arange(4), widths, 8)]
    [[0, 2], [3], [1]]
    """
    ordered = indices[np.argsort(widths[indices], kind="stable")]
    groups, start = [], 0
    for end in range(1, len(ordered) + 1):
        next_width = int(widths[ordered[end]]) if end < len(ordered) else budget + 1
        if next_width * (end + 1 - start) > budget:
            groups.append(ordered[start:end])
            start = end
    return groups


def sorted_batches(
    stream: TokenStream, indices: NDArray[np.int64], tokens_per_batch: int
) -> Iterator[tuple[NDArray[np.int64], Batch]]:
    """Each of the sentences ``indices`` once, by length: ``(indices of the batch, batch)``."""
    for number, group in enumerate(cut_by_length(indices, row_widths(stream), tokens_per_batch)):
        sentences = [stream.sentence(int(i)) for i in group]
        yield group, make_batch(sentences, number, stream.begin, stream.end, stream.prompt)
