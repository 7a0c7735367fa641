"""recipes/study: its grid, its runs, and all of it on a tiny LM."""

from __future__ import annotations

import json
import math
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "local/study"
sys.path.insert(0, str(LOCAL))

import grid  # noqa: E402
import lattice_sets  # noqa: E402
import measurement  # noqa: E402
import run_study  # noqa: E402
import sentences_to_read  # noqa: E402
import split_heldout  # noqa: E402

import asrprune  # noqa: E402
from asrprune.api.example import tiny_lm  # noqa: E402
from asrprune.api.lms import as_language_model  # noqa: E402
from asrprune.core.hypothesis import Hypothesis, NBest  # noqa: E402
from asrprune.core.lattice.union import union_of_nbest  # noqa: E402
from asrprune.core.weights import ScoreWeights  # noqa: E402
from asrprune.errors import InputError  # noqa: E402
from asrprune.firstpass.formats.slf import write_slf  # noqa: E402
from asrprune.lm.protocol import LanguageModel  # noqa: E402
from asrprune.prune.recommend.table import read_table  # noqa: E402
from tests.recipes.running import run_recipe  # noqa: E402

AXES: dict[str, Any] = {
    "method": ["low-rank", "structured"],
    "criterion": ["kfac"],
    "schedule": ["one-shot", "cubic"],
    "sparsity": [0.5, 0.7],
    "budget": [0.25],
    "seed": [1],
    "together": True,
}


TINY: dict[str, Any] = {
    "model": {"d_model": 32, "n_layers": 1, "n_heads": 2, "max_positions": 64},
    "tokens_per_batch": 256,
    "max_tokens": 2000,
}
"""How its dense LM is trained."""
RUNS = ("one-shot-b0.25-s1-0.5", "cubic-b0.25-s1-0.5")
"""Of the tiny study."""


def write_grid(path: Path, *grids: dict[str, Any], **more: Any) -> Path:
    settings = ["options.multiple_of=1", "options.min_rank=1", "fine_tuning.batch_tokens=64"]
    settings += ["hold=0.9"]
    whole = {"statistics_tokens": 100, "set": settings, "timed": "kfac", "grids": list(grids)}
    whole |= more
    path.write_text(json.dumps(whole))
    return path


def test_runs_in_the_order_of_the_grids(tmp_path: Path) -> None:
    more = {**AXES, "criterion": ["magnitude"], "schedule": ["one-shot"], "budget": [0]}
    study = grid.read_study(write_grid(tmp_path / "grid.json", AXES, more, AXES))
    assert [run.name for run in study.runs] == [
        "low-rank-kfac-one-shot-b0.25-s1-0.5",
        "low-rank-kfac-one-shot-b0.25-s1-0.7",
        "low-rank-kfac-cubic-b0.25-s1",
        "structured-kfac-one-shot-b0.25-s1-0.5",
        "structured-kfac-one-shot-b0.25-s1-0.7",
        "structured-kfac-cubic-b0.25-s1",
        "low-rank-magnitude-one-shot-b0-s1-0.5",
        "low-rank-magnitude-one-shot-b0-s1-0.7",
        "structured-magnitude-one-shot-b0-s1-0.5",
        "structured-magnitude-one-shot-b0-s1-0.7",
    ]
    assert (study.runs[2].sparsities, study.runs[2].kind) == ((0.5, 0.7), "cubic family")
    apart = grid.read_study(write_grid(tmp_path / "grid.json", {**AXES, "together": False}))
    assert [run.name for run in apart.runs[2:4]] == [
        "low-rank-kfac-cubic-b0.25-s1-0.5",
        "low-rank-kfac-cubic-b0.25-s1-0.7",
    ]
    assert {run.kind for run in apart.runs} == {"one-shot", "cubic"}
    assert (study.statistics_tokens, study.timed, len(study.settings)) == (100, "kfac", 4)


