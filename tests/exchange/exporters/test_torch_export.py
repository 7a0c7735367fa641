"""Programs of torch.export: loaded by torch, the same logits for every shape and batch."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from asrprune.cli.main import main
from asrprune.exchange.exporters import torch_export
from asrprune.lm.model.checkpoint import load_checkpoint
from tests.exchange.pruned_shapes import GPT2, POSITIONS, SHAPES, save_transducer_lm


def _export(folder, shape):
    lm = save_transducer_lm(folder, shape)
    out = folder / "lm.pt2"
    return main(["export", "--to", "torch-export", "--lm", str(lm), "--out", str(out)]), out


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_torch_loads_it_and_gives_the_same_logits(name, tmp_path, caplog):
    caplog.set_level("INFO")
    status, out = _export(tmp_path, SHAPES[name])
    assert status == 0
    assert f"{out.stat().st_size} bytes; verified through torch" in caplog.text
    facts = {"asrprune.json": ""}
    loaded = torch.export.load(out, extra_files=facts).module()
    ours = load_checkpoint(tmp_path / "lm").model
    for size in ((3, 7), (1, 1), (2, POSITIONS), (9, 2)):
        tokens = torch.randint(0, 20, size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(loaded(tokens), ours.logits(ours(tokens)[0]))
    assert json.loads(facts["asrprune.json"])["verified"] == "yes"
    assert json.loads(facts["asrprune.json"])["sos_id"] == 1


@pytest.mark.slow
def test_a_compiled_program_gives_the_same_logits(tmp_path, caplog):
    caplog.set_level("INFO")
    lm, out = save_transducer_lm(tmp_path, SHAPES["llama-structured"]), tmp_path / "lm.pt2"
    words = ["export", "--to", "torch-export", "--form", "compiled", "--lm", str(lm)]
    assert main([*words, "--out", str(out)]) == 0
    assert "compiled for the processor of this machine" in caplog.text
    loaded = torch._inductor.aoti_load_package(str(out))
    ours = load_checkpoint(lm).model
    for size in ((3, 7), (1, 1), (2, POSITIONS), (9, 2)):
        tokens = torch.randint(0, 20, size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(loaded(tokens), ours.logits(ours(tokens)[0]))
    assert loaded.get_metadata()["sos_id"] == "1"
    assert loaded.get_metadata()["verified"] == "yes"


def test_without_a_compiler_it_is_refused(tmp_path, capsys, monkeypatch):
    from torch import _inductor

    def none(*_, **__):
        raise RuntimeError("No working C++ compiler found in CXX=nothing")

    monkeypatch.setattr(_inductor, "aoti_compile_and_package", none)
    lm, out = save_transducer_lm(tmp_path, GPT2), tmp_path / "lm.pt2"
    words = ["export", "--to", "torch-export", "--form", "compiled", "--lm", str(lm)]
    assert main([*words, "--out", str(out)]) == 1
    assert "--form logits" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
def test_a_difference_is_refused(tmp_path, capsys, monkeypatch):
    def wrong(self, tokens):
        return self.lm.logits(self.lm(tokens)[0]) * 1.01

    monkeypatch.setattr(torch_export._Logits, "forward", wrong)
    status, out = _export(tmp_path, GPT2)
    assert status == 1
    assert "nats off in the exported file" in capsys.readouterr().err
    assert not out.exists()


def test_an_lm_without_places_is_refused(tmp_path, capsys):
    status, out = _export(tmp_path, replace(GPT2, max_positions=1))
    assert status == 1
    assert "an LM with a position for <s> alone" in capsys.readouterr().err
    assert not out.exists()
