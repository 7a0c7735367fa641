"""Checkpoints: what is written is what is read, and damage is told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from asrprune.errors import InputError
from asrprune.files import sha256
from asrprune.lm.model.checkpoint import is_checkpoint, load_checkpoint, save_checkpoint
from asrprune.lm.model.shapes import BlockShape, LinearShape, ModelShape
from asrprune.lm.model.transformer import TransformerLM, count_nonzero
from asrprune.lm.open import lm_digest
from tests.damage import flips

SHAPE = ModelShape(
    11,
    8,
    4,
    6,
    (BlockShape(2, 5, {"ffn.down": LinearShape("low_rank", 2)}), BlockShape(0, 0)),
    dropout=0.1,
)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    path = tmp_path / "pieces.model"
    path.write_bytes(b"pieces")
    return path


def random_model() -> TransformerLM:
    torch.manual_seed(0)
    return TransformerLM(SHAPE)


def test_round_trip(tmp_path: Path, tokenizer: Path) -> None:
    lm = random_model()
    history = ({"step": 1, "sparsity": 0.3}, {"step": 2, "sparsity": 0.5})
    out = save_checkpoint(tmp_path / "lm", lm, tokenizer, {"seed": 7}, history)
    loaded = load_checkpoint(out)
    assert loaded.model.shape == SHAPE
    assert not loaded.model.training
    for key, value in lm.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], value)
    assert loaded.provenance == {"seed": 7}
    assert loaded.history == history
    assert loaded.tokenizer_path.read_bytes() == b"pieces"
    assert loaded.size_bytes() == (out / "model.safetensors").stat().st_size
    assert is_checkpoint(out)
    assert not is_checkpoint(tmp_path)


def test_zeros_are_stored_small_and_come_back_bit_for_bit(tmp_path: Path, tokenizer: Path) -> None:
    lm = random_model()
    dense = save_checkpoint(tmp_path / "dense", lm, tokenizer, {})
    with torch.no_grad():
        weight = lm.embedding.weight
        weight[torch.rand_like(weight) < 0.8] = 0.0
        weight[0, 0] = -0.0
        weight[0, 1] = torch.finfo(torch.float32).tiny
    sparse = save_checkpoint(tmp_path / "sparse", lm, tokenizer, {})
    loaded = load_checkpoint(sparse).model.embedding.weight
    assert torch.equal(loaded.view(torch.int32), lm.embedding.weight.view(torch.int32))
    assert load_checkpoint(sparse).size_bytes() < load_checkpoint(dense).size_bytes()
    config = json.loads((sparse / "config.json").read_text())
    assert config["nonzero_parameters"] == count_nonzero(lm) < config["parameters"]


def test_saving_replaces_the_whole_folder(tmp_path: Path, tokenizer: Path) -> None:
    out = save_checkpoint(tmp_path / "lm", random_model(), tokenizer, {})
    (out / "stray").write_text("")
    save_checkpoint(out, random_model(), tokenizer, {})
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.model",
    ]


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the config as by hand: without its checksum."""
    config = json.loads((folder / "config.json").read_text())
    del config["crc32"]
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


def _cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def _cut_weights_of_before(folder: Path) -> None:
    _cut_weights(folder)
    _edit(folder, lambda config: config.pop("weights_sha256"))


def _other_shape(folder: Path) -> None:
    _edit(folder, lambda config: config["shape"].update(d_model=12))


def _bad_shape(folder: Path) -> None:
    _edit(folder, lambda config: config["shape"].pop("blocks"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut_weights, "model.safetensors: weights hash .*; expected .*, as in config.json"),
        (_cut_weights_of_before, "model.safetensors: weights that do not load"),
        (_other_shape, "model.safetensors: blocks.0.attn.k.weight is floats of shape"),
        (_bad_shape, "config.json: bad shape"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no such file"),
        (lambda folder: (folder / "tokenizer.model").write_bytes(b"x"), "tokenizer hash"),
        (lambda folder: (folder / "tokenizer.model").unlink(), "tokenizer hash no file"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json:1: bad JSON"),
        (lambda folder: (folder / "config.json").write_text("{}"), "not a checkpoint"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    ],
)
def test_damage_is_told(tmp_path: Path, tokenizer: Path, damage: object, message: str) -> None:
    out = save_checkpoint(tmp_path / "lm", random_model(), tokenizer, {})
    damage(out)  # type: ignore[operator]
    with pytest.raises(InputError, match=message):
        load_checkpoint(out)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.model"])
def test_every_flipped_bit_is_found(tmp_path: Path, tokenizer: Path, file: str) -> None:
    out = save_checkpoint(tmp_path / "lm", random_model(), tokenizer, {"seed": 7})
    for _ in flips(out / file, tail_bytes=24 if file == "config.json" else 0):
        with pytest.raises(InputError, match=f"{file}:"):
            load_checkpoint(out)
    assert load_checkpoint(out).provenance == {"seed": 7}


def test_the_digest_of_an_lm_is_that_of_its_files(tmp_path: Path, tokenizer: Path) -> None:
    """With and without a stated hash: unfinished runs of before know it by the latter."""
    out = save_checkpoint(tmp_path / "lm", random_model(), tokenizer, {})
    files = [sha256(out / name) for name in ("config.json", "model.safetensors", "tokenizer.model")]
    expected = hashlib.sha256("\n".join(files).encode()).hexdigest()[:16]
    assert lm_digest(out) == expected
    _edit(out, lambda config: config.pop("weights_sha256"))
    files[0] = sha256(out / "config.json")
    assert lm_digest(out) == hashlib.sha256("\n".join(files).encode()).hexdigest()[:16]
