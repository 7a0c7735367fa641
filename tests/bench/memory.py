"""Peak memory of the verbs at one, ten and a hundred times the data, and of scoring alone.

    python tests/bench/memory.py --verbs all [--utterances 2000,20000,200000] [--nbest 5]
    python tests/bench/memory.py [--lm exp/lm] [--words 200] [--early]

With ``--verbs`` a row is a verb and a column a number of utterances, each run in a process of its
own on made-up data: sentences of 1 to 40 made-up words, lists of ``--nbest`` hypotheses. Training
and pruning spend ten tokens for each utterance, on sentences whose number stays the same: of an LM
of 60,000 parameters, and of one of the size of recipes/mini's (``mini``) without the last column;
``train steps`` takes ten steps on as many sentences as the column says. ``lmscore`` scores a tenth
of the lists, ``rescore lattices`` a twentieth. Peak is the largest resident set that the system
counted.

Without, the peak of scoring against the number of utterances and the size of n-best lists.
Every row is a process of its own that scores lists made up on the fly (random words; a list's
hypotheses are one sentence with random substitutions, ``--changes`` of them), so that nothing but
scoring holds memory. Without ``--lm`` the model is random: 6 layers, d 512, vocabulary 5000. Peak
is the process's largest resident set, "over start" what it grew by after the model was there.
"per token" is computed places over distinct (prefix, token) pairs: 1 means that nothing is computed
twice; what is above it is paths to a cut trie's pieces and padding.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
from subjects import NumberTokenizer

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.jsonl import read_nbest, write_nbest
from asrprune.lm.engines.engine import TOKEN_BUDGET, EngineOptions
from asrprune.lm.engines.table import open_engine
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.scoring.forests import ScoringOptions
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.rescore.bench.machine import peak_rss_bytes
from asrprune.rescore.scores_file import UtteranceScores, make_header, write_scores
from asrprune.rescore.weights_file import WeightsFile, write_weights


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lm", help="checkpoint folder instead of a random model")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=5000)
    parser.add_argument("--words", type=int, default=30, help="tokens of a hypothesis")
    parser.add_argument("--changes", type=float, default=3.0, help="substitutions, on average")
    parser.add_argument("--token-budget", type=int, default=TOKEN_BUDGET)
    parser.add_argument("--engine", default="torch", help="one of `asrprune list engines`")
    parser.add_argument("--early", action="store_true", help="with early termination")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--utterances", help="with 10 hypotheses each (default: 10,100,1000)")
    parser.add_argument("--nbest", help="of one utterance each (default: 10,100,500,2000)")
    parser.add_argument("--verbs", metavar="NAME,...", help=f"all, or of {', '.join(VERBS)}")
    parser.add_argument("--keep", metavar="DIR", help="folder for the made-up data of --verbs")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_list(random: np.random.Generator, hyps: int, words: int, changes: float) -> list[str]:
    base = random.integers(3, 1000, words)
    made = []
    for _ in range(hyps):
        new = base.copy()
        where = random.integers(0, words, random.poisson(changes))
        new[where] = random.integers(3, 1000, len(where))
        made.append(" ".join(map(str, new)))
    return made


def score(args: argparse.Namespace) -> None:
    """One row of the table, as JSON: in a process of its own."""
    import torch

    from asrprune.lm.engines.pytorch.nodes import CachedModel
    from asrprune.lm.model.shapes import ModelShape
    from asrprune.lm.model.transformer import TransformerLM
    from asrprune.lm.scoring.early import EarlyScorer

    utterances, hyps = map(int, args.one.split("x"))
    if args.lm:
        model = load_checkpoint(args.lm).model
    else:
        heads = max(1, args.width // 64)
        shape = ModelShape.uniform(
            args.vocab, args.width, args.layers, heads, max_positions=args.words + 1
        )
        model = TransformerLM(shape)
    limit = model.shape.max_positions
    words = min(args.words, limit - 1)

    options = EngineOptions(args.threads, "cpu")
    lm = TransformerScorer(
        open_engine(args.engine, model, options),
        NumberTokenizer(),
        limit,
        options=ScoringOptions(args.token_budget),
    )
    early = EarlyScorer(
        CachedModel(model, torch.float32, options),
        NumberTokenizer(),
        limit,
        lm.score_lists,
    )
    random = np.random.default_rng(0)
    lm.score_lists([["3 4"]])
    before = peak_rss_bytes()
    start = time.perf_counter()
    for done in range(0, utterances, 50):
        count = min(50, utterances - done)
        lists = [make_list(random, hyps, words, args.changes) for _ in range(count)]
        if args.early:
            others = [-random.exponential(5.0, hyps) for _ in lists]
            early.score_lists(lists, others, 1.0)
        else:
            lm.score_lists(lists)
    peak = peak_rss_bytes()
    print(
        json.dumps(
            {
                "peak": peak / 2**20,
                "growth": (peak - before) / 2**20,
                "tokens": lm.stats.tokens,
                "unique": early.stats.nodes if args.early else lm.stats.unique_tokens,
                "computed": early.stats.computed_nodes if args.early else lm.stats.computed,
                "wall": time.perf_counter() - start,
            }
        )
    )


SYLLABLES = [a + b for a in "bdfgklmnprst" for b in "aeiou"]


class Data:
    """Made-up files in a folder, each made when it is first asked for."""

    def __init__(self, folder: Path, nbest: int) -> None:
        self.folder = folder
        self.nbest = nbest

    def path(self, name: str, count: int = 0) -> str:
        """The file or folder ``name`` of ``count`` utterances."""
        path = self.folder / f"{name}-{count}"
        if not path.exists():
            getattr(self, f"_{name.replace('-', '_')}")(path, count)
        return str(path)

    def _sentence(self, random: Random) -> str:
        size = min(40, 1 + int(random.expovariate(0.1)))
        return " ".join("".join(random.choices(SYLLABLES, k=2)) for _ in range(size))

    def _text(self, path: Path, count: int) -> None:
        random = Random(1)
        with open(path, "w", encoding="utf-8") as stream:
            stream.writelines(f"{self._sentence(random)}\n" for _ in range(count))

    def _kaldi(self, path: Path, count: int, wrong: float) -> None:
        random, errors = Random(2), Random(str(path))
        with open(path, "w", encoding="utf-8") as stream:
            for number in range(count):
                words = self._sentence(random).split()
                words = ["no" if errors.random() < wrong else word for word in words]
                stream.write(f"spk{number % 97}-{number:08d} {' '.join(words)}\n")

    def _ref(self, path: Path, count: int) -> None:
        self._kaldi(path, count, 0.0)

    def _hyp(self, path: Path, count: int) -> None:
        self._kaldi(path, count, 0.2)

    def _other(self, path: Path, count: int) -> None:
        self._kaldi(path, count, 0.3)

    def _lists(self, path: Path, count: int) -> None:
        errors = Random(3)

        def lists() -> Iterator[NBest]:
            with open(self.path("ref", count), encoding="utf-8") as refs:
                for line in refs:
                    utt, *words = line.split()
                    hyps = tuple(self._hypothesis(words, errors) for _ in range(self.nbest))
                    yield NBest(utt, hyps, 1.0)

        write_nbest(path, lists())

    def _hypothesis(self, words: list[str], errors: Random) -> Hypothesis:
        heard = ["no" if errors.random() < 0.2 else word for word in words]
        return Hypothesis(" ".join(heard), -10.0 * errors.random(), -errors.random())

    def _scores(self, path: Path, count: int) -> None:
        errors = np.random.default_rng(4)
        lists = read_nbest(self.path("lists", count))
        scores = (
            UtteranceScores(one.utt, one.digest, -10 * errors.random(len(one.hyps)))
            for one in lists
        )
        write_scores(path, make_header("lm"), scores)

    def _lattices(self, path: Path, count: int) -> None:
        lists = ["--from", "jsonl", "--to", "kaldi-lat", self.path("lists", count)]
        archive = path.with_suffix(".ark")  # which the format is told by
        run_verb(["convert", *lists, "--out", str(archive)])
        archive.rename(path)

    def shards(self, count: int) -> list[str]:
        """The lists in four shards."""
        paths = [f"{self.path('lists', count)}.{number}" for number in (1, 2, 3, 4)]
        call = ["convert", "--from", "jsonl", "--to", "jsonl", self.path("lists", count)]
        for number, path in enumerate(paths, start=1):
            run_verb([*call, "--out", path, "--shard", f"{number}/4"])
        return paths

    def _weights(self, path: Path, count: int) -> None:
        write_weights(path, WeightsFile(ScoreWeights(1.0, 1.0, (0.5,)), ("lm",)))

    def _run_a(self, path: Path, count: int) -> None:
        path.mkdir()
        (path / "hyp").symlink_to(self.path("hyp", count))

    def _run_b(self, path: Path, count: int) -> None:
        path.mkdir()
        (path / "hyp").symlink_to(self.path("other", count))

    def _tokens(self, path: Path, count: int) -> None:
        text = self.path("text", 20_000)
        run_verb(["tokenize", "--text", text, "--vocab-size", str(count), "--out", str(path)])

    def _stream(self, path: Path, count: int) -> None:
        model = str(Path(self.path("tokens", 500)) / "tokenizer.model")
        text = self.path("text", count)
        run_verb(["tokenize", "--text", text, "--tokenizer", model, "--out", str(path)])

    def _lm(self, path: Path, count: int) -> None:
        run_verb(["train", *self.training(count, 20_000), "--out", str(path)])

    def training(self, vocab: int, tokens: int, stream: str = "") -> list[str]:
        """The data and settings of an LM of ``vocab`` pieces that is trained on so many tokens, of
        ``stream`` if there is one."""
        shape = {500: (64, 1, 2), 2000: (192, 4, 4)}[vocab]
        model = zip(("d_model", "n_layers", "n_heads"), shape)
        settings = [f"model.{name}={value}" for name, value in model]
        settings += [f"max_tokens={tokens}", "tokens_per_batch=1536", "save_steps=1000000"]
        sets = [part for one in settings for part in ("--set", one)]
        return ["--data", stream or self.path("tokens", vocab), *sets]

    def pruning(self, vocab: int, tokens: int) -> list[str]:
        """The LM, the data and the plan of pruning with so many tokens."""
        data = ["--lm", self.path("lm", vocab), "--data", self.path("tokens", vocab)]
        plan = ["--method", "low-rank", "--criterion", "taylor", "--statistics-tokens", "5000"]
        return [*data, *plan, "--sparsity", "0.3", "--fine-tune-tokens", str(tokens)]


Command = Callable[[Data, int], list[str]]
VERBS: dict[str, Command] = {
    "tokenize": lambda data, n: ["--text", data.path("text", n), "--vocab-size", "500"],
    "train": lambda data, n: data.training(500, 10 * n),
    "train steps": lambda data, n: [
        *data.training(500, 20_000, data.path("stream", n)),
        *("--set", "max_steps=10"),
    ],
    "train mini": lambda data, n: data.training(2000, 10 * n),
    "prune": lambda data, n: data.pruning(500, 10 * n),
    "prune mini": lambda data, n: data.pruning(2000, 10 * n),
    "convert": lambda data, n: ["--from", "jsonl", "--to", "jsonl", data.path("lists", n)],
    "lmscore": lambda data, n: ["--lm", data.path("lm", 500), "--nbest", data.path("lists", n)],
    "rescore": lambda data, n: [
        *("--nbest", data.path("lists", n), "--scores", data.path("scores", n)),
        *("--weights", data.path("weights")),
    ],
    "rescore lattices": lambda data, n: [
        *("--lattice", data.path("lattices", n // 20), "--format", "kaldi-lat"),
        *("--lm", data.path("lm", 500), "--weights", data.path("weights")),
    ],
    "lmscore shard": lambda data, n: [*VERBS["lmscore"](data, n), "--shard", "2/4"],
    "rescore shard": lambda data, n: [*VERBS["rescore"](data, n), "--shard", "2/4"],
    "merge": lambda data, n: data.shards(n),
    "tune": lambda data, n: [
        *("--nbest", data.path("lists", n), "--scores", data.path("scores", n)),
        *("--ref", data.path("ref", n), "--resamples", "0"),
    ],
    "wer": lambda data, n: [
        *("--ref", data.path("ref", n), "--hyp", data.path("hyp", n)),
        *("--replications", "100"),
    ],
    "oracle": lambda data, n: [
        *("--nbest", data.path("lists", n), "--ref", data.path("ref", n)),
        *("--replications", "100"),
    ],
    "report": lambda data, n: [
        *("--runs", data.path("run-a", n), data.path("run-b", n)),
        *("--ref", data.path("ref", n), "--baseline", f"run-a-{n}"),
    ],
}
"""Row of the table -> the arguments of its verb, the first word, given the utterances."""


WATCHED = """
import re, resource, sys
from asrprune.cli.main import main
status = main(sys.argv[1:])
own = re.search("VmHWM:\\\\s+([0-9]+) kB", open("/proc/self/status").read())[1]
print(max(int(own), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss), file=sys.stderr)
sys.exit(status)
"""
"""Runs a verb and prints its peak in kB (``ru_maxrss`` of a new process is not below its parent's,
so the verb's own comes from VmHWM)."""


def run_verb(command: list[str]) -> tuple[float, float]:
    """The peak (MB) and the CPU seconds of a verb in a process of its own: of the largest of it and
    the processes that it starts."""
    child = subprocess.Popen(
        [sys.executable, "-c", WATCHED, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    log = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"asrprune {' '.join(command)}\n{log}")
    return int(log.split()[-1]) / 1024, usage.ru_utime + usage.ru_stime


def measure_verbs(args: argparse.Namespace) -> None:
    """Print the table, a row as soon as it is measured."""
    sizes = [int(size) for size in (args.utterances or "2000,20000,200000").split(",")]
    names = list(VERBS) if args.verbs == "all" else args.verbs.split(",")
    print(f"{'':16}" + "".join(f"{size:>20,}" for size in sizes) + f"{'ratio':>8}")
    with tempfile.TemporaryDirectory() as made:
        data = Data(Path(args.keep or made), int(args.nbest or 5))
        data.folder.mkdir(exist_ok=True)
        for name in names:
            peaks, row = [], f"{name:16}"
            for size in sizes[:-1] if name.endswith(" mini") else sizes:
                verb, out = name.split()[0], Path(made) / f"{name}-{size}"
                asked = size // 10 if verb == "lmscore" else size
                command = [verb, *VERBS[name](data, asked)]
                command += [] if verb == "oracle" else ["--out", str(out)]
                peak, cpu_s = run_verb(command)
                peaks.append(peak)
                row += f"{peak:9.0f} MB{cpu_s:6.1f} s"
                shutil.rmtree(out) if out.is_dir() else out.unlink(missing_ok=True)
            print(f"{row}{peaks[-1] / peaks[0]:8.2f}", flush=True)


def main() -> None:
    args = parse()
    if args.one:
        score(args)
        return
    if args.verbs:
        measure_verbs(args)
        return
    sizes = [f"{count}x10" for count in (args.utterances or "10,100,1000").split(",") if count]
    sizes += [f"1x{count}" for count in (args.nbest or "10,100,500,2000").split(",") if count]
    print(f"{args.words} tokens a hypothesis, budget {args.token_budget} tokens, {args.engine}")
    head = ("utts x nbest", "peak MiB", "over start", "unique", "computed", "per token", "wall s")
    print(f"{head[0]:>14}" + "".join(f"{name:>12}" for name in head[1:]))
    for size in sizes:
        command = [sys.executable, *sys.argv, "--one", size]
        row = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        per_token = row["computed"] / max(row["unique"], 1)
        print(
            f"{size:>14}{row['peak']:12.0f}{row['growth']:12.0f}{row['unique']:12}"
            f"{row['computed']:12}{per_token:12.3f}{row['wall']:12.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
