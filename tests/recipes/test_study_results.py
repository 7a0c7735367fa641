"""The results of recipes/study: intervals, verdicts from made-up cells, the page and its check."""

from __future__ import annotations

import doctest
import importlib.util
import itertools
import json
import math
import re
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest

LOCAL = Path(__file__).parents[2] / "local/study"
sys.path.insert(0, str(LOCAL))

import claims  # noqa: E402
from intervals import (  # noqa: E402
    Quantity,
    draws,
    holm,
    interpolated,
    student_quantile,
    student_tail,
)
from results_file import read_results  # noqa: E402
from short_answer import short_answer  # noqa: E402

_spec = importlib.util.spec_from_file_location("study_write_results", LOCAL / "write_results.py")
assert _spec is not None
assert _spec.loader is not None
write_results = importlib.util.module_from_spec(_spec)  # other recipes have one of this name too
_spec.loader.exec_module(write_results)

BLOCKS, UTTS = 40, 60
WORDS = [90 + block % 7 for block in range(BLOCKS)]
Cell = dict[str, Any]


def noise(name: str, count: int) -> Any:
    """Numbers of deviation 1 that belong to ``name``."""
    return np.random.default_rng(zlib.crc32(name.encode())).normal(size=count)


def measured(name: str, loss: float, extra_errors: int = 0) -> Cell:
    """nll of ln perplexity 4 + ``loss``, and errors; hard blocks and utterances are so for all."""
    each = 4 + loss + 0.3 * noise("text", BLOCKS) + 0.01 * noise(name, BLOCKS)
    errors = (np.arange(UTTS) % 3 + (np.arange(UTTS) < extra_errors)).tolist()
    nll = [round(float(x), 3) for x in each * WORDS]
    return {"name": name, "nll": nll, "errors": {"speech": errors}}


def cell(
    method: str,
    criterion: Optional[str],
    schedule: Optional[str],
    sparsity: float,
    loss: float,
    extra_errors: int = 0,
    **more: Any,
) -> Cell:
    """A pruned LM: its bytes are those that ``sparsity`` leaves."""
    plan = {"method": method, "criterion": criterion, "schedule": schedule}
    plan |= {"kind": "pruned", "sparsity": sparsity, "budget": 0.01, "seed": 1, "tokens": 1000}
    values = {**plan, "bytes": round(1e6 * (1 - sparsity)), "seconds": 9.5, **more}
    name = "-".join(str(values[key]) for key in ("kind", *plan))
    return {**measured(name, loss, extra_errors), **values}


def study(cells: list[Cell], **more: Any) -> dict[str, Any]:
    """A results.json of one LM."""
    dense = {**measured("dense", 0.0), "kind": "dense", "sparsity": 0.0, "bytes": 1_000_000}
    errors = dense["errors"]["speech"]
    of_list = {"name": "speech", "utts": UTTS, "words": [10] * UTTS, "first_pass_errors": errors}
    lm = {
        "name": "prose",
        "facts": {"training": "all of it"},
        "shape": {"d_model": 64, "n_layers": 2, "vocab_size": 100, "parameters": 250_000},
        "training_tokens": 100_000,
        "lists": [{**of_list, "oracle_errors": [0] * UTTS}],
        "text": {"name": "held-out", "words": WORDS},
        "cells": [{**dense, "times_padded": 10.0}, *cells],
    }
    return {"format": "asrprune-study", "version": 1, "facts": {"date": "2026-01-02"}, "lms": [lm]}


Judge = Callable[[str, list[Cell]], list[claims.Judged]]


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """The judged comparisons of a claim by perplexity, for made-up cells."""

    def judge(claim: str, cells: list[Cell]) -> list[claims.Judged]:
        path = tmp_path / "results.json"
        path.write_text(json.dumps(study(cells)))
        perplexity = next(claims.measure(read_results(path).lms[0]))
        return claims.judge(claims.CLAIMS[claim].compare(perplexity))

    return judge


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    sets = np.random.default_rng(1).gamma(2.0, size=(1000, 40)) - 2.0
    vectors = (draws(40) @ sets.T / 40).T
    estimates = [Quantity(vector, 40).estimate() for vector in vectors]
    covered = sum(one.low <= 0 <= one.high for one in estimates) / len(estimates)
    assert 0.925 < covered < 0.97
    assert all((one.p < 0.05) == (one.low > 0 or one.high < 0) for one in estimates)


