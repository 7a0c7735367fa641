"""Pruning in memory: what leaves, from where sparsity counts, and what the parent keeps."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch

from asrprune.lm.model import transformer
from asrprune.lm.model.anatomy import Block
from asrprune.lm.model.matrices import DenseLinear
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.optimizers import OptimizerConfig
from asrprune.prune.methods import METHODS
from asrprune.prune.run.distillation import behind_blocks, hidden_distance
from asrprune.prune.run.plan import FineTuning, Plan
from asrprune.prune.run.scorer import DataScorer, PruningData
from asrprune.prune.run.steps import PrunedLM, PruningRun, prune_in_memory
from asrprune.text.corpus import TokenStream
from tests.prune.small_models import DATA, FREE, SHAPES, TOKENS
from tests.quick import grid
from tests.small_lm import drawn_model

QUICK = FineTuning(batch_tokens=32, precision="fp32")


def plan(method: str, schedule: str, sizes: tuple[float, ...], **more: object) -> Plan:
    settings = {"statistics_tokens": 60, "options": FREE, "fine_tuning": QUICK, **more}
    return Plan("fisher", method, schedule, sizes, 3, **settings)  # type: ignore[arg-type]


def weights(model: TransformerLM) -> dict[str, torch.Tensor]:
    return {str(place): linear.product().detach() for place, linear in model.linears()}


def removed(model: TransformerLM, parent: TransformerLM) -> float:
    """The fraction of the parent's weights that are gone or zero."""
    left = sum(
        int(linear.weight.count_nonzero()) if isinstance(linear, DenseLinear) else linear.weights
        for _, linear in model.linears()
    )
    return 1.0 - left / sum(linear.weights for _, linear in parent.linears())


@pytest.mark.parametrize(
    ("name", "method"),
    grid(SHAPES, ["unstructured", "structured", "low-rank"], centre=("llama", "structured")),
)
def test_one_run_gives_every_size_nested_with_its_history(name: str, method: str) -> None:
    parent = drawn_model(SHAPES[name])
    before = copy.deepcopy(parent.state_dict())
    sizes = (0.5, 0.2)
    made = list(prune_in_memory(parent, DATA, plan(method, "linear", sizes)))
    assert all(torch.equal(before[key], value) for key, value in parent.state_dict().items())
    assert [one.asked for one in made] == [0.2, 0.5]
    tolerance = 0.0005 if METHODS[method].masks else 0.06
    for one in made:
        assert one.measured == pytest.approx(removed(one.model, parent), abs=1e-9)
        assert one.measured == pytest.approx(one.asked, abs=tolerance)
        assert one.perplexity_pruned is None
        assert one.history[-1]["asked"] == one.asked
        assert one.history[-1]["measured"] == one.measured
        assert [step["asked"] for step in one.history] == sorted(
            step["asked"] for step in one.history
        )
    small, smaller = made
    assert len(smaller.history) == 3
    assert smaller.history[: len(small.history)] == small.history
    if method == "unstructured":
        for place, weight in weights(smaller.model).items():
            assert not weight[weights(small.model)[place] == 0].any()
    elsewhere = list(small.model.parameters())
    assert not {id(one) for one in elsewhere} & {id(one) for one in smaller.model.parameters()}


def masked_parent(name: str) -> tuple[TransformerLM, PrunedLM]:
    parent = drawn_model(SHAPES[name])
    (half,) = prune_in_memory(parent, DATA, plan("unstructured", "one-shot", (0.4,)))
    return parent, half


@pytest.mark.parametrize("name", SHAPES)
def test_sparsity_counts_from_the_dense_ancestor(name: str) -> None:
    """A pruned model that is pruned again: its history says how large the ancestor was."""
    parent = drawn_model(SHAPES[name])
    (half,) = prune_in_memory(parent, DATA, plan("structured", "one-shot", (0.4,)))
    again = plan("structured", "one-shot", (0.6,))
    (less,) = prune_in_memory(half.model, DATA, again, half.history)
    assert less.measured == pytest.approx(removed(less.model, parent), abs=1e-9)
    assert less.measured == pytest.approx(0.6, abs=0.1)  # units are large here
    assert [step["asked"] for step in less.history] == [0.4, 0.6]
    too_little = plan("structured", "one-shot", (0.2,))
    with pytest.raises(ValueError, match=r"sparsity 0\.2 is asked of a model that has 0\.[34]"):
        next(prune_in_memory(half.model, DATA, too_little, half.history))


