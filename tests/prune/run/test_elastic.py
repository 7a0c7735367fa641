"""One elastic LM: nested, opened at any size, and better at each than the factors it began with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from asrprune.api.example import tiny_lm
from asrprune.errors import InputError
from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.model.matrices import InterpolativeLinear, LowRankLinear
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.open import lm_digest, open_lm
from asrprune.prune.methods import Options
from asrprune.prune.run.family import ELASTIC, Family
from asrprune.prune.run.loop import prune_family
from asrprune.prune.run.plan import FineTuning, Plan
from asrprune.prune.run.sandwich import PARTS, Sandwich
from asrprune.prune.run.steps import prune_in_memory, valid_perplexity
from asrprune.report.family_page import write_family_page
from tests.prune.elastic_lms import damaged, elastic_of, logits, of, stated, text
from tests.prune.small_models import DATA, SHAPES
from tests.prune.small_models import logits as small_logits
from tests.small_lm import drawn_model

SIZES = (0.3, 0.6, 0.92)
TOKENS = 6000
TUNING = FineTuning(batch_tokens=256, precision="fp32")
PLAN = Plan(
    "kfac",
    "low-rank",
    "elastic",
    SIZES,
    fine_tune_tokens=TOKENS,
    statistics_tokens=200,
    options=Options(multiple_of=2, min_rank=0),
    fine_tuning=TUNING,
)
PIVOTED = Options(multiple_of=2, min_rank=0, form="interpolative")
PIVOTED_SIZES = (0.05, 0.3, 0.6, 0.92)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Family]:
    folder = tmp_path_factory.mktemp("family")
    parent = load_checkpoint(save_checkpoint(folder / "lm", **of(tiny_lm())))
    out = folder / "out"
    return out, prune_family(parent, text(), PLAN, out, {}, {}, describe=write_family_page)


@pytest.fixture
def folder(made: tuple[Path, Family]) -> Path:
    return made[0] / ELASTIC


def factors(model: TransformerLM) -> dict[str, tuple[Tensor, Tensor]]:
    return {
        str(place): (linear.A, linear.B)
        for place, linear in model.linears()
        if isinstance(linear, LowRankLinear)
    }


def test_the_family_is_one_folder_with_a_row_a_size(made: tuple[Path, Family]) -> None:
    out, family = made
    names = sorted(path.name for path in out.iterdir())
    assert names == [ELASTIC, "family.json", "index.html", "plan.json"]
    assert [one.asked for one in family.members] == list(SIZES)
    assert {one.folder for one in family.members} == {ELASTIC}
    whole = load_checkpoint(out / ELASTIC)
    assert whole.size_bytes() == family.members[0].bytes
    for one in family.members:
        assert one.measured == pytest.approx(one.asked, abs=0.01)
        cut = load_checkpoint(out / ELASTIC, size=one.asked)
        assert one.parameters == sum(weight.numel() for weight in cut.model.parameters())
        assert cut.history[-1]["measured"] == pytest.approx(one.measured)
        assert TOKENS <= one.tokens < TOKENS + 128
    assert (out / ELASTIC / "config.json").stat().st_size < 10_000


def test_every_size_is_nested_in_the_larger_ones(folder: Path) -> None:
    whole = load_checkpoint(folder)
    before = factors(whole.model)
    assert before.keys() == set(elastic_of(whole).costs)
    for size in np.linspace(0.3, 0.92, 11):
        now = factors(whole.cut(float(size)).model)
        for name, (a, b) in now.items():
            rank = len(b)
            assert rank <= len(before[name][1])
            assert torch.equal(a, before[name][0][:, :rank]), name
            assert torch.equal(b, before[name][1][:rank]), name
        before = now


def test_a_cut_lm_computes_what_the_elastic_one_does_at_that_size(folder: Path) -> None:
    whole = load_checkpoint(folder)
    elastic, uncut = elastic_of(whole), logits(whole.model)
    for steps in (0, 1, elastic.steps // 2, elastic.steps):
        cut = whole.cut(elastic.sparsity(steps)) if 0 < steps < elastic.steps else None
        elastic.use(whole.model, steps)
        used = logits(whole.model)
        by_hand = copy.deepcopy(whole.model)
        elastic.use(by_hand, None)
        elastic.cut(by_hand, steps)
        torch.testing.assert_close(logits(by_hand), used)
        if cut is not None:
            assert torch.equal(logits(cut.model), logits(by_hand))
    elastic.use(whole.model, None)
    assert torch.equal(logits(whole.model), uncut)


def test_any_size_opens_as_an_lm_of_its_own(folder: Path, tmp_path: Path) -> None:
    whole = load_checkpoint(folder)
    lists, sizes = [["the cat sat", "sat cat the"]], {}
    for size in (0.3, "0.42", 0.5, 0.77, 0.8):
        lm = open_lm(folder, size=size)
        assert lm.name == f"{ELASTIC}@{size}"
        good, bad = lm.score_lists(lists)[0]
        assert good > bad
        cut = load_checkpoint(folder, size=size)
        place = tmp_path / str(size)
        save_checkpoint(place, **of(cut))
        plain = load_checkpoint(place)
        assert plain.elastic is None
        assert plain.size_bytes() == pytest.approx(cut.size_bytes(), abs=192)
        assert open_lm(place).score_lists(lists)[0][0] == good
        sizes[size] = cut.size_bytes()
    assert sorted(sizes.values(), reverse=True) == list(sizes.values())
    whole_bytes = whole.size_bytes()
    budget = (sizes[0.3] + sizes[0.8]) / 2e6
    fits = load_checkpoint(folder, size=f"{budget:.6f}MB").size_bytes()
    largest = max(elastic_of(whole).costs.values()) * 4
    assert budget * 1e6 - largest <= fits <= budget * 1e6
    assert load_checkpoint(folder, size=f"{whole_bytes / 1e6:.6f}mb").size_bytes() == whole_bytes
    digests = [lm_digest(folder), *(lm_digest(folder, size) for size in (0.42, 0.5, 0.8))]
    assert len(set(digests)) == 4
    assert lm_digest(folder, "0.5") == lm_digest(folder, 0.5)


@pytest.fixture(scope="module")
def pivoted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Family]:
    """An elastic LM whose cuts store interpolative decompositions, and its family."""
    folder = tmp_path_factory.mktemp("pivoted")
    parent = load_checkpoint(save_checkpoint(folder / "lm", **of(tiny_lm())))
    plan = replace(PLAN, sparsities=PIVOTED_SIZES, options=PIVOTED, fine_tune_tokens=600)
    family = prune_family(parent, text(), plan, folder / "out", {}, {})
    return folder / "out" / ELASTIC, family


def test_an_interpolative_elastic_lm_begins_at_sizes_that_factors_do_not_have(
    pivoted: tuple[Path, Family],
) -> None:
    """No matrix has to lose a half of its rank before a size is smaller."""
    place, family = pivoted
    with pytest.raises(ValueError, match="expected that or more"):
        list(prune_in_memory(tiny_lm().model, text(), replace(PLAN, sparsities=(0.05, 0.6))))
    whole = load_checkpoint(place)
    elastic = elastic_of(whole)
    assert [one.measured for one in family.members] == pytest.approx(PIVOTED_SIZES, abs=0.01)
    assert elastic.sparsity(0) == pytest.approx(family.members[0].measured)
    ranks = {name: len(b) for name, (_, b) in factors(whole.model).items()}
    assert ranks == elastic.pivoted


def test_an_interpolative_cut_stores_what_its_size_says(
    pivoted: tuple[Path, Family], tmp_path: Path
) -> None:
    place, family = pivoted
    whole = load_checkpoint(place)
    elastic = elastic_of(whole)
    dense = sum(linear.weights for _, linear in tiny_lm().model.linears())
    for member in family.members:
        cut = load_checkpoint(place, size=member.asked)
        matrices = [linear for _, linear in cut.model.linears()]
        assert all(isinstance(one, InterpolativeLinear) for one in matrices)
        kept = sum(linear.weights for linear in matrices)
        assert member.measured == pytest.approx(1 - kept / dense)
        elastic.use(whole.model, elastic.steps_at(member.asked))
        torch.testing.assert_close(logits(whole.model), logits(cut.model), rtol=1e-4, atol=1e-4)
        folder = save_checkpoint(tmp_path / str(member.asked), **of(cut))
        stored = load_checkpoint(folder)
        assert stored.elastic is None
        assert torch.equal(logits(stored.model), logits(cut.model))
        assert 0 <= cut.size_bytes() - stored.size_bytes() < 1000
        fits = load_checkpoint(place, size=f"{cut.size_bytes() / 1e6:.6f}MB")
        assert fits.size_bytes() == cut.size_bytes() == member.bytes
    elastic.use(whole.model, None)
    assert whole.size_bytes() > 1.1 * family.members[0].bytes


def test_before_training_an_interpolative_size_is_the_one_that_is_cut_alone(
    pivoted: tuple[Path, Family],
) -> None:
    """The order of the components is that of one-shot pruning, and no matrix is a product that
    would be whole alone."""
    plan = replace(PLAN, schedule="one-shot", sparsities=PIVOTED_SIZES, options=PIVOTED)
    plan = replace(plan, fine_tune_tokens=0)
    alone = prune_in_memory(tiny_lm().model, text(), plan)
    for member, other in zip(pivoted[1].members, alone):
        own = other.perplexities_pruned[member.asked]
        assert member.perplexity_pruned == pytest.approx(own, rel=1e-3)


@pytest.mark.parametrize("size", [0.29, 0.93, "0.0001MB", "99MB", 0.0, 1])
def test_a_size_outside_the_range_names_it(folder: Path, size: Any) -> None:
    expected = (
        r"outside the range .* expected a sparsity from 0.3 to 0.92, or 0.0\d\dMB to 0.0\d\dMB"
    )
    for call in (load_checkpoint, open_lm):
        with pytest.raises(ValueError, match=expected):
            call(folder, size=size)
    with pytest.raises(ValueError, match=expected):
        lm_digest(folder, size)


@pytest.mark.parametrize("size", ["half", "-1", "nan", "1.5", "12GB", "MB"])
def test_what_is_no_size_is_refused(folder: Path, size: str) -> None:
    with pytest.raises(ValueError, match="expected a sparsity from 0 to 1, or megabytes"):
        load_checkpoint(folder, size=size)


def test_an_lm_of_one_size_is_not_cut(tmp_path: Path) -> None:
    dense = save_checkpoint(tmp_path / "lm", **of(tiny_lm()))
    for call in (load_checkpoint, lm_digest):
        with pytest.raises(InputError, match="an LM of one size; expected an elastic one"):
            call(dense, size=0.5)
    with pytest.raises(ValueError, match="an LM of one size"):
        tiny_lm().cut(0.5)


def test_training_beats_truncation_at_every_size(made: tuple[Path, Family]) -> None:
    """Of the same factors, cut at the same ranks."""
    _, family = made
    pairs = [(one.perplexity or 0.0, one.perplexity_pruned or 0.0) for one in family.members]
    ratios = [after / before for after, before in pairs]
    assert max(ratios) < 0.98
    assert ratios[-1] < 0.8


def test_each_size_is_near_one_that_is_trained_alone(made: tuple[Path, Family]) -> None:
    """With as many tokens for all sizes together as the other spends on one."""
    _, family = made
    alone = replace(PLAN, schedule="one-shot")
    for ours, theirs in zip(family.members, prune_in_memory(tiny_lm().model, text(), alone)):
        own = valid_perplexity(theirs.model, text(), PLAN)
        assert own is not None
        assert ours.perplexity is not None
        assert ours.perplexity / own < 1.1, ours.asked


@pytest.mark.parametrize("name", SHAPES)
def test_every_architecture_by_seed(name: str) -> None:
    parent = drawn_model(SHAPES[name])
    options = Options(multiple_of=1, min_rank=0)
    plan = replace(PLAN, fine_tune_tokens=200, statistics_tokens=60, options=options)
    (one,), (again,) = (list(prune_in_memory(parent, DATA, plan)) for _ in range(2))
    (other,) = prune_in_memory(parent, DATA, replace(plan, seed=2))
    assert one.elastic == again.elastic
    assert torch.equal(small_logits(one.model), small_logits(again.model))
    assert not torch.equal(small_logits(one.model), small_logits(other.model))


def test_the_sandwich_is_half_ends_and_half_between(folder: Path) -> None:
    elastic = elastic_of(load_checkpoint(folder))
    sandwich = Sandwich(elastic, seed=1)
    drawn = np.array([sandwich.steps(number) for number in range(400)]).reshape(-1, PARTS)
    assert (drawn[:, 0] == 0).all()
    assert (drawn[:, 1] == elastic.steps).all()
    saved = elastic.saved[drawn] / elastic.saved[-1]
    largest = max(elastic.costs.values()) / elastic.saved[-1]
    assert saved[:, 2].max() <= 0.5 + largest
    assert saved[:, 3].min() >= 0.5 - largest
    assert len(set(drawn[:, 2:].flatten().tolist())) > elastic.steps / 2


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"method": "structured"},
            r"method is structured; expected low-rank or low-rank\+structured with",
        ),
        ({"sparsities": (0.5,)}, "expected two or more"),
    ],
)
def test_what_has_no_nested_sizes_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        replace(PLAN, **change)


def test_sizes_that_products_do_not_reach_are_refused() -> None:
    for sizes, expected in (((0.0, 0.5), "expected that or more"), ((0.3, 1.0), "cannot go down")):
        plan = replace(PLAN, sparsities=sizes, options=Options(multiple_of=2, min_rank=2))
        with pytest.raises(ValueError, match=expected):
            list(prune_in_memory(tiny_lm().model, text(), plan))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("order", "0 99"),
        ("order", "0 x"),
        ("order", " ".join(["0"] * 999)),
        ("costs", {"9.attn.q": 128}),
        ("costs", {"0.attn.q": 10**30}),
        ("multiple", 0),
        ("kept", -1),
        ("sizes", []),
        ("pivoted", {"0.attn.q": 4}),
        ("rows", -1),
        ("rows", 10**30),
        ("neurons", {"0.attn.q": 0}),
        ("neurons", {"0.ffn.down": 0}),
        ("neurons", {"9.ffn.down": 0}),
    ],
)
def test_a_damaged_order_is_an_error_of_the_file(
    folder: Path, tmp_path: Path, key: str, value: Any
) -> None:
    place = damaged(folder, tmp_path / "lm", key, value)
    with pytest.raises(InputError, match=r"config\.json"):
        load_checkpoint(place)


@pytest.mark.parametrize(
    "change",
    [
        lambda ranks: {name: rank + 1 for name, rank in ranks.items()},
        lambda ranks: dict.fromkeys(ranks, 10**6),
        lambda ranks: dict(list(ranks.items())[:-1]),
        lambda ranks: dict.fromkeys(ranks, 0),
    ],
)
def test_damaged_ranks_are_an_error_of_the_file(
    pivoted: tuple[Path, Family], tmp_path: Path, change: Callable[[dict[str, int]], dict[str, int]]
) -> None:
    place = damaged(pivoted[0], tmp_path / "lm", "pivoted", change(stated(pivoted[0], "pivoted")))
    with pytest.raises(InputError, match=r"config\.json"):
        load_checkpoint(place)