def test_seeds_widen_the_interval_by_their_variance() -> None:
    vector = draws(40) @ (np.arange(40.0) % 5) / 40
    alone = Quantity(vector, 40).estimate()
    with_seeds = Quantity(vector, 40, 0.09, 3).estimate()
    drawn = ((alone.high - alone.low) / 2 / student_quantile(39)) ** 2
    freedom = (drawn + 0.09) ** 2 / (drawn**2 / 39 + 0.09**2 / 3)
    half = student_quantile(freedom) * math.sqrt(drawn + 0.09)
    assert drawn == pytest.approx(2.0 / 39, rel=0.1)  # variance 2 of 0, 1, ... 4
    assert with_seeds.high - with_seeds.value == pytest.approx(half)
    assert with_seeds.p > alone.p


@pytest.mark.parametrize(("freedom", "value"), [(1, 12.706), (3, 3.1824), (39, 2.0227)])
def test_student_is_that_of_the_tables(freedom: float, value: float) -> None:
    assert student_quantile(freedom) == pytest.approx(value, rel=1e-4)
    assert student_tail(value, freedom) == pytest.approx(0.025, rel=1e-3)


def test_student_goes_on_far_out() -> None:
    # with 3 degrees of freedom: 1/2 - (atan(x) + x / (1 + x^2)) / pi, x = t / sqrt(3)
    x = 20 / math.sqrt(3)
    wanted = 0.5 - (math.atan(x) + x / (1 + x * x)) / math.pi
    assert student_tail(20, 3) == pytest.approx(wanted, rel=1e-3)
    assert 0 < student_tail(30, 39) < 1e-25


@pytest.mark.parametrize(("module", "least"), [("intervals", 3), ("grid", 1)])
def test_the_examples_are_true(module: str, least: int) -> None:
    failed, tried = doctest.testmod(sys.modules[module])
    assert (failed, tried >= least) == (0, True)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_curve_is_straight_over_the_logarithm_of_its_size() -> None:
    curve = [(400.0, Quantity(np.array([3.0, 7.0]), 2)), (100.0, Quantity(np.ones(2), 2))]
    at_half_way = interpolated(curve, 200.0, reach=1.0)
    assert at_half_way is not None
    assert at_half_way.vector.tolist() == pytest.approx([2.0, 4.0])
    assert interpolated(curve, 402.0, 0.1) is curve[0][1]
    assert interpolated(curve, 200.0, 0.9) is None, "no measured size is near"
    assert interpolated(curve, 450.0, 1.0) is None, "beyond what was measured"
    assert interpolated(curve, 450.0, 1.0, edge=0.12) is None
    assert interpolated(curve, 450.0, 1.0, edge=0.13) is curve[0][1]
    assert interpolated(curve, 98.0, 1.0, edge=0.03) is curve[1][1]
    assert interpolated(curve, 200.0, 0.9, edge=2.0) is None, "no measured size is near"


def two_criteria(*losses: tuple[float, float]) -> list[Cell]:
    """Cells of structured pruning, one pair a size: kfac's loss, magnitude's."""
    return [
        cell("structured", criterion, "cubic", 0.3 + 0.1 * index, loss)
        for index, pair in enumerate(losses)
        for criterion, loss in zip(("kfac", "magnitude"), pair)
    ]


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ([(0.1, 0.2), (0.2, 0.2)], "confirmed"),
        ([(0.3, 0.2), (0.2, 0.2)], "refuted"),
        ([(0.3, 0.2), (0.2, 0.3)], "mixed: depends"),
        ([(0.2, 0.2), (0.3, 0.3)], "undecided"),
        ([], "not run"),
    ],
)
def test_a_verdict_counts_what_is_significant(
    judge: Judge, losses: list[tuple[float, float]], said: str
) -> None:
    judged = judge("a", two_criteria(*losses))
    assert claims.verdict(judged) == said
    assert len(judged) == len(losses)
    assert claims.would_change(judged)


