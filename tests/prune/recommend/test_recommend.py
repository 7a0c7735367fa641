"""``asrprune recommend``: which plan, how large, and when none."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

from asrprune.cli.main import main
from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.model.elastic import MEGABYTE
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.sparse_tensors import CODE, MASK, pack
from asrprune.lm.model.transformer import TransformerLM, count_parameters
from asrprune.prune.methods import METHODS
from asrprune.prune.recommend import table
from asrprune.prune.recommend.plan import (
    Budget,
    LmSize,
    mask_bytes,
    nearest,
    parse_budget,
    recommend,
)
from asrprune.prune.recommend.table import read_table
from tests.small_lm import save_small_lm
from tests.small_study import ROWS, save_study, study_row

LM = LmSize(bytes=10_000_000, number_bytes=4, parameters=2_500_000, prunable=2_000_000)


def _best(tmp_path: Path, budget: str, size: LmSize = LM) -> list[tuple[str, float]]:
    rows = read_table(save_study(tmp_path / "study"))
    return [(one.family[0], one.sparsity) for one in recommend(rows, size, parse_budget(budget))]


@pytest.mark.parametrize("budget", ["0.68", "6.8MB", "6.8 mb"])
def test_sizes_lie_between_those_measured(budget: str, tmp_path: Path) -> None:
    assert _best(tmp_path, budget) == [("low-rank", 0.4), ("structured", 0.4)]
    rows = read_table(tmp_path / "study")
    best, second = recommend(rows, LM, parse_budget(budget))
    assert best.bytes == pytest.approx(6_800_000)
    assert best.perplexity_ratio == pytest.approx((1.125, 1.115, 1.135))
    assert second.wer_difference == pytest.approx((0.2, -0.05, 0.45))


def test_a_large_budget_takes_the_least_that_was_measured(tmp_path: Path) -> None:
    assert _best(tmp_path, "0.99") == [("low-rank", 0.3), ("structured", 0.3)]


def test_a_small_budget_leaves_out_what_was_not_measured_there(tmp_path: Path) -> None:
    assert _best(tmp_path, "0.5") == [("structured", 0.625)]
    assert _best(tmp_path, "3x") == [("structured", 0.5)]
    with pytest.raises(ValueError, match=r"at least 4\.400MB \(0\.440 of this LM's file\)"):
        _best(tmp_path, "0.43")
    with pytest.raises(ValueError, match=r"5x is faster .* at most 4x"):
        _best(tmp_path, "5x")


def test_masks_and_width_have_files_of_their_own(tmp_path: Path) -> None:
    assert LM.pruned("unstructured", 0.5) == 10_000_000 - 4_000_000 + 250_000
    assert LM.pruned("width", 0.5) == 5_000_000
    assert LM.pruned("width+structured", 0.5) == 2_000_000 * 0.5**0.35 + 4_000_000
    for method in ("unstructured", "width", "structured", "width+structured"):
        rows = tuple(study_row(method, sparsity, 1.1) for sparsity in (0.3, 0.7))
        budget = Budget(megabytes=LM.pruned(method, 0.4) / MEGABYTE)
        (one,) = recommend(read_table(save_study(tmp_path / "study", rows)), LM, budget)
        assert one.sparsity == pytest.approx(0.4)


def test_a_file_with_masks_is_as_large_as_told(tmp_path: Path) -> None:
    """Zeros anywhere, in matrices of one share."""
    torch.manual_seed(0)
    model = TransformerLM(ModelShape.uniform(500, 96, 3, 4))
    (tmp_path / "pieces").write_bytes(b"pieces")
    whole = load_checkpoint(save_checkpoint(tmp_path / "lm", model, tmp_path / "pieces", {}))
    size = LmSize.of(whole)
    for share in (0.5, 0.7, 0.9):
        pruned = copy.deepcopy(model)
        with torch.no_grad():
            for _, linear in pruned.linears():
                linear.weight[torch.rand_like(linear.weight) < share] = 0.0
        out = save_checkpoint(tmp_path / f"{share}", pruned, tmp_path / "pieces", {})
        found = (Path(out) / "model.safetensors").stat().st_size
        assert size.pruned("unstructured", share) == pytest.approx(found, rel=0.015)
    embedding = copy.deepcopy(model)
    with torch.no_grad():
        weight = embedding.embedding.weight
        weight[torch.rand_like(weight) < 0.8] = 0.0
    out = save_checkpoint(tmp_path / "embedding", embedding, tmp_path / "pieces", {})
    found = (Path(out) / "model.safetensors").stat().st_size
    assert size.without_zeros({"embedding": 0.8}).bytes == pytest.approx(found, rel=0.01)


def test_the_nearest_lm_is_taken(tmp_path: Path) -> None:
    large = study_row("width", 0.5, 1.0, lm="large", parameters=1_000_000)
    rows = read_table(save_study(tmp_path / "study", (*ROWS, large)))
    assert {row.lm for row in nearest(rows, 60_000)} == {"small"}
    assert {row.lm for row in nearest(rows, 80_000)} == {"large"}


@pytest.mark.parametrize("text", ["", "0", "0.0MB", "1.5", "12GB", "-3x", "x", "nan", "1e9MB"])
def test_senseless_budgets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="; expected megabytes"):
        parse_budget(text)
    assert parse_budget("1.5x") == Budget(times=1.5)


@pytest.mark.parametrize(
    "other",
    [
        {"sparsity": 0},
        {"perplexity_ratio": [1.0, 1.1, 1.2]},
        {"perplexity_ratio": [1.0, 0.0, 1.2]},
        {"parameters": 0},
        {"method": "scissors"},
        {"budget": -1},
        {"set": ["lr=0.1; rm -r ."]},
        {"set": ["options.embedding_sparsity=1.5"]},
        {"set": ["options.embedding_sparsity=most"]},
        {"set": ["options.positions_sparsity=1.5"]},
        {"statistics_tokens": -1},
    ],
)
def test_bad_rows_are_named(
    other: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = save_study(tmp_path / "study", ({**ROWS[0], **other},))
    lm = save_small_lm(tmp_path)
    argv = ["recommend", "--lm", str(lm), "--budget", "0.9", "--table", str(study)]
    assert main(argv) == 1
    assert f"{study}: rows[0].{next(iter(other))} is " in capsys.readouterr().err


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lm, study = save_small_lm(tmp_path), save_study(tmp_path / "study")
    argv = ["recommend", "--lm", str(lm), "--table", str(study), "--budget"]
    assert main([*argv, "0.8", "--json", str(tmp_path / "json")]) == 0
    printed = capsys.readouterr().out
    plans = json.loads((tmp_path / "json").read_text())["plans"]
    assert [plan["method"] for plan in plans] == ["low-rank", "structured"]
    assert plans[0]["command"] in printed.splitlines()
    assert "--fine-tune-tokens 10000 " in plans[0]["command"]
    assert "from the study's LM small" in printed
    assert plans[0]["bytes"] <= 0.8 * load_checkpoint(lm).size_bytes() + 1
    assert main([*argv, "1"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main([*argv, "0.01"]) == 1
    assert "smaller than all measured; expected at least" in capsys.readouterr().err


@pytest.mark.parametrize(("share", "said"), [(1, "has as many;"), (2, "has 0.5 times as many;")])
def test_the_studys_lm_is_compared_with_this_one(
    share: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = save_small_lm(tmp_path)
    own = count_parameters(load_checkpoint(lm).model)
    rows = tuple({**row, "parameters": share * own} for row in ROWS)
    study = save_study(tmp_path / "study", rows)
    assert main(["recommend", "--lm", str(lm), "--table", str(study), "--budget", "0.8"]) == 0
    assert f"this LM {said}" in capsys.readouterr().out


@pytest.mark.parametrize(("budget", "size"), [("0.78", 0.2), ("0.67", 0.3), ("0.55", 0.5)])
def test_the_command_tells_prune_what_the_nearest_size_was_told(
    budget: str, size: float, tmp_path: Path
) -> None:
    rows = tuple(
        study_row(
            "width", one, 1.0 + one, set=[f"hold={one}", "options.min_rank=2"], statistics_tokens=70
        )
        for one in (0.2, 0.3, 0.5)
    )
    argv = ["recommend", "--lm", str(save_small_lm(tmp_path)), "--budget", budget]
    argv += ["--table", str(save_study(tmp_path / "study", rows)), "--json", str(tmp_path / "json")]
    assert main(argv) == 0
    command = json.loads((tmp_path / "json").read_text())["plans"][0]["command"]
    told = f"--statistics-tokens 70 --set hold={size} --set options.min_rank=2 --out OUT"
    assert command.endswith(told)


def test_zeros_of_the_embedding_are_a_family_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zeros = {"set": ["options.embedding_sparsity=0.75"]}
    rows = (
        *(study_row("structured", one, 1.0 + one) for one in (0.2, 0.6)),
        *(study_row("structured", one, 1.2 + one, **zeros) for one in (0.2, 0.6)),
    )
    table = save_study(tmp_path / "study", rows)
    tied = LmSize(10_000_000, 4, 2_500_000, 2_000_000, {"embedding": 400_000})
    (plain, other) = recommend(read_table(table), tied, Budget(share=0.7))
    assert (plain.sparsity, plain.zeros) == (0.375, {})
    saved = 0.75 * 400_000 * 4 - 400_000 / 8 * 0.81128  # of a mask, a bit's entropy
    assert other.zeros == {"embedding": 0.75}
    assert other.sparsity == pytest.approx((10_000_000 - saved - 7_000_000) / 8_000_000, abs=0.001)
    assert plain.bytes == 7_000_000
    assert other.bytes == pytest.approx(7_000_000, rel=0.002)
    (alone,) = recommend(read_table(table), LM, Budget(share=0.7))  # its embedding is not tied
    assert alone.zeros == {}
    (smallest,) = recommend(read_table(table), tied, Budget(share=0.5))
    assert smallest.zeros == {"embedding": 0.75}
    lm = save_small_lm(tmp_path)
    checkpoint = load_checkpoint(lm)
    found = LmSize.of(checkpoint)
    assert found.tables["embedding"] == checkpoint.model.embedding.weight.numel()
    least = found.without_zeros(smallest.zeros).pruned("structured", 0.6) / found.bytes
    argv = ["recommend", "--lm", str(lm), "--table", str(table), "--budget", f"{least + 0.001:.4f}"]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert " and 0.75 of the embedding, fine-tuned" in printed
    assert " --set options.embedding_sparsity=0.75 --out OUT" in printed


def test_zeros_of_positions_are_for_an_lm_that_learned_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["options.embedding_sparsity=0.5", "options.positions_sparsity=0.9"]
    rows = [study_row("structured", one, 1.2 + one, set=settings) for one in (0.2, 0.6)]
    table = save_study(tmp_path / "study", rows)
    size = LmSize(10_000_000, 4, 2_500_000, 2_000_000, {"embedding": 400_000, "positions": 80_000})
    (plan,) = recommend(read_table(table), size, Budget(share=0.7))
    saved = 4 * (0.5 * 400_000 + 0.9 * 80_000) - (400_000 + 0.469 * 80_000) / 8
    assert plan.sparsity == pytest.approx((10_000_000 - saved - 7_000_000) / 8_000_000, abs=0.001)
    rotary = replace(size, tables={"embedding": 400_000})
    with pytest.raises(ValueError, match="zeros in tables that this LM has not"):
        recommend(read_table(table), rotary, Budget(share=0.7))
    lm = save_small_lm(tmp_path)
    model = load_checkpoint(lm).model
    assert model.positions is not None
    assert LmSize.of(load_checkpoint(lm)).tables["positions"] == model.positions.numel()
    argv = ["recommend", "--lm", str(lm), "--table", str(table), "--budget", "0.7"]
    assert main([*argv, "--json", str(tmp_path / "json")]) == 0
    assert " and 0.5 of the embedding and 0.9 of the positions, fine" in capsys.readouterr().out
    (told,) = json.loads((tmp_path / "json").read_text())["plans"]
    assert (told["embedding_sparsity"], told["positions_sparsity"]) == (0.5, 0.9)


def test_an_elastic_lm_is_made_for_all_sizes_and_cut_to_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [study_row("low-rank", size, 1.0 + size, schedule="elastic") for size in (0.3, 0.7)]
    lm, study = save_small_lm(tmp_path), save_study(tmp_path / "study", tuple(sizes))
    argv = ["recommend", "--lm", str(lm), "--budget", "0.8", "--table", str(study)]
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert "--schedule elastic --sparsity 0.3,0.7 " in printed
    named = next(line for line in printed.splitlines() if line.startswith("best: "))
    assert f"then open it with --size {named.partition('sparsity ')[2].split(',')[0]}\n" in printed
    save_study(study, (sizes[1],))  # prune makes no elastic LM of one size
    assert main(argv) == 1
    assert "smaller than all measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("share", "near"), [(0.5, 0.001), (0.8, 0.01), (0.9, 0.01), (0.95, 0.01), (0.995, 0.02)]
)
def test_masks_take_what_is_expected(share: float, near: float) -> None:
    drawn = torch.rand(1000, 1000, generator=torch.Generator().manual_seed(1)) >= share
    stored = pack({"w": drawn.float()})
    mask = next(part for name, part in stored.items() if name.endswith((MASK, CODE)))
    assert mask.numel() == pytest.approx(mask_bytes(drawn.numel(), share), rel=near)


def test_sizes_are_those_of_the_studys_files() -> None:
    rows = [row for row in json.loads(table.STUDY.read_text())["rows"] if row["lm"] == "mini"]
    dense = LmSize(8_858_048, 4, 2_212_992, 12 * 192**2 * 4)  # 4 blocks of d_model 192
    assert {row["parameters"] for row in rows} == {dense.parameters}
    for row in rows:
        assert row["dense_bytes"] == dense.bytes
        expected = dense.pruned(row["method"], row["sparsity"])
        if METHODS[row["method"]].masks:  # measured before masks were coded
            expected += dense.prunable / 8 - mask_bytes(dense.prunable, row["sparsity"])
        assert expected == pytest.approx(row["bytes"], rel=0.03), row


@pytest.mark.parametrize(
    ("method", "file", "at"),
    [
        ("unstructured", 3_770_000, {"0.377": 3_770_000, "0.376": None}),  # less than expected
        ("unstructured", 3_900_000, {"0.3784": 3_783_057, "0.3783": None}),  # with plain masks
        ("structured", 3_590_000, {"0.359": 3_590_000, "0.358": None}),
        ("structured", 3_610_000, {"0.361": 3_610_000, "0.36": None}),  # more than expected
    ],
)
def test_a_file_of_an_lm_of_this_size_is_known(
    method: str, file: int, at: dict[str, int | None], tmp_path: Path
) -> None:
    """Expected are 3,600,000 bytes without masks and 3,783,057 with them."""
    row = study_row(method, 0.8, 1.3, bytes=file, dense_bytes=LM.bytes)
    rows = read_table(save_study(tmp_path / "study", ({**row, "parameters": LM.parameters},)))
    for share, told in at.items():
        if told is None:
            with pytest.raises(ValueError, match="is smaller than all measured"):
                recommend(rows, LM, parse_budget(share))
        else:
            (one,) = recommend(rows, LM, parse_budget(share))
            assert (one.sparsity, round(one.bytes)) == (0.8, told)
    for other in (replace(LM, bytes=LM.bytes + 4), replace(LM, parameters=LM.parameters + 1)):
        (one,) = recommend(rows, other, parse_budget("0.4"))
        plain = 3_600_000 if method == "structured" else 3_783_057
        assert one.bytes == pytest.approx(plain + other.bytes - LM.bytes, abs=1)


def test_what_files_have_more_counts_between_them(tmp_path: Path) -> None:
    """Expected are 8,000,000 bytes at a quarter and 6,000,000 at a half."""
    rows = [
        study_row("structured", sparsity, 1.1, bytes=file, dense_bytes=LM.bytes)
        for sparsity, file in ((0.25, 8_000_000), (0.5, 6_100_000))
    ]
    told = tuple({**row, "parameters": LM.parameters} for row in rows)
    known = read_table(save_study(tmp_path / "study", told))
    (one,) = recommend(known, LM, parse_budget("0.7052"))
    assert one.sparsity == pytest.approx(0.375)
    assert one.bytes == pytest.approx(7_050_000)
    (one,) = recommend(known, replace(LM, parameters=LM.parameters + 1), parse_budget("0.7052"))
    assert one.sparsity == pytest.approx(0.369)


def test_the_quarter_of_the_study_is_told_for_its_lm() -> None:
    prose = LmSize(
        17_002_432, 4, 4_249_088, 12 * 256**2 * 4, {"embedding": 1_024_000, "positions": 65_536}
    )
    best = recommend(nearest(read_table(), prose.parameters), prose, Budget(share=0.25))[0]
    assert (best.sparsity, round(best.bytes)) == (0.8, 4_240_917)


def test_without_the_studys_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table, "STUDY", tmp_path / "study.json")
    lm = save_small_lm(tmp_path)
    assert main(["recommend", "--lm", str(lm), "--budget", "0.5"]) == 1
    assert "the study's table is not in this version; expected" in capsys.readouterr().err


def test_the_wheel_takes_the_table_along() -> None:
    setup = (Path(__file__).parents[3] / "setup.py").read_text()
    globs = [line.strip(' ",') for line in setup.splitlines() if line.endswith('.json",')]
    name = str(table.STUDY.relative_to(table.STUDY.parents[2]))
    assert any(fnmatch(name, glob) for glob in globs)
