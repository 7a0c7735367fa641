"""``tune`` on lattices and of many systems at once, through the command."""

from __future__ import annotations

import json

import pytest

from asrprune.core.hypothesis import NBest
from asrprune.core.lattice.paths import k_best
from asrprune.firstpass.formats.jsonl import write_nbest
from asrprune.lm.open import open_lm
from asrprune.rescore.weights_file import read_weights
from tests.cli.test_lattice_cli import FIRST_PASS, LATTICES, call
from tests.small_lm import ARPA, save_small_lm

UNLIMITED = ("--history", "none", "--beam", "none", "--state-hypotheses", "none", "--frontier", 999)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An LM, an n-gram, dev lattices, and references that the LM likes."""
    from asrprune.firstpass.formats.slf import write_slf_files

    folder = tmp_path_factory.mktemp("tune")
    lm = save_small_lm(folder)
    (folder / "tiny.arpa").write_text(ARPA)
    (folder / "dev").mkdir()
    write_slf_files(folder / "dev" / "lattices", LATTICES)
    scorer = open_lm(lm)
    lines, lists = [], []
    for one in LATTICES:
        hyps = k_best(one, 1000, FIRST_PASS)
        texts = [hyp.text for hyp in hyps]
        best = texts[int(scorer.score_lists([texts])[0].argmax())]
        lines.append(f"{one.utt} {best}\n")
        lists.append(NBest(one.utt, hyps))
    (folder / "dev" / "text").write_text("".join(lines))
    write_nbest(folder / "dev" / "nbest.jsonl", lists)
    return {"folder": folder, "lm": lm, "arpa": folder / "tiny.arpa", "dev": folder / "dev"}


def tune(place, out, *more):
    common = ("--lattice", place["dev"] / "lattices", "--format", "slf", "--out", out)
    ref = ("--ref", place["dev"] / "text", "--resamples", 4)
    return call("tune", *common, *ref, *UNLIMITED, "--list-size", 1000, *more)


def test_lattices_and_the_lists_of_all_their_paths_give_the_same_weights(place, tmp_path, caplog):
    caplog.set_level("INFO")
    assert tune(place, tmp_path / "w.json", "--lm", place["lm"], "--threads", 1) == 0
    found = read_weights(tmp_path / "w.json")
    assert found.weights.acoustic == FIRST_PASS.acoustic  # the lattices state where to start
    assert found.dev["at_rest"] is True
    assert found.dev["errors"] == 0
    assert "held-out halves of dev, WER: without LM" in caplog.text
    assert "first-pass LM" in caplog.text
    assert "removes no errors" not in caplog.text

    nbest, scores = place["dev"] / "nbest.jsonl", tmp_path / "scores.gz"
    assert call("lmscore", "--lm", place["lm"], "--nbest", nbest, "--out", scores) == 0
    start = tmp_path / "first_pass.json"
    weights = {"acoustic": 0.5, "first_lm": 2.0, "word_bonus": -0.25}
    start.write_text(json.dumps({"weights": weights}))
    flags = ("--first-pass", start, "--ref", place["dev"] / "text", "--resamples", 4)
    common = ("--nbest", nbest, "--scores", scores, "--out", tmp_path / "lists.json")
    assert call("tune", *common, *flags) == 0
    lists = read_weights(tmp_path / "lists.json")
    assert lists.weights.lm == pytest.approx(found.weights.lm, abs=1e-4)
    assert lists.weights.word_bonus == pytest.approx(found.weights.word_bonus, abs=1e-4)
    assert lists.dev["held_out_wer_percent"] == found.dev["held_out_wer_percent"]
    assert lists.dev["utterances_hash"] == found.dev["utterances_hash"]


@pytest.mark.slow
def test_many_systems_are_those_one_by_one_in_any_number_of_processes(place, tmp_path, caplog):
    caplog.set_level("INFO")
    systems = (f"lm={place['lm']}", f"tri={place['arpa']}", f"both={place['lm']},{place['arpa']}")
    made = {}
    for nj in (1, 2):
        out = tmp_path / f"nj{nj}"
        more = ("--towards", "lm", "--nj", nj, "--threads", 1, "--accept-unknown")
        assert tune(place, out, "--system", *systems, *more) == 0
        made[nj] = {
            name: read_weights(out / name / "weights.json") for name in ("lm", "tri", "both")
        }
    for name, found in made[1].items():
        assert found.weights == made[2][name].weights
        assert found.dev == made[2][name].dev
    dense = made[1]["lm"].weights
    centre = made[1]["tri"].dev["centre"]
    assert (centre["first_lm"], tuple(centre["lm"])) == (dense.first_lm, dense.lm)
    assert len(made[1]["both"].weights.lm) == 2
    assert "both: 2 LMs, lm has 1: drawn to the best mixture" in caplog.text
    assert tune(place, tmp_path / "w.json", "--lm", place["lm"], "--threads", 1) == 0
    assert read_weights(tmp_path / "w.json").weights == dense
    towards = ("--towards", tmp_path / "w.json", "--accept-unknown")
    assert tune(place, tmp_path / "tri.json", "--lm", place["arpa"], *towards) == 0
    assert read_weights(tmp_path / "tri.json").weights == made[1]["tri"].weights


def test_advice_names_no_option_that_tune_has_not(place, tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    lines = [line.split(" ", 1) for line in (place["dev"] / "text").read_text().splitlines()]
    ref = tmp_path / "ref.trn"
    ref.write_text("".join(f"{text.upper()} ({utt})\n" for utt, text in lines))
    scores = tmp_path / "scores.gz"
    common = ("--nbest", place["dev"] / "nbest.jsonl")
    assert call("lmscore", "--lm", place["lm"], *common, "--out", scores) == 0
    common += ("--scores", scores, "--ref", ref, "--resamples", 0)
    assert call("tune", *common, "--out", tmp_path / "w.json") == 0
    assert f"{ref}: read as trn\n" in caplog.text
    assert "write both in one form first (wer has --ignore-case)" in caplog.text
    ref.write_text("".join(f"{text} {{ a / b }} ({utt})\n" for utt, text in lines))
    assert call("tune", *common, "--out", tmp_path / "w.json") == 1
    found = f"utterance {lines[0][0]}: alternatives; expected plain words, one reading"
    assert capsys.readouterr().err == f"asrprune tune: {ref}:1: {found}\n"


def test_an_lm_that_does_not_help_is_called_so(place, tmp_path, caplog):
    liked = tmp_path / "text"  # what the first pass likes best
    best = {one.utt: k_best(one, 1, FIRST_PASS)[0].text for one in LATTICES}
    liked.write_text("".join(f"{utt} {text}\n" for utt, text in best.items()))
    common = ("--lattice", place["dev"] / "lattices", "--format", "slf", "--resamples", 0)
    common += ("--accept-unknown",)
    out = ("--ref", liked, "--out", tmp_path / "w.json")
    assert call("tune", *common, "--lm", place["arpa"], *out) == 0
    assert "the LM removes no errors on held-out halves of dev" in caplog.text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "nothing to tune for; expected --lm, or --system NAME=PATH"),
        (("--system", "a={lm}", "a={lm}"), "one name twice in a, a"),
        (("--system", "a={lm}", "--towards", "b"), "--towards b; expected one of a"),
        (("--lm", "{lm}", "--engine", "onnx"), "engine for lattices"),
    ],
)
def test_flags_that_do_not_go_together(place, tmp_path, capsys, flags, message):
    flags = [flag.format(lm=place["lm"]) for flag in flags]
    assert tune(place, tmp_path / "out", *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_bad_dev_lattices_are_refused(place, tmp_path, capsys):
    common = ("--format", "slf", "--lm", place["arpa"], "--out", tmp_path / "w.json")
    common += ("--accept-unknown",)
    lattices = ("--lattice", place["dev"] / "lattices")
    short = tmp_path / "text"
    short.write_text("u0 the cat sat\n")
    assert call("tune", *lattices, *common, "--ref", short) == 1
    assert "utterance u1 without a reference" in capsys.readouterr().err
    assert call("tune", *lattices, *common) == 2
    assert "--lattice needs --ref" in capsys.readouterr().err
    test = tmp_path / "test"
    test.mkdir()
    (place["dev"] / "lattices").rename(test / "lattices")
    try:
        ref = ("--ref", place["dev"] / "text")
        assert call("tune", "--lattice", test / "lattices", *common, *ref) == 1
        assert "weights are never tuned on test" in capsys.readouterr().err
    finally:
        (test / "lattices").rename(place["dev"] / "lattices")
    assert not (tmp_path / "w.json").exists()