def test_a_criterion_meets_the_best_magnitude(judge: Judge) -> None:
    losses = {"kfac": 0.2, "magnitude": 0.5, "magnitude-normalised": 0.1, "random": 0.05}
    cells = [cell("width", name, "cubic", 0.5, loss) for name, loss in losses.items()]
    (only,) = judge("a", cells)
    assert only.comparison.against == "magnitude-normalised"
    assert only.estimate.value == pytest.approx(100 * math.expm1(0.1), abs=0.6)
    assert only.p == min(1.0, 2 * only.estimate.p), "it was the best of two"


def test_differences_of_seeds_count(judge: Judge) -> None:
    cells = [
        cell("width", criterion, "cubic", 0.5, loss + shift, seed=seed)
        for criterion, loss in (("kfac", 0.1), ("magnitude", 0.2))
        for seed, shift in ((1, 0.2), (2, -0.2))
    ]
    (alone,) = judge("a", [one for one in cells if one["seed"] == 1])
    (both,) = judge("a", cells)
    assert alone.side == -1
    assert both.estimate.value == pytest.approx(100 * math.expm1(-0.1), abs=0.6)
    assert both.side == 0, "seeds differ by more than the criteria"


def test_few_seeds_of_a_size_are_pooled_with_those_of_its_budget(tmp_path: Path) -> None:
    cells = [
        cell("width", "kfac", "cubic", size, loss, seed=seed, budget=budget)
        for budget, sizes, seeds in ((0.01, (0.3, 0.5), 4), (0.1, (0.5, 0.7), 2))
        for size in sizes
        for seed in range(1, seeds + 1)
        for loss in (0.1 * size * seed,)
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(study(cells)))
    perplexity = next(claims.measure(read_results(path).lms[0]))
    freedom = {(p.budget, p.sparsity): one.freedom for p, one in perplexity.pruned.items()}
    # both sizes of the first budget; all plans, where two pairs of seeds are not enough
    assert freedom == {(0.01, 0.3): 6, (0.01, 0.5): 6, (0.1, 0.5): 8, (0.1, 0.7): 8}


def test_the_seeds_of_elastic_lms_are_not_those_of_others(tmp_path: Path) -> None:
    """Where a budget has no seeds of its own, those of runs like it count."""
    cells = [
        cell("low-rank", "kfac", schedule, size, size + shift * seed, seed=seed, budget=budget)
        for schedule, budget, shift in (("elastic", 0.03, 0.3), ("one-shot", 0.01, 0.01))
        for size in (0.3, 0.5, 0.6, 0.7, 0.9)
        for seed in (1, 2)
    ]
    cells += [cell("low-rank", "kfac", s, 0.5, 0.2, budget=0.1) for s in ("one-shot", "elastic")]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(study(cells)))
    perplexity = next(claims.measure(read_results(path).lms[0]))
    noise = {(p.schedule, p.budget): one.seed_variance for p, one in perplexity.pruned.items()}
    assert noise["one-shot", 0.1] == pytest.approx(0.01**2 / 2, rel=0.5)  # cells are rounded
    assert noise["elastic", 0.1] == pytest.approx(0.3**2 / 2, rel=0.1)


def test_incremental_against_one_shot(judge: Judge) -> None:
    tokens = dict.fromkeys(itertools.product(("cubic", "one-shot"), (0.5, 0.9)), 1000)
    tokens["cubic", 0.5] = 300
    cells = [
        cell("structured", "kfac", schedule, sparsity, loss, tokens=tokens[schedule, sparsity])
        for sparsity, cubic, one_shot in ((0.5, 0.1, 0.15), (0.9, 0.6, 0.9))
        for schedule, loss in (("cubic", cubic), ("one-shot", one_shot))
    ]
    judged = judge("b", cells)
    assert [one.comparison.at for one in judged] == ["0.30 of its tokens", "1.00 of its tokens"]
    gains = [one.estimate.value for one in judged]
    assert gains == pytest.approx([100 * math.expm1(-x) for x in (0.05, 0.3)], abs=0.6)
    for one in cells:
        one["schedule"] = one["schedule"].replace("cubic", "cubic family")
    assert [one.estimate.value for one in judge("b, family", cells)] == gains
    assert judge("b", cells) == []


