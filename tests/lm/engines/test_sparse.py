"""Sparse matrices against torch: any mask, any size, any number of threads, with and without a
compiler."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from asrprune.lm.device import cpu_threads
from asrprune.lm.engines import native
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.engines.sparse import matrices as sparse
from asrprune.lm.engines.sparse.matrices import (
    SparseLinear,
    best_height,
    block_density,
    load_kernel,
    pack_matrix,
    sparsified,
)
from asrprune.lm.engines.table import open_engine
from asrprune.lm.model.gpt2 import ANATOMY
from asrprune.lm.model.matrices import DenseLinear
from asrprune.lm.model.shapes import BlockShape, LinearShape, ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.scoring.sentences import TransformerScorer
from tests.small_lm import DrawnTokenizer

POSITIONS = 12
CPU = EngineOptions(threads=1, device="cpu")
ALWAYS = {1: 10.0, 4: 10.0}

needs_kernel = pytest.mark.skipif(load_kernel() is None, reason="no C++ compiler here")


def encode_batch(texts):
    return [[int(word) for word in text.split()] for text in texts]


def masked(outputs, inputs, density, height, seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=generator)
    groups = -(-outputs // height)
    kept = torch.rand(groups, inputs, generator=generator) < density
    return weight * kept.repeat_interleave(height, dim=0)[:outputs]


@pytest.mark.slow
@needs_kernel
@settings(max_examples=150, deadline=None)
@given(
    outputs=st.integers(1, 40),
    inputs=st.integers(1, 70),
    tokens=st.integers(0, 150),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    height=st.sampled_from([1, 4]),
    chunk=st.sampled_from([1, 7, 64, 256]),
    threads=st.integers(1, 3),
)
def test_a_matrix_multiplies_as_torch_does(
    outputs, inputs, tokens, density, height, chunk, threads
):
    weight = masked(outputs, inputs, density, height, seed=outputs * 100 + inputs)
    torch.manual_seed(tokens)
    x, bias = torch.randn(tokens, inputs), torch.randn(outputs)
    with cpu_threads(threads):
        found = SparseLinear(pack_matrix(weight, height, chunk), bias)(x)
    torch.testing.assert_close(found, functional.linear(x, weight, bias), rtol=1e-5, atol=1e-4)


@needs_kernel
@pytest.mark.parametrize("own_threads", [False, True])
@pytest.mark.parametrize("height", [1, 4])
def test_large_matrices_with_torch_s_threads_and_with_own_ones(height, own_threads, monkeypatch):
    if own_threads:
        monkeypatch.setattr(sparse, "openmp_parallel", lambda: None)
    weight = masked(513, 1030, 0.2, height, seed=1)
    weight[100:140] = 0.0
    weight[:, 7:90] = 0.0
    x, bias = torch.randn(3, 331, 1030), torch.randn(513)
    linear = SparseLinear(pack_matrix(weight, height), bias)
    with cpu_threads(1):
        alone = linear(x)
    with cpu_threads(2):
        together = linear(x)
    assert torch.equal(alone, together)
    torch.testing.assert_close(alone, functional.linear(x, weight, bias), rtol=1e-5, atol=1e-3)
    transposed = x.transpose(0, 1)
    torch.testing.assert_close(linear(transposed), alone.transpose(0, 1), rtol=0, atol=1e-4)


def test_packing_keeps_exactly_the_non_zero_blocks():
    weight = masked(10, 9, 0.4, 4, seed=3)
    for height in (1, 4):
        packed = pack_matrix(weight, height, chunk=4)
        assert len(packed.values) == packed.starts[-1]
        assert packed.values.shape == (packed.starts[-1], height)
        assert np.count_nonzero(packed.values) == int(torch.count_nonzero(weight))
        blocks = -(-10 // height) * 9
        assert block_density(weight, height) == pytest.approx(len(packed.values) / blocks)
    with pytest.raises(ValueError, match="height is 2"):
        pack_matrix(weight, 2)
    with pytest.raises(ValueError, match="chunk is 0"):
        pack_matrix(weight, 1, chunk=0)


def test_the_fastest_height_is_chosen_or_none():
    limits = {1: 0.5, 4: 0.8}
    assert best_height(torch.ones(8, 8), limits) is None
    assert best_height(masked(64, 64, 0.6, 4, seed=1), limits) == 4
    assert best_height(masked(64, 64, 0.3, 1, seed=1), limits) == 1
    assert best_height(torch.zeros(8, 8), limits) is not None
    assert best_height(torch.zeros(0, 8), limits) is None


BLOCKS = st.builds(
    BlockShape,
    st.integers(0, 3),
    st.sampled_from([0, 1, 13, 24]),
    st.dictionaries(st.sampled_from(ANATOMY.matrices), st.just(LinearShape("low_rank", 2))),
)
SENTENCES = st.lists(st.integers(3, 6), max_size=POSITIONS - 1).map(
    lambda ids: " ".join(map(str, ids))
)


@pytest.mark.slow
@needs_kernel
@settings(max_examples=40, deadline=None)
@given(
    blocks=st.lists(BLOCKS, max_size=2).map(tuple),
    density=st.sampled_from([0.0, 0.3, 1.0]),
    height=st.sampled_from([1, 4]),
    lists=st.lists(st.lists(SENTENCES, max_size=6), max_size=3),
    threads=st.integers(1, 2),
)
def test_scores_are_the_reference_s(blocks, density, height, lists, threads):
    torch.manual_seed(0)
    model = TransformerLM(ModelShape(19, 12, 4, POSITIONS, blocks)).eval()
    with torch.no_grad():
        for number, (_, linear) in enumerate(model.linears()):
            if isinstance(linear, DenseLinear):
                linear.weight.copy_(masked(*linear.weight.shape, density, height, number))
    options = EngineOptions(threads=threads, device="cpu")
    packed, _ = sparsified(model, ALWAYS)
    found = TransformerScorer(
        TorchEngine(packed, torch.float32, options), DrawnTokenizer(encode_batch), POSITIONS
    )
    exact = TransformerScorer(
        TorchEngine(model, torch.float32, CPU), DrawnTokenizer(encode_batch), POSITIONS
    )
    for one, other in zip(found.score_lists(lists), exact.score_lists(lists)):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


@needs_kernel
def test_the_engine_says_what_it_chose_and_leaves_the_model_alone():
    torch.manual_seed(0)
    model = TransformerLM(ModelShape.uniform(19, 16, 2, 2, max_positions=POSITIONS)).eval()
    assert open_engine("sparse", model, CPU).note == "0 of 12 matrices sparse"
    with torch.no_grad():
        model.blocks[0].ffn.up.weight.zero_()
        model.blocks[1].attn.q.weight[4:] = 0.0
    before = {name: value.clone() for name, value in model.state_dict().items()}
    engine = open_engine("sparse", model, CPU)
    assert engine.note == "2 of 12 matrices sparse: 2 in 4x1"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="device is 'cuda'"):
        open_engine("sparse", model, EngineOptions(device="cuda"))


@pytest.fixture
def no_kernel_yet():
    load_kernel.cache_clear()
    native.load_library.cache_clear()
    yield
    load_kernel.cache_clear()
    native.load_library.cache_clear()


@pytest.mark.usefixtures("no_kernel_yet")
def test_without_a_compiler_torch_computes_and_one_line_says_so(monkeypatch, caplog, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    model = TransformerLM(ModelShape.uniform(19, 16, 1, 2, max_positions=POSITIONS)).eval()
    with torch.no_grad():
        model.blocks[0].ffn.up.weight.zero_()
    with caplog.at_level(logging.INFO):
        engine = open_engine("sparse", model, CPU)
        open_engine("sparse", model, CPU)
    assert engine.note == "0 of 6 matrices sparse: no kernel"
    assert [record.message for record in caplog.records] == [
        "no sparse kernel, so torch multiplies by the zeros too: "
        "no C++ compiler (c++, g++, clang++, or set CXX)"
    ]
    lists = [["3 4 5", ""]]
    exact = TransformerScorer(
        TorchEngine(model, torch.float32, CPU), DrawnTokenizer(encode_batch), POSITIONS
    )
    found = TransformerScorer(engine, DrawnTokenizer(encode_batch), POSITIONS)
    np.testing.assert_array_equal(found.score_lists(lists)[0], exact.score_lists(lists)[0])
