"""Sizes that a checkpoint states beyond what it holds are refused before any memory is taken."""

from __future__ import annotations

import json
import resource
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Optional

import pytest
import torch
from safetensors.torch import load_file, save_file

from asrprune.errors import InputError
from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM


@pytest.fixture
def lm(tmp_path: Path) -> Path:
    """A checkpoint with zeros enough to be stored sparse, and without hashes."""
    (tmp_path / "pieces").write_bytes(b"pieces")
    model = TransformerLM(ModelShape.uniform(11, 8, 1, 2))
    with torch.no_grad():
        model.embedding.weight[1:] = 0.0
    folder = Path(save_checkpoint(tmp_path / "lm", model, tmp_path / "pieces", {}))
    _edit(folder, lambda config: [config.pop("crc32"), config.pop("weights_sha256")])
    load_checkpoint(folder)
    return folder


@pytest.fixture(autouse=True)
def no_memory() -> Iterator[None]:
    """256 MiB of address space over what is taken: whoever asks for more dies of MemoryError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ({"vocab_size": 10**12}, "embedding.weight is floats of shape [11, 8]; expected"),
        ({"d_model": 10**9}, "is floats of shape"),
        ({"vocab_size": 2**62, "d_model": 2**62}, "weights that do not load"),
        ({"max_positions": 10**12}, "positions is floats of shape [256, 8]; expected"),
        ({"head_dim": 10**12}, "is floats of shape"),
        ({"blocks": 1000}, "tensors for 1000 blocks"),
        ({"blocks": 10**5}, "100000 blocks; expected 1000 at most"),
    ],
)
def test_a_shape_beyond_the_weights(lm: Path, sizes: dict[str, int], found: str) -> None:
    def change(config: dict[str, Any]) -> None:
        for name, size in sizes.items():
            was = config["shape"][name]
            config["shape"][name] = was * size if isinstance(was, list) else size

    _edit(lm, change)
    with pytest.raises(InputError) as caught:
        load_checkpoint(lm)
    assert found in str(caught.value)
    assert str(caught.value).startswith(str(lm))


@pytest.mark.parametrize(
    ("end", "value", "found"),
    [
        ("shape", torch.tensor([2**40, 8]), "embedding.weight of shape [1099511627776, 8] with"),
        ("shape", torch.tensor([-11, 8]), "embedding.weight of shape [-11, 8] with"),
        ("shape", torch.tensor([1 << 32, 1 << 32]), "embedding.weight of shape"),
        ("shape", torch.arange(9), "of values or dimensions that none has"),
        ("mask", torch.zeros(3, dtype=torch.uint8), "with a mask of [3] bytes"),
        ("values", torch.zeros(500), "expected"),
        ("values", torch.zeros(0), "expected"),
        ("values", torch.zeros(1), "1 values of embedding.weight for 8 places"),
        ("values", torch.zeros(8, dtype=torch.int64), "embedding.weight is integers of shape"),
    ],
)
def test_a_sparse_tensor_beyond_its_parts(
    lm: Path, end: str, value: torch.Tensor, found: str
) -> None:
    tensors = load_file(lm / "model.safetensors")
    name = f"embedding.weight.sparse_{end}"
    assert name in tensors
    save_file({**tensors, name: value}, lm / "model.safetensors")
    with pytest.raises(InputError) as caught:
        load_checkpoint(lm)
    assert found in str(caught.value)


@pytest.fixture
def coded(tmp_path: Path) -> Path:
    """A checkpoint whose embedding has so many zeros that their mask is coded."""
    (tmp_path / "pieces").write_bytes(b"pieces")
    torch.manual_seed(0)
    model = TransformerLM(ModelShape.uniform(800, 8, 1, 2))
    with torch.no_grad():
        model.embedding.weight[torch.rand(800, 8) < 0.9] = 0.0
    folder = Path(save_checkpoint(tmp_path / "lm", model, tmp_path / "pieces", {}))
    _edit(folder, lambda config: [config.pop("crc32"), config.pop("weights_sha256")])
    loaded = load_checkpoint(folder).model.embedding.weight
    assert torch.equal(loaded, model.embedding.weight)
    return folder


@pytest.mark.parametrize(
    ("parts", "found"),
    [
        ({"shape": torch.tensor([2**40, 8])}, "embedding.weight of shape [1099511627776, 8] with"),
        ({"shape": torch.tensor([801, 8])}, "embedding.weight is floats of shape [801, 8]"),
        ({"code": torch.zeros(99, dtype=torch.uint8)}, "of shape [800, 8] with a mask of [99]"),
        ({"code": torch.zeros(3, 99, dtype=torch.uint8)}, "with a mask of [3, 99] bytes"),
        ({"code": torch.zeros(400)}, "embedding.weight of a mask or shape of another type"),
        ({"code": torch.zeros(400, dtype=torch.uint8)}, "embedding.weight.sparse_code"),
        ({"mask": torch.zeros(800, dtype=torch.uint8)}, "embedding.weight stored twice"),
        ({"values": torch.zeros(1)}, "1 values of embedding.weight for 6"),
        ({"values": None}, "embedding.weight without its values or shape"),
    ],
)
def test_a_coded_mask_beyond_its_parts(
    coded: Path, parts: dict[str, Optional[torch.Tensor]], found: str
) -> None:
    tensors = load_file(coded / "model.safetensors")
    assert "embedding.weight.sparse_code" in tensors
    for end, value in parts.items():
        name = f"embedding.weight.sparse_{end}"
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, coded / "model.safetensors")
    with pytest.raises(InputError) as caught:
        load_checkpoint(coded)
    assert found in str(caught.value)


def test_a_few_bytes_of_code_for_very_many_numbers(coded: Path) -> None:
    """Deflate makes a gigabyte of a megabyte, Huffman codes eight times what they are."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    code = b"".join(coder.compress(bytes(1 << 20)) for _ in range(1024)) + coder.flush()
    tensors = load_file(coded / "model.safetensors")
    name = "embedding.weight.sparse_"
    tensors[name + "code"] = torch.tensor(list(code), dtype=torch.uint8)
    tensors[name + "shape"] = torch.tensor([1 << 30, 8])
    tensors[name + "values"] = torch.zeros(0)
    save_file(tensors, coded / "model.safetensors")
    _edit(coded, lambda config: config["shape"].update(vocab_size=1 << 30))
    with pytest.raises(InputError, match=r"of shape \[1073741824, 8\] with a mask of \[10"):
        load_checkpoint(coded)