def elastic_and_separate() -> list[Cell]:
    """One-shot runs of two sizes at two budgets, and an elastic LM of both between them."""
    cells = [
        cell("low-rank", "kfac", "one-shot", size, loss, budget=budget, tokens=tokens)
        for budget, tokens, better in ((0.01, 1000, 0.0), (0.1, 10_000, 0.1))
        for size, loss in ((0.5, 0.2 - better), (0.7, 0.4 - better))
    ]
    more = {"budget": 0.02, "tokens": 2000, "seconds": 30.0, "file_bytes": 530_000}
    return cells + [
        cell("low-rank", "kfac", "elastic", size, loss, **more)
        for size, loss in ((0.5, 0.2), (0.7, 0.5), (0.9, 0.9))
    ]


def test_an_elastic_lm_meets_the_runs_for_each_size(judge: Judge) -> None:
    judged = judge("b, elastic", elastic_and_separate())
    assert {one.comparison.against for one in judged} == {"one-shot, budget 0.01"}
    assert {one.comparison.at for one in judged} == {"2.00 of its tokens"}
    values = [one.estimate.value for one in judged]
    assert values == pytest.approx([0.0, 100 * math.expm1(0.1)], abs=0.7)


def test_the_page_says_what_one_elastic_lm_costs(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(study(elastic_and_separate())))
    assert call(tmp_path) == 0
    page = (tmp_path / "RESULTS.md").read_text()
    part = page.split("## One elastic LM for every size")[1].split("## Not run")[0]
    lines = [re.sub(r" +", " ", line) for line in part.splitlines() if line.startswith("|")]
    assert lines[0] == "| size | MB | separate | elastic, 2 T |"
    assert [line[:9] for line in lines[2:4]] == ["| 0.50 | ", "| 0.70 | "]
    assert lines[4:6] == ["| within 2 % | | | 1 of 2 |", "| all of the interval | | | 1 of 2 |"]
    assert lines[8] == "| separate | 2 | 2,000 | 19 | 0.80 | 1.60 |"
    assert lines[9] == "| elastic, 2 T | 1 | 2,000 | 30 | 0.53 | 1.06 |"


def test_the_gain_may_grow_with_the_sparsity(judge: Judge) -> None:
    cells = [
        cell("structured", "kfac", schedule, sparsity, loss)
        for sparsity, cubic, one_shot in ((0.5, 0.1, 0.15), (0.9, 0.6, 0.9))
        for schedule, loss in (("cubic", cubic), ("one-shot", one_shot))
    ]
    (growth,) = judge("b, sizes", cells)
    assert growth.side == -1
    assert growth.estimate.value == pytest.approx(100 * math.expm1(-0.25), abs=0.6)
    assert judge("b, sizes", cells[:2]) == []


def test_low_rank_meets_others_at_equal_bytes_and_speed(judge: Judge) -> None:
    cells = [
        cell("low-rank", "kfac", "cubic", 0.5, 0.2, bytes=500_000, times_padded=20.0),
        cell("low-rank", "kfac", "cubic", 0.7, 0.2, bytes=300_000),
        cell("structured", "kfac", "cubic", 0.5, 0.2, bytes=540_000, times_padded=22.0),
        cell("structured", "kfac", "cubic", 0.7, 0.4, bytes=270_000, times_padded=40.0),
        cell("width", "kfac", "cubic", 0.5, 0.9, bytes=500_000),
        cell("structured", "taylor", "cubic", 0.5, 0.0, bytes=500_000),
        # zeros are no faster, whatever the clock says
        cell("unstructured", "kfac", "cubic", 0.5, 0.0, bytes=900_000, times_padded=20.0),
    ]
    by_bytes, by_speed = judge("c", cells)
    wanted = 0.2 + 0.2 * math.log(540 / 500) / math.log(540 / 270)
    assert (by_bytes.comparison.at, by_bytes.comparison.against) == ("equal bytes", "structured")
    assert by_bytes.estimate.value == pytest.approx(100 * math.expm1(0.2 - wanted), abs=0.6)
    at_speed = 0.2 * math.log(20 / 10) / math.log(22 / 10)  # the dense LM has 10
    assert by_speed.estimate.value == pytest.approx(100 * math.expm1(0.2 - at_speed), abs=0.6)
    assert (by_bytes.comparison.rivals, by_speed.comparison.rivals) == (2, 1)


