"""Criteria, factorisations and compaction against formulas that can be worked out by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from asrprune.lm.model.gpt2 import ANATOMY
from asrprune.lm.model.matrices import DenseLinear, LowRankLinear, PivotedLinear
from asrprune.lm.model.shapes import ModelShape, Place
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.training.batches import IGNORED, Batch, BatchStream, make_batch
from asrprune.lm.training.loss import next_token_loss
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.groups import Group, tile_sum
from asrprune.prune.methods.low_rank import rank_choices
from asrprune.prune.methods.method import FORMS, Options
from asrprune.prune.methods.repair import obs
from asrprune.prune.run.distillation import distilling
from asrprune.prune.run.plan import Plan, Recovery
from asrprune.prune.run.recovery import Movement, recover
from asrprune.prune.run.scorer import DataScorer, PruningData
from asrprune.prune.selection import Chain, choose_levels, lowest
from asrprune.prune.statistics import STATISTICS, MatrixStatistics, collect
from asrprune.prune.surgery.embedding import factor_embedding
from asrprune.prune.surgery.factorisation import FACTORISATIONS, damped, plain_svd
from asrprune.prune.surgery.units import keep_units
from asrprune.text.corpus import TokenStream

V = 25


def tiny(heads: int = 2) -> TransformerLM:
    torch.manual_seed(3)
    model = TransformerLM(ModelShape.uniform(V, 16, 2, heads, max_positions=16)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0)  # far enough from zero for effects to show
    return model


def batches(count: int = 3) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [
        make_batch([rng.integers(3, V, size=rng.integers(0, 7)) for _ in range(4)], number)
        for number in range(count)
    ]


def loss_of(model: TransformerLM) -> float:
    with torch.no_grad():
        total = sum(float(next_token_loss(model, one)) for one in batches())
    return total / sum(one.n_targets for one in batches())


def gate_of(model: TransformerLM, name: str, rows: int = 1, columns: int = 1) -> Group:
    linear = model.blocks[0].linear(name)
    return Group(Place(0, name), linear, "weight", rows, columns, cost=rows * columns)


def score(criterion: str, gate: Group, found: MatrixStatistics) -> torch.Tensor:
    return CRITERIA[criterion].score(gate, found, torch.Generator().manual_seed(0))


def all_statistics(model: TransformerLM, gate: Group) -> MatrixStatistics:
    return collect(model, [gate], batches(), STATISTICS, 10**9)[0]


def test_taylor_is_the_slope_of_the_loss_towards_removal() -> None:
    model = tiny()
    for name, columns in (("ffn.down", 1), ("attn.o", 8)):
        gate = gate_of(model, name, rows=16, columns=columns)
        expected = score("taylor", gate, all_statistics(model, gate)).flatten()
        dense, step = loss_of(model), 1e-3
        for unit in (0, 1):
            smaller = copy.deepcopy(model)
            with torch.no_grad():
                weight = smaller.blocks[0].linear(name).weight
                weight[:, unit * columns : (unit + 1) * columns] *= 1 - step
            slope = (loss_of(smaller) - dense) / step
            assert abs(slope) == pytest.approx(float(expected[unit]), rel=0.05, abs=2e-4)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_taylor_of_a_linear_loss_is_the_true_change(seed: int) -> None:
    """Loss = sum(C * W): removing a tile changes it by minus the sum of C * W over the tile."""
    generator = torch.Generator().manual_seed(seed)
    model = tiny()
    gate = gate_of(model, "ffn.down", rows=4, columns=2)
    slopes = torch.randn(gate.matrix.shape, generator=generator)
    scores = score("taylor", gate, MatrixStatistics(1, gradient=slopes))
    for row, column in ((0, 0), (3, 5), (1, 31)):
        without = gate.matrix.detach().clone()
        without[4 * row : 4 * row + 4, 2 * column : 2 * column + 2] = 0
        change = float((slopes * (without - gate.matrix.detach())).sum())
        assert abs(change) == pytest.approx(float(scores[row, column]), rel=1e-4, abs=1e-5)


def test_movement_is_added_up_over_the_steps_of_recovery() -> None:
    """Against the same training with -w g added up by hand; without it nothing else changes."""
    rng = np.random.default_rng(2)
    data = TokenStream.from_sentences([rng.integers(3, V, size=5).tolist() for _ in range(60)])
    settings_ = Recovery(batch_tokens=64, distill=False, precision="fp32")
    found: dict[str, Movement] = {}
    model, other = tiny(), tiny()
    spent = recover(model, BatchStream(data, 64, 1, 16), 200, settings_, {}, movement=found)
    weight = other.blocks[1].linear("ffn.up").weight
    expected = torch.zeros_like(weight)

    def add(gradient: torch.Tensor) -> None:
        expected.sub_(weight.detach() * gradient)

    weight.register_hook(add)
    recover(other, BatchStream(data, 64, 1, 16), 200, settings_, {})
    assert spent.steps > 1
    assert torch.equal(model.blocks[1].linear("ffn.up").weight, weight)
    assert torch.allclose(found["1.ffn.up.weight"].mean, expected / spent.tokens)
    assert torch.equal(found["1.ffn.up.weight"].weight, weight)
    plan = Plan(criterion="movement", statistics_tokens=60)
    gate = Group(Place(1, "ffn.up"), model.blocks[1].linear("ffn.up"), "weight", 1, 1, cost=1)
    scored = DataScorer(plan, PruningData(data), 0, found).scores(model, [gate])[0]
    assert torch.allclose(scored, expected / spent.tokens - expected.min() / spent.tokens)
    assert scored.min() == 0


def test_streamed_statistics_equal_those_of_all_tokens_at_once() -> None:
    model = tiny()
    gate = gate_of(model, "ffn.up", rows=4)
    found = all_statistics(model, gate)
    inputs, gradients, squares, tiles = [], [], [], []
    per_batch = []
    for batch in batches():
        seen = []
        handle = gate.linear.register_forward_hook(
            lambda m, i, o, seen=seen: seen.extend([i[0], o])
        )
        hidden, _ = model(batch.tokens)
        handle.remove()
        seen[1].retain_grad()
        loss = functional.cross_entropy(
            model.logits(hidden).flatten(0, 1), batch.targets.flatten(), reduction="sum"
        )
        model.zero_grad()
        loss.backward()
        mask = batch.targets != -100
        inputs.append(seen[0][mask].detach())
        gradients.append(seen[1].grad[mask])
        per_batch.append(gate.matrix.grad.clone())
        squares.append(gate.matrix.grad.square())
        tiles.append(tile_sum(gate.matrix.grad * gate.matrix.detach(), 4, 1).square())
    x, g = torch.cat(inputs), torch.cat(gradients)
    n = len(x)
    assert found.tokens == n == sum(batch.n_targets for batch in batches())
    for name, expected in {
        "gram": x.T @ x / n,
        "input_squared": x.square().mean(0),
        "output_gram": g.T @ g / n,
        "gradient": sum(per_batch) / n,
        "gradient_squared": sum(squares) / n,
        "tile_gradient_squared": sum(tiles) / n,
        "movement": -gate.matrix.detach() * sum(per_batch) / n,
    }.items():
        assert torch.allclose(found.need(name), expected, rtol=1e-3, atol=1e-6), name


def test_group_scores_are_sums_of_single_ones_where_the_formula_is_a_sum() -> None:
    model = tiny()
    single, grouped = gate_of(model, "ffn.down"), gate_of(model, "ffn.down", rows=16)
    found = all_statistics(model, single)
    for criterion in ("magnitude", "magnitude-l1", "fisher", "activation"):
        whole = score(criterion, single, found).sum(0, keepdim=True)
        assert torch.allclose(score(criterion, grouped, found), whole, rtol=1e-4), criterion


def test_kfac_of_a_tile_is_the_quadratic_form_of_the_whole_matrix() -> None:
    model = tiny()
    found = all_statistics(model, gate_of(model, "attn.o"))
    for rows, columns in ((1, 1), (4, 1), (16, 1), (16, 8), (2, 4)):
        gate = gate_of(model, "attn.o", rows, columns)
        scores = score("kfac", gate, found)
        for row, column in ((0, 0), (16 // rows - 1, 16 // columns - 1)):
            removed = torch.zeros_like(gate.matrix)
            place = (
                slice(row * rows, (row + 1) * rows),
                slice(column * columns, (column + 1) * columns),
            )
            removed[place] = gate.matrix.detach()[place]
            form = found.need("output_gram") @ removed @ found.need("gram") @ removed.T
            assert float(scores[row, column]) == pytest.approx(0.5 * float(form.trace()), rel=1e-3)


def random_statistics(out: int, inp: int, seed: int) -> MatrixStatistics:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(200, inp, generator=generator) @ torch.randn(inp, inp, generator=generator)
    g = torch.randn(200, out, generator=generator) @ torch.randn(out, out, generator=generator)
    return MatrixStatistics(200, gram=x.T @ x / 200, output_gram=g.T @ g / 200)


@pytest.mark.parametrize("size", [(6, 10), (10, 6), (7, 7), (1, 5), (5, 1)])
@pytest.mark.parametrize("name", FACTORISATIONS)
def test_all_components_together_are_the_matrix(name: str, size: tuple[int, int]) -> None:
    weight = torch.randn(size, generator=torch.Generator().manual_seed(0))
    for values in (weight, torch.zeros(size), torch.ones(size)):
        a, b = FACTORISATIONS[name][0](values, random_statistics(*size, seed=1))
        assert a.shape[1] == b.shape[0] == min(size)
        assert torch.allclose(a @ b, values, atol=1e-4)


def test_magnitude_of_svd_components_is_the_squared_singular_value() -> None:
    model = tiny()
    weight = model.blocks[0].linear("ffn.up").weight.detach()
    a, b = plain_svd(weight)
    linear = LowRankLinear.from_factors(a, b, torch.zeros(64))
    gate = Group(Place(0, "ffn.up"), linear, "A", 64, 1, 80, linear.B.detach().square().sum(1))
    scores = score("magnitude", gate, MatrixStatistics()).flatten()
    assert torch.allclose(scores.sqrt(), torch.linalg.svdvals(weight), rtol=1e-4)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_normalised_magnitude_does_not_see_the_scale_of_a_matrix(scale: float) -> None:
    """Components of an SVD: s_i^2 over the mean square of a weight, which is sum s^2 / (out in)."""
    weight = scale * tiny().blocks[0].linear("ffn.up").weight.detach()
    a, b = plain_svd(weight)
    linear = LowRankLinear.from_factors(a, b, torch.zeros(64))
    gate = Group(Place(0, "ffn.up"), linear, "A", 64, 1, 80, linear.B.detach().square().sum(1))
    scores = score("magnitude-normalised", gate, MatrixStatistics()).flatten()
    expected = torch.linalg.svdvals(weight).square() / weight.square().mean()
    assert torch.allclose(scores, expected, rtol=1e-3, atol=1e-4)


def test_normalised_magnitude_of_zeros_is_zero() -> None:
    linear = LowRankLinear.from_factors(torch.zeros(4, 2), torch.zeros(2, 3), torch.zeros(4))
    gate = Group(Place(0, "ffn.up"), linear, "A", 4, 1, 7)
    assert score("magnitude-normalised", gate, MatrixStatistics()).tolist() == [[0.0, 0.0]]


def weighted_error(
    weight: torch.Tensor, near: torch.Tensor, outputs: torch.Tensor, inputs: torch.Tensor
) -> float:
    lost = (weight - near).double()
    return float((outputs @ lost @ inputs @ lost.T).trace())


@pytest.mark.parametrize("size", [(6, 10), (10, 6)])
@pytest.mark.parametrize("name", FACTORISATIONS)
def test_truncation_is_optimal(name: str, size: tuple[int, int]) -> None:
    """Against the whitened SVD's error, which Eckart and Young give, and random alternatives."""
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(size, generator=generator)
    found = random_statistics(*size, seed=2)
    a, b = FACTORISATIONS[name][0](weight, found)
    outputs, inputs = torch.eye(size[0]).double(), torch.eye(size[1]).double()
    if name in ("activation-aware", "two-sided"):
        inputs = found.need("gram").double()
    if name == "two-sided":
        outputs = found.need("output_gram").double()
    if name == "fisher-weighted":
        outputs = torch.diag(found.need("output_gram").double().diagonal())
    left, right = torch.linalg.cholesky(outputs).T, torch.linalg.cholesky(inputs)
    values = torch.linalg.svdvals(left @ weight.double() @ right)
    for rank in (1, 3, 5):
        near = a[:, :rank] @ b[:rank]
        error = weighted_error(weight, near, outputs, inputs)
        assert error == pytest.approx(float(values[rank:].square().sum()), rel=2e-3)
        for _ in range(20):
            noise = 0.1 * torch.randn(size[0], rank, generator=generator)
            other = (a[:, :rank] + noise) @ b[:rank]
            assert weighted_error(weight, other, outputs, inputs) >= error
    plain_a, plain_b = plain_svd(weight)
    plain = weighted_error(weight, plain_a[:, :3] @ plain_b[:3], outputs, inputs)
    assert plain >= weighted_error(weight, a[:, :3] @ b[:3], outputs, inputs) * (1 - 1e-6)


