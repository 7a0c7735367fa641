"""Weights in a file of safetensors: laid out, read and mapped as the library has them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.model.weights_file import ALIGNED, StoredTensors, write_tensors

TENSORS = {
    "matrix": torch.arange(48.0).view(6, 8),
    "odd": torch.arange(5.0),
    "half": torch.arange(64.0).view(8, 8).bfloat16(),
    "mask": torch.tensor([1, 2, 3], dtype=torch.uint8),
    "shape": torch.tensor([7, 9]),
    "none": torch.zeros(0, 4),
    "one": torch.tensor(3.5),
    "turned": torch.arange(32.0).view(4, 8).T,
}


@pytest.mark.parametrize("mapped", [False, True])
def test_what_is_written_is_read(tmp_path: Path, mapped: bool) -> None:
    path = tmp_path / "weights"
    write_tensors(path, TENSORS)
    library = load_file(path)
    with open(path, "rb") as stream:
        stored = StoredTensors(stream, mapped)
        read = {name: stored.read(name) for name in stored.names}
    assert read.keys() == TENSORS.keys() == library.keys()
    for name, value in TENSORS.items():
        for other in (read[name], library[name]):
            assert other.dtype == value.dtype
            assert torch.equal(other, value), name
    large = [one for name, one in read.items() if TENSORS[name].nbytes % ALIGNED == 0]
    assert all(one.data_ptr() % ALIGNED == 0 for one in large)


def test_the_library_s_own_files_are_read(tmp_path: Path) -> None:
    """Their header has another length, and metadata."""
    plain = {name: value.contiguous() for name, value in TENSORS.items()}
    save_file(plain, tmp_path / "weights", {"format": "pt"})
    with open(tmp_path / "weights", "rb") as stream:
        stored = StoredTensors(stream, mapped=True)
        for name in stored.names:
            assert torch.equal(stored.read(name), TENSORS[name])


def test_equal_tensors_give_equal_bytes(tmp_path: Path) -> None:
    write_tensors(tmp_path / "one", TENSORS)
    write_tensors(tmp_path / "other", dict(reversed(TENSORS.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_mapped_model_is_the_file_and_never_changes_it(tmp_path: Path) -> None:
    (tmp_path / "pieces").write_bytes(b"pieces")
    made = TransformerLM(ModelShape.uniform(11, 16, 2, 2)).eval()
    path = save_checkpoint(tmp_path / "lm", made, tmp_path / "pieces", {})
    weights = (path / "model.safetensors").read_bytes()
    model = load_checkpoint(path, mapped=True).model
    tokens = torch.tensor([[1, 5, 3, 2]])
    assert torch.equal(model(tokens)[0], made(tokens)[0])
    storages = {one.untyped_storage().data_ptr() for one in model.parameters()}
    assert len(storages) == len(list(model.parameters()))
    inside = [one for one in model.parameters() if _of_file(one, path / "model.safetensors")]
    assert len(inside) > 10
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert (path / "model.safetensors").read_bytes() == weights
    again = load_checkpoint(path, mapped=True).model
    assert torch.equal(again(tokens)[0], made(tokens)[0])
    save_checkpoint(path, model, tmp_path / "pieces", {})  # another file under its name
    assert torch.equal(again(tokens)[0], made(tokens)[0])


def _of_file(tensor: torch.Tensor, path: Path) -> bool:
    """Whether the tensor's memory is that of the file, as the system has it."""
    inode = str(os.stat(path).st_ino)
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split()
        low, high = (int(part, 16) for part in fields[0].split("-"))
        if low <= tensor.data_ptr() < high:
            return fields[4] == inode
    return False


def test_the_header_says_where_everything_is(tmp_path: Path) -> None:
    write_tensors(tmp_path / "weights", TENSORS)
    data = (tmp_path / "weights").read_bytes()
    size = int.from_bytes(data[:8], "little")
    places = json.loads(data[8 : 8 + size]).values()
    stops = sorted(place["data_offsets"] for place in places)
    assert (8 + size) % ALIGNED == 0
    assert [stop[0] for stop in stops[1:]] == [stop[1] for stop in stops[:-1]]
    assert stops[-1][1] == len(data) - 8 - size
