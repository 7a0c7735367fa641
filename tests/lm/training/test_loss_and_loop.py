"""The loss, and the loop that training and fine-tuning share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Optional

import numpy as np
import pytest
import torch
from torch.nn import functional

from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training import loss as loss_module
from asrprune.lm.training.batches import Batch, BatchStream, make_batch
from asrprune.lm.training.loop import Budget, Step, TrainingLoop, fine_tune
from asrprune.lm.training.loss import loss_of_logits, next_token_loss
from asrprune.lm.training.optimizers import OptimizerConfig
from asrprune.lm.training.precision import choose_precision
from asrprune.text.corpus import TokenStream
from tests.quick import slow


def model(dropout: float = 0.0) -> TransformerLM:
    torch.manual_seed(0)
    return TransformerLM(ModelShape.uniform(13, 8, 2, 2, max_positions=12, dropout=dropout))


def stream() -> TokenStream:
    draw = np.random.default_rng(0)
    return TokenStream.from_sentences(
        [draw.integers(3, 13, draw.integers(1, 9)).tolist() for _ in range(80)]
    )


def batches(seed: int = 1) -> BatchStream:
    return BatchStream(stream(), 32, seed, max_positions=12)


def weights(lm: TransformerLM) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in lm.parameters()])


def factored() -> TransformerLM:
    """With an embedding of rank 3, which has a second matrix behind the features."""
    torch.manual_seed(0)
    shape = ModelShape.uniform(13, 8, 2, 2, max_positions=12)
    return TransformerLM(replace(shape, embedding_rank=3))


def untied() -> TransformerLM:
    torch.manual_seed(0)
    return TransformerLM(replace(ModelShape.uniform(13, 8, 2, 2, max_positions=12), tied=False))


@pytest.mark.parametrize("made", [model, factored, untied])
@pytest.mark.parametrize("fewest", [256, 4, 1])
def test_loss_is_the_sum_over_real_targets(
    made: Callable[[], TransformerLM], fewest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_module, "FEWEST_ROWS", fewest)
    monkeypatch.setattr(loss_module, "CACHED_LOGITS", 0)
    batch = make_batch([np.array([3, 4, 5]), np.array([6]), np.array([7, 8])])
    lm, reference = made(), made()
    total = next_token_loss(lm, batch)
    (3.0 * total).backward()
    hidden, _ = reference(batch.tokens)
    expected = functional.cross_entropy(
        reference.logits(hidden).flatten(0, 1), batch.targets.flatten(), reduction="sum"
    )
    (3.0 * expected).backward()
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, theirs in zip(lm.parameters(), reference.parameters()):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)
    with torch.no_grad():
        assert next_token_loss(lm, batch).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(("rows", "seen"), [(7, [7]), (3, [3, 3, 1]), (1, [1] * 7), (None, [7])])
def test_parts_of_the_logits_are_bounded_and_made_once(
    rows: Optional[int], seen: list[int]
) -> None:
    """A loss of its own, the sum of squares of scaled logits, against autograd's gradients."""
    lm, reference = model(), model()
    hidden = torch.randn(7, 8)
    scale = torch.arange(7.0)
    calls = []

    def part(logits: torch.Tensor, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(len(logits))
        scales = scale[start : start + len(logits), None]
        return (scales * logits.square()).sum(), 2.0 * scales * logits

    ours, theirs = (hidden.clone().requires_grad_() for _ in range(2))
    total = loss_of_logits(lm, ours, part, rows)
    total.backward()
    expected = (scale[:, None] * reference.logits(theirs).square()).sum()
    expected.backward()
    assert calls == seen
    assert total.item() == pytest.approx(expected.item())
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)
    table, wanted = lm.embedding.weight.grad, reference.embedding.weight.grad
    assert torch.allclose(table, wanted, atol=1e-5)
    assert loss_of_logits(lm, ours[:0], part, rows).item() == 0.0


