"""Batches: what they hold, that nothing is lost, and that a position can be taken up again."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from asrprune.lm.training.batches import IGNORED, Batch, BatchStream, make_batch, sorted_batches
from asrprune.text.corpus import TokenStream

MAX_POSITIONS = 16


def stream(n: int = 300, longest: int = 12) -> TokenStream:
    """Sentences that can be told apart: each ends in its own number + 10."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, longest + 1, n)
    return TokenStream.from_sentences(
        [[3] * (int(length) - 1) + [number + 10] for number, length in enumerate(lengths)]
    )


def numbers(batch: Batch) -> list[int]:
    """Which sentences a batch holds, read off its targets."""
    ends = (batch.targets != IGNORED).sum(dim=1) - 2
    return [int(row[end]) - 10 for row, end in zip(batch.targets, ends)]


def one_epoch(batches: BatchStream) -> list[Batch]:
    epoch, made = batches.epoch, []
    while batches.epoch == epoch:
        made.append(batches.next_batch())
    return made


def test_layout() -> None:
    batch = make_batch([np.array([7, 8]), np.array([9], dtype=np.uint16)])
    assert batch.tokens.tolist() == [[1, 7, 8], [1, 9, 2]]
    assert batch.targets.tolist() == [[7, 8, 2], [9, 2, IGNORED]]
    assert batch.tokens.dtype == batch.targets.dtype == torch.int64
    assert batch.n_targets == 5
    assert make_batch([np.zeros(0, np.uint16)]).targets.tolist() == [[2]]


def test_an_epoch_holds_every_sentence_once_within_the_budget() -> None:
    source = stream()
    batches = BatchStream(source, 64, seed=1, max_positions=MAX_POSITIONS)
    made = one_epoch(batches)
    assert Counter(n for batch in made for n in numbers(batch)) == Counter(range(300))
    assert max(batch.tokens.numel() for batch in made) <= 64
    assert sum(batch.n_targets for batch in made) == batches.epoch_targets
    assert batches.epoch_targets == source.n_tokens + source.n_sentences
    padding = 1 - batches.epoch_targets / sum(batch.tokens.numel() for batch in made)
    assert padding < 0.1
    assert [batch.number for batch in made] == list(range(len(made)))


def test_order_depends_on_seed_and_epoch_only() -> None:
    def order(seed: int) -> list[list[int]]:
        batches = BatchStream(stream(), 64, seed, MAX_POSITIONS)
        return [numbers(batch) for _ in range(2) for batch in one_epoch(batches)]

    first = order(1)
    assert order(1) == first
    assert order(2) != first
    half = len(first) // 2
    assert first[:half] != first[half:]


@pytest.mark.parametrize("taken", [0, 1, 7, 45, 120])
def test_position_can_be_taken_up_again(taken: int) -> None:
    batches = BatchStream(stream(), 64, 1, MAX_POSITIONS)
    for _ in range(taken):
        batches.next_batch()
    state = batches.state()
    later = [numbers(batches.next_batch()) for _ in range(60)]
    again = BatchStream(stream(), 64, 1, MAX_POSITIONS)
    again.load_state(state)
    assert [numbers(again.next_batch()) for _ in range(60)] == later


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_one_sequence(world: int) -> None:
    alone = BatchStream(stream(), 64, 1, MAX_POSITIONS)
    expected = [numbers(alone.next_batch()) for _ in range(world * 30)]
    parts = [BatchStream(stream(), 64, 1, MAX_POSITIONS, rank, world) for rank in range(world)]
    shared = [numbers(part.next_batch()) for _ in range(30) for part in parts]
    assert shared == expected
    assert parts[0].state() == parts[1].state() == alone.state()


@pytest.mark.parametrize("world", [2, 3, 40])
def test_processes_that_do_not_divide_the_batches_share_out_each(world: int) -> None:
    alone = BatchStream(stream(), 64, 1, MAX_POSITIONS)
    whole = [alone.next_batch() for _ in range(5)]
    streams = [BatchStream(stream(), 64, 1, MAX_POSITIONS, rank, world) for rank in range(world)]
    shares = [one.next_batches(5) for one in streams]
    for turn, batch in enumerate(whole):
        parts = [share[turn] for share in shares]
        held = [n for part in parts if part.n_targets for n in numbers(part)]
        assert sorted(held) == sorted(numbers(batch))
        assert sum(part.n_targets for part in parts) == batch.n_targets
        assert [part.part for part in parts] == list(range(world))
        assert {part.number for part in parts} == {turn}
    assert streams[0].state() == streams[-1].state() == alone.state()


def test_a_batch_of_no_sentences_has_a_row_without_targets() -> None:
    batch = make_batch([], prompt=[5])
    assert batch.tokens.tolist() == [[1, 5]]
    assert batch.n_targets == 0


def test_long_sentences_are_skipped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    source = TokenStream.from_sentences([[10], [3, 3, 3, 11], [3, 12]])
    with caplog.at_level("WARNING"):
        batches = BatchStream(source, 64, 1, max_positions=4)
    assert batches.n_skipped == 1
    assert "1 of 3 sentences are longer than 3 tokens: skipped" in caplog.text
    assert sorted(numbers(batches.next_batch())) == [0, 2]


def test_wrong_sizes() -> None:
    source = TokenStream.from_sentences([[3, 3, 3, 10]])
    with pytest.raises(ValueError, match="none of 1 sentences fits 4 tokens"):
        BatchStream(source, 64, 1, max_positions=4)
    with pytest.raises(ValueError, match="tokens_per_batch is 4; expected 5 or more"):
        BatchStream(source, 4, 1, max_positions=8)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        BatchStream(source, 64, 1, 8, rank=2, world=2)
    with pytest.raises(ValueError, match="none of 0"):
        BatchStream(TokenStream.from_sentences([]), 64, 1, 8)


def test_sorted_batches_cover_the_asked_sentences() -> None:
    source = stream(50)
    asked = np.arange(10, 40)
    made = list(sorted_batches(source, asked, 32))
    for group, batch in made:
        assert numbers(batch) == group.tolist()
        assert batch.tokens.numel() <= 32
    assert sorted(np.concatenate([group for group, _ in made]).tolist()) == asked.tolist()
    assert list(sorted_batches(source, asked[:0], 32)) == []
