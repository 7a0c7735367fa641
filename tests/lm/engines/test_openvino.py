"""OpenVINO against the reference: every shape and stored form, and what it says of itself."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrprune.errors import MissingPackage
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.onnx_runtime.calibration import measure_ranges
from asrprune.lm.engines.onnx_runtime.engine import OnnxEngine
from asrprune.lm.engines.onnx_runtime.graph import build_graph
from asrprune.lm.engines.onnx_runtime.saturation import LARGEST, product_graph
from asrprune.lm.engines.table import open_engine
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.protocol import UnscorableError
from asrprune.text.sentencepiece import BOS
from tests.lm.engines.test_onnx import (
    CPU,
    LISTS,
    POSITIONS,
    QUERIES,
    SHAPES,
    check_against_torch,
    scorer,
)
from tests.small_lm import drawn_model

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

from asrprune.lm.engines.openvino import engine as openvino_engine
from asrprune.lm.engines.openvino.engine import OpenVinoEngine, describe
from asrprune.lm.engines.openvino.runtime import CompiledGraph

TEXTS = [["3 4 5 6", "3 4 5", "7 8", ""], ["40 41 42 43 44 45"]]


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, lists=LISTS, chunk=st.sampled_from([7, 18, 19, 8192]), queries=QUERIES)
def test_f32_equals_torch(shape, lists, chunk, queries):
    model = drawn_model(shape)
    graph = build_graph(model, vocab_chunk=chunk, log_softmax=False).SerializeToString()
    check_against_torch(OpenVinoEngine(graph, "f32", "f32", 1), model, lists, queries)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(shape=SHAPES, lists=LISTS, chunk=st.sampled_from([7, 8192]))
def test_int8_of_every_shape_is_what_onnx_runtime_computes(shape, lists, chunk):
    """The rest in float32: then both round at the same places, but for values between two codes."""
    model = drawn_model(shape)
    ranges = measure_ranges(model, [[3, 4, 5], [6, 6, 6, 6], []], BOS)
    parts = build_graph(model, ranges, vocab_chunk=chunk, log_softmax=False)
    graph = parts.SerializeToString()
    found = scorer(OpenVinoEngine(graph, "int8", "f32", 1)).score_lists(lists)
    expected = scorer(OnnxEngine(graph, 1)).score_lists(lists)
    for one, other in zip(found, expected):
        np.testing.assert_allclose(one, other, rtol=0, atol=0.3)


@pytest.mark.parametrize(("name", "most"), [("openvino-bf16", 0.25), ("openvino-int8", 0.5)])
def test_rounding_is_there_and_small_and_no_matter_of_the_batch(name, most):
    model = drawn_model(ModelShape.uniform(50, 32, 2, 2, max_positions=POSITIONS))
    exact = np.concatenate(scorer(open_engine("torch", model, CPU)).score_lists(TEXTS))
    lm = scorer(open_engine(name, model, CPU))
    found = np.concatenate(lm.score_lists(TEXTS))
    assert 1e-4 < np.abs(found - exact).max() < most
    alone = [lm.score_lists([[text]])[0][0] for texts in TEXTS for text in texts]
    np.testing.assert_allclose(alone, found, rtol=0, atol=1e-4)


def test_what_ran_is_said(monkeypatch):
    model = drawn_model(ModelShape.uniform(50, 32, 2, 2, max_positions=POSITIONS))
    assert open_engine("openvino", model, CPU).note.startswith("f32 on ")
    engine = open_engine("openvino-int8", model, CPU)
    assert {form for form, _ in engine._graph.products()} == {"u8"}, "all matrices in int8"
    assert "int8" in engine.note
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert describe("f32", {("f32", "gemm_mlas_f32")}) == "f32 on AVX2"
    expected = "asked for bf16, this processor runs f32 on AVX2"
    assert describe("bf16", {("f32", "jit_avx2_f32")}) == expected
    slow = describe("bf16", {("bf16", "brgemm_avx512_bf16")})
    assert slow == "bf16, no instructions for it known"
    assert describe("bf16", {("bf16", "brgemm_avx512_amx_bf16")}) == "bf16 on AMX"


def test_the_probe_sees_a_runtime_that_cuts_sums(monkeypatch):
    class Cutting:
        def __init__(self, graph, precision):
            pass

        def run(self, feeds):
            return np.full((len(feeds["x"]), 64), 32767.0, np.float32)

    openvino_engine.signed_is_exact.cache_clear()
    try:
        monkeypatch.setattr(openvino_engine, "CompiledGraph", Cutting)
        assert not openvino_engine.signed_is_exact()
    finally:
        openvino_engine.signed_is_exact.cache_clear()


def test_the_probe_multiplies_in_int8():
    codes = np.tile(np.array(LARGEST[:2], np.int8).reshape(4, 1), (16, 64))
    graph = CompiledGraph(product_graph(codes, in_floats=True), "f32")
    graph.run({"x": np.full((5, 64), 255, np.float32)})
    assert {form for form, _ in graph.products()} == {"u8"}


def test_passes_run_at_once_and_change_nothing():
    model = drawn_model(ModelShape.uniform(50, 32, 2, 2, max_positions=POSITIONS))
    engine = open_engine("openvino", model, EngineOptions(threads=3, device="cpu"))
    assert engine.passes == 3
    lm = scorer(engine)
    expected = np.concatenate(lm.score_lists(TEXTS))
    with ThreadPoolExecutor(6) as workers:  # more than there are requests
        for found in workers.map(lambda _: np.concatenate(lm.score_lists(TEXTS)), range(24)):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("package", ["openvino", "onnx"])
def test_a_missing_package_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    model = drawn_model(ModelShape.uniform(9, 8, 1, 2, max_positions=POSITIONS))
    extra = {"openvino": "openvino", "onnx": "export"}[package]
    with pytest.raises(MissingPackage, match=rf"{package} is needed here.*asrprune\[{extra}\]"):
        open_engine("openvino", model, CPU)


def test_use_is_not_reported(tmp_path):
    """openvino reports its import, and writes to ~/intel, if it finds openvino_telemetry."""
    code = (
        "import sys\n"
        "from asrprune.lm.engines.openvino.runtime import import_openvino\n"
        "import_openvino()\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "print(telemetry_utils.tm.__name__, sys.modules['openvino_telemetry'])\n"
    )
    environment = {"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "None"]
    assert not list(tmp_path.iterdir())


def test_signals_arrive_when_engines_are_gone():
    """In a process of its own, which a signal would end."""
    code = (
        "import os, signal\n"
        "from asrprune.lm.engines.table import open_engine\n"
        "from asrprune.lm.model.shapes import ModelShape\n"
        "from asrprune.lm.model.transformer import TransformerLM\n"
        "model = TransformerLM(ModelShape.uniform(9, 8, 1, 2, max_positions=4))\n"
        "first, second = (open_engine('openvino', model) for _ in range(2))\n"
        "del first\n"
        "del second\n"
        "signal.signal(signal.SIGUSR1, lambda *_: os._exit(7))\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 7


def test_weights_that_are_no_numbers_give_no_numbers():
    model = drawn_model(ModelShape.uniform(9, 8, 1, 2, max_positions=POSITIONS))
    with torch.no_grad():
        model.positions[0, 0] = float("nan")
    for name in ("torch", "openvino"):
        with pytest.raises(UnscorableError, match="'3 4' has the score nan"):
            scorer(open_engine(name, model, CPU)).score_lists([["3 4"]])