@pytest.mark.parametrize(
    ("grids", "line"),
    [
        ([], "no run; expected a grid with a value on each axis"),
        ([{**AXES, "budget": [0]}], "schedule cubic with budget 0; expected one-shot, or some"),
        ([AXES, {**AXES, "sparsity": [0.5, 0.6]}], "kfac-cubic-b0.25-s1 twice, with other sizes"),
        ([{**AXES, "schedule": ["slow"]}], "schedule"),
        ([{**AXES, "sparsity": [-1]}], "sparsity"),
    ],
)
def test_grids_that_are_none(grids: list[dict[str, Any]], line: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=line):
        grid.read_study(write_grid(tmp_path / "grid.json", *grids))


def test_rates_are_pairs(tmp_path: Path) -> None:
    study = grid.read_study(write_grid(tmp_path / "grid.json", AXES, rates=[[1e-3, 5e-3]]))
    assert study.rates == ((1e-3, 5e-3),)
    assert grid.read_study(write_grid(tmp_path / "grid.json", AXES)).rates == ()
    with pytest.raises(InputError, match=r"rates \[\[0.001\]\]; expected pairs \[lr, muon_lr\]"):
        grid.read_study(write_grid(tmp_path / "grid.json", AXES, rates=[[1e-3]]))


def test_words_are_not_measured_where_a_grid_says_so(tmp_path: Path) -> None:
    more = {**AXES, "seed": [1, 2], "words": False}
    study = grid.read_study(write_grid(tmp_path / "grid.json", AXES, more))
    assert {run.words for run in study.runs if run.seed == 1} == {True}
    assert {run.words for run in study.runs if run.seed == 2} == {False}


def test_a_grid_may_have_rates_of_its_own(tmp_path: Path) -> None:
    own = {**AXES, "criterion": ["magnitude"], "rates": [[2e-3, 1e-2]]}
    none = {**AXES, "method": ["width"], "rates": []}
    free = {**own, "method": ["width"], "schedule": ["one-shot"], "budget": [0]}
    path = write_grid(tmp_path / "grid.json", AXES, own, none, free, rates=[[1e-3, 5e-3]])
    study = grid.read_study(path)
    found = {(run.method, run.criterion, run.budget): run.rates for run in study.runs}
    assert found == {
        ("low-rank", "kfac", 0.25): ((1e-3, 5e-3),),
        ("structured", "kfac", 0.25): ((1e-3, 5e-3),),
        ("low-rank", "magnitude", 0.25): ((2e-3, 1e-2),),
        ("structured", "magnitude", 0.25): ((2e-3, 1e-2),),
        ("width", "kfac", 0.25): (),
        ("width", "magnitude", 0): (),  # nothing is fine-tuned
    }
    assert study.rates_of("low-rank-magnitude-cubic-b0.25-s1") == ((2e-3, 1e-2),)
    assert study.rates_of("of another grid file") == ((1e-3, 5e-3),)
    with pytest.raises(InputError, match="twice, with other sizes, rates or settings"):
        grid.read_study(write_grid(tmp_path / "grid.json", AXES, {**AXES, "rates": [[1, 1]]}))


def test_a_grid_may_have_settings_of_its_own(tmp_path: Path) -> None:
    own = {**AXES, "criterion": ["magnitude"], "set": ["hold=0.7", "growth=2"]}
    study = grid.read_study(write_grid(tmp_path / "grid.json", AXES, own))
    assert study.settings_of("low-rank-kfac-cubic-b0.25-s1") == study.settings
    assert study.settings_of("of another grid file") == study.settings
    told = study.settings_of("low-rank-magnitude-cubic-b0.25-s1")
    assert told == (*study.settings[:3], "hold=0.7", "growth=2")
    assert study.settings[3] == "hold=0.9"
    more = {**AXES, "criterion": ["fisher"], "statistics_tokens": 900}
    study = grid.read_study(write_grid(tmp_path / "grid.json", AXES, more))
    assert study.statistics_of("low-rank-fisher-cubic-b0.25-s1") == 900
    assert study.statistics_of("low-rank-kfac-cubic-b0.25-s1") == 100
    assert study.statistics_of("of another grid file") == 100
    with pytest.raises(InputError, match="twice, with other sizes, rates or settings"):
        grid.read_study(write_grid(tmp_path / "grid.json", AXES, {**AXES, "set": ["hold=0.7"]}))
    with pytest.raises(InputError, match="twice, with other sizes, rates or settings"):
        grid.read_study(write_grid(tmp_path / "grid.json", AXES, {**AXES, "statistics_tokens": 9}))