def test_speeds_are_those_beside_the_dense_lm(tmp_path: Path) -> None:
    cells = [
        cell("low-rank", "kfac", "cubic", 0.5, 0.2, times_padded=30.0, times_dense=1.5),
        cell("low-rank", "kfac", "cubic", 0.7, 0.2, times_padded=30.0),
    ]
    (tmp_path / "results.json").write_text(json.dumps(study(cells)))
    (lm,) = read_results(tmp_path / "results.json").lms
    assert [one.times_padded for one in lm.cells] == [10.0, 15.0, 30.0]


def test_the_best_plan_meets_the_best_of_those_trained_small(judge: Judge) -> None:
    ways = ((1.0, 0.5, None), (1.0, 0.3, "distilled"), (2.0, 0.0, None))
    small = [
        cell("scratch", way, None, sparsity, loss, kind="scratch", budget=budget, bytes=size)
        for budget, shift, way in ways
        for sparsity, size, loss in ((0.5, 500_000, 0.3 + shift), (0.9, 100_000, 0.6 + shift))
    ]
    pruned = [cell("width", name, "cubic", 0.5, x) for name, x in (("kfac", 0.2), ("taylor", 0.4))]
    (only,) = judge("d", [*small, *pruned])
    assert only.comparison.plan.criterion == "kfac"
    assert only.comparison.against == "scratch-distilled, budget 1"
    assert only.estimate.value == pytest.approx(100 * math.expm1(-0.4), abs=0.6)
    assert (only.comparison.choices, only.comparison.rivals) == (2, 2)
    assert judge("d", pruned) == []


def test_a_plan_meets_those_trained_small_on_as_many_tokens(judge: Judge) -> None:
    small = [
        cell("scratch", None, None, 0.5, loss, kind="scratch", budget=budget)
        for budget, loss in ((1.0, 0.5), (2.0, 0.3), (3.0, 0.1))
    ]
    other_size = cell("scratch", None, None, 0.9, 0.5, kind="scratch", budget=2.6)
    budgets = (0.1, 1.2, 2.4, 2.5)
    plans = [cell("width", "kfac", "cubic", 0.5, 0.2, budget=budget) for budget in budgets]
    met = judge("d", [*small, other_size, *plans])
    assert [(one.comparison.plan.budget, one.comparison.against) for one in met] == [
        (0.1, "scratch, budget 1"),
        (1.2, "scratch, budget 2"),
        (2.4, "scratch, budget 3"),
    ], "none read nearly as much as the last plan"
    assert {one.comparison.rivals for one in met} == {1}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Results of a few cells, with the page and the table made of them."""
    cells = two_criteria((0.1, 0.2), (0.2, 0.3))
    cells += [
        cell("low-rank", "kfac", "cubic", 0.5, 0.1, times_padded=15.0, extra_errors=9),
        cell("structured", "kfac", "one-shot", 0.3, 0.15, errors=None),
        cell("scratch", None, None, 0.5, 0.4, kind="scratch", tokens=7777, budget=1.0),
        cell("continued", None, None, 0.0, -0.05, kind="continued", tokens=8888),
        cell("continued", None, None, 0.0, -0.5, kind="continued", tokens=9999, budget=0.1),
        {**measured("4-gram", 0.5), "kind": "ngram", "bytes": 2_000_000},
        {**measured("4-gram-0.50", 0.6), "kind": "ngram", "bytes": 480_000},
    ]
    (tmp_path / "results.json").write_text(json.dumps(study(cells), indent=1))
    assert call(tmp_path) == 0
    return tmp_path


def call(place: Path, *arguments: str) -> int:
    """The script's exit status, on the files in ``place``."""
    names = {"--results": "results.json", "--page": "RESULTS.md", "--table": "study.json"}
    paths = [part for flag, name in names.items() for part in (flag, str(place / name))]
    status = write_results.main([*arguments, *paths])
    assert isinstance(status, int)
    return status


def short_lines(page: str) -> list[str]:
    """Of the page's short answer."""
    return page.split("## Short answer")[1].split("## Verdicts")[0].splitlines()


