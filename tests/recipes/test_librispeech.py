"""recipes/librispeech: its scripts, and all of it on a miniature of the real layout."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import asrprune
from asrprune.cli.main import main
from asrprune.errors import InputError
from asrprune.firstpass.formats.jsonl import read_nbest, write_nbest
from asrprune.text.normalise import NORMALISERS
from tests.recipes import miniature

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "local/librispeech"))

import fetch  # noqa: E402
import join_sets  # noqa: E402
import prepare_sets  # noqa: E402
import split_text  # noqa: E402

TINY = {
    "model": {"d_model": 16, "n_layers": 1, "n_heads": 2, "max_positions": 128},
    "tokens_per_batch": 512,
    "max_tokens": 4000,
    "precision": "fp32",
}


class Ranges(http.server.SimpleHTTPRequestHandler):
    """Files from where the client's ``Range`` says, as openslr.org serves them."""

    asked: list[str]

    def do_GET(self) -> None:
        body = (Path(self.directory) / self.path.strip("/")).read_bytes()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        Ranges.asked.append(f"{self.path} from {start}")
        self.send_response(206)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server of ``tmp_path / "net"``."""
    Ranges.asked = []
    (tmp_path / "net").mkdir()
    handler = functools.partial(Ranges, directory=str(tmp_path / "net"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_address[1]}"
        served.shutdown()


def test_a_file_is_fetched_from_where_it_stopped_and_checked(tmp_path: Path, server: str) -> None:
    pytest.importorskip("lhotse")
    body = bytes(range(256)) * 40
    (tmp_path / "net/text.gz").write_bytes(body)
    out = tmp_path / "corpus/text.gz"
    out.parent.mkdir()
    out.with_name("text.gz.part").write_bytes(body[:3000])
    md5 = hashlib.md5(body).hexdigest()
    fetch.fetch(f"{server}/text.gz", md5, out)
    assert out.read_bytes() == body
    assert Ranges.asked == ["/text.gz from 3000"]
    assert os.listdir(out.parent) == ["text.gz"]
    fetch.fetch(f"{server}/text.gz", md5, out)  # is there: nothing is asked for
    assert len(Ranges.asked) == 1
    with pytest.raises(InputError, match=rf"MD5 {md5}; expected 0+; remove .*text.gz to fetch"):
        fetch.fetch(f"{server}/text.gz", "0" * 32, out)
    with pytest.raises(InputError, match=r"none\.gz: .*expected the file, or a copy of it as"):
        fetch.fetch("http://127.0.0.1:1/none.gz", None, tmp_path / "none.gz")


def test_every_so_many_lines_are_for_validation(tmp_path: Path) -> None:
    text = tmp_path / "lm.txt.gz"
    with gzip.open(text, "wt") as stream:
        stream.writelines(f"LINE {'X' * number}\n\n" for number in range(1, 10))
    split_text.split(text, 3, NORMALISERS["asr"], tmp_path / "out")
    train, valid = (
        (tmp_path / f"out/{name}.txt").read_text().splitlines() for name in ("train", "valid")
    )
    assert [len(line) - 5 for line in valid] == [3, 6, 9]
    assert [len(line) - 5 for line in train] == [1, 2, 4, 5, 7, 8]
    assert train[1] == "line xx"
    with pytest.raises(InputError, match="9 sentences; expected at least 10"):
        split_text.split(text, 10, NORMALISERS["asr"], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_an_utterance_without_audio_is_named(tmp_path: Path) -> None:
    pytest.importorskip("lhotse")
    folder = tmp_path / "LibriSpeech/dev-clean/1/2"
    folder.mkdir(parents=True)
    (folder / "1-2.trans.txt").write_text("1-2-0000 HELLO THERE\n")
    with pytest.raises(InputError, match=r"1-2\.trans\.txt:1: utterance 1-2-0000: no audio; exp"):
        prepare_sets.prepare_set(
            tmp_path / "LibriSpeech", "dev_clean", NORMALISERS["asr"], 1, tmp_path / "out"
        )
    with pytest.raises(InputError, match="test-other: no transcripts; expected LibriSpeech's"):
        prepare_sets.prepare_set(
            tmp_path / "LibriSpeech", "test_other", NORMALISERS["asr"], 1, tmp_path / "out"
        )


@pytest.mark.parametrize("nj", [1, 2])
def test_audio_that_was_cut_off_is_named(tmp_path: Path, nj: int) -> None:
    """Its header states what it held once; stage 7 would say so, after all training."""
    pytest.importorskip("lhotse")
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "LibriSpeech/dev-clean/1/2"
    folder.mkdir(parents=True)
    (folder / "1-2.trans.txt").write_text("1-2-0000 HELLO\n1-2-0001 THERE\n1-2-0002 YOU\n")
    noise = np.random.default_rng(1).normal(0.0, 3000.0, 16000).astype(np.int16)
    for number in range(3):
        soundfile.write(folder / f"1-2-000{number}.flac", noise, 16000)
    corpus, out = tmp_path / "LibriSpeech", tmp_path / "out"
    asr = NORMALISERS["asr"]
    assert "3 utterances, 3 words" in prepare_sets.prepare_set(corpus, "dev_clean", asr, nj, out)
    whole = (out / "dev_clean/cuts.jsonl.gz").read_bytes()
    short = folder / "1-2-0001.flac"
    short.write_bytes(short.read_bytes()[:-2000])
    with pytest.raises(InputError, match="utterance 1-2-0001: audio that cannot") as found:
        prepare_sets.prepare_set(corpus, "dev_clean", asr, nj, out)
    assert found.value.path == str(short)
    short.write_bytes(short.read_bytes()[:20])
    with pytest.raises(InputError, match=r"1-2-0001\.flac' failed.*; expected FLAC files"):
        prepare_sets.prepare_set(corpus, "dev_clean", asr, nj, out)
    assert (out / "dev_clean/cuts.jsonl.gz").read_bytes() == whole


def test_of_no_recordings_none_is_decoded(tmp_path: Path) -> None:
    prepare_sets.check_audio([], 2, tmp_path)


def test_sets_are_joined_without_an_utterance_twice(tmp_path: Path) -> None:
    for name, utts in (("a", ("a1", "a2")), ("b", ("b1",)), ("c", ("a2",))):
        (tmp_path / "first" / name).mkdir(parents=True)
        (tmp_path / "data" / name).mkdir(parents=True)
        lists = [asrprune.NBest(utt, (asrprune.Hypothesis("x"),)) for utt in utts]
        write_nbest(tmp_path / "first" / name / "nbest.jsonl.gz", lists)
        text = "".join(f"{utt} x y\n" for utt in utts)
        (tmp_path / "data" / name / "text").write_text(text)
    join_sets.join(tmp_path / "first", tmp_path / "data", ["a", "b"], "dev")
    joined = read_nbest(tmp_path / "first/dev/nbest.jsonl.gz")
    assert [one.utt for one in joined] == ["a1", "a2", "b1"]
    assert (tmp_path / "data/dev/text").read_text() == "a1 x y\na2 x y\nb1 x y\n"
    with pytest.raises(InputError, match=r"utterance a2 again \(first in a\)"):
        join_sets.join(tmp_path / "first", tmp_path / "data", ["a", "c"], "all")


def run(
    script: str, *options: object, venv: str | Path = sys.prefix
) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "ASRPRUNE_VENV": str(venv),
        "PYTHONPATH": str(Path(asrprune.__file__).parents[1]),
    }
    return subprocess.run(
        ["bash", str(ROOT / script), *map(str, options)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


recipe = functools.partial(run, "recipes/librispeech/run.sh")


def test_a_stage_out_of_order_names_the_one_that_is_missing(tmp_path: Path) -> None:
    for options, line in (
        (("--stage", 3, "--stop-stage", 3), "text/train.txt is not there; stage 2 makes it"),
        (("--stage", 8, "--stop-stage", 8), "nbest.jsonl.gz is not there; stage 7 makes it"),
        (("--first-pass", "whisper"), "--whisper-model is not given; expected a folder"),
        (("--first-pass", "lists"), "--first-pass lists needs --lists PATTERN"),
        (("--first-pass", "magic"), "expected pocketsphinx, whisper or lists"),
    ):
        done = recipe("--exp", tmp_path / "exp", *options)
        assert done.returncode == 1
        assert line in done.stderr


def test_nodes_without_a_gpu_train_with_a_process_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, tokens = tmp_path / "venv/bin", tmp_path / "exp/tokens"
    for folder in (tools, tokens):
        folder.mkdir(parents=True)
    (tokens / "data.json").touch()
    for name, text in (("nvidia-smi", "exit 9"), ("torchrun", f'echo "$@" >{tmp_path}/called')):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    (tools / "python").symlink_to(sys.executable)
    monkeypatch.setenv("ASRPRUNE_VENV", str(tmp_path / "venv"))
    command = ["recipes/librispeech/run.sh", "--exp", tmp_path / "exp", "--nodes", "2"]
    command += ["--stage", "5", "--stop-stage", "5"]
    done = subprocess.run(["bash", *map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--nnodes 2 --nproc-per-node 1 " in (tmp_path / "called").read_text()


def test_what_runs_with_another_number_of_jobs_left_is_removed(tmp_path: Path) -> None:
    tools, exp = tmp_path / "venv/bin", tmp_path / "exp"
    held = ("first-pass/all/nbest.jsonl.gz", "lm/dense/config.json", "lm/ngram.arpa")
    left = ("dense.gz", "dense.gz.of2/1.gz", "dense.gz.partial", "ngram.gz.of2/1.gz")
    for name in (*held, *(f"runs/scores/{name}" for name in left)):
        (exp / name).parent.mkdir(parents=True, exist_ok=True)
        (exp / name).touch()
    (tmp_path / "plans.txt").touch()
    tools.mkdir(parents=True)
    (tools / "asrprune").write_text('#!/bin/bash\n[ "$1" != lmscore ] || touch "${@: -1}"\n')
    (tools / "asrprune").chmod(0o755)
    (tools / "python").symlink_to(sys.executable)
    options = ["--test-sets", "", "--plans", tmp_path / "plans.txt", "--nj", "1"]
    options += ["--stage", "8", "--stop-stage", "8"]
    done = recipe("--exp", exp, *options, venv=tmp_path / "venv")
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(exp / "runs/scores")) == ["dense.gz", "ngram.gz"]


def test_the_short_way_says_what_it_misses(tmp_path: Path) -> None:
    done = run("local/score.sh", "--lms", "a=b", "x")
    assert (done.returncode, "1 arguments; expected 5" in done.stderr) == (2, True)
    done = run("local/score.sh", *["x"] * 5)
    assert (done.returncode, "--lms is not given" in done.stderr) == (2, True)
    done = run("local/score.sh", "--lms", "a=b", *[tmp_path / "none"] * 5)
    assert (done.returncode, "none is not there; expected a file" in done.stderr) == (1, True)


def test_the_short_way_makes_lists_anew_for_another_command_or_other_lattices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "venv/bin"  # with an asrprune that says how it was called
    place.mkdir(parents=True)
    (place / "python").touch(mode=0o755)
    lines = ("#!/usr/bin/env bash", 'echo "$1" >>calls', "[ $1 = sweep ] || echo x >${@: -1}")
    (place / "asrprune").write_text("\n".join(lines))
    (place / "asrprune").chmod(0o755)
    for name in ("text", "words.txt", "lat.1.gz"):
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)

    def verbs(*options: object) -> list[str]:
        (tmp_path / "calls").write_text("")
        call = ("--lms", "a=b", "--out", "out", *options, *["."] * 4, "words.txt")
        done = run("local/score.sh", *call, venv=tmp_path / "venv")
        assert done.returncode == 0, done.stderr
        return (tmp_path / "calls").read_text().split()

    both = ["convert", "convert", "sweep"]
    assert verbs() == both
    assert verbs("--nj", 3) == ["sweep"]
    assert verbs("--nbest", 10, "--lm-scale", 17) == both
    (tmp_path / "lat.1.gz").write_text("another\n")
    assert verbs("--nbest", 10, "--lm-scale", 17) == both
    (tmp_path / "out/dev.jsonl.gz").unlink()
    assert verbs("--nbest", 10, "--lm-scale", 17) == ["convert", "sweep"]


@pytest.mark.slow
def test_the_whole_recipe_on_a_miniature(tmp_path: Path) -> None:
    for package in ("pocketsphinx", "lhotse", "hibari", "soundfile", "kaldingram"):
        pytest.importorskip(package)
    real = miniature.SHARED if miniature.SHARED.is_dir() else None
    miniature.write_miniature(tmp_path, real, each=1, count=800)
    (tmp_path / "train.json").write_text(json.dumps(TINY))
    (tmp_path / "plans.txt").write_text("# one\n\nlow-rank:magnitude:one-shot:0.3\n")
    options = ["--corpus", tmp_path / "LibriSpeech", "--exp", tmp_path / "exp"]
    options += ["--lm-text", tmp_path / "librispeech-lm-norm.txt.gz", "--valid-every", "50"]
    pieces = "100" if real else "60"  # made-up sentences fill no more
    options += ["--vocab-size", pieces, "--train-conf", tmp_path / "train.json", "--ngram", "train"]
    options += ["--plans", tmp_path / "plans.txt", "--fine-tune-tokens", "500"]
    options += ["--prune-options", "--set options.multiple_of=1 --set options.min_rank=1"]
    options += ["--nbest", "5", "--decode-options", "--max-hmms 1000 --lattice-beam 30"]
    options += ["--bench-utts", "1", "--bench-repeats", "1", "--beam", "20"]
    options += ["--engine", "torch", "--bench-engine", "torch", "--lm-options", "--accept-unknown"]
    done = recipe(*options, "--nj", 1, "--stop-stage", 6)
    assert done.returncode == 0, done.stderr[-3000:]
    done = recipe(*options, "--nj", 1)  # on from there
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("done before") == 7
    page = (tmp_path / "exp/RESULTS.md").read_text()
    names = {"first-pass", "oracle", "dense", "ngram", "dense+ngram"}
    for name, utterances in (("test_clean", 6 if real else 2), ("test_other", 2)):
        table = json.loads((tmp_path / f"exp/report/{name}/table.json").read_text())
        assert {row["name"] for row in table["rows"]} == {
            *names,
            "low-rank-magnitude-one-shot-0.30",
        }
        assert f"## {name}\n" in page
        assert len((tmp_path / f"exp/runs/{name}/dense/hyp").read_text().splitlines()) == utterances
    assert "dense+ngram" in page
    _the_short_way(tmp_path)


def _the_short_way(folder: Path) -> None:
    """From lattices of Kaldi's form to the table."""
    first, data = folder / "exp/first-pass", folder / "kaldi"
    for name in ("dev_other", "test_clean"):
        shutil.copytree(folder / "exp/data" / name, data / name)
        call = ["convert", "--from", "slf", "--to", "kaldi-lat", str(first / name / "lattices")]
        assert main([*call, "--out", str(data / f"decode_{name}")]) == 0
    assert (data / "decode_test_clean/words.txt").is_file()
    lms = f"dense={folder}/exp/lm/dense ngram={folder}/exp/lm/ngram.arpa"
    done = run(
        "local/score.sh",
        *("--lms", lms, "--lm-scale", "1", "--nbest", "5", "--bench-utts", "0"),
        *(data / "dev_other", data / "decode_dev_other", data / "test_clean"),
        *(data / "decode_test_clean", data / "decode_test_clean/words.txt"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "| dense" in done.stdout