def test_the_dense_lm_is_trained_on_behind_the_grids(tmp_path: Path) -> None:
    own = {**AXES, "rates": [[2e-3, 1e-2]]}
    path = write_grid(tmp_path / "grid.json", own, rates=[[1e-3, 5e-3]], continued=[0.25, 2])
    *pruned, first, second = grid.read_study(path).runs
    assert {run.method for run in pruned} == {"low-rank", "structured"}
    assert (first.name, first.budget, second.name) == ("continued-b0.25", 0.25, "continued-b2")
    assert first.sparsities == second.sparsities == (0.0,)
    assert first.rates == ((1e-3, 5e-3),)
    with pytest.raises(InputError, match="continued"):
        grid.read_study(write_grid(tmp_path / "grid.json", own, continued=[0]))


def test_the_loss_of_a_run_is_the_mean_over_its_sizes(tmp_path: Path) -> None:
    members = [{"perplexity": value} for value in (10.0, 1000.0)]
    (tmp_path / "family.json").write_text(json.dumps({"members": members}))
    assert run_study.valid_loss(tmp_path) == pytest.approx(math.log(100))


def test_the_grids_of_the_recipe() -> None:
    whole, mini, quick, imported, prose = (
        grid.read_study(ROOT / f"recipes/study/conf/{name}.json")
        for name in ("grid", "grid-mini", "grid-quick", "grid-smollm2", "grid-prose")
    )
    assert len(whole.runs) > 200
    for axis, least in (("method", 5), ("criterion", 6), ("schedule", 3), ("budget", 3)):
        assert len({getattr(run, axis) for run in whole.runs}) >= least
    assert {run.rates for run in whole.runs if run.method == "scratch"} == {((0.003, 0.01),)}
    assert {run.budget for run in mini.runs} == {0.0, 0.01, 0.015, 0.05, 0.075, 0.1, 1.0}
    assert len({run.schedule for run in mini.runs}) == 4
    assert len(quick.runs) < 20
    for own in (imported, prose):
        assert {run.method for run in own.runs} > {"width", "structured", "low-rank"}
        assert {run.budget for run in own.runs if run.method == "width"} <= {
            run.budget for run in own.runs if run.method == "continued"
        }


def test_blocks_hold_each_sentence_once(tmp_path: Path) -> None:
    text = tmp_path / "heldout.txt"
    lines = [f"sentence {n}" for n in range(203)]
    text.write_text("\n\n".join(lines) + "\n")
    blocks = measurement.heldout_blocks(text)
    assert [line for block in blocks for line in block] == lines
    assert {len(block) for block in blocks} == {5, 6}
    text.write_text("one\n" * 39)
    with pytest.raises(InputError, match="39 sentences; expected 40 at least"):
        measurement.heldout_blocks(text)


def test_what_lists_hold_without_an_lm() -> None:
    lists = [
        NBest("a", (Hypothesis("x b c"), Hypothesis("a b c"), Hypothesis("a")), 1.0, "a b c"),
        NBest("b", (Hypothesis("d"), Hypothesis("e f")), 1.0, "d e"),
    ]
    entry = run_study.list_entry("lists", lists)
    assert (entry["first_pass_errors"], entry["oracle_errors"]) == ([1, 1], [0, 1])
    assert (entry["utts"], entry["words"]) == (2, [3, 2])
    assert run_study.errors_of(lists, {"a": "a", "b": ""}) == [2, 2]


def wrong_and_right(utt: str) -> NBest:
    """A list whose first hypothesis is wrong by a word."""
    hyps = Hypothesis("the cat sad", -1.0), Hypothesis("the cat sat", -1.5)
    return NBest(utt, hyps, 1.0, "the cat sat")


