"""What is said of the outputs of shards when they are put together."""

from __future__ import annotations

import pytest

from asrprune.errors import InputError
from asrprune.rescore.merge import merged_provenance


def test_the_time_is_that_of_the_last_shard_and_the_rest_that_of_the_first() -> None:
    times = [f"2026-01-02T03:0{minute}:00+00:00" for minute in (5, 7, 6)]
    origins = [{"time_utc": time, "command": f"of {time}", "host": time} for time in times]
    merged = merged_provenance(origins, ["a", "b", "c"], ["asrprune", "x y"])
    assert merged == {"time_utc": times[1], "command": "asrprune 'x y'", "host": times[0]}
    with pytest.raises(InputError, match="b"):
        merged_provenance([origins[0], None], ["a", "b"], [])
