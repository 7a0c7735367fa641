"""Saved states: they come back, every flipped bit is found, and those of before are read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from asrprune.errors import InputError
from asrprune.lm.state_file import read_state_file, write_state
from tests.damage import flips

STATE = {"weights": torch.arange(7.0), "best": math.inf, "more": {"steps": [1, None, "a"]}}


@pytest.mark.parametrize("earlier", [False, True])
def test_a_state_comes_back(earlier: bool, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    if earlier:
        torch.save(STATE, path)
    else:
        write_state(path, STATE)
    found = read_state_file(path)
    assert torch.equal(found.pop("weights"), STATE["weights"])  # type: ignore[arg-type]
    assert found == {"best": math.inf, "more": {"steps": [1, None, "a"]}}


def test_every_flipped_bit_and_every_cut_is_found(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    write_state(path, STATE)
    whole = path.read_bytes()
    first = len(whole.split(b"\n")[0]) + 1
    places = set()
    for place in flips(path, 100, 0):
        places.add(place)
        with pytest.raises(InputError, match="bytes that do not fit its checksum"):
            read_state_file(path)
    assert min(places) < first < max(places)
    for kept in (0, 1, 4, first - 1, first, first + 1, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(InputError, match="do not fit"):
            read_state_file(path)
