"""KenLM's files: every layout passes, and no damage of its pointers reaches KenLM."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from asrprune.errors import InputError
from asrprune.lm.kenlm_file import check_ngram_file
from tests.kenlm_files import ARPA, kenlm_binaries

BINARIES = kenlm_binaries()


def _check(path: Path, raw: bytes) -> None:
    path.write_bytes(raw)
    check_ngram_file(path, path)


@pytest.mark.parametrize("layout", BINARIES)
def test_whole_files_pass(tmp_path: Path, layout: str) -> None:
    _check(tmp_path / "lm.bin", BINARIES[layout])
    _check(tmp_path / "lm.arpa", ARPA.encode())


@pytest.mark.parametrize("layout", BINARIES)
def test_counts_that_do_not_fit_are_refused(tmp_path: Path, layout: str) -> None:
    raw = BINARIES[layout]
    for place in (108, 116, 124):  # of the unigrams, bigrams, trigrams
        for count in (0, 1000, 2**40, 2**64 - 1):
            damaged = raw[:place] + count.to_bytes(8, "little") + raw[place + 8 :]
            with pytest.raises(InputError, match="a damaged KenLM binary"):
                _check(tmp_path / "lm.bin", damaged)
    for end in (10, 90, 120, len(raw) // 2, len(raw) - 1):
        with pytest.raises(InputError, match="a damaged KenLM binary"):
            _check(tmp_path / "lm.bin", raw[:end])


@pytest.mark.parametrize("layout", ["trie", "quantised trie", "array trie"])
def test_pointers_that_lead_elsewhere_are_refused(tmp_path: Path, layout: str) -> None:
    raw = BINARIES[layout]
    start = 136 + 8 + 8 * 5 + (8 + 4 * (2**3 + 2**2) + 4 * 2**3 if "quant" in layout else 0)
    assert int.from_bytes(raw[start + 8 : start + 16], "little") == 0  # of the first word
    damaged = raw[: start + 8] + (10**9).to_bytes(8, "little") + raw[start + 16 :]
    with pytest.raises(InputError, match="pointers that do not rise"):
        _check(tmp_path / "lm.bin", damaged)


@pytest.mark.parametrize("layout", ["probing", "rest-probing"])
def test_a_table_without_an_empty_place_is_refused(tmp_path: Path, layout: str) -> None:
    raw = BINARIES[layout]
    filled = raw[:144] + b"".join(b"\1" * 8 + bytes(4) for _ in range(7)) + raw[144 + 84 :]
    with pytest.raises(InputError, match="without an empty place"):
        _check(tmp_path / "lm.bin", filled)


@pytest.mark.parametrize("layout", BINARIES)
def test_any_damage_is_refused_or_passes(tmp_path: Path, layout: str) -> None:
    draw = random.Random(1)
    for _ in range(60):
        raw = bytearray(BINARIES[layout])
        raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        try:
            _check(tmp_path / "lm.bin", bytes(raw))
        except InputError as problem:
            assert "a damaged KenLM binary" in str(problem)  # noqa: PT017


@pytest.mark.parametrize("count", ["99999", "1" + "0" * 15, "9" * 30, "-99", "", "5.0"])
def test_counts_of_an_arpa_are_compared_with_its_size(tmp_path: Path, count: str) -> None:
    text = ARPA.replace("ngram 2=5", f"ngram 2={count}")
    with pytest.raises(InputError, match="expected"):
        _check(tmp_path / "lm.arpa", text.encode())
