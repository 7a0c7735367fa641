"""The residual stream in other coordinates, against what the LM computed before."""

from __future__ import annotations

import pytest
import torch

from asrprune.lm.model.anatomy import Block
from asrprune.lm.model.transformer import TransformerLM
from asrprune.prune.surgery.residual import Cut, fold_norms, ones_apart, read_directions, rewrite
from tests.prune import small_models
from tests.prune.streams import SHAPES, D, logits, random_directions, random_model
from tests.small_lm import drawn_model


def test_ones_apart_is_an_orthonormal_basis() -> None:
    for size in (1, 2, 3, 16):
        basis = ones_apart(size)
        assert basis.shape == (size, size - 1)
        assert torch.allclose(basis.T @ basis, torch.eye(size - 1, dtype=torch.float64))
        assert torch.allclose(basis.sum(0), basis.new_zeros(size - 1))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("mean_free", [False, True])
def test_the_same_lm_in_any_basis(name: str, mean_free: bool) -> None:
    model = random_model(SHAPES[name])
    if mean_free:
        with torch.no_grad():
            model.norm.bias.sub_(model.norm.bias.mean())
    before = logits(model)
    fold_norms(model)
    torch.testing.assert_close(logits(model), before)
    basis = random_directions(D)
    rewrite(model, Cut(basis if mean_free else basis @ ones_apart(D).T), mean_free)
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)
    assert model.shape.d_model == (D - 1 if mean_free else D)


def drawn(name: str) -> TransformerLM:
    """With norms away from 1; a tied last norm has equal weights."""
    model = drawn_model(small_models.SHAPES[name]).double()
    with torch.no_grad():
        for norm in [model.norm, *(part for block in model.layers() for part in norms(block))]:
            norm.weight.uniform_(0.5, 2.0)
        if model.embedding.tied:
            model.norm.weight.fill_(1.3)
        for key, value in model.norm.named_parameters():
            if key == "bias":
                value.normal_()
    return model


def norms(block: Block) -> list[torch.nn.Module]:
    return [block.get_submodule(name) for name in block.anatomy.readers]


@pytest.mark.parametrize("name", small_models.SHAPES)
def test_folded_norms_are_plain_and_compute_the_same(name: str) -> None:
    """Layer norms (with biases) and RMS norms; the last one only where the output is not tied."""
    model = drawn(name)
    before = small_models.logits(model)
    fold_norms(model)
    torch.testing.assert_close(small_models.logits(model), before)
    for norm in [part for block in model.layers() for part in norms(block)]:
        assert (norm.weight == 1.0).all()
        assert not any(value.any() for key, value in norm.named_parameters() if key == "bias")
    assert bool((model.norm.weight == 1.0).all()) == (not model.embedding.tied)


@pytest.mark.parametrize("name", small_models.SHAPES)
def test_a_wider_stream_is_cut_back_without_loss(name: str) -> None:
    """The same LM of width 16 in 24 coordinates, and from there in 16 again."""
    model = drawn(name)
    before = small_models.logits(model)
    fold_norms(model)
    narrow = read_directions(model)  # [16, n]
    wide = torch.eye(24, dtype=torch.float64) if model.anatomy.norm == "rms" else ones_apart(24)
    turn = torch.linalg.qr(torch.randn(wide.shape[1], narrow.shape[1], dtype=torch.float64))[0]
    there = narrow @ (wide @ turn).T  # [16, 24]
    rewrite(model, Cut(there), mean_free=False)
    assert model.width == 24
    torch.testing.assert_close(small_models.logits(model), before, rtol=1e-3, atol=1e-3)
    fold_norms(model)
    rewrite(model, Cut(there.T), mean_free=False)
    assert model.width == 16
    assert model.shape.d_model == 16
    torch.testing.assert_close(small_models.logits(model), before, rtol=1e-3, atol=1e-3)


def test_directions_that_are_read() -> None:
    """All of them behind RMS norms, those apart from the vector of ones behind layer norms."""
    layer, rms = drawn_model(small_models.SHAPES["gpt2"]), drawn_model(small_models.SHAPES["llama"])
    assert torch.equal(read_directions(layer), ones_apart(16))
    assert torch.equal(read_directions(rms), torch.eye(16, dtype=torch.float64))
