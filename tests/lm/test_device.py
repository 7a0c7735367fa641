"""Denormals: where they count as 0, and that nothing else of a process changes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from asrprune.lm.device import without_denormals

TINY = 1e-40
"""Of float32 a denormal."""

pytestmark = pytest.mark.skipif(
    not torch.set_flush_denormal(False), reason="this processor keeps denormals"
)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)


def flushed() -> tuple[bool, bool]:
    """Whether torch and numpy take a denormal for 0 in this thread."""
    return not torch.tensor([TINY]).mul(1.0).item(), not (np.float32(TINY) * np.float32(1.0))


def test_denormals_are_0_inside_the_block_alone() -> None:
    assert flushed() == (False, False)
    with without_denormals():
        assert flushed() == (True, True)
        with without_denormals():  # an engine in a training run
            assert flushed() == (True, True)
        assert flushed() == (True, True)
    assert flushed() == (False, False)


def test_they_are_kept_again_after_an_error() -> None:
    @without_denormals()
    def fails() -> None:
        assert flushed() == (True, True)
        raise ValueError("no")

    for _ in range(2):  # a decorator serves every call
        with pytest.raises(ValueError, match="no"):
            fails()
        assert flushed() == (False, False)


def test_who_does_without_them_goes_on_so() -> None:
    torch.set_flush_denormal(True)
    with without_denormals():
        assert flushed() == (True, True)
    assert flushed() == (True, True)


def test_threads_that_come_up_inside_do_without_them_too() -> None:
    lines = [
        "import torch",
        "from asrprune.lm.device import without_denormals",
        "torch.set_num_threads(2)",
        "with without_denormals():",
        f"    print(int(torch.full((1 << 20,), {TINY}).mul_(1.0).count_nonzero()))",
        f"print(float(torch.tensor([{TINY}]).mul(1.0)) > 0)",
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "True"]
