"""Input in several packings, and what is written reads back."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest

from asrprune.errors import InputError
from asrprune.files import (
    read_json,
    read_lines,
    write_json,
    write_text,
)


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_text_reads_back(tmp_path: Path, name: str) -> None:
    with write_text(tmp_path / name) as stream:
        stream.write("one\ntwo é\n")
    assert list(read_lines(tmp_path / name)) == [(1, "one"), (2, "two é")]


def test_gzip_is_reproducible(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        with write_text(tmp_path / name) as stream:
            stream.write("same\n")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_xz_crlf_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.xz"
    path.write_bytes(lzma.compress("\ufeffone\r\ntwo".encode()))
    assert list(read_lines(path)) == [(1, "one"), (2, "two")]


def test_truncated_gzip_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"word " * 5000)[:-20])
    with pytest.raises(InputError, match=r"a\.gz: damaged compressed data"):
        list(read_lines(path))


def test_not_gzip_and_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b"plain")
    with pytest.raises(InputError, match="damaged"):
        list(read_lines(tmp_path / "a.gz"))
    (tmp_path / "b").write_bytes(b"fine\n\xff\n")
    with pytest.raises(InputError, match=r"b:2: bytes that are not UTF-8"):
        list(read_lines(tmp_path / "b"))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        list(read_lines(tmp_path / "none"))
    with pytest.raises(InputError, match="a folder"):
        list(read_lines(tmp_path))


def test_json_reads_back_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"x": [1, None, "é"]})
    assert read_json(path) == {"x": [1, None, "é"]}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, float("nan"))
    assert read_json(path) == {"x": [1, None, "é"]}
    path.write_text("{\n oops")
    with pytest.raises(InputError, match=r"a\.json:2: bad JSON"):
        read_json(path)
