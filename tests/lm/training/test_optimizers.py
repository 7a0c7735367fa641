"""Optimisers and learning-rate schedules: contracts over the whole tables."""

from __future__ import annotations

import copy

import pytest
import torch

from asrprune.lm.model.shapes import BlockShape, LinearShape, ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.muon import Muon, orthogonalised
from asrprune.lm.training.optimizers import (
    LR_SCHEDULES,
    OPTIMISERS,
    OptimizerConfig,
    make_optimizer,
)

LOW_RANK = BlockShape(heads=2, ffn=8, linears={"ffn.up": LinearShape("low_rank", 3)})
EMPTY = BlockShape(heads=0, ffn=0)


def model() -> TransformerLM:
    torch.manual_seed(0)
    return TransformerLM(ModelShape(11, 8, 4, 6, (LOW_RANK, EMPTY)))


def loss_of(lm: TransformerLM) -> torch.Tensor:
    tokens = torch.tensor([[1, 3, 4, 5, 6]])
    hidden, _ = lm(tokens[:, :-1])
    return torch.nn.functional.cross_entropy(lm.logits(hidden)[0], tokens[0, 1:])


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_parameter_moves_and_the_loss_falls(name: str) -> None:
    lm = model()
    optimizer = make_optimizer(lm, OptimizerConfig(name, lr=0.01, muon_lr=0.01))
    start = {key: value.clone() for key, value in lm.named_parameters()}
    before = loss_of(lm).item()
    for _ in range(20):
        optimizer.zero_grad()
        loss_of(lm).backward()
        optimizer.step(1.0)
    assert loss_of(lm).item() < 0.5 * before
    still = [k for k, v in lm.named_parameters() if v.numel() and torch.equal(v, start[k])]
    # a softmax does not feel what all keys share; norms before an empty layer act on nothing
    without_effect = ("attn.k.bias", "1.norm_attn.weight", "1.norm_attn.bias")
    without_effect += ("1.norm_ffn.weight", "1.norm_ffn.bias")
    assert [key for key in still if not key.endswith(without_effect)] == []


@pytest.mark.parametrize("name", OPTIMISERS)
def test_factor_zero_changes_nothing(name: str) -> None:
    lm = model()
    optimizer = make_optimizer(lm, OptimizerConfig(name, weight_decay=0.5))
    start = {key: value.clone() for key, value in lm.state_dict().items()}
    loss_of(lm).backward()
    optimizer.step(0.0)
    assert all(torch.equal(value, start[key]) for key, value in lm.state_dict().items())


@pytest.mark.parametrize("name", OPTIMISERS)
def test_state_can_be_taken_up_again(name: str) -> None:
    def run(optimizer_steps: int, switch_at: int) -> torch.Tensor:
        lm = model()
        optimizer = make_optimizer(lm, OptimizerConfig(name))
        for step in range(optimizer_steps):
            if step == switch_at:
                state = optimizer.state_dict()
                optimizer = make_optimizer(lm, OptimizerConfig(name))
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            loss_of(lm).backward()
            optimizer.step(1.0 - 0.1 * step)
        return torch.cat([value.flatten() for value in lm.state_dict().values()])

    assert torch.equal(run(6, switch_at=3), run(6, switch_at=-1))


def test_adamw_in_one_pass_is_that_of_torch_and_goes_on_from_its_state() -> None:
    """Also from the state of a run that was made elsewhere, without the one pass."""
    lms, own = [model(), model()], []
    config = OptimizerConfig("adamw", lr=0.01, weight_decay=0.1)
    for lm in lms:
        own.append(make_optimizer(lm, config))
    assert all(group["fused"] for group in own[0].parts[0].param_groups)
    groups = [{**group, "fused": False} for group in own[1].parts[0].param_groups]
    looped = torch.optim.AdamW(groups, lr=0.01, betas=(config.beta1, config.beta2))
    for step in range(6):
        for one, other in zip(*(lm.parameters() for lm in lms)):
            one.grad = other.grad = torch.randn_like(one)
        own[0].step()
        looped.step()
        for one, other in zip(*(lm.parameters() for lm in lms)):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
        if step == 2:
            own[0] = make_optimizer(lms[0], config)
            own[0].load_state_dict([copy.deepcopy(looped.state_dict())])
            assert all(group["fused"] for group in own[0].parts[0].param_groups)