def test_each_half_of_the_lattices_is_under_the_weights_of_the_other(tmp_path: Path) -> None:
    first = write_first_pass(tmp_path / "first", [wrong_and_right(f"u{n}") for n in range(5)])
    lattice_sets.split(first, first / "text", tmp_path / "lattices/decoded")
    found = lattice_sets.read_lattice_sets(tmp_path)["decoded"]
    assert [[one.utt for one in half] for half in found.halves] == [
        ["u0", "u2", "u4"],
        ["u1", "u3"],
    ]
    assert (found.first_pass_errors(), found.oracle_errors()) == ([1] * 5, [0] * 5)
    lm = as_language_model(tiny_lm())
    best_first = ScoreWeights(first_lm=0.0, lm=(0.0,))
    worst_first = ScoreWeights(acoustic=-1.0, first_lm=0.0, lm=(0.0,))
    assert found.errors(lm, best_first, worst_first) == [0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("engines", "asked", "settings"),
    [
        (("bf16",), ["bf16", "torch"], {"engine": "bf16"}),
        (
            ("int8", "torch-bf16"),
            ["int8", "torch-bf16"],
            {"engine": "int8", "lattice_engine": "torch-bf16"},
        ),
    ],
)
def test_lattices_are_scored_by_an_engine_of_their_own(
    engines: tuple[str, ...],
    asked: list[str],
    settings: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lists = [wrong_and_right(f"u{n}") for n in range(4)]
    first = write_first_pass(tmp_path / "first", lists)
    lattice_sets.split(first, first / "text", tmp_path / "lattices/decoded")
    asrprune.write_nbest(tmp_path / "lists/small.jsonl.gz", lists)
    (tmp_path / "heldout.txt").write_text("the cat sat\n" * 40)
    by_acoustic = {"acoustic": 1.0, "first_lm": 0.0, "lm": [0.0], "word_bonus": 0.0, "unit": "word"}
    weights = {name: [by_acoustic] * 2 for name in ("small", "decoded")}
    (tmp_path / "weights.json").write_text(json.dumps(weights))
    opened: list[str] = []

    def open_lm(path: Path, engine: str, threads: int) -> LanguageModel:
        opened.append(engine)
        return as_language_model(tiny_lm())

    monkeypatch.setattr(measurement, "open_lm", open_lm)
    chosen = measurement.Engines(*engines)
    found = measurement.Measurement(tmp_path, chosen).errors(tmp_path / "dense")
    assert found == {"small": [1] * 4, "decoded": [1] * 4}
    assert opened == asked
    assert chosen.settings() == settings


def test_lattices_need_references(tmp_path: Path) -> None:
    first = write_first_pass(tmp_path / "first", [wrong_and_right(f"u{n}") for n in range(2)])
    (first / "text").write_text("u0 the cat sat\n")
    with pytest.raises(InputError, match=r"text: no words of u1; expected some"):
        lattice_sets.split(first, first / "text", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lattices_need_what_the_first_pass_chose(tmp_path: Path) -> None:
    first = write_first_pass(tmp_path / "first", [wrong_and_right(f"u{n}") for n in range(2)])
    (first / "hyp").write_text("u1 the cat sad\n")
    with pytest.raises(InputError, match="hyp: no line of u0; expected one"):
        lattice_sets.split(first, first / "text", tmp_path / "out")
    (first / "hyp").unlink()
    with pytest.raises(InputError, match="hyp"):
        lattice_sets.split(first, first / "text", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tokens_of_an_lm_that_does_not_tell_are_those_of_the_text(tmp_path: Path) -> None:
    for name, training in (("told", {"training": {"tokens": 7}}), ("silent", {})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"provenance": training}))
    (tmp_path / "data").mkdir()
    sets = {"train": {"tokens": 900}, "valid": {"tokens": 30}}
    (tmp_path / "data/data.json").write_text(json.dumps({"sets": sets}))
    told, silent = (run_study.trained_tokens(tmp_path / n, tmp_path) for n in ("told", "silent"))
    assert (told, silent) == (7, 900)


def test_heldout_sentences_are_not_those_of_validation(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("".join(f"sentence {n}\n\n" for n in range(9)))
    split_heldout.split(text, tmp_path / "out", 3, 5)
    valid, heldout = ((tmp_path / f"out/{one}.txt").read_text() for one in ("valid", "heldout"))
    assert valid == "sentence 0\nsentence 1\nsentence 2\n"
    assert heldout.splitlines() == [f"sentence {n}" for n in range(3, 8)]
    with pytest.raises(InputError, match=r"9 sentences; expected 5 \+ 5 at least"):
        split_heldout.split(text, tmp_path / "out", 5, 5)


def test_the_recipe_says_what_it_misses(tmp_path: Path) -> None:
    done = run_recipe("study", tmp_path, "--heldout", __file__)
    assert done.returncode == 1
    assert "--text is not given; expected a file" in done.stderr


@pytest.mark.slow
def write_first_pass(folder: Path, lists: list[NBest]) -> Path:
    """What asrprune first-pass leaves, of lattices whose paths are the hypotheses of the lists."""
    (folder / "lattices").mkdir(parents=True)
    for one in lists:
        write_slf(folder / "lattices" / f"{one.utt}.slf.gz", union_of_nbest(one))
    (folder / "hyp").write_text("".join(f"{one.utt} {one.hyps[0].text}\n" for one in lists))
    (folder / "text").write_text("".join(f"{one.utt} {one.ref}\n" for one in lists))
    weights = {"acoustic": 1.0, "first_lm": 0.0, "word_bonus": 0.0}
    (folder / "first_pass.json").write_text(json.dumps({"weights": weights}))
    return folder


def check_elastic(cells: list[dict[str, Any]]) -> None:
    """Each size of an elastic LM was measured, not the uncut one."""
    by_size = {
        schedule: {one["sparsity"]: one for one in cells if one["schedule"] == schedule}
        for schedule in ("elastic", "elastic-interpolative", "one-shot")
    }
    for size, separate in by_size["one-shot"].items():
        elastic = by_size["elastic"][size]
        assert elastic["bytes"] == pytest.approx(separate["bytes"], rel=0.1)
        assert elastic["tokens"] > 1.5 * separate["tokens"]
        assert np.shape(elastic["nll"]) == (40,)
    larger, smaller = (by_size["elastic"][size] for size in AXES["sparsity"])
    assert larger["nll"] != smaller["nll"]
    assert min(larger["times_padded"], smaller["times_padded"]) > 0
    assert larger["file_bytes"] == smaller["file_bytes"]
    assert larger["bytes"] <= larger["file_bytes"] < 1.5 * larger["bytes"]
    # of as many weights, but another LM, whose checkpoint keeps both factors
    other = by_size["elastic-interpolative"][AXES["sparsity"][0]]
    assert other["bytes"] == pytest.approx(larger["bytes"], rel=0.1)
    assert other["nll"] != larger["nll"]
    assert not {"errors", "times_padded"} & other.keys()
    assert other["file_bytes"] > larger["file_bytes"]


def test_sentences_to_read_are_taken_from_transcripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {f"1-2-000{n}": " ".join(["WORD"] * n) for n in range(1, 7)}
    for name, part in (("1-2", (1, 2, 3)), ("1-3", (4, 5, 6))):
        (tmp_path / "set" / name).mkdir(parents=True)
        lines = (f"1-2-000{n} {texts[f'1-2-000{n}']}\n" for n in part)
        (tmp_path / "set" / name / f"{name}.trans.txt").write_text("".join(lines))

    def run(*more: str) -> int:
        argv = ["sentences_to_read", "--transcripts", str(tmp_path / "set")]
        argv += ["--out", str(tmp_path / "new/list.jsonl"), *more]
        monkeypatch.setattr(sys, "argv", argv)
        return sentences_to_read.main()

    limits = ("--min-words", "2", "--max-words", "5")
    assert run(*limits, "--every", "2", "--rest", str(tmp_path / "rest.txt")) == 0
    rows = [json.loads(line) for line in (tmp_path / "new/list.jsonl").read_text().splitlines()]
    assert [(row["utt"], row["voice"], row["text"]) for row in rows] == [
        ("rms-1-2-0002", "rms", "word word"),
        ("slt-1-2-0004", "slt", "word word word word"),
    ]
    rest = (tmp_path / "rest.txt").read_text().splitlines()
    assert [len(one.split()) for one in rest] == [1, 3, 5, 6]
    assert run("--min-words", "7") == 1
    assert "6 transcripts; expected some of 7 to 30 words" in capsys.readouterr().err
    (tmp_path / "set/1-3/1-3.trans.txt").write_text("1-2-0001 WORD\n")
    assert run() == 1
    assert "1-3.trans.txt:1: 1-2-0001 again; expected" in capsys.readouterr().err
    (tmp_path / "set/1-3/1-3.trans.txt").write_text("1-2-0009\n")
    assert run() == 1
    assert "1-3.trans.txt:1: 1-2-0009; expected utterance and words" in capsys.readouterr().err


def test_the_whole_recipe_on_a_tiny_lm(tmp_path: Path) -> None:
    pytest.importorskip("kaldingram")
    draw = random.Random(5)
    words = ("the", "cat", "sat", "on", "a", "mat", "and", "hat", "it", "dog")
    pairs = list(zip(words, words[1:]))  # bigrams that are worth their bytes
    sentences = [" ".join(sum(draw.choices(pairs, k=3), ())) for _ in range(400)]
    for name, part in (("text", sentences[:300]), ("heldout", sentences[300:])):
        (tmp_path / name).write_text("".join(f"{one}\n" for one in part))
    lists = [
        NBest(f"u{n}", (Hypothesis("the cat sad", -1.0), Hypothesis(one, -1.5)), 1.0, one)
        for n, one in enumerate(sentences[:8])
    ]
    asrprune.write_nbest(tmp_path / "lists.jsonl.gz", lists)
    (tmp_path / "train.json").write_text(json.dumps(TINY))
    options = ["--text", str(tmp_path / "text"), "--heldout", str(tmp_path / "heldout")]
    lattices = write_first_pass(tmp_path / "first", lists)
    places = f"small={tmp_path / 'lists.jsonl.gz'} bare={tmp_path / 'bare.jsonl.gz'},{lattices}"
    asrprune.write_nbest(tmp_path / "bare.jsonl.gz", [replace(one, ref=None) for one in lists])
    options += ["--lists", places, "--engine", "torch", "--nj", "2"]
    options += ["--lattices", f"decoded={lattices},{lattices / 'text'}"]
    options += ["--train-conf", str(tmp_path / "train.json"), "--vocab-size", "24"]
    options += ["--valid-sentences", "10", "--heldout-sentences", "80", "--lm-name", "tiny"]
    small_conf = {**TINY, "model": {**TINY["model"], "d_model": 16}}
    (tmp_path / "train-small.json").write_text(json.dumps(small_conf))
    (tmp_path / "train-small-seed2.json").write_text(json.dumps({**small_conf, "seed": 2}))
    options += ["--ngram-order", "2", "--ngram-sizes", "1 0.03"]
    small_confs = (str(tmp_path / f"train-{name}.json") for name in ("small", "small-seed2"))
    options += ["--small-confs", " ".join(small_confs)]
    few = {**AXES, "method": ["structured"], "sparsity": [0.5], "set": ["hold=0.8"]}
    low_rank = {**AXES, "method": ["low-rank"]}
    elastic = {**low_rank, "schedule": ["elastic"], "budget": [0.5]}
    silent = {**elastic, "schedule": ["elastic-interpolative"], "words": False}
    separate = {**low_rank, "schedule": ["one-shot"], "sparsity": [0.5]}
    sparse = {**few, "method": ["structured+embedding0.6"], "schedule": ["one-shot"]}
    sparse["statistics_tokens"] = 90
    grids = few, sparse, separate, elastic, silent
    rates = [[1e-3, 5e-3], [1e-8, 1e-8]]
    more: dict[str, Any] = {"rates": rates, "continued": [0.25]}
    options += ["--grid", str(write_grid(tmp_path / "grid.json", *grids, **more))]
    done = run_recipe("study", tmp_path, *options)
    assert done.returncode == 0, done.stderr[-3000:]
    (lm,) = json.loads((tmp_path / "exp/results.json").read_text())["lms"]
    assert (lm["name"], lm["shape"]["d_model"], len(lm["text"]["words"])) == ("tiny", 32, 40)
    assert sum(lm["text"]["words"]) == 80 * 7
    dense, ngram, small_ngram, *rest = lm["cells"]
    assert (small_ngram["kind"], small_ngram["name"]) == ("ngram", "kn2-0.03.arpa")
    assert small_ngram["bytes"] <= round(0.03 * dense["bytes"]) < ngram["bytes"]
    assert sum(small_ngram["nll"]) > sum(ngram["nll"])
    pruned = [one for one in rest if one.get("method") == "structured"]
    (zeros,) = [one for one in rest if one.get("method") == "structured+embedding0.6"]
    assert zeros["name"] == "structured+embedding0.6-kfac-one-shot-b0.25-s1-0.5"
    table_bytes = 4 * 24 * 32
    assert pruned[1]["bytes"] - zeros["bytes"] == pytest.approx(
        0.6 * table_bytes - table_bytes / 32, abs=300
    )
    small, small_again = [one for one in rest if one["kind"] == "scratch"]
    assert ("seed" in small, small_again["seed"]) == (False, 2)
    for key in ("method", "sparsity", "budget", "bytes"):
        assert small[key] == small_again[key]  # seeds of one plan
    assert small["nll"] != small_again["nll"]
    (longer,) = [one for one in rest if one["kind"] == "continued"]
    assert (longer["name"], longer["bytes"]) == ("continued-b0.25", dense["bytes"])
    assert longer["tokens"] == pruned[0]["tokens"]
    assert sum(longer["nll"]) < sum(dense["nll"])  # it has only begun to learn
    decoded, bare, listed = lm["lists"]
    assert {**bare, "name": "small"} == listed
    assert (decoded["name"], listed["name"]) == ("decoded", "small")
    assert decoded["first_pass_errors"] == listed["first_pass_errors"]
    assert decoded["oracle_errors"] == listed["oracle_errors"] == [0] * 8
    assert (small["name"], small["budget"], np.shape(small["nll"])) == (
        "scratch-train-small",
        round(TINY["max_tokens"] / lm["training_tokens"], 2),
        (40,),
    )
    assert "criterion" not in small  # LMs of several configurations make one curve
    assert 0 < small["bytes"] < dense["bytes"]
    assert min(small["times_padded"], small["times_dense"]) > 0
    check_elastic([one for one in rest if one.get("method") == "low-rank"])
    assert (ngram["kind"], ngram["name"], len(ngram["errors"]["small"])) == ("ngram", "kn2.arpa", 8)
    assert (dense["kind"], dense["times_padded"] > 0) == ("dense", True)
    assert [(one["schedule"], one["sparsity"]) for one in pruned] == [
        ("cubic", 0.5),
        ("one-shot", 0.5),
    ]
    assert pruned[0]["bytes"] < dense["bytes"]
    budget = 0.25 * lm["training_tokens"]
    for one in pruned:
        assert 0 < one["tokens"] < 1.5 * budget
        assert np.shape(one["nll"]) == (40,)
        assert np.shape(one["errors"]["small"]) == np.shape(one["errors"]["decoded"]) == (8,)
        assert min(one["times_padded"], one["times_dense"]) > 0
        assert one["rates"] == rates[0]  # the others leave the LM as it was pruned
    nll = sum(asrprune.open_lm(tmp_path / "exp/dense").score_lists([sentences[310:390]])[0])
    assert sum(dense["nll"]) == pytest.approx(-nll, rel=1e-4)
    assert not list((tmp_path / "exp/families").iterdir())
    page = (tmp_path / "exp/results.md").read_text()
    assert "## Verdicts" in page
    assert "## One elastic LM for every size" in page
    table = read_table(tmp_path / "exp/results-table.json")
    assert {(row.lm, row.family[2], row.sparsity) for row in table} == {
        ("tiny", "cubic", 0.5),
        ("tiny", "one-shot", 0.5),
        ("tiny", "elastic", 0.5),
        ("tiny", "elastic", 0.7),
    }
    (row,) = [row for row in table if row.zeros]
    assert (row.family[0], row.zeros) == ("structured", {"embedding": 0.6})
    told = {row.family[0::2]: row.settings for row in table if not row.zeros}
    names = ("lr=0.001", "muon_lr=0.005")
    own = tuple(f"fine_tuning.optimizer.{one}" for one in names)
    assert told["low-rank", "one-shot"] == (*lm["set"], *own)
    assert lm["set"][3:] == ["hold=0.9"]
    for schedule in ("one-shot", "cubic"):
        assert told["structured", schedule] == (*lm["set"][:3], "hold=0.8", *own)
    assert {row.statistics_tokens for row in table if not row.zeros} == {100}
    assert (row.statistics_tokens, zeros["statistics_tokens"]) == (90, 90)

    # a small LM is trained once
    scratch = ["scratch", str(tmp_path / "train-small.json"), "--exp", str(tmp_path / "exp")]
    trained = tmp_path / "exp/cells/scratch-train-small.json"
    stamp = trained.stat().st_mtime_ns
    assert run_study.main([*scratch, "--engine", "torch"]) == 0
    assert trained.stat().st_mtime_ns == stamp

    # a run that cannot be made is named when the others are done
    none = {**few, "method": ["width"], "schedule": ["one-shot"], "sparsity": [0.999]}
    write_grid(tmp_path / "grid.json", none, *grids, **more)
    (tmp_path / "exp/cells/low-rank-kfac-elastic-b0.5-s1.json").unlink()
    failed = run_recipe("study", tmp_path, *options, "--stage", "5", "--stop-stage", "5")
    assert failed.returncode == 1
    line = "the others are done (EXP/log tells why): width-kfac-one-shot-b0.25-s1-0.999"
    assert line in failed.stdout + failed.stderr
    assert (tmp_path / "exp/cells/low-rank-kfac-elastic-b0.5-s1.json").exists()
    write_grid(tmp_path / "grid.json", *grids, **more)

    # only a run whose settings have changed is made again, to the same figures
    cells = tmp_path / "exp/cells"
    changed, same = (cells / f"structured-kfac-{one}.json" for one in RUNS)
    before = {path: json.loads(path.read_text()) for path in (changed, same)}
    other = before[changed]["made_with"] | {"statistics_tokens": 1}
    changed.write_text(json.dumps(before[changed] | {"made_with": other}))
    for path in (changed, same):
        call = ["run", path.stem, "--grid", str(tmp_path / "grid.json"), "--exp", str(cells.parent)]
        assert run_study.main(call) == 0
    assert json.loads(same.read_text()) == before[same]
    again = json.loads(changed.read_text())
    assert again["made_with"] == before[changed]["made_with"]
    for one, other in zip(again["cells"], before[changed]["cells"], strict=True):
        # the recipe gives BLAS one thread, this process more: sums differ in their last digits
        assert one["nll"] == pytest.approx(other["nll"], rel=1e-4)
    assert run_study.main(["run", "none", *call[2:]]) == 1

    # figures of other data are not mixed with those of these
    exp = cells.parent
    kept = run_study.collect("tiny", exp, {})
    assert [one["name"] for one in kept["cells"]] == [one["name"] for one in lm["cells"]]
    study = grid.read_study(tmp_path / "grid.json")
    made = {"set": list(study.settings), "statistics_tokens": 100}
    assert run_study.collect("tiny", exp, {}, study) == {**kept, **made}
    other_rates = grid.read_study(write_grid(tmp_path / "other.json", few, rates=rates[:1]))
    assert [one["kind"] for one in run_study.collect("tiny", exp, {}, other_rates)["cells"]] == [
        "dense",
        "ngram",
        "ngram",
        "scratch",
        "scratch",
    ]
    for name in ("heldout.txt", "lists/small.jsonl.gz", "data/data.json"):
        before_it = run_study.study_of(exp)
        whole = (exp / name).read_bytes()
        (exp / name).write_bytes(whole + b"\n")
        assert run_study.study_of(exp) != before_it
        (exp / name).write_bytes(whole)
    with (exp / "heldout.txt").open("a") as stream:
        stream.write("the cat sat\n")
    assert [one["kind"] for one in run_study.collect("tiny", exp, {})["cells"]] == [
        "dense",
        "ngram",
        "ngram",
    ]
