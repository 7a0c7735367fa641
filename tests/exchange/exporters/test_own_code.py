"""Folders with a modelling file of their own: loaded by transformers on request, any shape."""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asrprune.cli.main import main
from asrprune.exchange.exporters import hugging_face
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.model.transformer import TransformerLM
from tests.exchange.pruned_shapes import GPT2, POSITIONS, SHAPES, save_transducer_lm

BEGIN, END, LONGEST = 1, 1, 6


def _export(folder: Path, name: str, *more: str) -> tuple[int, Path]:
    lm, out = save_transducer_lm(folder, SHAPES[name]), folder / "out"
    words = ["export", "--to", "hugging-face", "--form", "own-code", "--lm", str(lm)]
    return main([*words, "--out", str(out), *more]), out


def _greedy(model: TransformerLM, tokens: list[int]) -> list[int]:
    """The most probable token, again and again, without a cache."""
    for _ in range(LONGEST):
        with torch.no_grad():
            logits = model.logits(model(torch.tensor([tokens]))[0])[0, -1]
        tokens = [*tokens, int(logits.argmax())]
        if tokens[-1] == END:
            break
    return tokens


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_transformers_loads_every_shape_and_generates(name, tmp_path, monkeypatch, caplog):
    transformers = pytest.importorskip("transformers")
    caplog.set_level("INFO")
    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    status, out = _export(tmp_path, name)
    assert status == 0
    assert "verified through transformers" in caplog.text
    assert "transformers loads it with trust_remote_code=True; tools without" in caplog.text
    loaded = transformers.AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True).eval()
    ours = load_checkpoint(tmp_path / "lm").model
    tokens = torch.randint(3, 20, (3, POSITIONS), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = ours.logits(ours(tokens)[0])
        torch.testing.assert_close(loaded(tokens).logits, expected, atol=1e-4, rtol=1e-4)
        first = loaded(tokens[:, :5], use_cache=True)
        rest = loaded(tokens[:, 5:], past_key_values=first.past_key_values).logits
        torch.testing.assert_close(rest, expected[:, 5:], atol=1e-4, rtol=1e-4)
        padded = torch.cat([torch.zeros(3, 2, dtype=torch.long), tokens[:, :7]], dim=1)
        real = torch.ones(3, 9, dtype=torch.long)
        real[:, :2] = 0
        found = loaded(padded, attention_mask=real).logits[:, 2:]
        torch.testing.assert_close(found, expected[:, :7], atol=1e-4, rtol=1e-4)
    prompt = [BEGIN, 5, 7]
    made = loaded.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, 3, dtype=torch.long),
        do_sample=False,
        max_new_tokens=LONGEST,
        pad_token_id=0,
    )
    assert made[0].tolist() == _greedy(ours, prompt)


def test_the_modelling_file_stands_alone():
    code = Path(hugging_face.__file__).with_name("modeling_asrprune.py").read_text("utf-8")
    imports = [one for one in ast.walk(ast.parse(code)) if isinstance(one, ast.ImportFrom)]
    names = {str(one.module).split(".")[0] for one in imports}
    assert names == {"__future__", "typing", "torch", "transformers"}


def test_the_folder_has_the_code_and_every_block(tmp_path):
    status, out = _export(tmp_path, "llama-structured", "--no-verify")
    assert status == 0
    assert sorted(one.name for one in out.iterdir()) == [
        "config.json",
        "model.safetensors",
        "modeling_asrprune.py",
        "tokenizer.model",
    ]
    config = json.loads((out / "config.json").read_text())
    assert config["auto_map"]["AutoModelForCausalLM"] == "modeling_asrprune.AsrpruneForCausalLM"
    assert [one["groups"] for one in config["shape"]["blocks"]] == [[2, 1], [1]]
    assert config["shape"]["details"]["rope_theta"] == 10000.0


def test_a_refused_shape_names_the_form(tmp_path, capsys):
    lm = save_transducer_lm(tmp_path, SHAPES["gpt2-low-rank"])
    words = ["export", "--to", "hugging-face", "--lm", str(lm), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    assert "--form own-code writes it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_difference_is_refused(tmp_path, capsys, monkeypatch):
    pytest.importorskip("transformers")
    right = hugging_face.own_config_of

    def wrong(request):
        made = right(request)
        made["shape"]["details"]["norm_eps"] = 0.5
        return made

    monkeypatch.setattr(hugging_face, "own_config_of", wrong)
    status, out = _export(tmp_path, "gpt2")
    assert status == 1
    assert "nats off in the exported folder" in capsys.readouterr().err
    assert not out.exists()


def test_a_standard_shape_can_have_it_too(tmp_path, caplog):
    caplog.set_level("INFO")
    lm = save_transducer_lm(tmp_path, replace(GPT2, tied=False))
    words = ["export", "--to", "hugging-face", "--form", "own-code", "--lm", str(lm)]
    assert main([*words, "--no-verify", "--out", str(tmp_path / "out")]) == 0
    assert "a shape that --form standard can say too" in caplog.text
