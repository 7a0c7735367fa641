"""The graphs that are exported, against the LM in torch: every form, shape and number format."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asrprune.exchange.exporters import check, graphs
from asrprune.exchange.exporters.graphs import Marks
from asrprune.exchange.exporters.numbers import quantise, rounded
from asrprune.exchange.exporters.rows import RowsWriter
from asrprune.lm.engines.onnx_runtime.session import open_session
from tests.exchange.pruned_shapes import POSITIONS, SHAPES
from tests.quick import grid
from tests.small_lm import drawn_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MARKS = Marks(1, 2)
FORMS = {
    "logits": (graphs.logits_graph, check.check_logits),
    "cache": (graphs.cache_graph, check.check_cache),
    "nll": (lambda model, numbers: graphs.nll_graph(model, numbers, MARKS), check.check_nll),
    "streaming": (graphs.streaming_graph, check.check_streaming),
}
SENTENCES = [[], [3], [9, 4, 7, 7, 3], [5, 5, 6, 7, 8, 9, 10, 11, 3, 4, 25], [4, 3, 20]]


@pytest.mark.parametrize(
    ("name", "form", "numbers"),
    grid(SHAPES, FORMS, ["float32", "int8"], centre=("gpt2-structured", "nll", "float32")),
)
def test_every_form_of_every_shape_is_the_lm(name, form, numbers):
    model = drawn_model(SHAPES[name])
    build, compare = FORMS[form]
    graph = build(model, numbers)
    onnx.checker.check_model(graph, full_check=True)
    expected = rounded(model) if numbers == "int8" else model
    session = open_session(graph.SerializeToString(), 1, exact=True)
    found = compare(session, expected, SENTENCES, MARKS)
    assert found.worst_share < 1
    assert found.scores >= 5
    if numbers == "int8":  # and those of the model as it was are others
        assert compare(session, model, SENTENCES, MARKS).largest > 1e-3


def test_a_sentence_is_the_sum_of_its_steps_by_hand():
    model = drawn_model(SHAPES["llama"])
    session = open_session(graphs.nll_graph(model, "float32", MARKS).SerializeToString(), 1)
    (nll,) = session.run(None, {"tokens": np.array([[7, 9]]), "lengths": np.array([2])})
    total = 0.0
    for given, wanted in (([1], 7), ([1, 7], 9), ([1, 7, 9], 2)):
        with torch.no_grad():
            logits = model.logits(model(torch.tensor([given]))[0])[0, -1]
        total -= float(logits.double().log_softmax(-1)[wanted])
    assert nll[0] == pytest.approx(total, abs=1e-4)
    assert nll.dtype == np.float32


@pytest.mark.parametrize("numbers", ["float32", "int8"])
def test_a_score_does_not_depend_on_what_it_is_scored_with(numbers):
    model = drawn_model(SHAPES["gpt2"])
    session = open_session(graphs.nll_graph(model, numbers, MARKS).SerializeToString(), 1)
    tokens = np.array([[5, 6, 7, 8, 9], [4, 3, 0, 0, 0], [20, 0, 0, 0, 0], [4, 3, 25, 25, 25]])
    (together,) = session.run(None, {"tokens": tokens, "lengths": np.array([5, 2, 0, 2])})
    for row, length, score in zip(tokens, (5, 2, 0, 2), together):
        feed = {"tokens": row[None, :length], "lengths": np.array([length])}
        assert session.run(None, feed)[0][0] == pytest.approx(score, abs=1e-4)
    assert together[1] == pytest.approx(together[3], abs=1e-5)  # padding may be anything


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_what_is_longer_than_the_positions_never_wins(name):
    model = drawn_model(SHAPES[name])
    session = open_session(graphs.nll_graph(model, "float32", MARKS).SerializeToString(), 1)
    tokens = np.full((2, POSITIONS + 3), 5)
    (nll,) = session.run(None, {"tokens": tokens, "lengths": np.array([POSITIONS, POSITIONS - 1])})
    assert nll[0] == np.inf
    assert np.isfinite(nll[1])


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_stream_beyond_the_positions_is_even_and_stays_as_it_is(name):
    model = drawn_model(SHAPES[name])
    session = open_session(graphs.streaming_graph(model, "float32").SerializeToString(), 1)
    states = [np.zeros((1, 1, graphs.state_width(model)), np.float32)] * 2
    for step in range(POSITIONS + 3):
        feed = dict(zip(("x", "h0", "c0"), (np.array([[5]]), *states)))
        scores, *states = session.run(None, feed)
        assert np.exp(scores.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
        assert (np.ptp(scores) < 1e-6) == (step >= POSITIONS)
        assert states[0].shape[1] == min(step + 2, POSITIONS + 1)


@pytest.mark.parametrize("numbers", ["float32", "int8"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_large_vocabulary_is_taken_in_chunks(numbers, tied, monkeypatch):
    model = drawn_model(SHAPES["gpt2-low-rank" if tied else "llama"])
    monkeypatch.setattr(RowsWriter.__init__, "__defaults__", (7,))
    graph = graphs.nll_graph(model, numbers, MARKS)
    assert sum(node.op_type == "LogSoftmax" for node in graph.graph.node) == 4
    session = open_session(graph.SerializeToString(), 1, exact=True)
    expected = rounded(model) if numbers == "int8" else model
    assert check.check_nll(session, expected, SENTENCES, MARKS).worst_share < 1


@pytest.mark.parametrize(("numbers", "bytes_each"), [("float32", 4.0), ("int8", 1.0)])
@pytest.mark.parametrize("form", FORMS)
def test_the_file_is_as_large_as_the_weights(form, numbers, bytes_each):
    sizes = []
    for ffn in (500, 4500):
        shape = SHAPES["gpt2"]
        block = shape.blocks[0]
        wide = type(block)(block.heads, ffn)
        model = drawn_model(type(shape)(26, 16, 4, POSITIONS, (wide,)))
        sizes.append(len(FORMS[form][0](model, numbers).SerializeToString()))
    # 4000 neurons of 2 x 16 weights, a bias and, in 8 bits, a scale
    expected = 4000 * (32 * bytes_each + (4 if numbers == "float32" else 8))
    assert sizes[1] - sizes[0] == pytest.approx(expected, rel=0.01)


def test_the_state_is_as_wide_as_pruning_left_it():
    assert graphs.state_width(drawn_model(SHAPES["gpt2"])) == 2 * 16
    assert graphs.state_width(drawn_model(SHAPES["gpt2-structured"])) == (1 + 0 + 3 + 2) * 4
    assert graphs.state_width(drawn_model(SHAPES["llama-structured"])) == (2 + 1) * 8


def test_eight_bits_are_exact_where_they_can_be():
    matrix = np.array([[127.0, -2.0, 0.0], [1.0, 4.0, 0.0]], np.float32)
    codes, scales = quantise(matrix, axis=1)
    np.testing.assert_array_equal(codes[:, 0], [127, 1])
    np.testing.assert_array_equal(codes[:, 2], [0, 0])
    np.testing.assert_allclose(codes * scales, matrix, atol=4 / 254)
    codes, scales = quantise(matrix, axis=0)
    np.testing.assert_allclose(codes * scales[:, None], matrix, atol=0.5)
    assert codes.dtype == np.int8


def test_a_difference_is_seen():
    model = drawn_model(SHAPES["gpt2"])
    session = open_session(graphs.logits_graph(model, "float32").SerializeToString(), 1)
    with torch.no_grad():
        model.norm.weight[3] += 0.01
    assert check.check_logits(session, model, SENTENCES, MARKS).worst_share > 1
    nothing = check.Difference.of(np.array([np.nan], np.float32), np.zeros(1, np.float32))
    assert nothing.worst_share == np.inf