def test_a_teacher_of_other_blocks_gives_no_hidden_states() -> None:
    parent, teacher = (drawn_model(SHAPES["gpt2"]) for _ in range(2))
    (narrow,) = prune_in_memory(teacher, DATA, plan("width", "one-shot", (0.5,)))
    hidden = replace(QUICK, distill_hidden=1.0)
    wanted = plan("structured", "one-shot", (0.5,), fine_tune_tokens=60, fine_tuning=hidden)
    with pytest.raises(ValueError, match="blocks of width 8; expected 2 of 16, as in the LM"):
        next(prune_in_memory(parent, DATA, wanted, teacher=narrow.model))


@pytest.mark.parametrize("method", ["unstructured", "structured", "low-rank"])
def test_hidden_states_come_nearer_to_the_teachers(method: str) -> None:
    parent = drawn_model(SHAPES["gpt2"])
    distances = []
    for weight in (0.0, 30.0):
        told = replace(QUICK, distill_hidden=weight, optimizer=OptimizerConfig(lr=3e-3))
        (one,) = prune_in_memory(
            parent, DATA, plan(method, "one-shot", (0.5,), fine_tune_tokens=3000, fine_tuning=told)
        )
        states = []
        for model in (one.model, parent):
            with torch.no_grad(), behind_blocks(model) as behind:
                model(TOKENS)
            states.append(behind)
        distances.append(hidden_distance(*states, torch.ones_like(TOKENS) > 0).item())
    assert distances[1] < 0.8 * distances[0]


def test_zeros_of_a_masked_parent_stay() -> None:
    parent, half = masked_parent("llama")
    again = plan("unstructured", "one-shot", (0.4, 0.7), fine_tune_tokens=100)
    again = replace(again, criterion="random")  # to which a zero may be worth more than a weight
    for one in prune_in_memory(half.model, DATA, again, half.history, teacher=parent):
        assert one.spent.tokens >= 100
        for place, weight in weights(one.model).items():
            assert not weight[weights(half.model)[place] == 0].any()
    forgotten = next(prune_in_memory(half.model, DATA, again, (), teacher=parent))
    zeros = [weight == 0 for weight in weights(half.model).values()]
    back = [one[gone] for one, gone in zip(weights(forgotten.model).values(), zeros)]
    assert torch.cat(back).any()  # without its history zeros are weights


def test_zeros_of_matrices_that_are_not_pruned_now_stay() -> None:
    parent, half = masked_parent("gpt2")
    of_ffn = replace(FREE, matrices=("ffn.up", "ffn.down"))
    again = plan("unstructured", "one-shot", (0.8,), fine_tune_tokens=100, options=of_ffn)
    (one,) = prune_in_memory(half.model, DATA, again, half.history, teacher=parent)
    assert one.spent.tokens >= 100
    for place, weight in weights(one.model).items():
        before = weights(half.model)[place]
        assert not weight[before == 0].any()
        if ".attn." in place:
            assert (before == 0).any()
            assert not torch.equal(weight, before)  # it learns


def test_matrices_without_a_zero_are_not_masked() -> None:
    """A parent with zeros in its attention alone: its FFN can be masked in blocks of 4."""
    parent = drawn_model(SHAPES["gpt2"])
    of_attention = replace(FREE, matrices=("attn.q", "attn.k"))
    first = plan("unstructured", "one-shot", (0.5,), options=of_attention, fine_tune_tokens=0)
    (half,) = prune_in_memory(parent, DATA, first)
    run = PruningRun(half.model, DATA, first, half.history)
    assert {place.name for place in run.start_masks} == {"attn.q", "attn.k"}


def test_one_shot_prunes_each_size_from_the_parent() -> None:
    parent = drawn_model(SHAPES["gpt2"])
    both = list(prune_in_memory(parent, DATA, plan("unstructured", "one-shot", (0.3, 0.6))))
    for one in both:
        (alone,) = prune_in_memory(parent, DATA, plan("unstructured", "one-shot", (one.asked,)))
        for place, weight in weights(alone.model).items():
            assert torch.equal(weight, weights(one.model)[place])
        assert len(one.history) == 1


def test_the_budget_is_spent_once_and_the_perplexity_is_of_before() -> None:
    """One run down to the smallest size: whole batches, so less than one more than the budget."""
    rising = TokenStream.from_sentences([list(range(3 + n % 5, 11 + n % 5)) for n in range(40)])
    data = PruningData(rising, valid=rising)
    steps = plan("structured", "cubic", (0.3, 0.5), fine_tune_tokens=600, hold=0.5)
    small, smaller = prune_in_memory(drawn_model(SHAPES["llama"]), data, steps)
    assert small.spent.tokens < smaller.spent.tokens
    assert 600 <= smaller.spent.tokens < 600 + 32
    assert smaller.spent.tokens == sum(step["fine_tune_tokens"] for step in smaller.history)
    assert smaller.spent.steps == sum(step["fine_tune_steps"] for step in smaller.history)
    assert smaller.perplexity_pruned is not None
    (plain,) = prune_in_memory(
        drawn_model(SHAPES["llama"]), data, plan("structured", "one-shot", (0.5,))
    )
    (tuned,) = prune_in_memory(
        drawn_model(SHAPES["llama"]),
        data,
        plan("structured", "one-shot", (0.5,), fine_tune_tokens=300),
    )
    assert tuned.perplexity_pruned == plain.perplexity_pruned


