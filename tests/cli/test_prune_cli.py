"""``asrprune prune`` on a tiny LM and a corpus written by hand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest
import torch

from asrprune.cli.main import main
from asrprune.core.config import flat
from asrprune.files import sha256
from asrprune.lm.low_rank_speed import LowRankSpeed
from asrprune.lm.model.checkpoint import WEIGHTS, load_checkpoint, read_config, save_checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM, count_parameters
from asrprune.prune.run import steps
from asrprune.prune.run.family import read_family
from asrprune.prune.run.fine_tuning import Spent
from asrprune.prune.run.plan import Plan
from tests.damage import tree
from tests.quick import slow

V = 32


def write_set(folder: Path, name: str, sentences: list[list[int]]) -> dict[str, int]:
    tokens = np.array([token for one in sentences for token in one], dtype="<u2")
    tokens.tofile(folder / f"{name}.tokens.bin")
    np.cumsum([0, *map(len, sentences)]).astype("<i8").tofile(folder / f"{name}.offsets.bin")
    return {"tokens": len(tokens), "sentences": len(sentences)}


def write_corpus(folder: Path, tokenizer: bytes, valid: bool = True) -> Path:
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(tokenizer)
    rng = np.random.default_rng(0)
    sentences = [
        (np.cumsum(rng.integers(1, 3, size=rng.integers(0, 9))) % (V - 3) + 3).tolist()
        for _ in range(120)
    ]
    sets = {"train": write_set(folder, "train", sentences[:100])}
    if valid:
        sets["valid"] = write_set(folder, "valid", sentences[100:])
    data = {
        "format": "asrprune-data",
        "version": 1,
        "vocab_size": V,
        "normaliser": "none",
        "dtype": "<u2",
        "tokenizer_sha256": sha256(folder / "tokenizer.model"),
        "sets": sets,
    }
    (folder / "data.json").write_text(json.dumps(data))
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with ``lm``, ``data`` and ``dry`` (data without a valid set)."""
    write_corpus(tmp_path / "data", b"tokens")
    write_corpus(tmp_path / "dry", b"tokens", valid=False)
    torch.manual_seed(0)
    model = TransformerLM(ModelShape.uniform(V, 32, 2, 4, max_positions=16, dropout=0.1))
    save_checkpoint(tmp_path / "lm", model, tmp_path / "data/tokenizer.model", {})
    return tmp_path


def prune(place: Path, *flags: str, out: str = "out", data: str = "data", lm: str = "lm") -> int:
    inputs = ["--lm", str(place / lm), "--data", str(place / data), "--out", str(place / out)]
    small = ["--set", "fine_tuning.batch_tokens=128", "--statistics-tokens", "100"]
    small += ["--set", "options.multiple_of=2", "--set", "options.min_rank=2"]
    return main(["prune", *inputs, *small, *flags])


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(folder).model.state_dict())


