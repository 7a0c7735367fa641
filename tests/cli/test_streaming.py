"""Verbs over many utterances: memory that does not grow with them, and what they keep doing."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from random import Random

import numpy as np
import pytest

import asrprune
from asrprune.cli.main import main
from asrprune.core import spool
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats import jsonl
from asrprune.firstpass.formats.jsonl import read_nbest, write_nbest
from asrprune.rescore.scores_file import UtteranceScores, make_header, write_scores
from asrprune.rescore.tuning import smooth_search
from asrprune.rescore.weights_file import WeightsFile, reference_hash, set_hashes, write_weights
from asrprune.wer import score
from asrprune.wer.kaldi_text import read_kaldi_text

PER_UTTERANCE = {"rescore": 300, "tune": 1500, "wer": 300, "oracle": 800, "convert": 300}
"""Bytes of memory that an utterance may cost: ids in tables, error counts (of each depth); in tune
its scores, and what is calculated from them."""

GROWTH = 12 << 20
"""Bytes by which a peak may differ that is the same."""

WATCHED = """
import re, sys
from asrprune.cli.main import main
status = main(sys.argv[1:])
print(re.search("VmHWM:\\\\s+([0-9]+) kB", open("/proc/self/status").read())[1])
sys.exit(status)
"""
"""Runs a verb and prints its peak in kB."""


def make_files(folder, count):
    """References, hypotheses, lists with their scores, and weights, all of ``count`` utterances."""
    draw = Random(count)
    folder.mkdir(exist_ok=True)
    with open(folder / "ref", "w") as refs, open(folder / "hyp", "w") as hyps:
        for number in range(count):
            refs.write(f"u{number:06d} {' '.join(draw.choices('abcdef', k=12))}\n")
            hyps.write(f"u{number:06d} {' '.join(draw.choices('abcdef', k=12))}\n")
    write_nbest(folder / "nbest", lists(folder))
    scores = (UtteranceScores(one.utt, one.digest, np.array([-1.0, -0.5])) for one in lists(folder))
    write_scores(folder / "scores", make_header("lm"), scores)
    write_weights(folder / "weights", WeightsFile(ScoreWeights(1.0, 0.0, (1.0,)), ("lm",)))
    return folder


def lists(folder) -> Iterator[NBest]:
    with open(folder / "hyp") as texts:
        for line in texts:
            utt, text = line.rstrip("\n").split(" ", 1)
            yield NBest(utt, (Hypothesis(text, -1.0, -1.0), Hypothesis("a", -2.0, -1.0)), 1.0, "a")


def commands(folder, out):
    nbest, texts = ("--nbest", folder / "nbest"), ("--ref", folder / "ref")
    rescored = ("--out", out / "hyp", "--write-nbest", out / "new", "--json", out / "json")
    return {
        "rescore": (
            *(*nbest, "--scores", folder / "scores", "--weights", folder / "weights"),
            *rescored,
        ),
        "tune": (
            *(*nbest, "--scores", folder / "scores", *texts, "--resamples", 0),
            *("--out", out / "weights"),
        ),
        "wer": (*texts, "--hyp", folder / "hyp", "--replications", 2, "--out", out / "wer"),
        "oracle": (*nbest, *texts, "--replications", 2),
        "convert": ("--from", "jsonl", "--to", "jsonl", folder / "nbest", "--out", out / "new"),
    }


def call(verb, *args):
    return main([verb, *map(str, args)])


def peak_bytes(*command) -> int:
    """The largest resident memory of a verb in a process of its own."""
    source = str(Path(asrprune.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *map(str, command)],
        env={**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return 1024 * int(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("verb", PER_UTTERANCE)
def test_memory_does_not_grow_with_the_utterances(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(spool, "IN_MEMORY", 1 << 12)
    monkeypatch.setattr(spool, "FEW", 100)
    monkeypatch.setattr(smooth_search, "IN_MEMORY", 1 << 12)
    monkeypatch.setattr(score, "SAMPLE", 20)
    peaks = {}
    # the first is for what is imported; with the second, Python's own lists of free tuples are full
    for count in (20, 300, 1800):
        folder = make_files(tmp_path / f"{count}", count)
        gc.collect()
        if count > 20:
            tracemalloc.start()
        assert call(verb, *commands(folder, folder / "out")[verb]) == 0
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[1800] - peaks[300] < 1500 * PER_UTTERANCE[verb], peaks


def test_rescore_holds_one_list_at_a_time(tmp_path, monkeypatch):
    folder = make_files(tmp_path / "data", 50)
    alive: weakref.WeakSet[NBest] = weakref.WeakSet()
    most = 0

    def watched(path, bad=jsonl.REFUSE):
        nonlocal most
        for nbest in read_nbest(path, bad):
            alive.add(nbest)
            most = max(most, len(alive))
            yield nbest

    monkeypatch.setattr(jsonl, "read_nbest", watched)
    assert call("rescore", *commands(folder, tmp_path)["rescore"]) == 0
    assert len(read_kaldi_text(tmp_path / "hyp")) == 50
    assert most <= 3


def test_the_order_of_the_scores_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "IN_MEMORY", 1 << 10)
    folder = make_files(tmp_path / "data", 60)
    arguments = commands(folder, tmp_path)["rescore"]
    assert call("rescore", *arguments) == 0
    expected = (tmp_path / "hyp").read_bytes(), list(read_nbest(tmp_path / "new"))
    header, *lines = (folder / "scores").read_text().splitlines(keepends=True)
    Random(0).shuffle(lines)
    (folder / "scores").write_text("".join([header, *lines]))
    assert call("rescore", *arguments) == 0
    assert ((tmp_path / "hyp").read_bytes(), list(read_nbest(tmp_path / "new"))) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines, lines[1]], "scores:32: utterance u000000 again"),
        (lambda lines: [*lines, "no\n"], "scores:32: bad JSON"),
        (lambda lines: [lines[0], *lines[2:]], "no scores of utterance u000000"),
        (lambda lines: [lines[0], *lines[:0:-1], lines[5]], "scores:32: utterance u000004 again"),
    ],
    ids=["twice", "bad line behind the last list", "one missing", "twice in another order"],
)
def test_bad_scores_are_refused_and_nothing_is_written(change, message, tmp_path, capsys):
    folder = make_files(tmp_path / "data", 30)
    lines = (folder / "scores").read_text().splitlines(keepends=True)
    (folder / "scores").write_text("".join(change(lines)))
    out = tmp_path / "out"
    assert call("rescore", *commands(folder, out)["rescore"]) == 1
    assert message in capsys.readouterr().err
    assert not (out / "hyp").exists()
    assert not (out / "new").exists()


def test_scores_of_more_utterances_than_there_are_lists_are_accepted(tmp_path):
    folder = make_files(tmp_path / "data", 30)
    few = [one for number, one in enumerate(lists(folder)) if number % 3 == 1]
    write_nbest(folder / "nbest", few)
    assert call("rescore", *commands(folder, tmp_path)["rescore"]) == 0
    assert list(read_kaldi_text(tmp_path / "hyp")) == [one.utt for one in few]


def test_two_outputs_on_stdout_are_refused(tmp_path, capsys):
    folder = make_files(tmp_path / "data", 2)
    arguments = list(commands(folder, tmp_path)["rescore"])
    for name in ("hyp", "new"):
        arguments[arguments.index(tmp_path / name)] = "-"
    assert call("rescore", *arguments) == 2
    assert "--out and --write-nbest are both -" in capsys.readouterr().err


def test_wer_reads_a_pipe(tmp_path, capsys):
    folder = make_files(tmp_path / "data", 40)
    assert call("wer", "--ref", folder / "ref", "--hyp", folder / "hyp") == 0
    expected = capsys.readouterr().out
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes((folder / "hyp").read_bytes()))
    writer.start()
    assert call("wer", "--ref", folder / "ref", "--hyp", pipe) == 0
    writer.join()
    assert capsys.readouterr().out == expected.replace(str(folder / "hyp"), str(pipe))


def test_hashes_are_those_of_the_sorted_lines(tmp_path):
    found = list(lists(make_files(tmp_path / "data", 50)))[::-1]

    def hashed(texts):
        return sha256("\n".join(sorted(texts)).encode()).hexdigest()[:16]

    assert set_hashes(found) == {
        "nbest_hash": hashed(f"{one.utt} {one.digest}" for one in found),
        "utterances_hash": hashed(one.utt for one in found),
    }
    references = reference_hash((one.utt, "a b") for one in found)
    assert references == hashed(f"{one.utt} a b" for one in found)


def test_durations_add_up_in_the_report(tmp_path):
    folder = make_files(tmp_path / "data", 30)
    assert call("rescore", *commands(folder, tmp_path)["rescore"]) == 0
    assert json.loads((tmp_path / "json").read_text())["audio_s"] == 30.0
    one, *rest = lists(folder)
    write_nbest(folder / "nbest", [NBest(one.utt, one.hyps), *rest])
    assert call("rescore", *commands(folder, tmp_path)["rescore"]) == 0
    assert json.loads((tmp_path / "json").read_text())["audio_s"] is None


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Tokens of sentences of many lengths, and an LM that was trained on a few of them."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = Random(5)
    sizes = [draw.randrange(1, 30) for _ in range(8000)]  # a kernel for each length is no growth
    text = "".join(f"{' '.join(draw.choices('abcdef', k=size))}\n" for size in sizes)
    (folder / "text").write_text(text)
    tokens = ("--text", folder / "text", "--vocab-size", 16, "--out", folder / "tokens")
    assert call("tokenize", *tokens) == 0
    return folder / "tokens"


def training(corpus, tokens):
    model = ("model.d_model=32", "model.n_layers=2", "model.n_heads=2", "model.max_positions=256")
    settings = (*model, f"max_tokens={tokens}", "tokens_per_batch=1024", "save_steps=100000")
    return "--data", corpus, *(part for one in settings for part in ("--set", one))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak")
def test_memory_does_not_grow_with_the_tokens(corpus, tmp_path):
    lm = tmp_path / "lm-10000"
    peaks: dict[str, list[int]] = {"train": [], "prune": []}
    for count in (10_000, 100_000, 290_000):  # by the second, every length has come
        out = "--out", tmp_path / f"lm-{count}"
        peaks["train"].append(peak_bytes("train", *training(corpus, count), *out))
        plan = ("--method", "low-rank", "--criterion", "magnitude", "--sparsity", 0.3)
        plan += ("--fine-tune-tokens", count, "--out", tmp_path / f"family-{count}")
        peaks["prune"].append(peak_bytes("prune", "--lm", lm, "--data", corpus, *plan))
    for few, more, many in peaks.values():
        assert many - more < GROWTH, peaks
        assert more - few < 4 * GROWTH, peaks  # kernels for shapes: 150 MB if all were kept
