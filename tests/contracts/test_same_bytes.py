"""Same input, same bytes: every verb twice, in other folders, with other hashes of strings, at
another time, in another time zone. Times, speeds and memory may differ, nothing else.

A new verb that is not in CALLS fails.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asrprune
from asrprune.cli.main import COMMANDS, main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import from_arcs
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.jsonl import write_nbest
from asrprune.firstpass.formats.slf import write_slf
from tests.exchange.foreign_folders import save_small_foreign
from tests.small_lm import SENTENCES, save_small_lm
from tests.small_study import save_study

ROOT = Path(__file__).parents[2]
CALLS: dict[str, list[str]] = {
    "list": ["list", "list formats", "list engines"],
    "tokenize": [
        "tokenize --text text --valid text --vocab-size 18 --out data",
        "tokenize --text text --tokenizer lm/tokenizer.model --out lm-data",
    ],
    "train": [
        "train --data data --out trained --device cpu --threads 1 --set model.d_model=8"
        " --set model.n_layers=1 --set model.n_heads=2 --set max_steps=3"
        " --set tokens_per_batch=200 --set valid_steps=1 --set save_steps=1"
    ],
    "import": ["import --from hugging-face foreign --out imported --sentence-form stop"],
    "perplexity": ["perplexity --lm lm --text text --device cpu --json perplexity.json"],
    "trim": ["trim --lm imported --text text --out trimmed"],
    "prune": [
        "prune --lm lm --data lm-data --out low-rank --method low-rank --criterion kfac --seed 3"
        " --schedule linear --steps 2 --sparsity 0.1,0.2 --fine-tune-tokens 40 --threads 1"
        " --statistics-tokens 50 --set fine_tuning.batch_tokens=128 --device cpu",
        "prune --lm lm --data lm-data --out masked --method unstructured --criterion taylor"
        " --seed 3 --sparsity 0.5 --schedule one-shot --fine-tune-tokens 40 --distill --threads 1"
        " --set fine_tuning.batch_tokens=128 --device cpu",
    ],
    "recommend": ["recommend --lm lm --budget 0.9 --table study --json recommended.json"],
    "first-pass": ["first-pass --cuts cuts.jsonl --nbest 5 --nj 2 --out first"],
    "convert": [
        "convert --from jsonl --to slf nbest.jsonl --out slf",
        "convert --from jsonl --to k2 nbest.jsonl --out k2",
        "convert --from jsonl --to k2 nbest.jsonl --out k2.pt",
        "convert --from jsonl --to kaldi-lat nbest.jsonl --out kaldi",
        "convert --from jsonl --to kaldi-lat-binary nbest.jsonl --out binary",
        "convert --from jsonl --to kaldi-nbest nbest.jsonl --out kaldi-nbest",
        "convert --from jsonl --to srilm-nbest nbest.jsonl --out srilm",
        "convert --from slf --to jsonl lattices --nbest 3 --out best.jsonl.gz",
    ],
    "validate": [
        "validate --format slf lattices --out slf.json",
        "validate --format jsonl nbest.jsonl",
    ],
    "lmscore": [
        "lmscore --lm lm --nbest nbest.jsonl --out runs/one/lm.scores.gz --engine torch"
        " --threads 1 --device cpu",
        "lmscore --lm lm --nbest nbest.jsonl --out runs/one/int8.scores.gz --engine int8"
        " --threads 1",
    ],
    "tune": [
        "tune --nbest nbest.jsonl --scores runs/one/lm.scores.gz --ref ref --resamples 3"
        " --out runs/one/weights.json",
        "tune --nbest nbest.jsonl --scores runs/one/lm.scores.gz --ref ref --objective errors"
        " --out exact.json",
        "tune --lattice lattices --format slf --lm lm --ref ref --resamples 2 --threads 1"
        " --out lattice-weights.json",
    ],
    "rescore": [
        "rescore --nbest nbest.jsonl --scores runs/one/lm.scores.gz --weights weights.json"
        " --out runs/one/hyp --write-nbest reordered.jsonl.gz --json runs/one/rescore.json",
        "rescore --lattice lattices --format slf --lm lm --mode beam --weights weights.json"
        " --threads 1 --out lattice-hyp --write-lattice rescored --to slf --json lattice.json",
    ],
    "merge": [
        "convert --from jsonl --to kaldi-lat nbest.jsonl --out part1 --shard 1/2",
        "convert --from jsonl --to kaldi-lat nbest.jsonl --out part2 --shard 2/2",
        "merge part1 part2 --out whole",
    ],
    "wer": [
        "wer --ref ref --hyp runs/one/hyp --compare runs/two/hyp --out wer --json runs/one/wer.json"
    ],
    "oracle": [
        "oracle --nbest nbest.jsonl --json oracle.json",
        "oracle --lattice lattices --format slf --ref ref --json runs/one/oracle.json",
    ],
    "bench": [
        "bench --lm lm --nbest nbest.jsonl --engine torch --repeats 1 --warmup 0 --threads 1"
        " --device cpu --json bench.json"
    ],
    "export": [
        "export --to onnx --form nll --lm lm --out lm.onnx",
        "export --to onnx --form cache --dtype int8 --lm lm --no-verify --out cache.onnx",
    ],
    "sweep": [
        "sweep --dev nbest.jsonl --dev-ref ref --test nbest.jsonl --test-ref ref --system one=lm"
        " --engine torch --bench-utts 0 --nj 2 --out swept"
    ],
    "report": ["report --runs runs/one runs/two --ref ref --baseline two --out report"],
    "completion": ["completion bash", "completion zsh"],
}
"""verb -> calls, one after the other in one folder: later ones read what earlier ones wrote."""

NEEDS = {
    "first-pass": ("pocketsphinx", "lhotse", "soundfile"),
    "export": ("onnx", "onnxruntime"),
}
QUICK = ("list", "convert", "validate", "merge", "wer", "oracle", "completion")
"""Verbs that a fast test runs twice: without those that compute with an LM or draw."""

MAY_DIFFER = re.compile(
    r"time_utc|crc32|inputs_sha256|\w+_s|\w*rtf\w*|\w*rss_bytes|\w*_ms|speed_up|times_\w+"
)
"""Keys of JSON whose values are times, speeds or memory."""


def make_inputs(folder: Path, backwards: bool) -> None:
    """The files that CALLS read; ``backwards`` makes them in another order."""
    hyps = [
        Hypothesis(text or "a", -1.0 - n, -2.0 - 0.5 * n) for n, text in enumerate(SENTENCES[:4])
    ]
    texts = ("the cat sat", "a cat sat", "cats", "the hat sat on the mat")
    refs = {f"utt-{n}": text for n, text in enumerate(texts)}
    lists = [
        NBest(utt, tuple(hyps[n:] + hyps[:n]), 2.0, ref)
        for n, (utt, ref) in enumerate(refs.items())
    ]
    arcs = [
        *((0, 1, "the", -1.0, -1.0), (0, 1, "a", -2.0, -1.0), (1, 2, "cat", -1.0, -1.0)),
        *((1, 2, "hat", -1.5, -1.0), (2, 3, "sat", -1.0, -1.0), (2, 3, "sits", -1.1, -1.5)),
    ]
    lattice = from_arcs("utt-0", 4, 0, 3, arcs, weights=ScoreWeights(1.0, 0.5))
    weights = {"acoustic": 1.0, "first_lm": 0.5, "word_bonus": 0.0, "lm": [1.0]}
    head = {"format": "asrprune-weights", "version": 1, "lms": ["lm"]}
    text = "".join(f"{utt} {ref}\n" for utt, ref in refs.items())

    def write(name: str, content: str) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")

    steps = [
        lambda: write_nbest(folder / "nbest.jsonl", lists),
        *(
            lambda utt=utt: write_slf(folder / f"lattices/{utt}.slf", replace(lattice, utt=utt))
            for utt in refs
        ),
        lambda: write("text", "".join(f"{line}\n" for line in SENTENCES[:-1]) + "on a mat sits\n"),
        lambda: write("ref", text),
        lambda: write("runs/one/hyp", text.replace("mat", "hat")),
        lambda: write("runs/two/hyp", text.replace("cat", "mat")),
        lambda: write("runs/one/bench.json", json.dumps(_measured(3))),
        lambda: write("runs/two/bench.json", json.dumps(_measured(5))),
        lambda: write("weights.json", json.dumps({**head, "weights": weights})),
        lambda: save_small_lm(folder),
        lambda: save_study(folder / "study"),
        lambda: save_small_foreign(folder / "foreign"),
        lambda: _write_cuts(folder),
    ]
    for step in reversed(steps) if backwards else steps:
        step()


def _measured(size: int) -> dict[str, Any]:
    counts = {
        "parameters": 1000 * size,
        "nonzero_parameters": 1000 * size,
        "size_bytes": 4096 * size,
    }
    return {**counts, "engine": "torch", "systems": [{"name": "lm", "rtf": 0.1 * size}]}


def _write_cuts(folder: Path) -> None:
    drawn = np.random.default_rng(0)
    with open(folder / "cuts.jsonl", "w", encoding="utf-8") as stream:
        for utt in ("utt-0", "utt-1"):
            samples = (drawn.standard_normal(16000) * 2000).astype("<i2")
            with wave.open(str(folder / f"{utt}.wav"), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(16000)
                file.writeframes(samples.tobytes())
            source = {"type": "file", "channels": [0], "source": f"{utt}.wav"}
            of = {"sampling_rate": 16000, "num_samples": 16000, "duration": 1.0}
            recording = {"id": utt, "sources": [source], "channel_ids": [0], **of}
            part = {"id": utt, "start": 0.0, "duration": 1.0, "channel": 0}
            cut = {**part, "supervisions": [], "recording": recording, "type": "MonoCut"}
            stream.write(json.dumps(cut) + "\n")


def run_verbs(folder: Path, verbs: list[str], backwards: bool) -> None:
    """Run the calls in ``folder``, their standard output into ``stdout``."""
    folder.mkdir()
    make_inputs(folder, backwards)
    printed = io.StringIO()
    before = os.getcwd()
    os.chdir(folder)
    try:
        for verb in verbs:
            if any(importlib.util.find_spec(name) is None for name in NEEDS.get(verb, ())):
                continue
            for call in CALLS[verb]:
                with contextlib.redirect_stdout(printed):
                    status = main(call.split())
                assert status == 0, call
                if verb != "bench":  # its table has times alone
                    Path("stdout").write_text(printed.getvalue(), encoding="utf-8")
    finally:
        os.chdir(before)


def contents(folder: Path) -> Iterator[tuple[str, Any]]:
    """Name -> what the file holds, without what may differ."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            yield name, "a folder"
            continue
        data = path.read_bytes()
        plain = gzip.decompress(data) if name.endswith(".gz") else data
        if name.endswith((".json", ".jsonl")):
            lines = [plain] if name.endswith(".json") else plain.splitlines()
            yield name, [without_times(json.loads(line)) for line in lines]
        elif name.endswith((".html", ".md")) or name == "stdout":
            yield name, re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", b"TIME", plain)
        elif b"time_utc" in plain:
            yield name, re.sub(rb'"(time_utc|crc32)": "[^"]*"', b"TIME", plain)
        else:
            yield name, data


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if not MAY_DIFFER.fullmatch(key)}
        return {key: without_times(one) for key, one in kept.items()}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def differences(one: Path, two: Path) -> list[str]:
    first, second = dict(contents(one)), dict(contents(two))
    names = sorted(first.keys() | second.keys())
    return [name for name in names if first.get(name) != second.get(name)]