def test_only_the_gradients_that_are_wanted_are_made() -> None:
    """Statistics want those of some matrices; the output layer's product is spared then."""
    lm = model()
    batch = make_batch([np.array([3, 4, 5])])
    for parameter in lm.parameters():
        parameter.requires_grad_(False)
    assert not next_token_loss(lm, batch).requires_grad
    lm.layers()[0].ffn.up.weight.requires_grad_(True)
    next_token_loss(lm, batch).backward()
    assert lm.layers()[0].ffn.up.weight.grad is not None
    assert lm.embedding.weight.grad is None


def test_products_of_the_loss_follow_autocast() -> None:
    """In bf16 the loss is that of logits rounded to bf16, the gradients are in float32."""
    batch = make_batch([np.array([3, 4, 5]), np.array([6])])
    lm, reference = model(), model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = next_token_loss(lm, batch)
        hidden, _ = reference(batch.tokens)
        logits = reference.logits(hidden)
    assert logits.dtype == torch.bfloat16
    expected = functional.cross_entropy(
        logits.float().flatten(0, 1), batch.targets.flatten(), reduction="sum"
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    loss.backward()
    expected.backward()
    for ours, theirs in zip(lm.parameters(), reference.parameters()):
        assert ours.grad.dtype == torch.float32
        assert torch.allclose(ours.grad, theirs.grad, atol=0.02 * float(theirs.grad.abs().max()))


def test_padding_and_neighbours_do_not_change_the_loss() -> None:
    sentences = [np.array([3, 4, 5, 6, 7]), np.array([8]), np.array([9, 10])]
    lm = model().eval()
    with torch.no_grad():
        together = next_token_loss(lm, make_batch(sentences)).item()
        apart = sum(next_token_loss(lm, make_batch([s])).item() for s in sentences)
    assert together == pytest.approx(apart, rel=1e-5)


def test_accumulation_equals_one_large_batch() -> None:
    """The gradient is that of the mean over all tokens, not of a mean of means."""
    sentences = [np.array([3, 4, 5, 6, 7]), np.array([8])]

    class Fixed:
        def __init__(self, made: list[Batch]) -> None:
            self.made = made

        def next_batches(self, count: int) -> list[Batch]:
            return [self.made.pop(0) for _ in range(count)]

    def run(made: list[Batch], accumulation: int) -> torch.Tensor:
        lm = model()
        config = OptimizerConfig("adamw", clip=0.0, warmup_steps=0)
        loop = TrainingLoop(lm, Fixed(made), config, Budget(max_steps=1), accumulation)  # type: ignore[arg-type]
        loop.step()
        return weights(lm)

    one = run([make_batch(sentences)], 1)
    two = run([make_batch([sentences[0]]), make_batch([sentences[1]])], 2)
    assert torch.allclose(one, two, atol=1e-5)


@pytest.mark.slow
def test_fine_tune_learns_within_its_budget_and_goes_on_in_the_data() -> None:
    lm, source = model(), batches()
    seen: list[Step] = []
    config = OptimizerConfig("adamw", lr=0.01, warmup_steps=5)
    loop = fine_tune(lm, source, config, Budget(max_steps=60), after_step=seen.append)
    assert [step.step for step in seen] == list(range(1, 61))
    assert loop.done
    assert not lm.training
    assert np.mean([step.loss for step in seen[-10:]]) < seen[0].loss - 0.2
    assert seen[0].lr_factor == pytest.approx(1 / 6)
    assert source.state()["number"] == 60
    fine_tune(lm, source, config, Budget(max_tokens=100))
    assert 60 < source.state()["number"] < 70


@pytest.mark.slow
def test_custom_loss_can_hold_a_teacher() -> None:
    teacher, student = model().eval(), model()
    with torch.no_grad():
        student.positions.normal_()

    def imitate(lm: TransformerLM, batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            wanted, _ = teacher(batch.tokens)
        return (lm(batch.tokens)[0] - wanted).square().sum()

    seen: list[float] = []
    config = OptimizerConfig("adamw", lr=0.02)
    fine_tune(
        student,
        batches(),
        config,
        Budget(max_steps=60),
        loss=imitate,
        after_step=lambda step: seen.append(step.loss),
    )
    assert seen[-1] < 0.5 * seen[0]


@pytest.mark.parametrize(
    ("optimizer", "dropout"),
    [("muon", 0.3), *slow([("muon", 0.0), ("adamw", 0.0), ("adamw", 0.3)])],
)
def test_resumed_run_equals_an_uninterrupted_one(dropout: float, optimizer: str) -> None:
    def make() -> TrainingLoop:
        config = OptimizerConfig(optimizer)
        return TrainingLoop(model(dropout), batches(), config, Budget(max_steps=12), accumulation=2)

    whole = make()
    losses = [whole.step().loss for _ in range(12)]
    first = make()
    again = [first.step().loss for _ in range(5)]
    torch.rand(3)  # whatever else the program draws must not matter
    second = make()
    second.load_state(first.state())
    again += [second.step().loss for _ in range(7)]
    assert again == losses
    assert torch.equal(weights(second.model), weights(whole.model))
    assert second.done
    assert second.tokens == whole.tokens


def test_dropout_noise_differs_between_batches() -> None:
    loop = TrainingLoop(
        model(0.5), batches(), OptimizerConfig(lr=0.0, muon_lr=0.0), Budget(max_steps=9)
    )
    state = batches().state()
    losses = []
    for number in range(2):
        loop.batches.load_state({**state, "number": number})  # the same sentences
        losses.append(loop.step().loss)
    assert losses[0] != losses[1]


def test_loss_that_is_not_finite_stops_the_run() -> None:
    lm = model()
    with torch.no_grad():
        lm.positions[0, 0] = torch.nan
    loop = TrainingLoop(lm, batches(), OptimizerConfig(), Budget(max_steps=1))
    with pytest.raises(ValueError, match="in step 1; expected finite"):
        loop.step()


def test_bf16_stays_near_fp32() -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        config = OptimizerConfig("adamw")
        loop = TrainingLoop(model(), batches(), config, Budget(max_steps=3), precision=precision)
        losses[precision] = [loop.step().loss for _ in range(3)]
        assert loop.model.positions.dtype == torch.float32
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.02)
    assert losses["bf16"] != losses["fp32"]


def test_bf16_on_a_cpu_attends_in_float32_where_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    dtypes, attend = [], functional.scaled_dot_product_attention

    def noting(query: torch.Tensor, *others: Any, **options: Any) -> torch.Tensor:
        dtypes.append(query.dtype)
        return attend(query, *others, **options)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", noting)
    lm, batch = model(), batches().next_batches(1)[0]
    with torch.autocast("cpu", torch.bfloat16):
        next_token_loss(lm, batch).backward()
        with torch.no_grad():
            lm(batch.tokens)
    assert dtypes == [torch.float32] * 2 + [torch.bfloat16] * 2
    biases = [block.attn.v.bias for block in lm.blocks]
    found = [bias.grad.clone() for bias in biases]
    lm.zero_grad()
    next_token_loss(lm, batch).backward()
    for mixed, bias in zip(found, biases):
        assert torch.allclose(mixed, bias.grad, atol=0.02 * float(mixed.abs().max()))


@pytest.mark.parametrize(
    ("found", "expected"),
    [({"avx512_bf16": True, "amx_bf16": False}, "bf16"), ({"avx512_bf16": False}, "fp32")],
)
def test_auto_precision(
    found: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert choose_precision("auto", torch.device("cpu")) == expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert choose_precision("auto", torch.device("cpu")) == "fp32"


def test_precision_names() -> None:
    assert choose_precision("fp32", torch.device("cpu")) == "fp32"
    with pytest.raises(ValueError, match="known: auto, fp32, bf16"):
        choose_precision("fp16", torch.device("cpu"))


def test_budget() -> None:
    assert Budget(max_steps=10).progress(5, 10**9) == 0.5
    assert Budget(max_tokens=100).progress(1, 150) == 1.5
    assert Budget(10, 100).progress(5, 80) == 0.8
    assert Budget(max_steps=0).progress(0, 0) == 1.0
    with pytest.raises(ValueError, match="neither"):
        Budget()
    with pytest.raises(ValueError, match="max_steps is -1"):
        Budget(-1)