def test_activation_score_of_its_components_is_the_eigenvalue() -> None:
    model = tiny()
    gate = gate_of(model, "ffn.down")
    found = all_statistics(model, gate)
    a, b = FACTORISATIONS["activation-aware"][0](gate.matrix.detach(), found)
    factored = copy.deepcopy(model)
    linear = LowRankLinear.from_factors(a, b, gate.linear.bias)
    factored.put(Place(0, "ffn.down"), linear)
    component = Group(Place(0, "ffn.down"), linear, "A", 16, 1, 80)
    scores = score("activation", component, all_statistics(factored, component)).flatten()
    weight = gate.matrix.detach()
    expected = torch.linalg.eigvalsh(weight @ found.need("gram") @ weight.T).flip(0)
    assert torch.allclose(scores, expected, rtol=1e-2, atol=1e-3 * float(expected.max()))


def test_obs_is_least_squares_and_for_one_weight_the_surgeons_update() -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(300, 8, generator=generator) @ torch.randn(8, 8, generator=generator)
    weight = torch.randn(6, 8, generator=generator)
    kept = torch.rand(6, 8, generator=generator) < 0.6
    kept[0], kept[1] = True, False
    gram = x.T @ x / len(x)
    repaired = obs(weight, kept, gram)
    assert torch.equal(repaired[0], weight[0])  # bit for bit
    assert not repaired[~kept].any()
    solid = damped(gram.double())
    root = torch.linalg.cholesky(solid).T
    for row in range(2, 6):
        places = kept[row].nonzero().flatten()
        wanted = root @ weight[row].double()
        best = torch.linalg.lstsq(root[:, places], wanted[:, None]).solution.flatten()
        assert torch.allclose(repaired[row, places].double(), best, rtol=1e-4, atol=1e-5)
    alone = torch.ones(6, 8, dtype=torch.bool)
    alone[:, 3] = False
    inverse = torch.linalg.inv(solid)
    expected = weight.double() - weight[:, 3:4].double() / inverse[3, 3] * inverse[3]
    assert torch.allclose(obs(weight, alone, gram).double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_matrix_is_factored_at_any_rank_that_saves_and_at_no_other(form: str) -> None:
    model = tiny()  # 16 x 16 and 64 x 16
    options = Options(form=form, multiple_of=1, min_rank=0, factorisation="svd")
    plan = Plan(criterion="magnitude", method="low-rank", options=options)
    unread = PruningData(TokenStream.from_sentences([]))
    for choice in rank_choices(model, DataScorer(plan, unread, 0), options):
        outer = 64 if "ffn" in choice.chain.name else 16
        stored = [r * (outer + 16 - (r if form == "pivoted" else 0)) for r in range(17)]
        saved = [16 * outer - size for size in stored if size < 16 * outer]
        assert list(choice.chain.saved) == [0, *sorted(saved)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.data())
def test_the_pivoted_form_is_the_product(out: int, inp: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, min(out, inp)))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    a = torch.randn(out, rank, generator=generator)
    b = torch.randn(rank, inp, generator=generator)
    if data.draw(st.booleans()) and rank > 1:
        a[:, 0] = a[:, 1]  # a product of lower rank than its factors
    if data.draw(st.booleans()):
        a[0] = 0.0
    bias = torch.randn(out, generator=generator)
    made = PivotedLinear.from_factors(a, b, bias)
    x = torch.randn(5, inp, generator=generator)
    torch.testing.assert_close(made(x), x @ (a @ b).T + bias, atol=2e-5, rtol=1e-4)
    sizes = [p.numel() for name, p in made.named_parameters() if name != "bias"]
    if rank == min(out, inp):  # then it is no larger dense
        assert isinstance(made, DenseLinear)
        assert sum(sizes) == out * inp
    else:
        assert isinstance(made, PivotedLinear)
        assert sum(sizes) == rank * (out + inp - rank)
        torch.testing.assert_close(made.product(), a @ b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("rank", [3, 7])
def test_rows_and_columns_of_a_pivoted_matrix_can_leave(rank: int) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(12, rank, generator=generator), torch.randn(rank, 10, generator=generator)
    bias = torch.randn(12, generator=generator)
    whole = PivotedLinear.from_factors(a, b, bias)
    assert isinstance(whole, PivotedLinear)
    kept = torch.tensor([0, 4, 5, 6, 9])  # fewer than rank 7: then dense
    fewer, narrower = whole.keep_outputs(kept), whole.keep_inputs(kept)
    assert isinstance(fewer, PivotedLinear if rank < 5 else DenseLinear)
    x = torch.randn(6, 10, generator=generator)
    torch.testing.assert_close(fewer(x), whole(x)[:, kept], atol=2e-5, rtol=1e-4)
    only = torch.zeros_like(x)
    only[:, kept] = x[:, kept]
    torch.testing.assert_close(narrower(x[:, kept]), whole(only), atol=2e-5, rtol=1e-4)


def test_pivots_keep_the_combinations_small_and_the_product_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(40, 12, generator=generator) * torch.logspace(0, -5, 12)
    b = torch.randn(12, 30, generator=generator)
    made = PivotedLinear.from_factors(a, b, torch.zeros(40))
    assert isinstance(made, PivotedLinear)
    assert made.C.abs().max() < 5.0
    assert (made.product() - a @ b).norm() < 1e-6 * (a @ b).norm()


def test_a_factored_embedding_loses_least_of_the_logits() -> None:
    model = tiny()
    whole = model.embedding.weight.detach().clone()
    made = factor_embedding(model, 5, batches(), 10**9)
    assert made.weight.shape == (V, 5)
    assert made.projection is not None
    hidden, targets = [], []
    for one in batches():
        scored = one.targets != IGNORED
        hidden.append(model(one.tokens)[0][scored].detach())
        targets.append(one.targets[scored])
    share = torch.bincount(torch.cat(targets), minlength=V) + 1.0
    share /= share.sum()

    def lost(near: torch.Tensor) -> float:
        change = torch.cat(hidden) @ (whole - near).T  # [N, V]
        return float((change.square().mean(0) * share).sum())

    found = lost((made.weight @ made.projection).detach())
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        noise = 0.02 * torch.randn(made.weight.shape, generator=generator)
        assert lost(((made.weight + noise) @ made.projection).detach()) > found
    left, values, right = torch.linalg.svd(whole, full_matrices=False)
    assert lost((left[:, :5] * values[:5]) @ right[:5]) > found
    again = copy.deepcopy(model)
    again.embedding = made
    smaller = factor_embedding(again, 3, batches(), 10**9)
    assert smaller.weight.shape == (V, 3)
    with pytest.raises(ValueError, match="1 <= embedding_rank <= 4"):
        factor_embedding(again, 5, batches(), 10**9)


def test_compaction_computes_what_zeros_compute() -> None:
    model = tiny()
    masked, compact = copy.deepcopy(model), copy.deepcopy(model)
    neurons, heads = torch.tensor([0, 5, 6, 40]), torch.tensor([1])
    with torch.no_grad():
        gone = torch.ones(64, dtype=torch.bool)
        gone[neurons] = False
        masked.blocks[0].ffn.down.weight[:, gone] = 0
        masked.blocks[1].attn.o.weight[:, :8] = 0
    keep_units(compact.layers()[0], ANATOMY.ffn, neurons)
    keep_units(compact.layers()[1], ANATOMY.attention, heads)
    tokens = torch.tensor([[1, 4, 5, 6]])
    with torch.no_grad():
        one, two = masked.logits(masked(tokens)[0]), compact.logits(compact(tokens)[0])
    assert torch.allclose(one, two, atol=1e-5)
    assert compact.shape.blocks[0].ffn == 4
    assert compact.shape.blocks[1].heads == 1


def test_distillation_from_itself_has_no_divergence_and_chunks_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, other = tiny(), tiny(heads=4)
    batch = batches()[0]
    itself = distilling(copy.deepcopy(model), 2.0, 1.0)
    assert itself(model, batch).item() < 1e-3
    plain = next_token_loss(model, batch).item()
    assert distilling(other, 2.0, 0.0)(model, batch).item() == pytest.approx(plain)
    loss = distilling(other, 2.0, 0.5)
    whole = loss(model, batch)
    whole.backward()
    expected = model.embedding.weight.grad.clone()
    model.zero_grad()
    monkeypatch.setattr("asrprune.prune.run.distillation.LOGITS_AT_ONCE", 3 * V)
    chunked = loss(model, batch)
    chunked.backward()
    assert chunked.item() == pytest.approx(whole.item(), rel=1e-5)
    assert torch.allclose(model.embedding.weight.grad, expected, rtol=1e-3, atol=1e-5)
    for temperature, weight in ((0.0, 0.5), (1.0, 1.5)):
        with pytest.raises(ValueError, match="expected"):
            distilling(other, temperature, weight)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20), st.data())