@pytest.mark.parametrize("name", LR_SCHEDULES)
def test_schedules_warm_up_and_end_at_the_floor(name: str) -> None:
    config = OptimizerConfig(schedule=name, warmup_steps=4, final_lr=0.1)
    rise = [config.lr_factor(step, 0.0) for step in range(6)]
    assert rise == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])
    fall = [config.lr_factor(1000, progress / 10) for progress in range(11)]
    assert all(later <= earlier for earlier, later in zip(fall, fall[1:]))
    assert fall[0] == 1.0
    assert fall[-1] == pytest.approx(1.0 if name == "constant" else 0.1)
    assert config.lr_factor(1000, 1.5) == fall[-1]
    assert OptimizerConfig(schedule=name, warmup_steps=0).lr_factor(0, 0.0) == 1.0


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch without Muon")
@pytest.mark.parametrize("size", [(6, 6), (4, 12), (12, 4), (5, 1)])
def test_muon_in_bf16_is_that_of_torch(size: tuple[int, int]) -> None:
    torch.manual_seed(1)
    start = [torch.randn(size) for _ in range(3)]  # one shape: ours takes them together
    ours = [torch.nn.Parameter(value.clone()) for value in start]
    theirs = [torch.nn.Parameter(value.clone()) for value in start]
    settings = {"lr": 0.1, "weight_decay": 0.3, "momentum": 0.9}
    mine = Muon(ours, **settings, precision="bf16")
    reference = torch.optim.Muon(theirs, **settings, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for one, other in zip(ours, theirs):
            one.grad = torch.randn(size)
            other.grad = one.grad.clone()
        mine.step()
        reference.step()
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other, atol=0.02, rtol=0.0)  # bf16 steps of 4 x 0.1


def test_orthogonalised_keeps_singular_vectors_and_evens_out_values() -> None:
    torch.manual_seed(2)
    left, _, right = torch.linalg.svd(torch.randn(3, 9, 5), full_matrices=False)
    values = torch.logspace(0, -2, 5)
    made = orthogonalised((left * values) @ right)
    inner = left.mT @ made @ right.mT
    diagonal = inner.diagonal(dim1=1, dim2=2)
    assert diagonal.min() > 0.6
    assert diagonal.max() < 1.3
    torch.testing.assert_close(inner, torch.diag_embed(diagonal), atol=1e-4, rtol=0.0)
    assert not orthogonalised(torch.zeros(1, 3, 4)).any()


@pytest.mark.parametrize("size", [(4, 12), (12, 4), (3, 6), (1, 5), (5, 6)])
def test_orthogonalised_by_the_gram_matrix_is_the_same(size: tuple[int, int]) -> None:
    torch.manual_seed(3)
    rows, columns = size
    many = torch.randn(3, *size) * torch.logspace(0, -4, columns)
    many[2, : rows // 2] = many[2, rows - rows // 2 :]  # not of full rank
    direct = orthogonalised(many.double()).float()  # only float32 goes by way of it
    torch.testing.assert_close(orthogonalised(many), direct, atol=2e-4, rtol=0.0)


def test_muon_takes_matrices_only() -> None:
    with pytest.raises(ValueError, match="2-D"):
        Muon([torch.nn.Parameter(torch.zeros(3))], lr=0.1)


@pytest.mark.parametrize(
    "bad",
    [{"optimizer": "adam"}, {"schedule": "x"}, {"lr": -1.0}, {"beta1": 1.0}, {"final_lr": 2.0}],
)
def test_bad_config(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"unknown|expected"):
        OptimizerConfig(**bad)  # type: ignore[arg-type]
