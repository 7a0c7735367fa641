"""``lmscore``, ``tune``, ``rescore`` and ``bench`` through the command, bad data included."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.firstpass.formats.jsonl import read_nbest, write_nbest
from asrprune.lm.engines.fused.packed import load_kernel as int8_kernel
from asrprune.lm.model.checkpoint import save_checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.open import lm_digest, open_lm
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.rescore.lmscore import score_nbest
from asrprune.rescore.scores_file import UtteranceScores, make_header, read_scores, write_scores
from asrprune.rescore.weights_file import read_weights, write_weights
from asrprune.wer.kaldi_text import read_kaldi_text
from tests.small_lm import SENTENCES, save_small_lm


@pytest.fixture(scope="module")
def lm(tmp_path_factory):
    return save_small_lm(tmp_path_factory.mktemp("lm"))


def make_lists(count=6, audio_s=2.0):
    random = np.random.default_rng(0)
    lists = []
    for number in range(count):
        texts = [SENTENCES[i] for i in random.permutation(len(SENTENCES))]
        scored = [Hypothesis(text, -10.0 - 2 * i, -1.0) for i, text in enumerate(texts)]
        lists.append(NBest(f"u{number}", tuple(scored), audio_s, "the cat sat"))
    return lists


@pytest.fixture
def dev(tmp_path):
    folder = tmp_path / "dev"
    folder.mkdir()
    write_nbest(folder / "nbest.jsonl", make_lists())
    return folder


@pytest.fixture
def first_pass(tmp_path):
    path = tmp_path / "first_pass.json"
    weights = {"acoustic": 1.0, "first_lm": 6.5, "word_bonus": 0.0}
    path.write_text(json.dumps({"weights": weights}), encoding="utf-8")
    return path


def call(*args):
    return main([str(arg) for arg in args])


def score(lm, folder, *more):
    flags = ("--lm", lm, "--nbest", folder / "nbest.jsonl", "--out", folder / "scores.gz")
    return call("lmscore", *flags, "--device", "cpu", *more)


def test_from_lists_to_hypotheses(lm, dev, first_pass, tmp_path, caplog):
    assert score(lm, dev, "--threads", 1) == 0
    scores = read_scores(dev / "scores.gz")
    expected = open_lm(lm).score_lists([SENTENCES])[0]
    for nbest in read_nbest(dev / "nbest.jsonl"):
        order = [SENTENCES.index(hyp.text) for hyp in nbest.hyps]
        np.testing.assert_allclose(scores.of(nbest), expected[order], rtol=0, atol=1e-4)
    figures = json.loads((dev / "scores.gz.timing.json").read_text(encoding="utf-8"))
    assert figures["audio_s"] == 12.0
    assert figures["rtf"] == figures["wall_s"] / 12.0
    assert 0 < figures["unique_tokens"] < figures["tokens"]
    assert (figures["engine"], figures["threads"], figures["device"]) == ("torch", 1, "cpu")
    assert not (dev / "scores.gz.partial").exists()

    common = ("--nbest", dev / "nbest.jsonl", "--scores", dev / "scores.gz")
    weights = tmp_path / "weights.json"
    twice = ("--scores", dev / "scores.gz", "--out", weights)  # adds to the one in common
    assert call("tune", *common, *twice) == 0
    assert json.loads(weights.read_text(encoding="utf-8"))["lms"] == ["lm", "lm"]
    assert call("tune", *common, "--first-pass", first_pass, "--out", weights) == 0
    tuned = json.loads(weights.read_text(encoding="utf-8"))
    assert tuned["lms"] == ["lm"]
    assert tuned["dev"]["wer_percent"] <= tuned["dev"]["wer_percent_lm_weight_0"]

    out, new = tmp_path / "hyp", tmp_path / "new.jsonl"
    flags = ("--weights", weights, "--out", out, "--write-nbest", new, "--json", tmp_path / "j")
    assert call("rescore", *common, *flags) == 0
    assert "tuned on this set" in caplog.text
    report = json.loads((tmp_path / "j").read_text(encoding="utf-8"))
    assert report["tuned_on_this_set"] is True
    assert report["utterances"] == 6
    hyps = read_kaldi_text(out)
    assert hyps == {nbest.utt: nbest.hyps[0].text for nbest in read_nbest(new)}

    other = tmp_path / "other.jsonl"
    write_nbest(other, make_lists(7)[6:])
    assert call("rescore", "--nbest", other, "--weights", first_pass, "--out", out) == 0
    assert read_kaldi_text(out) == {"u6": make_lists(7)[6].hyps[0].text}


def test_lm_weight_zero_is_the_first_pass(lm, dev, first_pass, tmp_path):
    assert score(lm, dev) == 0
    weights = json.loads(first_pass.read_text(encoding="utf-8"))
    weights["weights"]["lm"] = [0.0]
    first_pass.write_text(json.dumps(weights), encoding="utf-8")
    flags = ("--weights", first_pass, "--out", tmp_path / "hyp")
    scores = ("--scores", dev / "scores.gz")
    assert call("rescore", "--nbest", dev / "nbest.jsonl", *scores, *flags) == 0
    assert read_kaldi_text(tmp_path / "hyp") == {
        nbest.utt: nbest.hyps[0].text for nbest in make_lists()
    }


def test_the_weights_of_one_lm_do_not_go_to_another_in_silence(dev, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    nbest = dev / "nbest.jsonl"
    (tmp_path / "moved").mkdir()
    scores = -np.arange(float(len(SENTENCES)))
    paths = [tmp_path / "s.1", tmp_path / "moved" / "s.2", tmp_path / "s.3"]
    for path, name in zip(paths, ("lm1", "lm2 (3-gram)", "lm3")):
        scored = [UtteranceScores(one.utt, one.digest, scores) for one in make_lists()]
        write_scores(path, make_header(name), scored)
    first, second, third = paths
    weights = tmp_path / "w.json"
    assert call("tune", "--nbest", nbest, "--scores", first, second, "--out", weights) == 0
    found = read_weights(weights)
    write_weights(weights, replace(found, weights=replace(found.weights, lm=(0.5, 0.25))))
    rescore = ("rescore", "--nbest", nbest, "--weights", weights, "--out", tmp_path / "hyp")
    assert call(*rescore, "--scores", first, second) == 0
    assert "LM weights" not in caplog.text
    assert call(*rescore, "--scores", first, third) == 0
    assert "w.json: LM weights go to other LMs: 0.5 of lm1 to lm1, 0.25 of lm2 (3-gram) to lm3" in (
        caplog.text
    )
    (tmp_path / "hyp").unlink()
    capsys.readouterr()
    assert call(*rescore, "--scores", second, first) == 1
    error = "w.json: LM weights for lm1, lm2 (3-gram); expected lm2 (3-gram), lm1, the order of"
    assert error in capsys.readouterr().err
    cascade = ("--early-lm", tmp_path / "lm9", "--cascade-margin", 1, "--cascade-weights", weights)
    large = tmp_path / "large.json"
    write_weights(large, replace(read_weights(weights), lms=("lm2", "lm9")))
    flags = ("--weights", large, "--scores", second, first)
    assert call(*rescore, *flags, *cascade) == 1
    assert error in capsys.readouterr().err
    assert not (tmp_path / "hyp").exists()


class Killed(BaseException):
    pass


class Dying:
    """Passes on to an LM, a given number of times."""

    name = "dying"

    def __init__(self, lm, calls):
        self.lm, self.calls = lm, calls

    @property
    def stats(self):
        return self.lm.stats

    def score_lists(self, lists):
        if self.calls == 0:
            raise Killed
        self.calls -= 1
        return self.lm.score_lists(lists)


def test_a_killed_run_goes_on(lm, dev, tmp_path):
    model = open_lm(lm)
    nbest, out = dev / "nbest.jsonl", tmp_path / "scores"
    partial = tmp_path / "scores.partial"

    def run(scorer, settings):
        header = make_header("lm")
        return score_nbest(nbest, read_nbest(nbest), scorer, out, header, settings, 10)

    with pytest.raises(Killed):
        run(Dying(model, 2), {"engine": "torch"})
    assert not out.exists()
    with open(partial, "a", encoding="utf-8") as stream:
        stream.write('{"utt": "u4", "hash": "half a li')  # what a kill in mid-write leaves
    timing = run(Dying(model, 1), {"engine": "torch"})  # one block of the three is left
    assert timing.audio_s == 12.0
    assert not partial.exists()
    resumed = out.read_bytes()
    run(model, {"engine": "torch"})
    assert out.read_bytes() == resumed

    with pytest.raises(Killed):
        run(Dying(model, 2), {"engine": "torch"})
    with pytest.raises(Killed):
        run(Dying(model, 2), {"engine": "other"})  # other settings take nothing over
    run(Dying(model, 1), {"engine": "other"})

    with pytest.raises(Killed):
        run(Dying(model, 2), {"engine": "torch"})
    write_nbest(nbest, make_lists()[::-1])
    with pytest.raises(InputError, match=r"utterance u0 of .* is not there in the same place"):
        run(model, {"engine": "torch"})


def test_the_partial_file_of_another_run_or_a_damaged_one(lm, dev, tmp_path, caplog):
    model, out, partial = open_lm(lm), tmp_path / "scores", tmp_path / "scores.partial"

    def run(calls, engine="torch"):
        lists, header = read_nbest(dev / "nbest.jsonl"), make_header("lm")
        settings = {"engine": engine}
        return score_nbest("n", lists, Dying(model, calls), out, header, settings, 10)

    run(9)
    whole = out.read_bytes()
    with pytest.raises(Killed):
        run(2)
    kept = partial.read_bytes().splitlines(keepends=True)
    assert sum(line.startswith(b'{"timing"') for line in kept) == 2
    run(3, "other")
    found = 'belongs to another run: engine is "torch" there, "other" now; starting anew'
    assert f"{partial} {found}" in caplog.text
    assert out.read_bytes() == whole

    second = 1 + next(i for i, line in enumerate(kept) if line.startswith(b'{"timing"'))
    for place, line, calls in (
        (0, b"", 3),
        (0, kept[0][:-1], 3),
        (0, b'{"settings": {"eng\n', 3),
        (0, b"[1]\n", 3),
        (1, b"\xff\n", 3),
        (second, b'{"utt": 1}\n', 2),
        (len(kept) - 1, b'{"timing": {"wall": 1}}\n', 2),
    ):
        caplog.clear()
        partial.write_bytes(b"".join([*kept[:place], line, *kept[place + 1 :]]))
        timing = run(calls)
        assert f"{partial} is damaged" in caplog.text
        assert out.read_bytes() == whole
        assert timing.audio_s == 12.0


def test_an_over_long_hypothesis(lm, dev, capsys, caplog):
    lists = make_lists(1)
    write_nbest(dev / "nbest.jsonl", [NBest("u0", (*lists[0].hyps, Hypothesis("cat " * 39 + "a")))])
    assert score(lm, dev) == 1
    assert "utterance u0: hypothesis 7 has" in capsys.readouterr().err
    assert score(lm, dev, "--over-long", "minus-inf") == 0
    (one,) = read_scores(dev / "scores.gz").utterances.values()
    assert np.isneginf(one.scores).tolist() == [False] * 6 + [True]
    assert "1 hypotheses longer than the LM's positions got -inf" in caplog.text
    assert score(lm, dev, "--over-long", "window") == 0
    assert "1 hypotheses longer than the LM's positions are scored with a sliding" in caplog.text
    (windowed,) = read_scores(dev / "scores.gz").utterances.values()
    assert np.isfinite(windowed.scores).all()
    # another shape of the batch, another order of sums: one or two steps of a float32 at the value
    eps = np.finfo(np.float32).eps
    np.testing.assert_allclose(windowed.scores[:6], one.scores[:6], rtol=eps, atol=0)
    assert read_scores(dev / "scores.gz").header["over_long"] == "window"
    figures = json.loads((dev / "scores.gz.timing.json").read_text(encoding="utf-8"))
    assert figures["over_long"] == 1


def test_an_over_long_hypothesis_is_named_before_anything_is_scored(lm, dev, capsys, monkeypatch):
    """Nothing that was scored before it is lost to another --over-long."""
    for words, end in ((39, 0), (40, 1)):
        hyps = (*make_lists(1)[0].hyps, Hypothesis(" ".join(["cat"] * words)))
        write_nbest(dev / "nbest.jsonl", [*make_lists(3), NBest("long", hyps)])
        with monkeypatch.context() as patched:
            if end:
                patched.setattr(TransformerScorer, "score_lists", None)
            assert score(lm, dev) == end
    found = "utterance long: hypothesis 7 has 40 tokens; the model takes at most 39 (see --over-l"
    assert found in capsys.readouterr().err.splitlines()[-1]


def test_unknown_audio_gives_no_rtf(lm, dev):
    write_nbest(dev / "nbest.jsonl", [*make_lists(1), NBest("v", (Hypothesis("cat"),))])
    assert score(lm, dev, "--engine", "torch-bf16", "--token-budget", 64) == 0
    figures = json.loads((dev / "scores.gz.timing.json").read_text(encoding="utf-8"))
    assert figures["rtf"] is None
    assert figures["audio_s"] is None


def test_the_engine_int8_is_used_and_named(lm, dev):
    assert score(lm, dev) == 0
    plain = read_scores(dev / "scores.gz")
    assert score(lm, dev, "--engine", "int8", "--threads", 2) == 0
    rounded = read_scores(dev / "scores.gz")
    away = [np.abs(plain.of(n) - rounded.of(n)).max() for n in read_nbest(dev / "nbest.jsonl")]
    assert 1e-5 < max(away) < 2.0  # the scores of float32 are elsewhere
    figures = json.loads((dev / "scores.gz.timing.json").read_text(encoding="utf-8"))
    assert (figures["engine"], figures["threads"]) == ("int8", 2)


def test_tuning_on_test_is_refused(lm, dev, first_pass, tmp_path, capsys):
    assert score(lm, dev) == 0
    test = tmp_path / "test"
    dev.rename(test)
    common = ("--nbest", test / "nbest.jsonl", "--scores", test / "scores.gz")
    flags = ("--out", tmp_path / "w.json", "--resamples", 0)
    assert call("tune", *common, *flags) == 1
    assert "weights are never tuned on test" in capsys.readouterr().err
    assert call("tune", *common, *flags, "--allow-test") == 0


@pytest.mark.slow
def test_bench_measures_the_baseline_in_turns(lm, dev, tmp_path, capsys):
    flags = ("--repeats", 2, "--warmup", 0, "--baseline", "padded", "--json", tmp_path / "bench")
    common = ("--lm", lm, "--nbest", dev / "nbest.jsonl", "--device", "cpu", "--threads", 1)
    assert call("bench", *common, *flags) == 0
    assert "padded baseline" in capsys.readouterr().out
    figures = json.loads((tmp_path / "bench").read_text(encoding="utf-8"))
    own, padded = figures["systems"]
    assert len(own["runs_s"]) == 2
    assert own["tokens"] == padded["tokens"] == padded["unique_tokens"] > own["unique_tokens"]
    assert padded["speed_up"] == 1.0
    assert figures["size_bytes"] == (lm / "model.safetensors").stat().st_size
    assert figures["parameters"] > 0
    assert figures["agreement"]["reference"] == "padded"
    assert figures["agreement"]["max_difference"] < 1e-4
    assert figures["agreement"]["wer"] is None


@pytest.mark.slow
def test_bench_checks_an_engine_against_the_reference(lm, dev, tmp_path, capsys):
    common = ("--lm", lm, "--nbest", dev / "nbest.jsonl", "--repeats", 1, "--json", tmp_path / "j")
    assert score(lm, dev) == 0
    weights = tmp_path / "weights.json"
    lists = ("--nbest", dev / "nbest.jsonl", "--scores", dev / "scores.gz")
    assert call("tune", *lists, "--out", weights) == 0
    assert call("bench", *common, "--engine", "torch-bf16", "--weights", weights) == 0
    printed = capsys.readouterr().out
    assert "against torch in fp32" in printed
    assert "WER " in printed
    found = json.loads((tmp_path / "j").read_text(encoding="utf-8"))["agreement"]
    assert found["hypotheses"] == 36
    assert 1e-6 < found["max_difference"] < 2.0
    assert found["wer"]["interval"][0] <= found["wer"]["difference_percent"]
    for flags in (("--engine", "torch-bf16", "--no-check"), ("--engine", "torch")):
        assert call("bench", *common, *flags) == 0
        assert "agreement" not in json.loads((tmp_path / "j").read_text(encoding="utf-8"))
    none = ("--weights", tmp_path / "none.json")
    assert call("bench", *common, "--engine", "torch-bf16", *none) == 1


@pytest.mark.slow
def test_bench_names_the_hypothesis_that_is_too_long(lm, tmp_path, capsys):
    lists = [NBest("u1", (Hypothesis("cat", -1.0), Hypothesis("a cat " * 30 + "sat", -2.0)))]
    write_nbest(tmp_path / "long.jsonl", lists)
    for flags in ((), ("--baseline", "padded")):
        assert call("bench", "--lm", lm, "--nbest", tmp_path / "long.jsonl", *flags) == 1
    assert capsys.readouterr().err.count("utterance u1: hypothesis 2 has 91 tokens") == 2


def test_the_digest_tells_models_apart(lm, tmp_path):
    assert lm_digest(lm) == lm_digest(lm)
    other = tmp_path / "other"
    model = TransformerLM(ModelShape.uniform(18, 16, 1, 2, max_positions=40))
    save_checkpoint(other, model, lm / "tokenizer.model", {})
    assert lm_digest(other) != lm_digest(lm)


BAD = {
    "missing": (None, "no such file"),
    "empty": ("", "an empty file"),
    "no header": ("hello\n", "bad JSON"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("verb", ["lmscore", "tune", "rescore", "bench"])
def test_bad_lists_are_one_line_and_status_one(lm, dev, first_pass, capsys, verb, name):
    text, message = BAD[name]
    assert score(lm, dev) == 0
    capsys.readouterr()
    nbest = dev / "bad.jsonl"
    if text is not None:
        nbest.write_text(text, encoding="utf-8")
    flags = {
        "lmscore": ("--lm", lm, "--out", dev / "out"),
        "tune": ("--scores", dev / "scores.gz", "--out", dev / "out"),
        "rescore": ("--weights", first_pass, "--out", dev / "out"),
        "bench": ("--lm", lm),
    }
    assert call(verb, "--nbest", nbest, *flags[verb]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "asrprune" in line]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (dev / "out").exists()


def test_other_bad_input_is_named(lm, dev, first_pass, tmp_path, capsys):
    assert score(lm, dev) == 0
    nbest = ("--nbest", dev / "nbest.jsonl")
    scores = ("--scores", dev / "scores.gz")
    out = ("--out", tmp_path / "out")

    def fails(status, message, *args):
        capsys.readouterr()
        assert call(*args) == status
        assert message in capsys.readouterr().err

    fails(1, "no such path", "lmscore", "--lm", tmp_path / "no", *nbest, *out)
    fails(1, "neither a checkpoint", "lmscore", "--lm", first_pass, *nbest, *out)
    fails(2, "GPUs found", "lmscore", "--lm", lm, *nbest, *out, "--device", "cuda:77")
    fails(2, "cannot be resumed", "lmscore", "--lm", lm, "--nbest", "-", *out)
    fails(2, "token budget is 3", "lmscore", "--lm", lm, *nbest, *out, "--token-budget", 3)
    fails(1, "0 LM weights", "rescore", *nbest, *scores, "--weights", first_pass, *out)
    fails(1, "1, one for each", "rescore", *nbest, *scores, "--weights", first_pass, *out)
    fails(1, "no weights", "rescore", *nbest, "--weights", dev / "scores.gz.timing.json", *out)
    write_nbest(dev / "nbest.jsonl", make_lists(7))
    fails(1, "no scores of utterance u6", "tune", *nbest, *scores, *out)
    write_nbest(dev / "nbest.jsonl", [NBest("u0", (Hypothesis("changed"),))])
    fails(
        1,
        "utterance u0: scores of other",
        "rescore",
        *nbest,
        *scores,
        *out,
        "--weights",
        _with_lm(first_pass),
    )
    fails(1, "utterance u0 without ref", "tune", *nbest, *scores, *out)


def _with_lm(path):
    value = json.loads(path.read_text(encoding="utf-8"))
    value["weights"]["lm"] = [1.0]
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_rescore_without_a_scores_file(lm, dev, tmp_path):
    nbest, scores, out = dev / "nbest.jsonl", tmp_path / "lm.scores", tmp_path / "hyp"
    weights = tmp_path / "weights.json"
    values = {"acoustic": 1.0, "first_lm": 0.5, "lm": [2.0], "word_bonus": 0.1}
    head = {"format": "asrprune-weights", "version": 1, "lms": ["lm"], "dev": {}}
    weights.write_text(json.dumps({**head, "weights": values}))
    assert main(["lmscore", "--lm", str(lm), "--nbest", str(nbest), "--out", str(scores)]) == 0
    common = ["rescore", "--nbest", str(nbest), "--weights", str(weights)]
    assert main([*common, "--scores", str(scores), "--out", str(out)]) == 0
    expected = out.read_text()
    figures = tmp_path / "figures.json"
    early = [*common, "--early-lm", str(lm), "--json", str(figures), "--out", str(out)]
    assert main(early) == 0
    assert out.read_text() == expected
    assert json.loads(figures.read_text())["early"]["hypotheses"] == 36
    if int8_kernel() is not None:
        int8 = tmp_path / "int8.scores"
        made = ["lmscore", "--lm", str(lm), "--nbest", str(nbest), "--engine", "int8"]
        assert main([*made, "--out", str(int8)]) == 0
        assert main([*common, "--scores", str(int8), "--out", str(out)]) == 0
        best = out.read_text()
        assert main([*early, "--early-engine", "int8"]) == 0
        assert out.read_text() == best
    assert main([*early, "--early-engine", "onnx"]) == 2
    cascade = ["--cascade-margin", "1000", "--cascade-weights", str(weights)]
    assert main([*early, "--scores", str(scores), *cascade]) == 0
    assert out.read_text() == expected
    assert json.loads(figures.read_text())["cascade"]["open_lists"] == 6
    assert main([*early, "--cascade-margin", "1"]) == 2
    weights.write_text(json.dumps({**head, "weights": {**values, "lm": [-2.0]}}))
    assert main(early) == 1