def test_lowest_is_exact_and_stable(values: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(values)))
    mask = lowest(torch.tensor(values, dtype=torch.float), count)
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    assert mask.nonzero().flatten().tolist() == sorted(order[:count])


def test_lowest_refuses_nan_and_impossible_counts() -> None:
    with pytest.raises(ValueError, match="NaN"):
        lowest(torch.tensor([1.0, float("nan")]), 1)
    with pytest.raises(ValueError, match="count is 3"):
        lowest(torch.zeros(2), 3)


def test_a_dear_first_level_is_weighed_with_what_it_opens() -> None:
    dear = Chain("dear", (0, 1, 101), (0.0, 5.0, 6.0))  # 6 per 101 together
    cheap = Chain("cheap", (0, 50, 100), (0.0, 4.0, 8.0))  # 8 per 100
    assert choose_levels([dear, cheap], 101) == [2, 0]
    assert choose_levels([dear, cheap], 50) == [0, 1]
    assert choose_levels([dear, cheap], 201) == [2, 2]
    assert choose_levels([dear, cheap], 0) == [0, 0]
    with pytest.raises(ValueError, match="the most is 201"):
        choose_levels([dear, cheap], 202)


@given(
    st.lists(st.lists(st.floats(0, 10), min_size=1, max_size=6), min_size=1, max_size=4),
    st.integers(1, 9),
    st.floats(0, 1),
)
def test_chosen_levels_miss_by_less_than_one_step(
    losses: list[list[float]], step: int, share: float
) -> None:
    chains = [
        Chain(str(i), tuple(range(0, step * len(loss) + 1, step)), (0.0, *np.cumsum(sorted(loss))))
        for i, loss in enumerate(losses)
    ]
    remove = round(share * sum(chain.saved[-1] for chain in chains))
    levels = choose_levels(chains, remove)
    saved = sum(chain.saved[level] for chain, level in zip(chains, levels))
    assert abs(saved - remove) <= step / 2
