"""What the steps of recipes/librispeech cost at full size, from slices of 1, 10 and 100 parts.

    python tests/bench/full_size.py --text ../shared/data/lm_text/train_20m.txt.xz \\
        --lists exp/whisper.jsonl.gz --lm exp/lm/dense [--words 200000,2000000,20000000]

Each step runs in a process of its own on a slice: the first so many words of the text, or the lists
over and over under new utterance ids. CPU is user and system time of the process, peak its largest
resident set, disk what it wrote. The last column is CPU at full size by the line through the two
largest slices; "growth" is the exponent between them, 1 for time in proportion.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from asrprune.core.weights import ScoreWeights
from asrprune.files import read_lines
from asrprune.firstpass.formats.jsonl import read_nbest, write_nbest
from asrprune.rescore.weights_file import WeightsFile, write_weights

ROOT = Path(__file__).parents[2]
FULL_WORDS = 800e6
FULL_UTTERANCES = 100_000 * 3600 / 12.3
"""100,000 hours of utterances as long as LibriSpeech's for training (281,241 in 960 hours)."""


class Cost(NamedTuple):
    """CPU seconds, peak bytes, bytes written."""

    cpu_s: float
    peak: int
    disk: int


def cost(command: list[str], out: Path) -> Cost:
    """Run it. Raises RuntimeError with its last words when it fails."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {log.read()[-500:].decode()}")
    files = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
    disk = sum(path.stat().st_size for path in files if path.exists())
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, disk)


def slice_text(text: Path, words: int, out: Path) -> None:
    """The first so many words of the text, in whole lines."""
    count = 0
    with out.open("w", encoding="utf-8") as stream:
        for _, line in read_lines(text):
            stream.write(f"{line}\n")
            count += len(line.split())
            if count >= words:
                return
    raise SystemExit(f"{text} has {count:,} words; expected {words:,}")


def repeat_lists(lists: Path, utterances: int, out: Path) -> None:
    """So many lists, those of the file over and over."""
    source = list(read_nbest(lists))
    named = (
        replace(source[n % len(source)], utt=f"{source[n % len(source)].utt}-{n}")
        for n in range(utterances)
    )
    write_nbest(out, named)


def python(*words: object) -> list[str]:
    return [sys.executable, *map(str, words)]


def show(step: str, sizes: list[int], costs: list[Cost], full: float) -> None:
    """A row."""
    (one, other), (few, many) = sizes[-2:], [c.cpu_s for c in costs[-2:]]
    slope = (many - few) / (other - one)
    total = many + slope * (full - other)
    growth = math.log(many / few) / math.log(other / one)
    cells = [f"{c.cpu_s:8.1f} s {c.peak / 2**20:6.0f} MB" for c in costs]
    disk = costs[-1].disk / other * full / 2**30
    cells.append(f"{growth:5.2f} {total / 3600:8.1f} h {disk:7.1f} GB")
    print(f"{step:<22}" + "  ".join(cells), flush=True)


def measure(step: str, sizes: list[int], full: float, run: Callable[[int], Cost]) -> None:
    show(step, sizes, [run(size) for size in sizes], full)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--lists", type=Path, required=True, help="n-best lists (jsonl)")
    parser.add_argument("--lm", required=True, help="checkpoint")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--words", default="200000,2000000,20000000")
    parser.add_argument("--utterances", default="100,1000,10000")
    args = parser.parse_args()
    words = [int(word) for word in args.words.split(",")]
    utterances = [int(word) for word in args.utterances.split(",")]
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        at = Path(name)
        refs = at / "refs"
        lines = [one.ref or "" for one in read_nbest(args.lists)]
        refs.write_text("".join(f"u{n} {line.lower()}\n" for n, line in enumerate(lines)))

        def split(size: int) -> Cost:
            slice_text(args.text, size, at / f"text-{size}")
            script = ROOT / "local/librispeech/split_text.py"
            call = python(script, "--text", at / f"text-{size}", "--out", at / f"split-{size}")
            return cost(call, at / f"split-{size}")

        def leak(size: int) -> Cost:
            script = ROOT / "local/mini/leakage.py"
            call = python(script, "--train", at / f"split-{size}/train.txt", "--ref", refs)
            return cost([*call, "--max-8gram", "1"], at / "nothing")

        def tokenize(size: int) -> Cost:
            call = python("-m", "asrprune", "tokenize", "--text", at / f"split-{size}/train.txt")
            call += ["--vocab-size", "5000", "--out", str(at / f"tokens-{size}")]
            return cost(call, at / f"tokens-{size}")

        measure("split, normalise", words, FULL_WORDS, split)
        measure("leakage check", words, FULL_WORDS, leak)
        measure("tokenize", words, FULL_WORDS, tokenize)

        def score(size: int) -> Cost:
            repeat_lists(args.lists, size, at / f"lists-{size}.jsonl.gz")
            call = python("-m", "asrprune", "lmscore", "--lm", args.lm, "--engine", args.engine)
            call += ["--nbest", str(at / f"lists-{size}.jsonl.gz")]
            return cost([*call, "--out", str(at / f"scores-{size}.gz")], at / f"scores-{size}.gz")

        def read_a_shard(size: int) -> Cost:
            out = at / f"shard-{size}.jsonl.gz"
            call = python("-m", "asrprune", "convert", "--from", "jsonl", "--to", "jsonl")
            call += [str(at / f"lists-{size}.jsonl.gz"), "--shard", "1/100000"]
            return cost([*call, "--out", str(out)], out)

        def rescore(size: int) -> Cost:
            call = python("-m", "asrprune", "rescore", "--nbest", at / f"lists-{size}.jsonl.gz")
            call += ["--scores", str(at / f"scores-{size}.gz"), "--weights", str(at / "weights")]
            return cost([*call, "--out", str(at / f"hyp-{size}")], at / f"hyp-{size}")

        weights = ScoreWeights(1.0, 0.0, (0.5,))
        write_weights(at / "weights", WeightsFile(weights, (Path(args.lm).name,)))

        measure("lmscore", utterances, FULL_UTTERANCES, score)
        measure("a shard of nothing", utterances, FULL_UTTERANCES, read_a_shard)
        measure("rescore lists", utterances, FULL_UTTERANCES, rescore)


if __name__ == "__main__":
    main()
