"""``rescore --lattice``, ``oracle --lattice`` and ``convert`` to lattices through the command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from asrprune.cli.main import main
from asrprune.core.lattice.lattice import from_arcs
from asrprune.core.lattice.paths import best_path, k_best
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.jsonl import read_nbest
from asrprune.firstpass.formats.slf import write_slf_files
from asrprune.firstpass.formats.table import FORMATS, read_items
from asrprune.lm.open import open_lm
from asrprune.rescore.lattices.modes import LATTICE_MODES
from asrprune.wer.kaldi_text import read_kaldi_text
from tests.quick import grid
from tests.small_lm import save_small_lm

FIRST_PASS = ScoreWeights(0.5, 2.0, (), -0.25)
UNLIMITED = ["--beam", "none", "--state-hypotheses", "none", "--frontier", "none"]
FLAGS = {
    "nbest": ["--paths", "1000"],
    "cover": ["--beam", "1000"],
    "beam": ["--history", "none", *UNLIMITED],
    "exact": ["--limit", "1000"],
}


def lattice(utt, seed):
    draw = np.random.default_rng(seed)
    words = [("the", "a"), ("cat", "hat", "cats"), ("sat", "sits", "")]
    arcs = [
        (i, i + 1, word, -float(draw.uniform(0, 9)), -float(draw.uniform(0, 3)))
        for i, slot in enumerate(words)
        for word in slot
    ]
    return from_arcs(utt, 4, 0, 3, arcs, weights=FIRST_PASS)


LATTICES = [lattice(f"u{number}", number) for number in range(4)]


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return save_small_lm(tmp_path_factory.mktemp("lm"))


@pytest.fixture
def slf(tmp_path):
    write_slf_files(tmp_path / "slf", LATTICES)
    return tmp_path / "slf"


def weights_file(path, *lm_weights, **more):
    weights = {"acoustic": 0.5, "first_lm": 1.0, "word_bonus": -0.25, "lm": list(lm_weights)}
    lms = [f"lm{number}" for number, _ in enumerate(lm_weights)]
    head = {"format": "asrprune-weights", "version": 1, "weights": weights, "lms": lms}
    path.write_text(json.dumps({**head, **more}), encoding="utf-8")
    return path


def call(*args):
    return main([str(arg) for arg in args])


def rescore(slf, weights, out, *more):
    flags = ("--lattice", slf, "--format", "slf", "--weights", weights, "--out", out)
    return call("rescore", *flags, *more, "--device", "cpu", "--threads", 1)


def expected_hypotheses(lm, *gains):
    """The best of all hypotheses of each lattice, scored one by one."""
    scorer = open_lm(lm)
    result = {}
    for one in LATTICES:
        hyps = k_best(one, 1000, ScoreWeights(0.5, 1.0, (), -0.25))
        scores = scorer.score_lists([[hyp.text for hyp in hyps]])[0]
        weights = ScoreWeights(0.5, 1.0, gains, -0.25)
        totals = [
            weights.total(h.acoustic, h.lm, [s] * len(gains), len(h.words))
            for h, s in zip(hyps, scores.tolist())
        ]
        result[one.utt] = hyps[int(np.argmax(totals))].text
    return result


@pytest.mark.parametrize("mode", ["nbest", "beam", "exact"])
def test_each_mode_finds_the_best_hypothesis(lm, slf, tmp_path, mode):
    weights = weights_file(tmp_path / "w.json", 1.5, -0.5)
    more = ("--lm", lm, lm, "--mode", mode, "--json", tmp_path / "done.json")
    assert rescore(slf, weights, tmp_path / "hyp", *more, *FLAGS[mode]) == 0
    assert read_kaldi_text(tmp_path / "hyp") == expected_hypotheses(lm, 1.5, -0.5)
    done = json.loads((tmp_path / "done.json").read_text())
    assert done["utterances"] == 4
    assert done["lm_tokens"]["lm"] > 0
    for of_lms in (done["lm_tokens"], done["known"]):
        assert of_lms == dict.fromkeys(("lm", "lm #2"), of_lms["lm"])


def test_lms_in_another_order_than_in_tuning_are_refused(lm, slf, tmp_path, capsys):
    weights = weights_file(tmp_path / "w.json", 1.5, -0.5, lms=["small.arpa (3-gram)", "lm"])
    flags = ("--lm", lm, tmp_path / "there" / "small.arpa")
    assert rescore(slf, weights, tmp_path / "hyp", *flags) == 1
    error = "w.json: LM weights for small.arpa (3-gram), lm; expected lm, small.arpa, the order of"
    assert error in capsys.readouterr().err


@pytest.mark.parametrize("mode", LATTICE_MODES)
def test_weight_zero_is_the_first_pass(lm, slf, tmp_path, mode):
    first = {"acoustic": 0.5, "first_lm": 2.0, "word_bonus": -0.25, "lm": [0.0]}
    weights = weights_file(tmp_path / "w.json", 0.0, weights=first)
    assert rescore(slf, weights, tmp_path / "hyp", "--lm", lm, "--mode", mode, *FLAGS[mode]) == 0
    assert read_kaldi_text(tmp_path / "hyp") == {
        one.utt: best_path(one, FIRST_PASS).text for one in LATTICES
    }


@pytest.mark.parametrize(
    ("to", "mode"),
    grid(
        [name for name, entry in FORMATS.items() if entry.kind == "lattice" and entry.write],
        LATTICE_MODES,
        centre=("slf", "beam"),
    ),
)
def test_the_written_lattice_has_the_same_best_path(lm, slf, tmp_path, caplog, mode, to):
    caplog.set_level("INFO")
    weights = weights_file(tmp_path / "w.json", 1.5)
    written = tmp_path / "out"
    flags = ("--lm", lm, "--mode", mode, "--write-lattice", written, "--to", to)
    assert rescore(slf, weights, tmp_path / "hyp", *flags, *FLAGS[mode]) == 0
    scale = ScoreWeights(0.5, 2.5, (), -0.25)  # the LM scale: 1.0 of the old LM, 1.5 of the new
    said = f"{written}: {to} cannot hold weights, use: acoustic scale 0.5, LM scale 2.5, word bonus"
    assert (f"{said} -0.25" in caplog.text) == ("weights" not in FORMATS[to].holds)
    best = {
        one.utt: best_path(one, one.weights or scale).text
        for one in read_items(to, str(written), {})
    }
    assert best == read_kaldi_text(tmp_path / "hyp")


@pytest.mark.parametrize("to", ["kaldi-lat", "kaldi-lat-plain", "kaldi-lat-binary"])
def test_a_kaldi_folder_is_rescored_job_by_job(lm, tmp_path, to):
    words = tmp_path / "words.txt"
    table = ["<eps>", *sorted({word for one in LATTICES for word in one.words if word})]
    words.write_text("".join(f"{w} {i}\n" for i, w in enumerate(table)), encoding="utf-8")
    decode, out = tmp_path / "decode", tmp_path / "rescored"
    decode.mkdir()
    for job, part in enumerate((LATTICES[:3], LATTICES[3:]), start=1):
        write = FORMATS["kaldi-lat"].write
        write(str(decode / f"lat.{job}.gz"), iter(part), words=str(words))
    (decode / "num_jobs").write_text("2\n", encoding="utf-8")
    weights = weights_file(tmp_path / "w.json", 1.5)
    read = ("--lattice", decode, "--format", "kaldi-lat", "--words", words, "--lm", lm)
    write = ("--write-lattice", out, "--to", to, "--like", decode, "--out", tmp_path / "hyp")
    assert call("rescore", *read, *write, "--weights", weights, *FLAGS["beam"]) == 0
    assert read_kaldi_text(tmp_path / "hyp") == expected_hypotheses(lm, 1.5)
    assert sorted(path.name for path in out.iterdir()) == ["lat.1.gz", "lat.2.gz", "num_jobs"]
    scale = ScoreWeights(0.5, 2.5, (), -0.25)
    again = read_items("kaldi-lat", str(out), {"words": str(words)})
    best = {one.utt: best_path(one, scale).text for one in again}
    assert best == read_kaldi_text(tmp_path / "hyp")


def test_what_the_written_format_cannot_hold_is_bad_data(lm, slf, tmp_path, capsys):
    weights = weights_file(tmp_path / "w.json", 1.5)
    like = tmp_path / "like"
    like.mkdir()
    FORMATS["kaldi-lat"].write(str(like / "lat.1.gz"), iter(LATTICES[:1]))
    (like / "num_jobs").write_text("1\n", encoding="utf-8")
    flags = ("--lm", lm, *FLAGS["beam"], "--write-lattice", tmp_path / "out", "--to", "kaldi-lat")
    capsys.readouterr()
    assert rescore(slf, weights, tmp_path / "hyp", *flags, "--like", like) == 1
    (line,) = (one for one in capsys.readouterr().err.splitlines() if "expected" in one)
    assert f" {slf}: utterance {LATTICES[1].utt} is not in {like}; expected what" in line
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "hyp").exists()


def test_the_written_list_goes_on_to_lmscore_and_tune(lm, slf, tmp_path):
    weights = weights_file(tmp_path / "w.json", 1.5)
    nbest = tmp_path / "nbest.jsonl"
    more = ("--lm", lm, "--mode", "exact", "--write-nbest", nbest, "--list-size", 5)
    assert rescore(slf, weights, tmp_path / "hyp", *more) == 0
    best = read_kaldi_text(tmp_path / "hyp")
    for one in read_nbest(nbest):
        assert len(one.hyps) == 5
        assert one.hyps[0].text == best[one.utt]
    scores = tmp_path / "scores"
    assert call("lmscore", "--lm", lm, "--nbest", nbest, "--out", scores, "--device", "cpu") == 0
    ref = tmp_path / "ref"
    ref.write_text("".join(f"{utt} the cat sat\n" for utt in best), encoding="utf-8")
    flags = ("--nbest", nbest, "--scores", scores, "--ref", ref, "--negative-lm", "--mbr")
    assert call("tune", *flags, "--out", tmp_path / "tuned.json") == 0
    tuned = json.loads((tmp_path / "tuned.json").read_text())
    assert tuned["posterior_scale"] > 0
    for decision in ("mbr", "consensus"):
        out = tmp_path / decision
        assert rescore(slf, tmp_path / "tuned.json", out, "--lm", lm, "--decision", decision) == 0
        assert read_kaldi_text(out).keys() == best.keys()
    hyp = tmp_path / "list-mbr"
    flags = ("--nbest", nbest, "--scores", scores, "--weights", tmp_path / "tuned.json")
    assert call("rescore", *flags, "--decision", "mbr", "--out", hyp) == 0
    assert read_kaldi_text(hyp).keys() == best.keys()


def test_weights_tuned_on_these_utterances_are_noted(lm, slf, tmp_path, caplog):
    from asrprune.core.hypothesis import NBest
    from asrprune.rescore.weights_file import set_hashes

    hashes = set_hashes([NBest(one.utt, ()) for one in LATTICES])
    dev = {"utterances_hash": hashes["utterances_hash"]}
    weights = weights_file(tmp_path / "w.json", 1.5, dev=dev)
    assert rescore(slf, weights, tmp_path / "hyp", "--lm", lm) == 0
    assert "tuned on this set" in caplog.text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--mode", "nbest", "--history", "3"), "--history has no use for this mode"),
        (("--mode", "exact", "--beam", "3"), "--beam has no use for this mode"),
        (("--mode", "nbest", "--paths", "x"), "--paths: 'x'; expected a whole number >= 1"),
        (("--mode", "nbest", "--paths", "none"), "--paths: 'none'; expected"),
        (("--mode", "cover", "--beam", "none"), "bad options"),
        (("--mode", "beam", "--beam", "-1"), "--beam: '-1'; expected a finite number >= 0 or none"),
        (("--decision", "mbr"), "needs --posterior-scale"),
        (("--posterior-scale", "1"), "has no use for --decision map"),
        (("--decision", "mbr", "--posterior-scale", "-1"), "--posterior-scale: '-1'; expected"),
        (("--write-lattice", "x"), "--write-lattice and --to go together"),
        (("--nbest", "x"), "found both or none"),
        (("--scores", "x"), "--scores has a use only with --nbest"),
        (("--words", "x"), "--words has no use here"),
        (("--engine", "onnx"), "unknown engine"),
    ],
)
def test_wrong_usage_ends_in_status_2(lm, slf, tmp_path, capsys, flags, message):
    weights = weights_file(tmp_path / "w.json", 1.5)
    assert rescore(slf, weights, tmp_path / "hyp", "--lm", lm, *flags) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "hyp").exists()


def test_flags_of_lattices_are_refused_for_lists(tmp_path, capsys):
    for flag in ("--lm", "--mode", "--beam", "--format"):
        value = {"--mode": "beam", "--format": "slf"}.get(flag, "1")
        args = ("--nbest", "x", "--weights", "w", flag, value)
        assert call("rescore", *args) == 2
        assert f"{flag} has a use only with --lattice" in capsys.readouterr().err


def test_bad_data_ends_in_status_1_and_one_line(lm, slf, tmp_path, capsys):
    weights = weights_file(tmp_path / "w.json", 1.5)
    args = ("--lm", lm, "--mode", "exact", "--limit", 2)
    assert rescore(slf, weights, tmp_path / "hyp", *args) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "lattice u0: more than 2 distinct word sequences" in error
    without = ("--lattice", slf, "--format", "slf", "--weights", weights)
    assert call("rescore", *without, "--out", tmp_path / "hyp") == 1  # one LM weight, no LM
    unknown = [from_arcs("v", 2, 0, 1, [(0, 1, "a", -1.0, None), (0, 1, "the", -2.0, None)])]
    write_slf_files(tmp_path / "unknown", unknown)
    for mode in LATTICE_MODES:
        assert (
            rescore(tmp_path / "unknown", weights, tmp_path / "hyp", "--lm", lm, "--mode", mode)
            == 1
        )
        assert "utterance v: no LM scores of the first pass" in capsys.readouterr().err
    assert not (tmp_path / "hyp").exists()


def test_oracle_of_lattices(slf, tmp_path, capsys):
    ref = tmp_path / "ref"
    ref.write_text("".join(f"u{n} a big cats sat\n" for n in range(4)), encoding="utf-8")
    args = ("--lattice", slf, "--format", "slf", "--ref", ref, "--json", tmp_path / "o.json")
    assert call("oracle", *args) == 0
    (row,) = json.loads((tmp_path / "o.json").read_text())["depths"]
    assert (row["errors"], row["words"]) == (4, 16)
    assert call("oracle", "--lattice", slf, "--ref", ref) == 2
    assert call("oracle", "--nbest", "x", "--format", "slf") == 2
    assert "only with --lattice" in capsys.readouterr().err


def test_lists_become_lattices(tmp_path, capsys):
    nbest = tmp_path / "n.jsonl"
    head = {"format": "asrprune-nbest", "version": 1, "log_base": "e", "sign": "logprob"}
    hyps = [{"text": "a b", "acoustic": -1.0, "lm": -2.0}, {"text": "a", "acoustic": -4, "lm": -1}]
    lines = [head, {"utt": "u", "hyps": hyps}]
    nbest.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    out, again = tmp_path / "slf", tmp_path / "again.jsonl"
    assert call("convert", "--from", "jsonl", "--to", "slf", nbest, "--out", out) == 0
    assert call("convert", "--from", "slf", "--to", "jsonl", out, "--out", again) == 0
    assert next(read_nbest(again)).hyps == next(read_nbest(nbest)).hyps
    hyps[1]["acoustic"] = None
    nbest.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert call("convert", "--from", "jsonl", "--to", "slf", nbest, "--out", out, "--force") == 1
    assert "utterance u: no acoustic score of hypothesis 2" in capsys.readouterr().err
