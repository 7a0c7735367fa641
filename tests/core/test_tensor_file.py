"""Files of tensors whose sizes do not fit are refused before torch takes them."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from asrprune.core.tensor_file import load_tensors
from asrprune.errors import InputError

PLAIN = {
    "a": torch.arange(12, dtype=torch.int32).reshape(3, 4),
    "b": torch.arange(10.0)[2:8:2],
    "c": [torch.tensor(1.5, dtype=torch.bfloat16), torch.zeros(0), "text", None, 2**40],
    "d": OrderedDict(x=torch.tensor([True, False])),
}


def _saved(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["x.pt", "x.pt.gz"])
def test_plain_tensors_come_back(tmp_path: Path, name: str) -> None:
    raw = _saved({**PLAIN, "layer": torch.nn.Linear(2, 3).state_dict()})
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    found = load_tensors(tmp_path / name)
    assert torch.equal(found["a"], PLAIN["a"])
    assert found["b"].tolist() == [2.0, 4.0, 6.0]
    assert found["c"][2:] == ["text", None, 2**40]
    assert set(found["layer"]) == {"weight", "bias"}


def _rewritten(change: Callable[[str, bytes], bytes], packed: bool = False) -> bytes:
    """An archive of one tensor whose parts are changed, with right checksums."""
    stream = io.BytesIO()
    how = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with (
        zipfile.ZipFile(io.BytesIO(_saved({"a": torch.arange(6.0)}))) as old,
        zipfile.ZipFile(stream, "w", how) as new,
    ):
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return stream.getvalue()


def _structure(value: bytes) -> bytes:
    return _rewritten(lambda name, raw: value if name.endswith("data.pkl") else raw)


def _with_size(count: int, size: int) -> bytes:
    """Six floats are stored; ``count`` are stated, in a tensor of ``size``."""

    def change(name: str, raw: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return raw
        six = b"K\x06"
        assert raw.count(six) == 2
        first = raw.replace(six, b"J" + count.to_bytes(4, "little"), 1)
        return first.replace(six, b"J" + size.to_bytes(4, "little"), 1)

    return _rewritten(change)


class _Calls:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


BAD = {
    "more numbers than are stored": _with_size(2**30, 6),
    "a tensor beyond its numbers": _with_size(6, 2**30),
    "one number as many": _saved({"a": torch.zeros(1).expand(2**40)}),
    "room for bytes": _structure(pickle.dumps(_Calls(bytearray, 2**40), 2)),
    "room for bytes by its code": _structure(b"\x80\x05\x96" + (2**40).to_bytes(8, "little")),
    "a call": _structure(pickle.dumps(_Calls(print, "called"), 2)),
    "packed parts": _rewritten(lambda name, raw: raw, packed=True),
    "no archive": b"x" * 100,
    "nothing": b"",
    "cut": _saved(PLAIN)[:-40],
    "other objects": _saved({"a": torch.nn.Parameter(torch.zeros(2))}),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.pt").write_bytes(BAD[name])
    with pytest.raises(InputError, match=r"x\.pt: not loadable as plain tensors \("):
        load_tensors(tmp_path / "x.pt")
    assert capsys.readouterr().out == ""


def test_a_memo_with_a_large_number_is_one_entry(tmp_path: Path) -> None:
    """The C unpickler makes room for all numbers before."""
    (tmp_path / "x.pt").write_bytes(_structure(b"\x80\x02}r\xff\xff\xff\x7f."))
    assert load_tensors(tmp_path / "x.pt") == {}
