"""ONNX Runtime against the reference: every shape and stored form, fp32 and int8."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from asrprune.errors import InputError, MissingPackage
from asrprune.lm import trie
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.onnx_runtime import calibration as onnx_calibration
from asrprune.lm.engines.onnx_runtime import graph as onnx_graph
from asrprune.lm.engines.onnx_runtime import saturation as onnx_saturation
from asrprune.lm.engines.onnx_runtime.calibration import best_range, drawn_sentences, measure_ranges
from asrprune.lm.engines.onnx_runtime.engine import OnnxEngine
from asrprune.lm.engines.onnx_runtime.graph import Range, build_graph, quantised_names
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.engines.table import open_engine
from asrprune.lm.model.gpt2 import ANATOMY
from asrprune.lm.model.shapes import BlockShape, LinearShape, ModelShape
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.lm.trie import TrieBatch
from asrprune.text.sentencepiece import BOS, EOS
from tests.small_lm import DrawnTokenizer, drawn_model

POSITIONS = 12
CPU = EngineOptions(threads=1, device="cpu")


def scorer(engine):
    return TransformerScorer(engine, DrawnTokenizer(), POSITIONS)


def check_against_torch(engine, model, lists, queries):
    """Its scores are those of torch in float32, in rows of so many queries."""
    expected = scorer(TorchEngine(model, torch.float32, CPU)).score_lists(lists)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trie, "QUERIES", queries)
        found = scorer(engine).score_lists(lists)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


LINEARS = st.dictionaries(
    st.sampled_from(ANATOMY.matrices),
    st.integers(0, 5).map(lambda rank: LinearShape("low_rank", rank)),
)
BLOCKS = st.builds(BlockShape, st.integers(0, 3), st.sampled_from([0, 1, 16, 24]), LINEARS)
SHAPES = st.builds(
    ModelShape,
    vocab_size=st.just(19),
    d_model=st.sampled_from([8, 12]),
    head_dim=st.sampled_from([2, 4]),
    max_positions=st.just(POSITIONS),
    blocks=st.lists(BLOCKS, max_size=3).map(tuple),
    embedding_rank=st.sampled_from([None, 4]),
)
SENTENCES = st.lists(st.integers(3, 6), max_size=POSITIONS - 1).map(
    lambda ids: " ".join(map(str, ids))
)
LISTS = st.lists(st.lists(SENTENCES, max_size=6), max_size=3)
QUERIES = st.sampled_from([1, 3, 64])  # small ones make rows that look into others


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, lists=LISTS, chunk=st.sampled_from([7, 18, 19, 8192]), queries=QUERIES)
def test_fp32_equals_torch(shape, lists, chunk, queries):
    model = drawn_model(shape)
    graph = build_graph(model, vocab_chunk=chunk).SerializeToString()
    check_against_torch(OnnxEngine(graph, 1), model, lists, queries)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, lists=LISTS, chunk=st.sampled_from([7, 8192]), queries=QUERIES)
def test_int8_scores_every_shape_alone_as_in_a_batch(shape, lists, chunk, queries):
    model = drawn_model(shape)
    ranges = measure_ranges(model, [[3, 4, 5], [6, 6, 6, 6], []], BOS)
    lm = scorer(OnnxEngine(build_graph(model, ranges, vocab_chunk=chunk).SerializeToString(), 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trie, "QUERIES", queries)
        together = lm.score_lists(lists)
    for sentences, scores in zip(lists, together):
        for sentence, score in zip(sentences, scores):
            alone = lm.score_lists([[sentence]])[0][0]
            assert alone == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("signed", [False, True])
def test_int8_is_near_and_really_int8(signed):
    model = drawn_model(ModelShape.uniform(50, 32, 2, 2, max_positions=POSITIONS))
    ranges = measure_ranges(model, drawn_sentences(model, BOS, EOS), BOS)
    graph = build_graph(model, ranges, signed=signed)
    matrices = {f"blocks.{i}.attn.{m}" for i in (0, 1) for m in "qkvo"}
    matrices |= {f"blocks.{i}.{m}" for i in (0, 1) for m in ("ffn.up", "ffn.down")}
    assert set(quantised_names(graph)) == matrices | {"embedding", "output"}
    assert len(graph.SerializeToString()) < 0.6 * len(build_graph(model).SerializeToString())
    lists = [["3 4 5 6", "7 8", ""], ["40 41 42 43 44 45"]]
    exact = np.concatenate(scorer(TorchEngine(model, torch.float32, CPU)).score_lists(lists))
    found = np.concatenate(scorer(OnnxEngine(graph.SerializeToString(), 1)).score_lists(lists))
    assert np.abs(found - exact).max() < 0.5
    assert np.abs(found - exact).max() > 1e-5  # fp32 under another name would be exact


MATRICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 40), st.integers(1, 20)),
    elements=st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.01, 0.5, 0.99, 1.0, 2.0]),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(matrix=MATRICES, rows=st.sampled_from([1, 2, 5, 64]))
def test_products_of_the_codes_of_any_matrix_are_exact(matrix, rows):
    """With inputs of 255 and 0: what two neighbouring products overflow on without VNNI."""
    codes, scales = onnx_graph._quantise_columns(matrix)
    assert np.abs(codes * scales - matrix).max() <= 0.5001 * scales.max()
    assert np.abs(codes.astype(int)).max() <= 127
    wide = codes.astype(int)
    if len(wide) % 2:
        wide = np.concatenate((wide, np.zeros_like(wide[:1])))
    for side in (wide.clip(0), -wide.clip(None, 0)):
        assert side.reshape(-1, 2, wide.shape[1]).sum(axis=1).max(initial=0) <= 128
    x = np.random.default_rng(len(matrix)).choice(
        np.array([0, 255], np.uint8), (rows, len(matrix)), p=[0.1, 0.9]
    )
    (found,) = onnx_saturation.product_session(codes).run(["y"], {"x": x})
    np.testing.assert_array_equal(found, x.astype(int) @ codes.astype(int))


def test_the_probe_for_exact_products_sees_a_runtime_that_cuts_sums(monkeypatch):
    class Cutting:
        def __init__(self, codes):
            self.codes = codes.astype(int)

        def run(self, names, feeds):
            x = feeds["x"].astype(int)
            products = x[:, :, None] * self.codes
            pairs = products[:, : len(self.codes) // 2] + products[:, len(self.codes) // 2 :]
            return [pairs.clip(-32768, 32767).sum(axis=1)]

    onnx_saturation.signed_is_exact.cache_clear()
    try:
        monkeypatch.setattr(onnx_saturation, "product_session", Cutting)
        assert not onnx_saturation.signed_is_exact()
    finally:
        onnx_saturation.signed_is_exact.cache_clear()


def test_int8_products_do_not_saturate():
    """Large codes of one sign on both sides; unsigned ones of the same values cannot overflow."""
    model = drawn_model(ModelShape.uniform(50, 64, 2, 2, max_positions=POSITIONS))
    with torch.no_grad():
        for _, linear in model.linears():
            linear.weight.copy_(linear.weight.abs().clamp(0.2, 0.3))
    sentences = [["3 4 5 6", "7 8", ""]]
    lm = scorer(open_engine("onnx-int8", model, CPU))
    ranges = measure_ranges(model, drawn_sentences(model, BOS, EOS), BOS)
    graph = build_graph(model, ranges, signed=False)
    unsigned = scorer(OnnxEngine(graph.SerializeToString(), 1))
    np.testing.assert_allclose(
        lm.score_lists(sentences)[0], unsigned.score_lists(sentences)[0], rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("chunk", [4, 8192])
def test_an_int8_model_is_still_a_distribution(chunk):
    model = drawn_model(ModelShape.uniform(9, 8, 1, 2, max_positions=POSITIONS))
    ranges = measure_ranges(model, [[3, 4]], BOS)
    engine = OnnxEngine(build_graph(model, ranges, vocab_chunk=chunk).SerializeToString(), 1)
    one, every = np.ones((1, 1), np.int64), np.arange(9)
    zero = np.zeros_like(one)
    batch = TrieBatch(one, zero, zero, zero, zero[0], np.zeros(9, np.int64), every)
    assert np.exp(engine.log_probs(batch)).sum() == pytest.approx(1.0, abs=1e-5)


def test_zero_rows_and_columns_stay_zero():
    model = drawn_model(ModelShape.uniform(9, 8, 1, 2, max_positions=POSITIONS))
    with torch.no_grad():
        for _, linear in model.linears():
            linear.weight.zero_()
    ranges = measure_ranges(model, [[3, 4]], BOS)
    lm = scorer(OnnxEngine(build_graph(model, ranges).SerializeToString(), 1))
    exact = scorer(TorchEngine(model, torch.float32, CPU))
    np.testing.assert_allclose(
        lm.score_lists([["3 4", ""]])[0], exact.score_lists([["3 4", ""]])[0], atol=0.2
    )


@pytest.mark.parametrize("low_high", [(-1.0, 3.0), (0.0, 2.0), (-2.0, 0.0), (-1e-6, 1e-6)])
def test_ranges_hold_zero_and_fit_the_values(low_high):
    low, high = low_high
    span = Range(low, high)
    assert 0 <= span.zero_point <= 255
    assert (0 - span.zero_point) * span.scale == pytest.approx(low, abs=span.scale)
    uniform = best_range(np.ones(2048), low, high)
    assert (uniform.low, uniform.high) == (low, high)


def test_a_rare_outlier_is_clipped():
    counts = np.zeros(2048)
    counts[:200] = 10_000  # 0 .. 9.8
    counts[-1] = 1  # 100
    assert best_range(counts, 0.0, 100.0).high < 60


def test_drawn_sentences_are_equal_and_fit():
    model = drawn_model(ModelShape.uniform(9, 8, 1, 2, max_positions=POSITIONS))
    drawn = drawn_sentences(model, BOS, EOS)
    assert drawn == drawn_sentences(model, BOS, EOS)
    assert drawn != drawn_sentences(model, BOS, EOS, seed=1)
    assert max(map(len, drawn)) < POSITIONS
    assert all(2 not in ids for ids in drawn)
    with pytest.raises(ValueError, match="no sentences"):
        measure_ranges(model, [], BOS)


def test_a_token_is_drawn_at_its_share_of_the_distribution():
    logits = torch.tensor([[0.5, 0.0, 0.25, 0.25], [0.0, 0.0, 0.0, 1.0]]).log()
    drawn = [onnx_calibration._drawn(logits, np.array([u, u]))[:, 0].tolist() for u in (0, 0.49)]
    drawn += [
        onnx_calibration._drawn(logits, np.array([u, u]))[:, 0].tolist() for u in (0.51, 0.99)
    ]
    assert drawn == [[0, 3], [0, 3], [2, 3], [3, 3]]


def test_drawn_sentences_follow_the_model():
    """Half of the sentences of a model that knows one word and the end are empty."""
    model = drawn_model(ModelShape.uniform(5, 8, 1, 2, max_positions=POSITIONS))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.norm.bias.fill_(1.0)
        model.embedding.weight[[0, 1, 4]] = -100.0
    lengths = [len(ids) for seed in range(8) for ids in drawn_sentences(model, BOS, EOS, seed)]
    assert np.mean(np.array(lengths) == 0) == pytest.approx(0.5, abs=0.1)
    assert np.mean(lengths) == pytest.approx(1.0, abs=0.25)
    assert {ids for one in drawn_sentences(model, BOS, EOS) for ids in one} == {3}


def test_an_input_that_several_matrices_share_is_measured_once():
    forms = {f"attn.{part}": LinearShape("low_rank", 2) for part in "qkv"}
    shape = ModelShape(19, 8, 4, POSITIONS, (BlockShape(2, 16, forms),))
    ranges = measure_ranges(drawn_model(shape), [[3, 4]], BOS)
    shared = [name for name in ranges if name.endswith((".q.B", ".k.B", ".v.B"))]
    assert shared == ["blocks.0.attn.q.B"]


def test_weights_that_are_no_numbers_are_refused():
    model = drawn_model(ModelShape.uniform(9, 8, 1, 2, max_positions=POSITIONS))
    with torch.no_grad():
        model.positions[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"the input of blocks.0.attn.q goes from nan"):
        open_engine("onnx-int8", model, CPU)


def test_text_to_calibrate_on(tmp_path, monkeypatch):
    class Pieces:
        def encode_batch(self, texts):
            return [[3] * len(text.split()) for text in texts]

    text = tmp_path / "text"
    text.write_text("a b c\n\n" + "d\n" * 600 + "too " * 40 + "\n")
    found = onnx_calibration.read_sentences(text, Pieces(), POSITIONS)
    assert len(found) == onnx_calibration.SENTENCES
    assert found[0] == [3, 3, 3]
    text.write_text("\n")
    with pytest.raises(InputError, match="no sentence that fits"):
        onnx_calibration.read_sentences(text, Pieces(), POSITIONS)


@pytest.mark.parametrize("name", ["onnx", "onnx-int8"])
def test_a_gpu_is_refused(name):
    model = drawn_model(ModelShape.uniform(9, 8, 1, 2, max_positions=POSITIONS))
    with pytest.raises(ValueError, match="device is 'cuda'"):
        open_engine(name, model, EngineOptions(device="cuda"))


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named(package, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name == package:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    model = drawn_model(ModelShape.uniform(9, 8, 1, 2, max_positions=POSITIONS))
    with pytest.raises(MissingPackage, match=rf"{package} is needed here.*asrprune\[export\]"):
        open_engine("onnx", model, CPU)


@pytest.mark.parametrize("engine", ["onnx", "onnx-int8"])
def test_use_is_not_reported(engine, tmp_path):
    """onnxruntime writes an id and events to a folder Microsoft when it is imported."""
    code = (
        "import asrprune\n"
        "from asrprune.api.example import tiny_lm\n"
        f"lm = asrprune.open_lm(tiny_lm(), {engine!r}, threads=1, device='cpu')\n"
        "assert lm.score_lists([['the cat sat']])[0] < 0\n"
    )
    homes = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    kept = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], env={**kept, **homes}, check=True)
    assert not list(tmp_path.rglob("Microsoft"))
