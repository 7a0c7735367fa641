"""What is read has limits, which are met before the memory is taken."""

from __future__ import annotations

import gzip
import json
import lzma
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from asrprune.cli.main import main
from asrprune.errors import InputError, shortened
from asrprune.files import parse_json, read_json, read_lines, reading, record_lines

MIB = 1 << 20


def _peak_bytes(path: Path) -> int:
    """What reading the lines of a file that is refused takes at most."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r":2: a line of more than 1 MiB; expected at most"):
            list(read_lines(path))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_packed_line_is_refused_before_it_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, pack: Any
) -> None:
    monkeypatch.setattr(reading, "LONGEST_LINE", MIB)
    path = tmp_path / f"text{suffix}"
    path.write_bytes(pack(b"u1 a\n" + b"a" * (40 * MIB)))
    assert _peak_bytes(path) < 16 * MIB  # 8 of them are the dictionary of xz


def test_the_longest_line_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST_LINE", 8)
    (tmp_path / "text").write_bytes(b"1234567\n1234567\n")
    assert [line for _, line in read_lines(tmp_path / "text")] == ["1234567", "1234567"]


def test_json_documents_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGEST_JSON", MIB)
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(b"[" + b"0," * (8 * MIB) + b"0]"))
    with pytest.raises(InputError, match="JSON of more than 1 MiB; expected at most 1 MiB"):
        read_json(path)


def test_what_xz_asks_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.xz").write_bytes(lzma.compress(b"a\n" * 99) + lzma.compress(b"b\n"))
    assert sum(1 for _ in read_lines(tmp_path / "x.xz")) == 100  # streams one after the other
    monkeypatch.setattr(reading, "XZ_MEMORY", 1 << 10)
    with pytest.raises(InputError, match=r"damaged compressed data \(.*[Mm]emory"):
        list(read_lines(tmp_path / "x.xz"))


@pytest.mark.parametrize("end", [b"", b"\0" * 8, b"x"])
def test_what_stands_behind_an_xz_stream(tmp_path: Path, end: bytes) -> None:
    (tmp_path / "x.xz").write_bytes(lzma.compress(b"a\n") + end)
    if end == b"x":
        with pytest.raises(InputError, match="damaged compressed data"):
            list(read_lines(tmp_path / "x.xz"))
    else:
        assert list(read_lines(tmp_path / "x.xz")) == [(1, "a")]


def test_blank_lines_are_not_held(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a\n" + b"\n" * 100_000)
    tracemalloc.start()
    assert list(record_lines(tmp_path / "x")) == [(1, "a")]
    assert tracemalloc.get_traced_memory()[1] < MIB
    tracemalloc.stop()
    (tmp_path / "x").write_bytes(b"a\n\n\nb\n")
    assert list(record_lines(tmp_path / "x")) == [(1, "a"), (2, ""), (4, "b")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[" * 200_000, "nested too deep"),
        ('{"a":' * 200_000, "nested too deep"),
        ("[" * 101 + "]" * 101, "nested too deep; expected nesting of at most 100 levels"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' again in one object; expected each name once"),
        ('{"a": NaN}', "the number NaN; expected finite numbers"),
        ("[-Infinity]", "the number -Infinity"),
        (r'["\ud800"]', "half a surrogate pair; expected whole characters"),
        (r'{"\uDC00": 1}', "half a surrogate pair"),
        ("[1, 2", "bad JSON"),
        ("1" * 5000, "bad JSON"),
    ],
)
def test_json_that_is_refused(text: str, found: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_json("x.json", 7, text)
    assert str(caught.value).startswith("x.json:7: ")
    assert found in str(caught.value)
    assert len(str(caught.value)) < 300


def test_json_at_the_limits_is_read() -> None:
    value = parse_json("x", None, "[" * 100 + "]" * 100)
    assert json.dumps(value) == "[" * 100 + "]" * 100
    assert parse_json("x", None, r'"\ud83d\ude00"') == "\U0001f600"


def test_messages_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shortened("ab" * 9, 8) == "abab...abab"
    error = InputError("x", 3, "a" * 9_000_000, "b" * 9_000_000)
    assert len(str(error)) < 3000
    (tmp_path / "lists").write_text(f'{{"format": "{"x" * 5_000_000}"}}\n')
    assert main(["validate", "--format", "jsonl", str(tmp_path / "lists")]) == 1
    assert len(capsys.readouterr().err) < 4000
