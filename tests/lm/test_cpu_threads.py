"""CPU threads inside a block, and behind it, in several Python threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from asrprune.lm.device import cpu_threads


def in_new_thread(call: Callable[[], int]) -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def test_a_block_has_its_count_and_leaves_that_before() -> None:
    before = torch.get_num_threads()
    with cpu_threads(before + 2):
        assert torch.get_num_threads() == before + 2
        with cpu_threads(before + 1):
            assert torch.get_num_threads() == before + 1
        with cpu_threads(None):
            assert torch.get_num_threads() == before + 2
        assert torch.get_num_threads() == before + 2
    assert torch.get_num_threads() == before
    with pytest.raises(KeyError), cpu_threads(before + 1):
        raise KeyError
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("first_out", [0, 1])
def test_blocks_of_several_threads_leave_the_count_before_them(first_out: int) -> None:
    before = in_new_thread(torch.get_num_threads)
    counts = (before + 1, before + 2)
    into, out = ([threading.Event(), threading.Event()] for _ in range(2))
    seen: list[tuple[int, int]] = []

    def work(number: int) -> None:
        with cpu_threads(counts[number]):
            inside = torch.get_num_threads()
            into[number].set()
            assert out[number].wait(60)
        seen.append((inside, torch.get_num_threads()))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread, entered in zip(threads, into):  # the second begins inside the first's block
        thread.start()
        assert entered.wait(60)
    for number in (first_out, 1 - first_out):
        out[number].set()
        threads[number].join()
    assert seen == [(counts[number], before) for number in (first_out, 1 - first_out)]
    assert in_new_thread(torch.get_num_threads) == before