def test_the_page_answers_judges_and_counts(place: Path) -> None:
    page = (place / "RESULTS.md").read_text()
    short = " ".join(" ".join(short_lines(page)).split())
    assert "half of the dense LM's bytes: low-rank-kfac-cubic-0.50, budget 0.01** (0.50 MB" in short
    assert "1.5 times as fast as the dense LM" in short
    assert "a quarter of the dense LM's bytes:** no plan that was run is that small" in short
    rows = [line for line in short_lines(page) if line.startswith("|")]
    heading, by_perplexity, by_words = (
        [text.strip() for text in line.split("|")[2:-1]]
        for line in (rows[0], *(row for row in rows if row.startswith(("| perp", "| WER"))))
    )
    assert heading == [
        "plan",
        "the dense LM",
        "it, trained on as much",
        "as large from scratch",
        "n-gram of 0.48 MB",  # that of 2.00 MB is larger than the plan
    ]
    value, *differences = by_perplexity
    (lm,) = json.loads((place / "results.json").read_text())["lms"]
    (nll,) = (one["nll"] for one in lm["cells"] if one.get("method") == "low-rank")
    assert value == f"{math.exp(sum(nll) / sum(WORDS)):.2f}"
    expected = [math.expm1(0.1 - other) for other in (0.0, -0.05, 0.4, 0.6)]
    found = [float(text.split()[0]) for text in differences]
    assert found == pytest.approx([100 * one for one in expected], abs=0.5)
    _, dense, longer, small, ngram = by_words
    assert dense == longer == "+1.50 [+0.59, +2.41], a loss"
    assert small == ngram == "+1.50 [+0.59, +2.41]"
    verdicts = {line.split("|")[1][1:4]: line for line in page.splitlines() if "| (" in line}
    assert re.search(r"\| +not run \| +0 \|", verdicts["(b,"])
    assert "by perplexity: confirmed" in page
    assert "No plan was run with several seeds" in page
    assert re.search(r"\| prose \| +structured \| +0 of 60 \| +3 of 120 \| +0 of 120 \|", page)
    assert re.search(r"\| scratch-.* \| +scratch \| 0.50 \| +7,777 \|", page)
    assert re.search(r"\| continued-.* \| continued \| 1.00 \| +9,999 \|", page)
    assert "1 of 5 pruned LMs have other errors" in " ".join(page.split())
    assert re.search(r"\| 4-gram +\| +ngram \| 2.00 \| ", page)


@pytest.mark.parametrize(
    ("criteria", "said"),
    [(("kfac",), "No other plan is that small."), (("kfac", "taylor"), "perplexity of 2 plans.")],
)
def test_the_short_answer_counts_the_plans_of_a_size(
    tmp_path: Path, criteria: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(study([cell("width", one, "cubic", 0.5, 0.2) for one in criteria])))
    best = next(short_answer(list(claims.measure(read_results(path).lms[0]))))
    assert said in " ".join(best.split())


def test_a_row_of_the_table_is_a_plan_against_the_dense_lm(place: Path) -> None:
    rows = json.loads((place / "study.json").read_text())["rows"]
    assert len(rows) == 6
    row = next(one for one in rows if one["method"] == "low-rank")
    value, low, high = row["perplexity_ratio"]
    assert low < value < high
    assert value == pytest.approx(math.exp(0.1), abs=0.01)
    assert row["wer_difference"][0] == pytest.approx(100 * 9 / 600)
    assert (row["bytes"], row["dense_bytes"], row["speed_ratio"]) == (500_000, 1_000_000, 1.5)
    without = next(one for one in rows if one["schedule"] == "one-shot")
    assert (without["wer_difference"], without["speed_ratio"]) == (None, None)


def test_the_page_says_what_seeds_there_are(tmp_path: Path) -> None:
    cells = [
        cell("width", "kfac", "cubic", s, 0.2, seed=n) for s, n in ((0.5, 1), (0.5, 2), (0.7, 1))
    ]
    (tmp_path / "results.json").write_text(json.dumps(study(cells)))
    assert call(tmp_path) == 0
    page = (tmp_path / "RESULTS.md").read_text()
    assert "1 of 2 plans were run with several seeds" in " ".join(page.split())
    assert "The same size from scratch was not run." in " ".join(short_lines(page))
    assert re.search(r"\| width +\| +kfac \| +cubic \| 1 to 2 \|", page)


