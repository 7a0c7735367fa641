"""Checksums in our own files: every flipped bit is found, and what has none is read."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrprune.core.checksums import (
    BlockChecksums,
    BlockSums,
    check_line,
    read_sealed,
    sealed_line,
    write_sealed,
)
from asrprune.errors import InputError

VALUE = {"utt": "ü-1", "scores": [0.30000000000000004, -1e-05, "-inf"], "text": "crc32"}
LINE = json.dumps(VALUE, ensure_ascii=False)


def read(line: str) -> Any:
    value = json.loads(line)
    if isinstance(value, dict):
        check_line("f", 7, line, value)
    return value


def test_a_line_comes_back() -> None:
    line = sealed_line(LINE)
    assert line.startswith(LINE[:-1])
    assert json.loads(line) == {**VALUE, "crc32": line[-10:-2]}
    assert read(line) == VALUE
    assert read(LINE) == VALUE


def test_every_flipped_bit_of_a_line_is_found() -> None:
    raw = sealed_line(LINE).encode()
    for at in range(len(raw)):
        for bit in range(8):
            changed = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
            with pytest.raises((InputError, ValueError)):  # or text or JSON no more
                read(changed.decode("utf-8"))


def test_every_flipped_bit_of_a_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_sealed(path, VALUE)
    assert read_sealed(path) == VALUE
    raw = path.read_bytes()
    assert raw.endswith(b'"\n}\n')
    for at in range(len(raw)):
        for bit in range(8):
            path.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :])
            with pytest.raises(InputError, match=r"value\.json:"):
                read_sealed(path)


def test_a_changed_text_is_named_with_its_line() -> None:
    line = sealed_line(LINE).replace("ü-1", "ü-2")
    expected = (
        "f:7: a text that was changed (it does not fit its crc32); expected the text as it was "
        "written, or one without crc32"
    )
    with pytest.raises(InputError) as caught:
        read(line)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda line: json.dumps(json.loads(line), separators=(",", ":")),
        lambda line: json.dumps({"crc32": json.loads(line)["crc32"], **json.loads(line)}),
        lambda line: line.upper().replace("CRC32", "crc32"),
        lambda line: line[:-10] + '3"}',
    ],
)
def test_a_checksum_that_is_not_where_it_was_written_is_refused(change: Any) -> None:
    with pytest.raises(InputError, match="does not fit its crc32"):
        read(change(sealed_line(LINE)))


def test_files_without_a_checksum_and_other_values_are_read(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    for value in (VALUE, {}, [], [VALUE], 3, "crc32", None):
        path.write_text(json.dumps(value))
        assert read_sealed(path) == value


@pytest.mark.parametrize("size", [1, 4, 6, 100])
def test_blocks_are_summed_however_they_are_written(size: int) -> None:
    data = bytes(range(50))
    for step in (1, 5, 6, 13, 50):
        sums = BlockSums(size)
        for start in range(0, len(data), step):
            sums.add(data[start : start + step])
        expected = [zlib.crc32(data[start : start + size]) for start in range(0, 50, size)]
        assert sums.finish().tolist() == expected
    assert BlockSums(size).finish().tolist() == []


def test_a_block_is_checked_when_it_is_read_first() -> None:
    numbers = np.arange(20, dtype="<u2")
    sums = BlockSums(8)  # four numbers
    sums.add(numbers.tobytes())
    checksums = BlockChecksums("f", numbers, sums.finish(), 4)
    checksums.check(0, 0)
    checksums.check(3, 5)
    numbers[0] ^= 1  # read before
    numbers[13] ^= 1 << 15
    checksums.check(0, 12)
    checksums.check(16, 20)
    with pytest.raises(InputError, match="f: bytes from 24 to 32 that do not fit their checksum"):
        checksums.check(11, 13)
