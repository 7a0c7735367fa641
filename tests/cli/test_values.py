"""What options may be."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asrprune.cli import values

Parse = Callable[[str], Any]


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (values.whole(1), "1", 1),
        (values.whole(0, 3), "3", 3),
        (values.number(), "-1e3", -1000.0),
        (values.number(0.0), "0", 0.0),
        (values.number(above=0.0), "1e-9", 1e-9),
        (values.or_none(values.whole(1)), "none", None),
        (values.or_none(values.whole(1)), "7", 7),
        (values.fractions, "0.3,1,0", [0.3, 1.0, 0.0]),
        (values.device, "auto", "auto"),
        (values.engine, "int8", "int8"),
        (values.output_file, "-", "-"),
    ],
)
def test_values_that_are_taken(parse: Parse, text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (values.whole(1), "0"),
        (values.whole(1), "1.0"),
        (values.whole(1), ""),
        (values.whole(0, 3), "4"),
        (values.threads, "-3"),
        (values.threads, "99999999999"),
        (values.number(), "nan"),
        (values.number(), "-inf"),
        (values.number(0.0), "-1e-9"),
        (values.number(above=0.0), "0"),
        (values.or_none(values.whole(1)), "None"),
        (values.fractions, "0.3,"),
        (values.fractions, "0.3,0.30"),
        (values.fractions, "0.3;0.5"),
        (values.fractions, "-0.1"),
        (values.device, "meta"),
        (values.device, "mps"),
        (values.device, "cuda:-1"),
        (values.device, "cpu:1"),
        (values.engine, "Torch"),
        (values.file_name_part, "a/b"),
        (values.output, ""),
        (values.output_folder, "-"),
    ],
)
def test_values_that_are_refused(parse: Parse, text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"expected|known"):
        parse(text)


def test_places_that_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    taken = {
        values.output_file: ("file", "link", "pipe", "new", "new/folders/file"),
        values.output_folder: ("new", ".", "new/folders"),
        values.output: ("file", ".", "new/folders/file"),
    }
    refused = {
        values.output_file: (".", "file/below", "file/far/below"),
        values.output_folder: ("file", "pipe", "file/below"),
        values.output: ("file/below",),
    }
    for parse, names in taken.items():
        for name in names:
            assert parse(f"{tmp_path}/{name}") == f"{tmp_path}/{name}"
    for parse, names in refused.items():
        for name in names:
            with pytest.raises(argparse.ArgumentTypeError):
                parse(f"{tmp_path}/{name}")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "link", "pipe"]


def test_a_device_is_a_file_to_write_to() -> None:
    assert values.output_file("/dev/null") == values.output("/dev/null") == "/dev/null"
    with pytest.raises(argparse.ArgumentTypeError, match="expected a folder"):
        values.output_folder("/dev/null")
