"""``asrprune export``: what is written, what it says of itself, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asrprune.cli.main import main
from asrprune.exchange.exporters import graphs
from asrprune.lm.engines.onnx_runtime.session import open_session
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.open import lm_digest, open_lm
from tests.exchange.pruned_shapes import SHAPES, save_transducer_lm

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint; its tokens.txt lies beside it."""
    return save_transducer_lm(tmp_path_factory.mktemp("lm"), SHAPES["llama"])


def _export(lm: Path, out: Path, *more: str) -> int:
    return main(["export", "--lm", str(lm), "--out", str(out), *more])


def _facts(path: Path) -> dict[str, str]:
    return {one.key: one.value for one in onnx.load(path).metadata_props}


def test_sentences_score_as_lmscore_scores_them(lm, tmp_path):
    assert _export(lm, tmp_path / "nll.onnx", "--to", "onnx", "--form", "nll") == 0
    session = open_session((tmp_path / "nll.onnx").read_bytes(), 1)
    texts = ["the cat sat", "a hat", ""]
    tokenizer = load_checkpoint(lm).tokenizer()
    (expected,) = open_lm(lm).score_lists([texts])
    for ids, score in zip(tokenizer.encode_batch(texts), expected):
        feed = {"tokens": np.array([ids], np.int64), "lengths": np.array([len(ids)])}
        assert session.run(None, feed)[0][0] == pytest.approx(-score, abs=1e-4)


def test_the_file_says_what_it_is(lm, tmp_path, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "lm.onnx"
    assert _export(lm, out, "--to", "onnx", "--dtype", "int8") == 0
    facts = _facts(out)
    checkpoint = load_checkpoint(lm)
    assert facts["form"] == "logits"
    assert facts["dtype"] == "int8"
    assert facts["verified"] == "yes"
    assert facts["lm_digest"] == lm_digest(lm)
    assert facts["tokenizer_sha256"] == checkpoint.tokenizer_sha256
    assert (facts["sos_id"], facts["eos_id"], facts["unk_id"]) == ("1", "1", "2")
    assert f"{out.stat().st_size} bytes; verified through onnxruntime" in caplog.text
    assert "int8 moves a score by" in caplog.text


def test_what_was_not_verified_says_so(lm, tmp_path, caplog):
    out = tmp_path / "lm.onnx"
    assert _export(lm, out, "--to", "onnx", "--no-verify") == 0
    assert "NOT verified" in caplog.text
    assert _facts(out)["verified"] == "no"


@pytest.mark.parametrize("to", ["onnx", "sherpa-onnx"])
def test_a_graph_that_is_not_the_lm_is_not_written(lm, tmp_path, to, capsys, monkeypatch):
    def wrong(model, numbers, marks, *names):
        model.positions_were = model.norm.weight.data.clone()
        model.norm.weight.data[0] += 0.01
        graph = right(model, numbers, marks, *names)
        model.norm.weight.data.copy_(model.positions_were)
        return graph

    right = graphs.nll_graph
    monkeypatch.setattr(graphs, "nll_graph", wrong)
    form = ["--form", "nll"] if to == "onnx" else ["--tokens", str(lm.parent / "tokens.txt")]
    assert _export(lm, tmp_path / "lm.onnx", "--to", to, *form) == 1
    error = capsys.readouterr().err
    assert "nats off in the exported file; expected the same scores" in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_stream_says_what_its_states_are(lm, tmp_path):
    out, tokens = tmp_path / "lm.onnx", str(lm.parent / "tokens.txt")
    more = ("--to", "sherpa-onnx", "--form", "streaming", "--tokens", tokens)
    assert _export(lm, out, *more) == 0
    facts = _facts(out)
    assert (facts["num_layers"], facts["hidden_size"], facts["sos_id"]) == ("1", "32", "1")
    names = [one.name for one in onnx.load(out).graph.input]
    assert names == ["x", "h0", "c0"]


def test_a_stream_needs_a_head(tmp_path, capsys):
    from dataclasses import replace

    from asrprune.lm.model.shapes import BlockShape

    lm = save_transducer_lm(tmp_path, replace(SHAPES["gpt2"], blocks=(BlockShape(0, 8),)))
    more = ("--to", "sherpa-onnx", "--tokens", str(tmp_path / "tokens.txt"))
    assert _export(lm, tmp_path / "lm.onnx", *more, "--form", "streaming") == 1
    assert "without a single attention head" in capsys.readouterr().err
    assert _export(lm, tmp_path / "lm.onnx", *more) == 0


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (("--to", "sherpa-onnx"), "--tokens is missing"),
        (("--to", "onnx", "--form", "streaming"), "unknown --form of onnx 'streaming'"),
        (("--to", "onnx", "--dtype", "int4"), "unknown --dtype of onnx 'int4'"),
    ],
)
def test_a_wrong_call_is_refused(lm, tmp_path, more, problem, capsys):
    assert _export(lm, tmp_path / "lm.onnx", *more) == 2
    assert problem in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.model", ""])
def test_the_lm_itself_is_not_replaced(name, tmp_path, capsys):
    lm = save_transducer_lm(tmp_path, SHAPES["gpt2"])
    before = {path: path.read_bytes() for path in lm.iterdir()}
    to = ("--to", "onnx") if name else ("--to", "hugging-face", "--force")
    assert _export(lm, lm / name, *to, "--no-verify") == 2
    assert str(lm) in capsys.readouterr().err
    assert {path: path.read_bytes() for path in lm.iterdir()} == before
    assert _export(lm, lm / "lm.onnx", "--to", "onnx", "--no-verify") == 0


def test_other_tokens_are_refused(lm, tmp_path, capsys):
    lines = (lm.parent / "tokens.txt").read_text().splitlines()
    lines[5], lines[6] = "\u2581other 5", lines[6]
    (tmp_path / "tokens.txt").write_text("\n".join(lines) + "\n")
    tokens = str(tmp_path / "tokens.txt")
    assert _export(lm, tmp_path / "lm.onnx", "--to", "sherpa-onnx", "--tokens", tokens) == 1
    error = capsys.readouterr().err
    assert "tokens.txt:6: token '\u2581other' with the id 5; expected" in error
    assert not (tmp_path / "lm.onnx").exists()