def test_activations_made_again_prune_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the criterion's statistics and in fine-tuning alike."""
    parent = drawn_model(SHAPES["llama"])
    kept = plan("structured", "one-shot", (0.5,), fine_tune_tokens=100)
    again = replace(kept, fine_tuning=replace(kept.fine_tuning, checkpoint_activations=True))
    (one,) = prune_in_memory(parent, DATA, kept)
    real, made = transformer._made_again, []

    def counted(block: Block, *args: Any) -> torch.Tensor:
        made.append(block.training)
        return real(block, *args)

    monkeypatch.setattr(transformer, "_made_again", counted)
    (other,) = prune_in_memory(parent, DATA, again)
    assert {True, False} == set(made)
    left, right = one.model.state_dict(), other.model.state_dict()
    for name, value in left.items():
        torch.testing.assert_close(right[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("anneal", "expected"),
    [
        ("steps", ["cosine", "cosine", "cosine", "cosine"]),
        ("sizes", ["constant", "cosine", "constant", "cosine"]),
    ],
)
def test_the_rate_falls_in_all_steps_or_at_the_saved_sizes(
    anneal: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, schedules, last = OptimizerConfig.lr_factor, [], []

    def watched(config: OptimizerConfig, step: int, progress: float) -> float:
        factor = real(config, step, progress)
        if not step:
            schedules.append(config.schedule)
            last.append(factor)
        last[-1] = factor
        return factor

    monkeypatch.setattr(OptimizerConfig, "lr_factor", watched)
    tuning = replace(QUICK, anneal=anneal, optimizer=OptimizerConfig(schedule="cosine"))
    asked = plan("unstructured", "linear", (0.4, 0.8), fine_tuning=tuning, fine_tune_tokens=800)
    parent = drawn_model(SHAPES["llama"])
    made = list(prune_in_memory(parent, DATA, replace(asked, steps=4)))
    assert [one.asked for one in made] == [0.4, 0.8]
    assert schedules == expected
    assert [factor == 1.0 for factor in last] == [name == "constant" for name in expected]


def test_the_embedding_is_factored_before_the_first_step() -> None:
    options = type(FREE)(**{**vars(FREE), "embedding_rank": 4})
    parent = drawn_model(SHAPES["qwen2"])
    (made,) = prune_in_memory(
        parent, DATA, plan("unstructured", "one-shot", (0.3,), options=options)
    )
    assert made.model.shape.embedding_rank == 4
    assert parent.shape.embedding_rank is None
    assert made.measured == pytest.approx(0.3, abs=1e-3)  # it is no part of the sparsity


@pytest.mark.parametrize(
    ("method", "schedule"),
    [
        ("unstructured", "one-shot"),
        ("unstructured", "linear"),
        ("structured", "linear"),
        ("width+structured", "linear"),
        ("width", "one-shot"),
        ("scratch", "one-shot"),
        ("low-rank", "elastic"),
    ],
)
def test_zeros_of_the_embedding_are_counted_apart_and_stay(method: str, schedule: str) -> None:
    zeros = replace(FREE, embedding_sparsity=0.6, multiple_of=1)
    parent = drawn_model(SHAPES["qwen2"])
    sizes = (0.2, 0.5)
    asked = plan(method, schedule, sizes, options=zeros, fine_tune_tokens=200)
    without = replace(asked, options=replace(zeros, embedding_sparsity=0.0))
    made = list(prune_in_memory(parent, DATA, asked))
    plain = list(prune_in_memory(parent, DATA, without))
    assert [one.measured for one in made] == [one.measured for one in plain]
    for one, dense in zip(made, plain):
        table = one.model.embedding.weight
        assert table.shape == dense.model.embedding.weight.shape
        assert int((table == 0).sum()) == round(0.6 * table.numel())
        assert int((dense.model.embedding.weight == 0).sum()) < 0.1 * table.numel()
        assert one.history[-1]["embedding_sparsity"] == 0.6
        assert dense.history[-1]["embedding_sparsity"] == 0.0
    if "width" not in method and len(made) == 2 and schedule == "linear":
        small, smaller = (one.model.embedding.weight == 0 for one in made)
        assert torch.equal(small, smaller)


@pytest.mark.parametrize(
    ("method", "schedule"),
    [("unstructured", "linear"), ("width+structured", "linear"), ("low-rank", "elastic")],
)
def test_zeros_of_positions_are_counted_apart_and_stay(method: str, schedule: str) -> None:
    zeros = replace(FREE, positions_sparsity=0.7, multiple_of=1)
    asked = plan(method, schedule, (0.2, 0.5), options=zeros, fine_tune_tokens=200)
    without = replace(asked, options=replace(zeros, positions_sparsity=0.0))
    parent = drawn_model(SHAPES["gpt2"])
    made = list(prune_in_memory(parent, DATA, asked))
    plain = list(prune_in_memory(parent, DATA, without))
    assert [one.measured for one in made] == [one.measured for one in plain]
    for one, dense in zip(made, plain):
        table, whole = one.model.positions, dense.model.positions
        assert table is not None
        assert whole is not None
        assert table.shape == whole.shape
        assert int((table == 0).sum()) == round(0.7 * table.numel())
        assert int((whole == 0).sum()) == 0
        assert one.history[-1]["positions_sparsity"] == 0.7
        assert dense.history[-1]["positions_sparsity"] == 0.0


def test_zeros_of_a_parents_positions_stay() -> None:
    parent = drawn_model(SHAPES["gpt2"])
    zeros = replace(FREE, positions_sparsity=0.5)
    (half,) = prune_in_memory(parent, DATA, plan("structured", "one-shot", (0.2,), options=zeros))
    assert half.model.positions is not None
    gone = half.model.positions == 0
    again = plan("unstructured", "one-shot", (0.5,), fine_tune_tokens=100)
    (one,) = prune_in_memory(half.model, DATA, again, half.history, teacher=parent)
    assert one.model.positions is not None
    assert torch.equal(one.model.positions == 0, gone)
    narrow = plan("width", "one-shot", (0.5,), fine_tune_tokens=100)
    with pytest.raises(
        ValueError, match="table positions has zeros that width would fill; expected positions_spa"
    ):
        next(prune_in_memory(half.model, DATA, narrow, half.history, teacher=parent))
    fewer = replace(narrow, options=replace(FREE, positions_sparsity=0.8))
    (one,) = prune_in_memory(half.model, DATA, fewer, half.history, teacher=parent)
    assert one.model.positions is not None
    assert int((one.model.positions == 0).sum()) == round(0.8 * one.model.positions.numel())


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("embedding_sparsity", "expected 0: the output layer is not tied"),
        ("positions_sparsity", "expected 0: the LM learned no positions"),
    ],
)
def test_zeros_are_for_tables_that_the_lm_has(
    option: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = plan("structured", "one-shot", (0.3,), options=replace(FREE, **{option: 0.5}))
    monkeypatch.setattr(DataScorer, "statistics", None)  # refused before anything is measured
    with pytest.raises(ValueError, match=line):
        next(prune_in_memory(drawn_model(SHAPES["llama"]), DATA, asked))


def test_zeros_of_a_parents_embedding_stay() -> None:
    parent = drawn_model(SHAPES["gpt2"])
    zeros = replace(FREE, embedding_sparsity=0.5)
    (half,) = prune_in_memory(parent, DATA, plan("structured", "one-shot", (0.2,), options=zeros))
    gone = half.model.embedding.weight == 0
    for method in ("structured", "unstructured"):
        again = plan(method, "one-shot", (0.5,), fine_tune_tokens=100)
        (one,) = prune_in_memory(half.model, DATA, again, half.history, teacher=parent)
        assert torch.equal(one.model.embedding.weight == 0, gone)
    again = plan("width", "one-shot", (0.5,), fine_tune_tokens=100)
    with pytest.raises(
        ValueError, match="has zeros that width would fill; expected embedding_spars"
    ):
        next(prune_in_memory(half.model, DATA, again, half.history, teacher=parent))
    fewer = replace(again, options=replace(FREE, embedding_sparsity=0.7))
    (one,) = prune_in_memory(half.model, DATA, fewer, half.history, teacher=parent)
    table = one.model.embedding.weight
    assert int((table == 0).sum()) == round(0.7 * table.numel())
    factored = replace(
        plan("structured", "one-shot", (0.5,)), options=replace(FREE, embedding_rank=3)
    )
    (one,) = prune_in_memory(half.model, DATA, factored, half.history, teacher=parent)
    assert one.model.embedding.weight.shape[1] == 3
    narrow = plan("width", "one-shot", (0.7,))  # factors have no zeros that it would fill
    (one,) = prune_in_memory(one.model, DATA, narrow, one.history, teacher=parent)
    assert one.model.width < parent.width
    (forgotten,) = prune_in_memory(
        half.model, DATA, plan("structured", "one-shot", (0.5,), fine_tune_tokens=100), ()
    )
    assert forgotten.model.embedding.weight[gone].any()  # without its history zeros are weights
