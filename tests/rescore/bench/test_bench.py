"""What the speed measurement runs on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from asrprune.core.hypothesis import NBest
from asrprune.rescore.bench.bench import spread


def test_spread_takes_lists_at_equal_distances_in_order() -> None:
    lists = [NBest(f"u{index}", ()) for index in range(10)]
    assert [nbest.utt for nbest in spread(lists, 4)] == ["u0", "u2", "u5", "u7"]
    assert spread(lists, 10) == spread(lists, 99) == spread(lists, None) == lists
    with pytest.raises(ValueError, match="limit is 0"):
        spread(lists, 0)


def test_peak_memory_is_that_of_the_process_itself() -> None:
    """Not of the one that started it, which had more."""
    child = "from asrprune.rescore.bench.machine import peak_rss_bytes; print(peak_rss_bytes())"
    parent = "import subprocess, sys; bytearray(b'x') * 800_000_000; "
    parent += f"subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    done = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, check=True
    )
    assert 10e6 < int(done.stdout) < 700e6
