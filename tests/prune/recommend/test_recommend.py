"""The plan for a budget, read from a study's table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from asrprune.cli.main import main
from asrprune.errors import InputError
from asrprune.lm.model.checkpoint import WEIGHTS
from asrprune.prune.recommend.choose import Budget, Subject, choose, nearest_lm, parse_budget
from asrprune.prune.recommend.table import Row, read_study_table
from tests.small_lm import save_small_lm
from tests.study_table import study_row, write_study_table

SUBJECT = Subject(16_000_000, 4_000_000, 3_000_000)
"""An LM as that of the table."""


def rows(folder: Path, *made: dict[str, Any]) -> tuple[Row, ...]:
    return read_study_table(write_study_table(folder / "study.json", *made))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4MB", Budget(0.25, None)),
        ("4 mb", Budget(0.25, None)),
        ("0.5", Budget(0.5, None)),
        ("1", Budget(1.0, None)),
        ("2.5x", Budget(None, 2.5)),
    ],
)
def test_budgets(text: str, expected: Budget) -> None:
    assert parse_budget(text, 16_000_000) == expected


@pytest.mark.parametrize("text", ["0", "1.5", "0x", "-1", "half", "5GB", "", "1e3MB", "nan"])
def test_budgets_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected megabytes as 12MB, a share of the bytes"):
        parse_budget(text, 16_000_000)


def test_a_measured_size_is_given_as_it_was(tmp_path: Path) -> None:
    (one,) = choose(rows(tmp_path), SUBJECT, Budget(0.625, None))
    assert one.sparsity == pytest.approx(0.5)
    assert one.bytes_share == pytest.approx(0.625)
    assert one.perplexity_ratio == pytest.approx((1.2, 1.1, 1.3))
    assert one.wer_difference == pytest.approx((0.4, -0.2, 1.0))
    assert one.speed_ratio == pytest.approx(2.0)


def test_between_sizes_and_towards_the_dense_lm(tmp_path: Path) -> None:
    table = rows(tmp_path)
    (half,) = choose(table, SUBJECT, Budget(0.8125, None))
    assert half.sparsity == pytest.approx(0.25)
    assert half.perplexity_ratio[0] == pytest.approx(math.sqrt(1.2))
    assert half.wer_difference == pytest.approx((0.2, -0.1, 0.5))
    (fast,) = choose(table, SUBJECT, Budget(None, math.sqrt(8.0)))
    assert fast.sparsity == pytest.approx(0.7)
    assert fast.perplexity_ratio[0] == pytest.approx(math.sqrt(1.2 * 2.0))
    assert (fast.wer_difference, fast.speed_ratio) == (None, pytest.approx(math.sqrt(8.0)))
    assert choose(table, SUBJECT, Budget(0.3, None)) == []
    assert choose(table, SUBJECT, Budget(None, 4.1)) == []


def test_an_lm_with_more_to_prune_gets_smaller(tmp_path: Path) -> None:
    subject = Subject(16_000_000, 4_000_000, 3_600_000)
    (one,) = choose(rows(tmp_path), subject, Budget(0.55, None))
    assert (one.sparsity, one.bytes_share) == (pytest.approx(0.5), pytest.approx(0.55))


def test_a_plan_that_saves_no_bytes_meets_no_budget_of_them(tmp_path: Path) -> None:
    masked = study_row(method="unstructured", bytes_share=1.0, perplexity_ratio=[1.0, 1.0, 1.0])
    found = choose(rows(tmp_path, masked, study_row()), SUBJECT, Budget(0.7, None))
    assert [one.family.method for one in found] == ["structured"]


def test_the_least_loss_comes_first(tmp_path: Path) -> None:
    better = study_row(method="low-rank", perplexity_ratio=[1.1, 1.0, 1.2], speed_ratio=None)
    table = rows(tmp_path, study_row(), better)
    found = choose(table, SUBJECT, Budget(0.625, None))
    assert [one.family.method for one in found] == ["low-rank", "structured"]
    assert [one.family.method for one in choose(table, SUBJECT, Budget(None, 1.5))] == [
        "structured"
    ]


def test_the_nearest_lm(tmp_path: Path) -> None:
    table = rows(tmp_path, study_row(), study_row(lm="large", parameters=100_000_000))
    for parameters, name in ((1_000, "small"), (19_000_000, "small"), (21_000_000, "large")):
        assert nearest_lm(table, Subject(1, parameters, 1)) == name


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"perplexity_ratio": [1.0, 1.1, 1.2]}, r"expected \[value, low, high\]"),
        ({"perplexity_ratio": [1.0]}, r"expected \[value, low, high\]"),
        ({"perplexity_ratio": [1.0, 0.0, 1.2]}, "above 0"),
        ({"sparsity": 0}, "sparsity"),
        ({"prunable": "many"}, "prunable"),
    ],
)
def test_tables_that_are_none(changes: dict[str, Any], line: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=line):
        rows(tmp_path, study_row(**changes))


def test_what_a_user_sees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lm = save_small_lm(tmp_path)
    table = write_study_table(tmp_path / "study.json")
    call = ["recommend", "--lm", str(lm), "--table", str(table), "--budget"]
    assert main([*call, "0.8", "--json", str(tmp_path / "plans.json")]) == 0
    said = capsys.readouterr().out
    assert "budget 0.8: the plans with the least loss of perplexity" in said
    assert f"asrprune prune --lm {lm} --data DATA --method structured --criterion kfac" in said
    assert "--fine-tune-tokens 100000" in said
    written = json.loads((tmp_path / "plans.json").read_text())
    assert written["command"] in said
    assert written["plans"][0]["bytes_share"] == pytest.approx(0.8)
    assert main([*call, "1x"]) == 0
    assert "met by the LM as it is" in capsys.readouterr().out
    whole = (lm / WEIGHTS).stat().st_size
    assert main([*call, f"{whole / 1e6}MB"]) == 0
    assert main([*call, "0.01"]) == 1
    error = capsys.readouterr().err
    assert "no plan for a budget of 0.01; expected 0." in error
    assert main([*call, "9x"]) == 1
    assert "expected 4.0x at most, the fastest that was measured" in capsys.readouterr().err
    assert main([*call, "much"]) == 2
    (tmp_path / "lm.arpa").write_text("")
    assert main([*call[:2], str(tmp_path / "lm.arpa"), *call[3:], "0.5"]) == 1
    assert "an n-gram model; expected a checkpoint folder" in capsys.readouterr().err
