"""Folders for transformers: loaded by it, the same logits; other shapes refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asrprune.cli.main import main
from asrprune.exchange.exporters import hugging_face
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.model.shapes import BlockShape, ModelShape
from tests.exchange.pruned_shapes import ALIKE, GONE, GPT2, LLAMA, SHAPES, save_transducer_lm

LIKE = {
    **ALIKE,
    "qwen2": replace(LLAMA, details={"qkv_bias": True, "rope_theta": 500.0}),
    **{f"{name}, blocks gone": shape for name, shape in GONE.items()},
}


def _export(folder: Path, shape: ModelShape, *more: str) -> tuple[int, Path]:
    lm = save_transducer_lm(folder, shape)
    out = folder / "out"
    return main(["export", "--to", "hugging-face", "--lm", str(lm), "--out", str(out), *more]), out


@pytest.mark.slow
@pytest.mark.parametrize("name", LIKE)
def test_transformers_loads_it_and_gives_the_same_logits(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    status, out = _export(tmp_path, LIKE[name])
    assert status == 0
    loaded = transformers.AutoModelForCausalLM.from_pretrained(out)
    ours = load_checkpoint(tmp_path / "lm").model
    tokens = torch.randint(0, 20, (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = ours.logits(ours(tokens)[0])
        torch.testing.assert_close(loaded(tokens).logits, expected, atol=1e-4, rtol=1e-4)
    config = json.loads((out / "config.json").read_text())
    assert config["bos_token_id"] == config["eos_token_id"] == 1
    assert config["asrprune"]["verified"] == "yes"
    assert loaded.config.num_hidden_layers == sum(one.ffn > 0 for one in LIKE[name].blocks)
    assert (out / "tokenizer.model").read_bytes() == (tmp_path / "bpe.model").read_bytes()


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        (SHAPES["gpt2-structured"], "block 1 of another shape than block 0"),
        (SHAPES["gpt2-width"], "a gpt2 of width 12 with 4 heads of 4"),
        (SHAPES["llama-structured"], "block 1 of another shape than block 0"),
        (replace(LLAMA, blocks=(BlockShape(3, 8, groups=(2, 1)),)), "different numbers of query"),
        (SHAPES["gpt2-low-rank"], "an embedding of low rank"),
        (replace(SHAPES["gpt2-low-rank"], embedding_rank=None), "0.attn.q of rank 3"),
        (replace(GPT2, blocks=(BlockShape(0, 8),)), "blocks without attention"),
        (replace(LLAMA, blocks=(BlockShape(2, 0),)), "blocks without an FFN"),
        (replace(LLAMA, blocks=(BlockShape(3, 8),)), "a width of 16, no multiple of 3 heads"),
        (replace(GPT2, blocks=()), "an LM without blocks"),
    ],
)
def test_what_no_configuration_says_is_refused(shape, problem, tmp_path, capsys):
    status, out = _export(tmp_path, shape)
    error = capsys.readouterr().err
    assert status == 1, error
    assert problem in error
    assert "; expected dense blocks, all alike" in error
    assert not out.exists()


def test_what_is_there_stays_without_force(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("mine")
    status, out = _export(tmp_path, GPT2, "--no-verify")
    assert status == 1
    assert (out / "notes").read_text() == "mine"
    assert "--force" in capsys.readouterr().err
    again = ["export", "--to", "hugging-face", "--lm", str(tmp_path / "lm"), "--no-verify"]
    assert main([*again, "--force", "--out", str(out)]) == 0
    assert sorted(one.name for one in out.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.model",
    ]
    assert main([*again, "--out", str(tmp_path / "lm" / "config.json")]) == 2


@pytest.mark.slow
def test_a_difference_is_refused(tmp_path, capsys, monkeypatch):
    pytest.importorskip("transformers")

    def wrong(model):
        made = right(model)
        made["transformer.ln_f.weight"][0] += 0.01
        return made

    right = hugging_face.tensors_of
    monkeypatch.setattr(hugging_face, "tensors_of", wrong)
    status, out = _export(tmp_path, GPT2)
    assert status == 1
    assert "nats off in the exported folder" in capsys.readouterr().err
    assert not out.exists()
