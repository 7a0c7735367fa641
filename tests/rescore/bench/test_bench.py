"""What the speed measurement runs on."""

from __future__ import annotations

import pytest

from asrprune.core.hypothesis import NBest
from asrprune.rescore.bench.bench import spread


def test_spread_takes_lists_at_equal_distances_in_order() -> None:
    lists = [NBest(f"u{index}", ()) for index in range(10)]
    assert [nbest.utt for nbest in spread(lists, 4)] == ["u0", "u2", "u5", "u7"]
    assert spread(lists, 10) == spread(lists, 99) == spread(lists, None) == lists
    with pytest.raises(ValueError, match="limit is 0"):
        spread(lists, 0)