@pytest.mark.parametrize(
    ("count", "shown"), [(3, ["0.10", "0.15", "0.20", "0.50"]), (7, ["0.10", "0.50"])]
)
def test_a_table_shows_the_sizes_of_plans_with_few(
    count: int, shown: list[str], tmp_path: Path
) -> None:
    sizes = [round(0.1 + 0.05 * n, 2) for n in range(count)]
    cells = [cell("width", "kfac", "one-shot", size, size) for size in sizes]
    cells += [cell("low-rank", "kfac", "one-shot", size, size) for size in (0.1, 0.5)]
    (tmp_path / "results.json").write_text(json.dumps(study(cells)))
    assert call(tmp_path) == 0
    heads = [
        line for line in (tmp_path / "RESULTS.md").read_text().splitlines() if "seeds |" in line
    ]
    assert [cells.strip() for cells in heads[0].split("|")[5:-1]] == shown


def test_what_is_written_by_hand_stays(place: Path) -> None:
    page = place / "RESULTS.md"
    start = "<!-- by hand: reading -->\n"
    page.write_text(page.read_text().replace(start, f"{start}Read it so.\n"))
    assert (call(place), call(place, "--check")) == (0, 0)
    assert f"{start}Read it so.\n" in page.read_text()


@pytest.mark.parametrize("text", ["by 7.5 points", "30 % smaller", "of 230 utterances", "+1,5"])
def test_numbers_by_hand_are_refused(
    text: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = place / "RESULTS.md"
    start = "<!-- by hand: reading -->\n"
    made = page.read_text().replace(start, f"{start}Engine bf16, kn4.arpa: {text}.\n")
    page.write_text(made)
    assert (call(place), call(place, "--check")) == (1, 1)
    assert "in the part by hand 'reading'; expected numbers of" in capsys.readouterr().err
    assert page.read_text() == made


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("RESULTS.md", "confirmed", "refuted"),
        ("RESULTS.md", "7,777", "7,778"),
        ("study.json", '"bytes": 500000,', '"bytes": 400000,'),
        ("results.json", '"bytes": 500000', '"bytes": 510000'),
        ("results.json", '"seconds": 9.5', '"seconds": 19.5'),
    ],
)
def test_check_finds_an_edit(
    place: Path, capsys: pytest.CaptureFixture[str], name: str, old: str, new: str
) -> None:
    assert call(place, "--check") == 0
    text = (place / name).read_text()
    assert old in text
    (place / name).write_text(text.replace(old, new))
    before = {path: path.read_bytes() for path in place.iterdir()}
    assert call(place, "--check") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"(RESULTS\.md|study\.json):\d+: .*; expected .*, by results\.json", line)
    assert {path: path.read_bytes() for path in place.iterdir()} == before


def broken(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    results = study(two_criteria((0.1, 0.2)))
    change(results["lms"][0])
    return results


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda lm: lm["cells"][1]["nll"].pop(), "lms[0].cells[1].nll has 39 numbers; expected 40"),
        (
            lambda lm: lm["cells"][1].update(nll=["x"]),
            'lms[0].cells[1].nll is ["x"]; expected a number',
        ),
        (lambda lm: lm["cells"][1]["errors"]["speech"].pop(), "speech has 59 numbers"),
        (lambda lm: lm["cells"][1].update(errors={"songs": []}), "errors.songs; expected one of"),
        (lambda lm: lm["lists"][0]["words"].append(1), "lists[0].words has 61 numbers"),
        (lambda lm: lm["cells"].append(lm["cells"][1]), "twice; expected once"),
        (lambda lm: lm["cells"].pop(0), "cells without a dense LM"),
        (lambda lm: lm["shape"].pop("parameters"), "shape.parameters is missing"),
        (lambda lm: lm["text"].update(words=[0] * BLOCKS), "text.words with 40 blocks"),
    ],
)
def test_bad_results_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Any], object], found: str
) -> None:
    (tmp_path / "results.json").write_text(json.dumps(broken(change)))
    assert call(tmp_path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert found in line
    assert line.startswith(f"write_results: {tmp_path / 'results.json'}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