def test_every_verb_is_in_the_table() -> None:
    assert list(CALLS) == list(COMMANDS)


def test_the_quick_verbs_write_the_same_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))  # git gets a limited time
    verbs = [verb for verb in CALLS if verb in QUICK]
    for name, backwards in (("one", False), ("another", True)):
        run_verbs(tmp_path / name, verbs, backwards)
    assert differences(tmp_path / "one", tmp_path / "another") == []


@pytest.mark.slow
def test_every_verb_writes_the_same_twice(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; sys.path.append(sys.argv[1]);"
        "from tests.contracts.test_same_bytes import CALLS, run_verbs;"
        "run_verbs(Path(sys.argv[2]), list(CALLS), sys.argv[3] == 'backwards')"
    )
    package = str(Path(asrprune.__file__).parents[1])
    no_git = {"GIT_DIR": str(tmp_path / "none")}
    for name, order, seed, zone in (
        ("one", "forwards", "1", "UTC"),
        ("another place", "backwards", "2", "Asia/Tokyo"),
    ):
        subprocess.run(
            [sys.executable, "-c", script, str(ROOT), str(tmp_path / name), order],
            env={**os.environ, "PYTHONPATH": package, "PYTHONHASHSEED": seed, "TZ": zone, **no_git},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    for page, part in (("report", "<svg"), ("low-rank", 'id="removed"')):
        assert part in (tmp_path / "one" / page / "index.html").read_text()
    found = differences(tmp_path / "one", tmp_path / "another place")
    # tables of scored lists say how fast that was
    timed = ("report/", "swept/report/")
    assert [name for name in found if name != "stdout" and not name.startswith(timed)] == []