def same(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("method", ["structured", *slow(["unstructured", "low-rank", "width"])])
def test_a_family_in_one_run(place: Path, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--method", method, "--sparsity", "0.3,0.5,0.75", "--steps", "5"]
    assert prune(place, *flags, "--fine-tune-tokens", "1500", "--criterion", "kfac") == 0
    family = read_family(place / "out")
    assert [member.asked for member in family.members] == [0.3, 0.5, 0.75]
    tolerance = 0 if method == "unstructured" else 0.02
    sizes = []
    for member in family.members:
        assert abs(member.measured - member.asked) <= tolerance + 1e-4
        saved = load_checkpoint(place / "out" / member.folder)
        sizes.append((place / "out" / member.folder / WEIGHTS).stat().st_size)
        assert member.bytes == sizes[-1]
        assert member.perplexity is not None
        assert member.perplexity_pruned is not None
        assert saved.history[-1]["asked"] == member.asked
        assert saved.history[-1]["method"] == method
        assert sum(step["fine_tune_tokens"] for step in saved.history) == member.tokens
        assert sum(row.reference for row in member.matrices) == 2 * 12 * 32 * 32
        assert member.faster == (method != "unstructured")
    dense = (place / "lm" / WEIGHTS).stat().st_size
    assert dense > sizes[0] > sizes[1] > sizes[2]
    removed = 4 * 2 * 12 * 32 * 32  # bytes of all prunable weights
    bound = 1 / 32 if method == "unstructured" else 0.0  # the bit mask
    whole = count_parameters(load_checkpoint(place / "lm").model)
    for member, size in zip(family.members, sizes):
        if method == "width":  # biases, norms and embeddings get narrower too
            left = count_parameters(load_checkpoint(place / "out" / member.folder).model)
            assert dense - size == pytest.approx(4 * (whole - left), abs=1024)  # headers
        else:
            assert dense - size == pytest.approx((member.measured - bound) * removed, rel=0.1)
    assert 1500 <= family.members[-1].tokens < 1500 + 128
    for small, large in zip(family.members[1:], family.members):
        for row, above in zip(small.matrices, large.matrices):
            assert row.kept <= above.kept
    assert f"{method}-kfac-cubic 0.75 " in capsys.readouterr().out
    assert sorted(path.name for path in (place / "out").iterdir()) == [
        "family.json",
        "index.html",
        "plan.json",
        *(member.folder for member in family.members),
    ]
    assert not (place / "out.pruning").exists()


@pytest.mark.slow
def test_a_wide_lm_is_told_whether_low_rank_pays(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def speeds(threads: Optional[int]) -> list[LowRankSpeed]:
        return [LowRankSpeed(256, "int8", 1.01, 1.84)]

    monkeypatch.setattr("asrprune.lm.low_rank_speed.low_rank_speeds", speeds)
    plain = ("--sparsity", "0.5", "--steps", "1", "--fine-tune-tokens", "0")
    assert prune(place, "--method", "low-rank", *plain, out="narrow") == 0
    assert "low rank" not in capsys.readouterr().out
    monkeypatch.setattr("asrprune.cli.prune.WIDE", 1)
    assert prune(place, "--method", "structured", *plain, out="heads") == 0
    assert "low rank" not in capsys.readouterr().out
    assert prune(place, "--method", "low-rank", *plain, out="thin") == 0
    assert capsys.readouterr().out.endswith(
        "low rank is 1.01 times as fast here at width 256 (int8; 1.84 times less work): "
        "it is for size, not for speed\n"
    )


def test_the_page_shows_every_size_matrix_and_step(place: Path) -> None:
    flags = ["--sparsity", "0.3,0.6", "--schedule", "linear", "--steps", "4"]
    assert prune(place, *flags, "--method", "structured", "--fine-tune-tokens", "1500") == 0
    page = (place / "out/index.html").read_text()
    assert re.findall(r'<section id="(\w+)">', page) == [
        *("plots", "systems", "removed", "curves", "made")
    ]
    family = read_family(place / "out")
    for member in family.members:
        assert f"<caption>structured {member.asked:g}</caption>" in page
        for row in member.matrices:
            told = f"{row.matrix}: {row.kept:,} of {row.reference:,} parameters, {row.form}"
            assert f'title="{told}">{100 * row.sparsity:.0f}</td>' in page
    assert ">parent (baseline)<" in page
    history = read_config(place / "out" / family.members[-1].folder).parts("history")
    losses = [step.values["losses"] for step in history]
    assert len(losses) == 4
    assert [step[-1][0] for step in losses] == [one.values["fine_tune_tokens"] for one in history]
    assert all(0 < loss < 20 for step in losses for _, loss in step)
    curve = re.search(r'<path class="curve g0 d0" d="(M[^"]*)"', page.split('id="curves"')[1])
    assert curve is not None
    assert curve.group(1).count("L") + 1 == sum(map(len, losses))


@pytest.mark.slow
def test_masked_members_are_nested(place: Path) -> None:
    flags = ["--method", "unstructured", "--sparsity", "0.3,0.6", "--fine-tune-tokens", "600"]
    assert prune(place, *flags) == 0
    large, small = (weights(place / "out" / f"sparsity-{s}") for s in ("0.30", "0.60"))
    for name, value in small.items():
        if value.ndim == 2 and "blocks" in name:
            assert not (value[large[name] == 0]).any()


@pytest.mark.slow
def test_sparsity_zero_is_the_parent_bit_for_bit(place: Path) -> None:
    for method in ("unstructured", "structured", "low-rank"):
        assert (
            prune(
                place, "--method", method, "--sparsity", "0", "--fine-tune-tokens", "0", out=method
            )
            == 0
        )
        assert same(place / "lm", place / method / "sparsity-0.00")


@pytest.mark.slow
def test_one_shot_sizes_do_not_depend_on_each_other(place: Path) -> None:
    flags = ["--schedule", "one-shot", "--criterion", "magnitude", "--fine-tune-tokens", "300"]
    assert prune(place, *flags, "--sparsity", "0.3,0.6", out="both") == 0
    assert prune(place, *flags, "--sparsity", "0.6", out="one") == 0
    assert same(place / "both/sparsity-0.60", place / "one/sparsity-0.60")
    assert all(member.tokens >= 300 for member in read_family(place / "both").members)


@pytest.mark.parametrize(
    ("method", "schedule", "criterion"),
    [
        ("unstructured", "cubic", "movement"),
        *slow(
            [
                ("unstructured", "one-shot", "kfac"),
                ("low-rank", "cubic", "kfac"),
                ("low-rank", "one-shot", "kfac"),
            ]
        ),
    ],
)
def test_a_killed_run_goes_on_to_the_same_result(
    place: Path, method: str, schedule: str, criterion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--method", method, "--schedule", schedule, "--sparsity", "0.3,0.5,0.7"]
    flags += ["--criterion", criterion, "--fine-tune-tokens", "800", "--no-distill"]
    flags += [] if schedule == "one-shot" else ["--steps", "4"]
    assert prune(place, *flags, out="whole") == 0
    real, calls = steps.fine_tune_pruned, []

    def killed(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) in (2, 4):
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(steps, "fine_tune_pruned", killed)
    assert prune(place, *flags, out="cut") == 130
    assert prune(place, *flags, out="cut") == 130
    assert prune(place, *flags, out="cut") == 0
    whole, cut = read_family(place / "whole"), read_family(place / "cut")
    for one, other in zip(whole.members, cut.members):
        assert same(place / "whole" / one.folder, place / "cut" / other.folder)
        assert (one.tokens, one.perplexity) == (other.tokens, other.perplexity)
    n_calls = len(calls)
    assert prune(place, *flags, out="cut") == 0  # nothing is left to do
    assert len(calls) == n_calls


def _flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "state cut": ("state.pt", lambda path: path.write_bytes(path.read_bytes()[:50])),
    "state empty": ("state.pt", lambda path: path.write_bytes(b"")),
    "state flipped": ("state.pt", lambda path: _flip(path, 4000)),
    "family flipped": ("family.json", lambda path: _flip(path, 30)),
    "family of another type": ("family.json", lambda path: path.write_text("[]")),
    "member flipped": (f"sparsity-0.30/{WEIGHTS}", lambda path: _flip(path, 4000)),
    "member without its config": ("sparsity-0.30/config.json", Path.unlink),
    "plan flipped": ("plan.json", lambda path: _flip(path, 30)),
    "plan of another type": ("plan.json", lambda path: path.write_text("[3]")),
    "plan empty": ("plan.json", lambda path: path.write_bytes(b"")),
}
QUICK = ("state flipped", "member flipped")


@pytest.mark.parametrize("what", [*QUICK, *slow(one for one in DAMAGES if one not in QUICK)])
def test_what_is_damaged_is_done_again(
    place: Path, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flags = ["--method", "unstructured", "--sparsity", "0.3,0.6", "--fine-tune-tokens", "600"]
    flags += ["--criterion", "movement", "--steps", "3", "--no-distill"]
    assert prune(place, *flags, out="whole") == 0
    real, calls = steps.fine_tune_pruned, []

    def killed(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(steps, "fine_tune_pruned", killed)
    assert prune(place, *flags, out="cut") == 130
    assert not (place / "cut").exists()
    name, damage = DAMAGES[what]
    damage(place / "cut.pruning" / name)
    caplog.clear()
    assert prune(place, *flags, out="cut") == 0
    assert f"cut.pruning/{name.split('/')[0]} is damaged" in caplog.text
    for member in ("sparsity-0.30", "sparsity-0.60"):
        assert same(place / "whole" / member, place / "cut" / member)
    files = [sorted(tree(place / out)) for out in ("whole", "cut")]
    assert files[0] == files[1]
    assert not (place / "cut.pruning").exists()


DYING = """
import os, sys
from asrprune.cli.main import main

real, left = os.fsync, int(sys.argv.pop(1))

def fsync(descriptor):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    real(descriptor)

os.fsync = fsync
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("writes", [0, 3])
def test_killed_by_the_system_as_it_writes(place: Path, writes: int) -> None:
    flags = ["--sparsity", "0.3,0.6", "--fine-tune-tokens", "0", "--steps", "2"]
    inputs = ["--lm", str(place / "lm"), "--data", str(place / "data")]
    small = ["--set", "options.multiple_of=2", "--statistics-tokens", "100"]
    argv = ["prune", *inputs, *small, *flags, "--out"]
    dying = [sys.executable, "-c", DYING, str(writes), *argv, str(place / "out")]
    assert subprocess.run(dying, check=False).returncode == 9
    assert not (place / "out").exists()
    for out in ("out", "whole"):
        assert main([*argv, str(place / out)]) == 0
    assert sorted(tree(place / "out")) == sorted(tree(place / "whole"))
    for member in ("sparsity-0.30", "sparsity-0.60"):
        assert same(place / "whole" / member, place / "out" / member)
    assert sorted(path.name for path in place.iterdir()) == ["data", "dry", "lm", "out", "whole"]


def test_a_damaged_plan_does_not_give_another_runs_state_away(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(*args: Any, **kwargs: Any) -> Any:
        if args[0].shape is not None and (place / "out.pruning/state.pt").is_file():
            raise KeyboardInterrupt
        return Spent()

    monkeypatch.setattr(steps, "fine_tune_pruned", killed)
    flags = ["--sparsity", "0.3,0.6", "--fine-tune-tokens", "600"]
    assert prune(place, *flags) == 130
    (place / "out.pruning/plan.json").write_text("{")
    before = tree(place / "out.pruning")
    capsys.readouterr()
    assert prune(place, *flags, "--seed", "7") == 1
    error = capsys.readouterr().err
    assert "out.pruning belongs to another run: plan.seed is 1 there, 7 now" in error
    assert tree(place / "out.pruning") == before


def test_another_run_and_other_files_beside_out_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = place / "out.pruning"
    work.mkdir()
    (work / "mine").write_text("mine")
    assert prune(place, "--sparsity", "0.3") == 1
    assert "out.pruning: a folder with other files; expected" in capsys.readouterr().err
    assert [path.name for path in work.iterdir()] == ["mine"]
    (work / "mine").unlink()
    assert prune(place, "--sparsity", "0.3") == 0
    (place / "out").rename(work)
    assert prune(place, "--sparsity", "0.4") == 1
    assert "out.pruning belongs to another run: plan.sparsities" in capsys.readouterr().err
    assert prune(place, "--sparsity", "0.3") == 0  # killed just before the last rename
    assert sorted(path.name for path in place.glob("out*")) == ["out"]


def test_an_unfinished_family_of_before_goes_on_beside(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Earlier versions worked in OUT itself, with a folder for the state and no checksums."""
    flags = ["--sparsity", "0.3,0.6", "--fine-tune-tokens", "0"]
    assert prune(place, *flags, out="whole") == 0
    assert prune(place, *flags) == 0
    out = place / "out"
    for name in ("plan.json", "family.json"):
        value = json.loads((out / name).read_text())
        del value["crc32"]
        value["members"] = value.get("members", [])[:1]
        if name == "plan.json":
            del value["members"]
        (out / name).write_text(json.dumps(value))
    (out / "state").mkdir()
    (out / "state/state.json").write_text("{}")
    shutil.rmtree(out / "sparsity-0.60")
    assert prune(place, *flags) == 0
    assert "out is unfinished, of an earlier version" in caplog.text
    assert sorted(tree(out)) == sorted(tree(place / "whole"))
    assert same(place / "whole/sparsity-0.60", out / "sparsity-0.60")
    assert len(read_family(out).members) == 2


def test_out_may_be_a_link_or_an_empty_folder(place: Path) -> None:
    (place / "there").mkdir()
    (place / "out").symlink_to(place / "there")
    assert prune(place, "--sparsity", "0.3", "--fine-tune-tokens", "0") == 0
    assert (place / "out").is_symlink()
    assert (place / "there/family.json").is_file()
    assert not list(place.glob("*.pruning"))


def test_a_damaged_family_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--sparsity", "0.3", "--fine-tune-tokens", "0"]
    assert prune(place, *flags) == 0
    capsys.readouterr()
    for name in ("plan.json", "family.json"):
        _flip(place / "out" / name, 30)
        assert prune(place, *flags) == 1
        error = capsys.readouterr().err
        assert f"out/{name}" in error
        assert error.count("\n") == 1
        _flip(place / "out" / name, 30)
    assert prune(place, *flags) == 0


def test_a_finished_family_is_left_as_it_is(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert prune(place, "--sparsity", "0.3,0.6") == 0
    before = {path: path.stat().st_mtime_ns for path in (place / "out").rglob("*")}
    with caplog.at_level("INFO"):
        assert prune(place, "--sparsity", "0.3,0.6") == 0
    assert "out: finished already, nothing to do" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in (place / "out").rglob("*")} == before


@pytest.mark.slow
def test_from_a_member_down_to_a_smaller_size(place: Path) -> None:
    for method in ("unstructured", "low-rank", "structured"):
        assert prune(place, "--method", method, "--sparsity", "0.3", out=f"{method}-1") == 0
        lm = f"{method}-1/sparsity-0.30"
        flags = ["--method", method, "--sparsity", "0.6"]
        assert prune(place, *flags, lm=lm, out=f"{method}-2") == 0
        member = read_family(place / f"{method}-2").members[0]
        assert member.measured == pytest.approx(0.6, abs=0.02)  # of the dense ancestor
        assert prune(place, "--method", method, "--sparsity", "0.1", lm=lm, out="no") == 2


@pytest.mark.slow
def test_a_member_learns_from_the_lm_that_is_given(place: Path) -> None:
    """The teacher changes the result, and the default is the LM that is pruned."""
    torch.manual_seed(1)
    other = TransformerLM(ModelShape.uniform(V, 48, 1, 2, max_positions=16))
    with torch.no_grad():
        other.embedding.weight.mul_(20.0)
    save_checkpoint(place / "other", other, place / "data/tokenizer.model", {})
    flags = ["--sparsity", "0.5", "--steps", "1", "--fine-tune-tokens", "400"]
    assert prune(place, *flags, out="a") == 0
    assert prune(place, *flags, "--teacher", str(place / "lm"), out="b") == 0
    assert prune(place, *flags, "--teacher", str(place / "other"), out="c") == 0
    a, b, c = (place / out / "sparsity-0.50" for out in "abc")
    assert same(a, b)
    assert not same(a, c)
    assert prune(place, *flags, "--teacher", str(place / "lm"), out="c") == 1  # another run


def test_a_teacher_with_fewer_positions_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = TransformerLM(ModelShape.uniform(V, 32, 1, 2, max_positions=12))
    save_checkpoint(place / "short", short, place / "data/tokenizer.model", {})
    flags = ["--sparsity", "0.5", "--fine-tune-tokens", "9"]
    assert prune(place, *flags, "--teacher", str(place / "short")) == 1
    assert "12 positions; expected at least 16" in capsys.readouterr().err
    assert not (place / "out").exists()


def test_a_valid_set_is_not_needed(place: Path) -> None:
    assert prune(place, "--sparsity", "0.3", data="dry") == 0
    assert read_family(place / "out").members[0].perplexity is None


def test_a_plan_file_and_flags_over_it(place: Path) -> None:
    plan = {"method": "low-rank", "sparsities": [0.4], "options": {"factorisation": "two-sided"}}
    (place / "plan.json").write_text(json.dumps(plan))
    flags = ["--plan", str(place / "plan.json"), "--criterion", "magnitude"]
    assert prune(place, *flags, "--set", "options.min_rank=4") == 0
    made = read_family(place / "out").plan
    assert (made["method"], made["criterion"]) == ("low-rank", "magnitude")
    assert made["options"]["factorisation"] == "two-sided"
    assert made["options"]["min_rank"] == 4


def test_the_plan_of_a_family_makes_it_again(place: Path) -> None:
    flags = ["--method", "structured", "--criterion", "magnitude", "--sparsity", "0.3"]
    assert prune(place, *flags, "--fine-tune-tokens", "0") == 0
    assert prune(place, "--plan", str(place / "out/plan.json"), out="again") == 0
    first, second = (read_family(place / name) for name in ("out", "again"))
    assert first.plan == second.plan
    assert same(place / "out/sparsity-0.30", place / "again/sparsity-0.30")


def test_a_size_out_of_reach_leaves_nothing_in_the_way(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--method", "structured", "--criterion", "magnitude", "--fine-tune-tokens", "0"]
    for schedule in ("one-shot", "cubic"):
        assert prune(place, *flags, "--sparsity", "0.99", "--schedule", schedule) == 2
        assert "cannot go down to" in capsys.readouterr().err
        assert not (place / "out.pruning").exists()
    assert prune(place, *flags, "--sparsity", "0.3,0.99", "--schedule", "one-shot") == 2
    assert (place / "out.pruning/sparsity-0.30").is_dir()  # for a resume
    assert prune(place, *flags, "--sparsity", "0.3") == 1
    assert (place / "out.pruning/sparsity-0.30").is_dir()
    assert "belongs to another run" in capsys.readouterr().err


def test_a_first_step_that_cannot_be_made_leaves_nothing_in_the_way(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_step(*given: Any) -> None:
        raise ValueError("tiles that do not fit")

    monkeypatch.setattr(steps.PruningRun, "step", no_step)
    assert prune(place, "--sparsity", "0.5") == 2
    assert not (place / "out.pruning").exists()
    monkeypatch.undo()
    assert prune(place, "--sparsity", "0.5", "--fine-tune-tokens", "0") == 0


def test_bad_input_is_one_line_and_status_1(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_corpus(place / "other", b"other tokens")
    (place / "full").mkdir()
    (place / "full/file").write_text("mine")
    (place / "plan.json").write_text('{"methud": "low-rank"}')
    assert prune(place, "--sparsity", "0.3", out="done") == 0
    capsys.readouterr()
    cases: list[tuple[dict[str, str], list[str], str]] = [
        ({"data": "other"}, [], "tokenizer hash"),
        ({}, ["--teacher", "missing", "--fine-tune-tokens", "9"], "missing: no such folder"),
        ({"out": "full"}, [], "a folder with other files"),
        (
            {"out": "done"},
            ["--seed", "7"],
            "belongs to another run: plan.seed is 1 there, 7 now",
        ),
        ({"lm": "none"}, [], "no such folder"),
        ({"data": "none"}, [], "no such folder"),
        ({}, ["--plan", str(place / "plan.json")], "did you mean 'method'"),
        ({}, ["--plan", str(place / "none.json")], "no such file"),
    ]
    for where, flags, message in cases:
        assert prune(place, "--sparsity", "0.3", *flags, **where) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert (place / "full/file").read_text() == "mine"


def test_bad_usage_is_status_2(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, message in (
        (["--sparsity", "half"], "expected numbers"),
        (
            ["--teacher", "lm", "--no-distill", "--fine-tune-tokens", "9"],
            "--teacher is given with --no-distill",
        ),
        (
            ["--teacher", "lm", "--fine-tune-tokens", "0"],
            "--teacher has no use with --fine-tune-tokens 0",
        ),
        (["--schedule", "one-shot", "--steps", "3"], "--steps has no use for schedule one-shot"),
        (
            ["--schedule", "elastic"],
            "method is structured; expected low-rank or low-rank+structured with schedule",
        ),
        (
            ["--schedule=elastic", "--method=low-rank", "--sparsity=0.3,0.5", "--steps=3"],
            "--steps has no use for schedule elastic",
        ),
        (["--steps", "3", "--set", "steps=3"], "steps has a flag, which is given too"),
        (["--set", "options=3", "--set", "options.scope=row"], "unknown key 'options'"),
        (["--sparsity", "1.5"], "expected numbers from 0 to 1"),
        (["--sparsity", "0.3,0.3"], "distinct"),
        (["--sparsity", "1"], "the least that this method can keep"),
        (["--set", "options.min_rnk=3"], "did you mean 'options.min_rank'"),
        (["--set", "seed"], "expected KEY=VALUE"),
        (["--set", "steps=0.5"], "steps is 0.5; expected int"),
        (["--set", "options.matrices=[]"], "options.matrices is []"),
        (["--set", "options.matrices=up"], "expected a list of str"),
        (["--device", "gpu"], "expected auto, cpu, cuda"),
    ):
        assert prune(place, *flags, out="-".join(flags)) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_pivoted_and_a_factored_embedding_go_on_from_a_member(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--set", "options.form=interpolative", "--set", "options.embedding_rank=8"]
    flags = ["--method", "low-rank", "--fine-tune-tokens", "300", "--steps", "2", *options]
    assert prune(place, *flags, "--sparsity", "0.2,0.4") == 0
    member = read_family(place / "out").members[1]
    assert "interpolative" in {row.form.rpartition(", ")[2] for row in member.matrices}
    saved = load_checkpoint(place / "out" / member.folder).model
    assert saved.shape.embedding_rank == 8
    linears = {"low_rank": 0, "pivoted": 0, "dense": 0}
    for _, linear in saved.linears():
        linears[linear.shape.kind] += 1
    assert linears["pivoted"] > 0
    assert linears["low_rank"] == 0
    stored = sum(p.numel() for p in saved.blocks.parameters() if p.ndim == 2)
    assert stored == round((1 - member.measured) * 2 * 12 * 32 * 32)
    further = ["--method", "low-rank", "--sparsity", "0.6", "--set", "options.form=interpolative"]
    assert prune(place, *further, lm=f"out/{member.folder}", out="next") == 0
    assert read_family(place / "next").members[0].measured == pytest.approx(0.6, abs=0.02)
    capsys.readouterr()
    again = ["--sparsity", "0.6", "--set", "options.embedding_rank=20"]
    assert prune(place, *again, lm=f"out/{member.folder}", out="no") != 0
    assert "1 <= embedding_rank <= 7" in capsys.readouterr().err


@pytest.mark.slow
def test_growth_moves_fine_tuning_to_the_smaller_sizes(place: Path) -> None:
    flags = ["--method", "structured", "--criterion", "magnitude", "--sparsity", "0.3,0.6"]
    flags += ["--fine-tune-tokens", "3000", "--steps", "2", "--set", "hold=1.0"]
    assert prune(place, *flags, out="even") == 0
    assert prune(place, *flags, "--set", "growth=3.0", out="growing") == 0
    even, growing = (
        [member.tokens for member in read_family(place / name).members]
        for name in ("even", "growing")
    )
    assert 1500 <= even[0] < 1500 + 128
    assert 750 <= growing[0] < 750 + 128
    assert all(3000 <= tokens[1] < 3000 + 128 for tokens in (even, growing))
    assert prune(place, *flags, "--set", "growth=0.0", out="no") == 2


def test_the_help_has_every_key_without_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["prune", "--help"])
    shown = {line.split("=")[0].strip() for line in capsys.readouterr().out.splitlines()}
    flagged = {"criterion", "method", "schedule", "sparsities", "steps", "seed"}
    flagged |= {"fine_tune_tokens", "statistics_tokens", "fine_tuning.distill"}
    assert set(flat(Plan())) - flagged <= shown
