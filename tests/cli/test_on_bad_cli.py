"""Utterances without hypotheses, lattices without LM scores, scores that are none: every verb."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import from_arcs
from asrprune.firstpass.formats.jsonl import read_nbest, write_nbest
from asrprune.firstpass.formats.slf import write_slf_files
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.rescore.scores_file import read_scores
from tests.small_lm import save_small_lm

WEIGHTS = {"weights": {"acoustic": 1.0, "first_lm": 0.5, "word_bonus": 0.0}}
HEADER = '{"format": "asrprune-nbest", "version": 1, "log_base": "e", "sign": "logprob"}\n'
ARPA = """\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.0\t<unk>
-9\t<s>\t-0.5
-0.7\t</s>
-0.6\tred\t-0.2
-0.8\tkite\t-0.3

\\2-grams:
-0.25\t<s> red
-0.1\tred kite
-0.05\tkite </s>

\\end\\
"""
LN_10 = math.log(10.0)


def _lists(folder: Path) -> Path:
    line = '{"utt": "%s", "ref": "the cat sat", "hyps": [%s]}\n'
    hyps = ", ".join(
        f'{{"text": "{text}", "acoustic": {score}, "lm": -1}}'
        for text, score in (("the cat sat", -1), ("a cat", -2))
    )
    path = folder / "nbest.jsonl"
    path.write_text(HEADER + line % ("u1", hyps) + line % ("u2", "") + line % ("u3", hyps) + "\n")
    (folder / "w.json").write_text(json.dumps(WEIGHTS))
    return path


def _lattices(folder: Path, lm: bool = True) -> Path:
    arcs = [
        (0, 1, "red", -10.0, -1.0 if lm else None),
        (1, 2, "kite", -10.0, -1.0 if lm else None),
        (1, 2, "kites", -11.0, -0.5 if lm else None),
    ]
    write_slf_files(folder / "lats", [from_arcs("u1", 3, 0, 2, arcs)])
    (folder / "ref").write_text("u1 red kite\nu2 a\n")
    return folder / "lats"


def _run(call: str, **names: object) -> int:
    return main([word.format(**names) for word in call.split()])


CALLS = {
    "convert": "convert --from jsonl --to jsonl {n} --out {o}",
    "validate": "validate --format jsonl {n} --out {o}",
    "lmscore": "lmscore --lm {lm} --nbest {n} --out {o}",
    "rescore": "rescore --nbest {n} --weights {w} --out {o}",
    "oracle": "oracle --nbest {n} --json {o}",
    "bench": "bench --lm {lm} --nbest {n} --repeats 1 --warmup 0 --json {o}",
}


@pytest.mark.parametrize("verb", CALLS)
def test_every_verb_has_the_policies(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    names = {"n": _lists(tmp_path), "o": tmp_path / "out", "w": tmp_path / "w.json"}
    names["lm"] = save_small_lm(tmp_path)
    assert _run(CALLS[verb], **names) == 1
    error = capsys.readouterr().err
    assert "nbest.jsonl:3: utterance u2: no hypothesis" in error
    assert "--on-bad skip or first-pass" in error
    assert not (tmp_path / "out").exists()
    for policy, done in (("skip", "left out"), ("first-pass", "read as empty hypotheses")):
        caplog.clear()
        assert _run(f"{CALLS[verb]} --on-bad {policy}", **names) == 0
        assert f"{done} (--on-bad): 1 utterances: u2" in caplog.text


@pytest.mark.parametrize(
    "target",
    ["slf", "kaldi-lat", "kaldi-lat-binary", "k2", "kaldi-nbest", "srilm-nbest", "mlm-json"],
)
def test_an_utterance_without_hypotheses_gets_an_empty_path_in_files_of_scores(
    target: str, tmp_path: Path
) -> None:
    if target == "k2":
        pytest.importorskip("torch")
    lm = None if target == "mlm-json" else -1.0
    lists = [NBest(utt, (Hypothesis("a b", -2.0, lm), Hypothesis("b", -3.0, lm))) for utt in "bd"]
    path = tmp_path / "n.jsonl"
    write_nbest(path, lists)
    lines = path.read_text().splitlines(keepends=True)
    empty = '{"utt": "%s", "hyps": []}\n'
    path.write_text("".join([lines[0], empty % "a", lines[1], empty % "c", lines[2], empty % "e"]))
    suffix = ".pt" if target == "k2" else ""
    names = {"t": target, "n": path, "o": tmp_path / f"out{suffix}", "b": tmp_path / "back.jsonl"}
    assert _run("convert --from jsonl --to {t} {n} --out {o} --on-bad first-pass", **names) == 0
    assert _run("convert --from {t} --to jsonl {o} --out {b}", **names) == 0
    found = {nbest.utt: nbest.hyps for nbest in read_nbest(names["b"])}
    silence = Hypothesis("", 0.0, None if lm is None else 0.0)
    assert all(found[utt] == (silence,) for utt in "ace")
    assert [[hyp.text for hyp in found[utt]] for utt in "bd"] == [["a b", "b"]] * 2
    assert found["d"][1].acoustic == pytest.approx(-3.0)


@pytest.mark.parametrize("target", ["slf", "mlm-json"])
def test_a_silent_utterance_of_wenet_is_an_empty_path(target: str, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("wav u1\nwav u2\ncandidate -1.5 a\n")
    names = {"t": target, "n": tmp_path / "x.txt", "o": tmp_path / "o", "b": tmp_path / "b"}
    assert _run("convert --from wenet --to {t} {n} --out {o}", **names) == 0
    more = " --lm-scale 0" if target == "slf" else ""
    assert _run("convert --from {t} --to jsonl {o} --out {b}" + more, **names) == 0
    found = [nbest.hyps[0] for nbest in read_nbest(names["b"])]
    assert [(hyp.text, hyp.acoustic) for hyp in found] == [("", 0.0), ("a", -1.5)]


def test_a_skipped_list_has_no_score_and_an_empty_one_has(tmp_path: Path) -> None:
    names = {"n": _lists(tmp_path), "lm": save_small_lm(tmp_path), "w": tmp_path / "w.json"}
    for policy, utts in (("skip", ["u1", "u3"]), ("first-pass", ["u1", "u2", "u3"])):
        scores = tmp_path / f"{policy}.scores"
        assert _run(f"{CALLS['lmscore']} --on-bad {policy}", o=scores, **names) == 0
        assert list(read_scores(scores).utterances) == utts
        head = json.loads(scores.read_text().splitlines()[0])
        assert head["on_bad"] == policy
        hyp = tmp_path / f"{policy}.hyp"
        assert _run(f"{CALLS['rescore']} --on-bad {policy}", o=hyp, **names) == 0
        assert [line.split()[0] for line in hyp.read_text().splitlines()] == utts
        call = "tune --nbest {n} --scores {s} --out {o} --resamples 0 --on-bad " + policy
        assert _run(call, n=names["n"], s=scores, o=tmp_path / "tuned.json") == 0


@pytest.mark.parametrize(
    "call",
    [
        "rescore --lattice {l} --format slf --weights {w} --out {o}",
        "oracle --lattice {l} --format slf --ref {r} --mode present --json {o}",
        "convert --from slf --to jsonl {l} --out {o}",
        "validate --format slf {l} --out {o}",
    ],
)
def test_lattices_without_a_path(
    call: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    _lists(tmp_path)
    folder = _lattices(tmp_path)
    (folder / "u2.slf").write_text("VERSION=1.0\nUTTERANCE=u2.mfc\nN=0 L=0\n")
    names = {"l": folder, "w": tmp_path / "w.json", "r": tmp_path / "ref", "o": tmp_path / "out"}
    assert _run(call, **names) == 1
    assert "utterance u2: a lattice without nodes" in capsys.readouterr().err
    for policy in ("skip", "first-pass"):
        caplog.clear()
        assert _run(f"{call} --on-bad {policy}", **names) == 0
        assert "1 utterances: u2" in caplog.text
    if call.startswith("rescore"):
        assert (tmp_path / "out").read_text() == "u1 red kites\nu2\n" or "u2" in (
            tmp_path / "out"
        ).read_text()


def test_a_lattice_in_which_no_path_can_win_meets_the_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _lists(tmp_path)
    arcs = [(0, 1, "red", -math.inf, -1.0)]
    write_slf_files(tmp_path / "lats", [from_arcs("u1", 2, 0, 1, arcs)])
    names = {"l": tmp_path / "lats", "w": tmp_path / "w.json", "o": tmp_path / "out"}
    for call in (
        "rescore --lattice {l} --format slf --weights {w} --out {o}",
        "convert --from slf --to jsonl {l} --out {o}",
    ):
        assert _run(call, **names) == 1
        error = capsys.readouterr().err
        assert "u1" in error
        assert "--on-bad" in error
        assert _run(f"{call} --on-bad first-pass", **names) == 0
        assert "u1" in (tmp_path / "out").read_text()


def test_validate_names_a_lattice_that_convert_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    both = ((-math.inf, -1.0), (-1.0, -1.0))
    for utt, scores in (("u1", both), ("u2", both[:1]), ("u3", ((-1.0, -math.inf),))):
        (tmp_path / utt).mkdir()
        arcs = [(0, 1, "red", *pair) for pair in scores]
        write_slf_files(tmp_path / utt / "lats", [from_arcs(utt, 2, 0, 1, arcs)])
    call = "validate --format slf {l} --out {o}"
    assert _run(call, l=tmp_path / "u1" / "lats", o=tmp_path / "out") == 0
    for utt in ("u2", "u3"):
        names = {"l": tmp_path / utt / "lats", "o": tmp_path / "out"}
        assert _run(call, **names) == 1
        error = capsys.readouterr().err
        assert f"utterance {utt}: no path with a finite total" in error
        assert "--on-bad skip or first-pass" in error
        assert _run(f"{call} --on-bad first-pass", **names) == 0
        assert f"1 utterances: {utt}" in caplog.text
        assert json.loads((tmp_path / "out").read_text())["read_as_empty"] == 1
    folder = _lattices(tmp_path, lm=False)
    text = "U=u2 lmscale=9\nN=2 L=1\nI=0\nI=1\nJ=0 S=0 E=1 W=a a=-1\n"
    (folder / "u2.slf").write_text(text)
    assert _run(call, l=folder, o=tmp_path / "out") == 0


def test_a_lattice_of_one_node_has_no_path_to_win(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "u1.slf").write_text("N=1 L=0\nI=0\n")
    names = {"l": tmp_path / "u1.slf", "o": tmp_path / "out"}
    call = "convert --from slf --to jsonl {l} --out {o}"
    assert _run(call, **names) == 1
    error = capsys.readouterr().err
    assert "u1.slf: utterance u1: a lattice without links; expected a lattice with a path" in error
    assert "--on-bad skip or first-pass" in error
    assert _run(f"{call} --on-bad first-pass", **names) == 0
    (nbest,) = read_nbest(tmp_path / "out")
    assert nbest.hyps[0].text == ""


def test_lattices_without_lm_scores_name_what_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    _lists(tmp_path)
    names = {"l": _lattices(tmp_path, lm=False), "o": tmp_path / "out", "w": tmp_path / "w.json"}
    call = "convert --from slf --to jsonl {l} --out {o}"
    assert _run(call, **names) == 1
    error = capsys.readouterr().err
    assert "utterance u1: no LM scores of the first pass" in error
    assert "--lm-scale 0" in error
    assert "--first-lm FILE" in error
    assert _run(f"{call} --lm-scale 0", **names) == 0
    assert "1 lists are ranked and scored by the acoustic model alone" in caplog.text
    (nbest,) = read_nbest(tmp_path / "out")
    assert [hyp.text for hyp in nbest.hyps] == ["red kite", "red kites"]
    assert [hyp.lm for hyp in nbest.hyps] == [None, None]
    assert _run("rescore --lattice {l} --format slf --weights {w} --out {o}", **names) == 1
    error = capsys.readouterr().err
    assert "utterance u1: no LM scores of the first pass" in error
    assert "a first_lm weight of 0" in error


def test_first_lm_gives_the_scores_of_the_ngram(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("kenlm")
    (tmp_path / "g.arpa").write_text(ARPA)
    names = {"l": _lattices(tmp_path, lm=False), "g": tmp_path / "g.arpa", "o": tmp_path / "out"}
    call = "convert --from slf --to jsonl {l} --out {o} --first-lm {g}"
    assert _run(call, **names) == 0
    (nbest,) = read_nbest(tmp_path / "out")
    found = {hyp.text: (hyp.acoustic, hyp.lm) for hyp in nbest.hyps}
    # <s> red kite </s>: bigrams all the way; kites: <unk> after the back-off of red, then </s>
    assert found["red kite"] == pytest.approx((-20.0, LN_10 * (-0.25 - 0.1 - 0.05)), rel=1e-6)
    assert found["red kites"] == pytest.approx((-21.0, LN_10 * (-0.25 - 0.2 - 1.0 - 0.7)), rel=1e-6)
    assert "1 of 3 words of the lattices are unknown (kites ...)" in caplog.text
    names["l"] = _lattices(tmp_path)
    assert _run(call, **names) == 1
    assert "utterance u1: LM scores of the first pass" in capsys.readouterr().err


def test_null_acoustic_scores_are_refused_by_validate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "n.jsonl"
    call = "validate --format jsonl {n}"
    pair = (Hypothesis("a b", -1.0), Hypothesis("a", None))
    silence = NBest("u0", (Hypothesis(""),))  # one hypothesis needs no score
    write_nbest(path, [silence, NBest("u1", pair)])
    assert _run(call, n=path) == 1
    error = capsys.readouterr().err
    assert "n.jsonl: utterance u1: no acoustic score of hypothesis 2" in error
    assert "--accept-unscored" in error
    write_nbest(path, [silence, NBest("u1", pair[:1])])
    assert _run(call, n=path) == 0
    write_nbest(path, [NBest("u1", pair[1:] * 2)])
    assert _run(call, n=path) == 1
    caplog.clear()
    assert _run(f"{call} --accept-unscored", n=path) == 0
    assert "no acoustic scores: the lists are in rank order" in caplog.text


def test_scores_that_json_cannot_hold_name_file_and_utterance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.txt").write_text("wav u1\ncandidate -1 a\ncandidate -inf b\n")
    for target in ("jsonl", "mlm-json"):
        assert (
            _run(
                "convert --from wenet --to {t} {n} --out {o}",
                t=target,
                n=tmp_path / "x.txt",
                o=tmp_path / "out",
            )
            == 1
        )
        error = capsys.readouterr().err
        assert "x.txt: utterance u1: acoustic score -inf of hypothesis 2" in error
        assert not (tmp_path / "out").exists()


def test_paths_longer_than_the_lm_are_refused_dropped_or_windowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = save_small_lm(tmp_path)
    positions = load_checkpoint(lm).model.max_positions
    n_words = positions + 3
    arcs = [(n, n + 1, "cat", -0.1, -1.0) for n in range(n_words)]
    arcs += [(0, n_words, "cat", -10.0 * n_words, -1.0)]
    write_slf_files(tmp_path / "lats", [from_arcs("u1", n_words + 1, 0, n_words, arcs)])
    head = {"format": "asrprune-weights", "version": 1, "lms": ["lm"]}
    weights = {"acoustic": 1.0, "first_lm": 0.0, "lm": [0.1], "word_bonus": 0.0}
    (tmp_path / "w.json").write_text(json.dumps({**head, "weights": weights}))
    names = {"l": tmp_path / "lats", "w": tmp_path / "w.json", "o": tmp_path / "out", "lm": lm}
    for mode, options in (("beam", " --beam none"), ("nbest", "")):
        call = "rescore --lattice {l} --format slf --lm {lm} --weights {w} --out {o} --mode "
        call += mode + options
        assert _run(call, **names) == 1
        assert "utterance u1: " in capsys.readouterr().err
        assert _run(f"{call} --over-long minus-inf", **names) == 0
        assert (tmp_path / "out").read_text() == "u1 cat\n"
    assert _run(f"{call} --over-long window", **names) == 0
    assert (tmp_path / "out").read_text().split() == ["u1", *["cat"] * n_words]
