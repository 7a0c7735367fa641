"""GGUF files: read back, scored by llama.cpp, the same tokens; what it lacks is refused by name."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch

from asrprune.cli.main import main
from asrprune.exchange.exporters import gguf as exporter
from asrprune.exchange.exporters.sentencepiece_proto import sentencepiece_facts
from asrprune.exchange.importing import ImportOptions, import_lm
from asrprune.exchange.read_gguf import halves_apart, read_gguf_tensors
from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from tests.exchange.foreign_gguf import write_gguf
from tests.exchange.pruned_shapes import ALIKE, GONE, GPT2, LLAMA, SENTENCES, SHAPES
from tests.small_lm import drawn_model

gguf = pytest.importorskip("gguf")

LIKE = {
    **ALIKE,
    "qwen2": replace(LLAMA, head_dim=4, details={"qkv_bias": True, "rope_theta": 500.0}),
}
WIDE = ModelShape.uniform(26, 64, 1, 2, 32, 12, architecture="llama", kv_heads=1)


def _save(
    folder: Path, shape: ModelShape = GPT2, kind: str = "unigram", rule: str = "identity"
) -> Path:
    """A checkpoint; the tables of a normaliser (``rule``) take seconds to read."""
    proto = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_writer=proto,
        vocab_size=26,
        model_type=kind,
        normalization_rule_name=rule,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "pieces.model").write_bytes(proto.getvalue())
    facts = sentencepiece_facts(proto.getvalue())
    assert (facts.kind, facts.types[:3], bool(facts.charsmap)) == (
        kind,
        (2, 3, 3),
        rule != "identity",
    )
    model = drawn_model(replace(shape, vocab_size=len(facts.names)))
    return Path(save_checkpoint(folder / "lm", model, folder / "pieces.model", {}))


def _export(folder: Path, lm: Path, *more: str) -> tuple[int, Path]:
    out = folder / "lm.gguf"
    words = ["export", "--to", "gguf", "--lm", str(lm), "--out", str(out), *more]
    return main(words), out


def _logits(model: torch.nn.Module, vocab_size: int) -> torch.Tensor:
    tokens = torch.randint(0, vocab_size, (3, 9), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found: torch.Tensor = model.logits(model(tokens)[0])
    return found


def test_the_order_of_rows_is_undone_by_the_reader():
    weight = torch.randn(3 * 8, 5)
    there = exporter.pairs_together(weight, 3)
    assert not torch.equal(there, weight)
    assert torch.equal(halves_apart(there, 3), weight)


@pytest.mark.parametrize("name", LIKE)
def test_what_is_written_is_read_back(name, tmp_path, caplog):
    lm = _save(tmp_path, LIKE[name])
    status, out = _export(tmp_path, lm, "--no-verify")
    assert status == 0
    assert "NOT verified" in caplog.text
    shape, tensors = read_gguf_tensors(out)
    ours = load_checkpoint(lm).model
    assert replace(shape, details={}) == replace(ours.shape, details={})
    for key, value in ours.state_dict().items():
        assert torch.equal(tensors[key](), value), key


@pytest.mark.parametrize("name", GONE)
def test_blocks_that_are_gone_are_left_out(name, tmp_path):
    lm = _save(tmp_path, GONE[name])
    status, out = _export(tmp_path, lm, "--no-verify")
    assert status == 0
    shape, tensors = read_gguf_tensors(out)
    assert len(shape.blocks) == sum(block.ffn > 0 for block in GONE[name].blocks)
    ours, theirs = load_checkpoint(lm).model, TransformerLM(shape)
    theirs.load_state_dict({key: load() for key, load in tensors.items()})
    expected, found = (_logits(one.eval(), shape.vocab_size) for one in (ours, theirs))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_a_normaliser_goes_along(tmp_path, caplog):
    pytest.importorskip("xllamacpp")
    caplog.set_level("INFO")
    status, out = _export(tmp_path, _save(tmp_path, LLAMA, rule="nmt_nfkc"))
    assert status == 0
    assert "verified through llama.cpp" in caplog.text
    fields = gguf.GGUFReader(out).fields
    assert "tokenizer.ggml.precompiled_charsmap" in fields


@pytest.mark.slow
@pytest.mark.parametrize("name", LIKE)
def test_llama_cpp_scores_as_the_lm_does(name, tmp_path, caplog):
    pytest.importorskip("xllamacpp")
    caplog.set_level("INFO")
    status, out = _export(tmp_path, _save(tmp_path, LIKE[name]))
    assert status == 0
    assert f"{out.stat().st_size} bytes; verified through llama.cpp" in caplog.text
    assert ("GELU in half precision" in caplog.text) == name.startswith("gpt2")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "q8_0", "q4_0"])
def test_other_numbers_are_those_that_gguf_gives(dtype, tmp_path, caplog):
    pytest.importorskip("xllamacpp")
    caplog.set_level("INFO")
    lm = _save(tmp_path, WIDE)
    status, out = _export(tmp_path, lm, "--dtype", dtype)
    assert status == 0
    assert f"{dtype} in llama.cpp moves a score by" in caplog.text
    _, tensors = read_gguf_tensors(out)
    weight = load_checkpoint(lm).model.blocks[0].attn.q.weight.detach()
    kind = getattr(gguf.GGMLQuantizationType, exporter.TYPES[dtype][0])
    there = exporter.pairs_together(weight, 2).numpy()
    stored = gguf.quants.dequantize(gguf.quants.quantize(there, kind), kind)
    expected = halves_apart(torch.from_numpy(np.array(stored)), 2)
    assert torch.equal(tensors["blocks.0.attn.q.weight"](), expected)
    assert not torch.equal(expected, weight)


def test_rows_that_are_no_blocks_are_in_half_precision(tmp_path, caplog):
    caplog.set_level("INFO")
    status, out = _export(tmp_path, _save(tmp_path), "--dtype", "q8_0", "--no-verify")
    assert status == 0
    assert "9 matrices whose rows are no blocks of 32 are in float16" in caplog.text
    kinds = {one.name: one.tensor_type.name for one in gguf.GGUFReader(out).tensors}
    assert kinds["blk.0.ffn_up.weight"] == "F16"
    assert kinds["position_embd.weight"] == kinds["blk.0.ffn_up.bias"] == "F32"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_import_and_export_are_inverse(kind, tmp_path):
    pytest.importorskip("xllamacpp")
    write_gguf(tmp_path / "theirs.gguf", kind)
    lm = import_lm("gguf", tmp_path / "theirs.gguf", tmp_path / "lm")
    status, out = _export(tmp_path, lm)
    assert status == 0
    again = load_checkpoint(import_lm("gguf", out, tmp_path / "again"))
    once = load_checkpoint(lm)
    assert torch.equal(_logits(again.model, 300), _logits(once.model, 300))
    words = ["the", "cat", "can't", "1999", "caf\u00e9s", "\u4eca\u5929"]
    assert again.tokenizer().encode_words(words) == once.tokenizer().encode_words(words)
    assert again.tokenizer().model.marks == once.tokenizer().model.marks


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["the cat", "the cat\n"])
def test_a_text_is_cut_as_it_stands_whatever_the_prompt(prompt, tmp_path):
    pytest.importorskip("xllamacpp")
    write_gguf(tmp_path / "theirs.gguf", "llama")
    options = ImportOptions(prompt=prompt)
    lm = import_lm("gguf", tmp_path / "theirs.gguf", tmp_path / "lm", options)
    assert _export(tmp_path, lm)[0] == 0


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        (SHAPES["gpt2-structured"], "block 1 of another shape than block 0"),
        (SHAPES["llama-low-rank"], "an embedding of low rank"),
        (replace(LLAMA, details={"qkv_bias": True}), "a qwen2 of width 16 with 4 heads of 8"),
        (SHAPES["gpt2-width"], "a gpt2 of width 12 with 4 heads of 4"),
    ],
)
def test_what_llama_cpp_lacks_is_refused(shape, problem, tmp_path, capsys):
    status, out = _export(tmp_path, _save(tmp_path, shape), "--no-verify")
    error = capsys.readouterr().err
    assert status == 1
    assert problem in error
    assert "llama.cpp has no other" in error
    assert not out.exists()


def test_numbers_beyond_a_format_are_refused(tmp_path, capsys):
    checkpoint = load_checkpoint(_save(tmp_path, WIDE))
    with torch.no_grad():
        checkpoint.model.blocks[0].ffn.up.weight[0, 0] = 1e6
    lm = save_checkpoint(tmp_path / "large", checkpoint.model, checkpoint.tokenizer_path, {})
    status, out = _export(tmp_path, lm, "--dtype", "float16", "--no-verify")
    assert status == 1
    assert "blk.0.ffn_up.weight beyond F16" in capsys.readouterr().err
    assert not out.exists()


def test_a_tokeniser_that_llama_cpp_lacks_is_refused_and_left_out_on_request(tmp_path, capsys):
    lm = _save(tmp_path, LLAMA, "bpe")
    status, out = _export(tmp_path, lm, "--no-verify")
    assert status == 1
    assert "SentencePiece of the kind bpe; expected" in capsys.readouterr().err
    status, out = _export(tmp_path, lm, "--no-verify", "--form", "ids")
    assert status == 0
    fields = gguf.GGUFReader(out).fields
    assert fields["tokenizer.ggml.tokens"].contents()[:2] == ["[0]", "[1]"]


@pytest.mark.slow
def test_ids_alone_are_scored(tmp_path, caplog):
    pytest.importorskip("xllamacpp")
    caplog.set_level("INFO")
    status, _ = _export(tmp_path, _save(tmp_path, LLAMA, "bpe"), "--form", "ids")
    assert status == 0
    assert "no tokenizer for text" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "numbers"), [(True, "float32"), (True, "q8_0"), (False, "float32")]
)
def test_a_gpt2_may_be_off_by_what_rounding_does(right, numbers, tmp_path, capsys, monkeypatch):
    pytest.importorskip("xllamacpp")
    values = exporter.values_of
    if not right:
        wrong = {"gpt2.attention.layer_norm_epsilon": 0.01}
        monkeypatch.setattr(exporter, "values_of", lambda shape: values(shape) | wrong)
    shape = ModelShape.uniform(26, 64, 2, 4, None, 64)
    status, out = _export(tmp_path, _save(tmp_path, shape), "--dtype", numbers)
    assert status == (0 if right else 1)
    assert ("nats off in the exported file" in capsys.readouterr().err) == (not right)
    assert out.exists() == right


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["weights", "norm", "pieces"])
def test_a_difference_is_refused(fault, tmp_path, capsys, monkeypatch):
    pytest.importorskip("xllamacpp")
    if fault == "weights":
        monkeypatch.setattr(exporter, "pairs_together", lambda weight, heads: weight)
        problem = "other weights in the exported file (blocks.0.attn."
    elif fault == "norm":
        right = exporter.values_of
        wrong = {"llama.attention.layer_norm_rms_epsilon": 0.5}
        monkeypatch.setattr(exporter, "values_of", lambda shape: right(shape) | wrong)
        problem = "nats off in the exported file"
    else:
        right_pieces = exporter.vocabulary_of

        def worst_first(tokenizer):
            made = right_pieces(tokenizer)
            scores = [-one for one in made.values["scores"]]
            return replace(made, values={**made.values, "scores": scores})

        monkeypatch.setattr(exporter, "vocabulary_of", worst_first)
        problem = "which llama.cpp cuts otherwise"
    status, out = _export(tmp_path, _save(tmp_path, LLAMA))
    assert status == 1
    assert problem in capsys.readouterr().err
    assert not out.exists()
