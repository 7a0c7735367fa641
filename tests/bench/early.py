"""Tokens and time that early termination and a cascade save on real lists, and what they change.

    python tests/bench/early.py --nbest FILE --lm exp/lm --weights weights.json \\
        [--small-lm exp/small --small-weights small.json]

Full scoring and each variant run in turns, ``--repeats`` times; times are medians of wall seconds,
ratios within a turn, opening the LMs included. "differ" counts utterances with other words than
full scoring's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from asrprune.core.counts import ErrorCounts
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.jsonl import read_nbest
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.table import EARLY
from asrprune.lm.open import open_early, open_lm
from asrprune.lm.scoring.early import EarlyOptions
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.rescore.bench.bench import spread
from asrprune.rescore.nbest.early import CascadeSummary, rescore_cascade, rescore_early
from asrprune.rescore.nbest.rescore import RescoringSummary, rescore
from asrprune.rescore.nbest.scored_list import scored_lists
from asrprune.rescore.scores_file import Scores, UtteranceScores
from asrprune.rescore.weights_file import read_any_weights
from asrprune.wer.wer import count_errors


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nbest", required=True)
    parser.add_argument("--lm", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--small-lm", help="for the cascade")
    parser.add_argument("--small-weights", help="tuned for the small LM")
    parser.add_argument("--margins", default="0,5,10,20,40", help="of the cascade, in its total")
    parser.add_argument("--waves", default="4:4,8:2", help="band:complete, ...")
    parser.add_argument("--engine", default="torch", choices=EARLY)
    parser.add_argument("--limit", type=int, help="only so many utterances")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


class Bench:
    """The lists and each way of rescoring them: best texts, and a note of what it took."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.lists = spread(list(read_nbest(args.nbest)), args.limit)
        self.texts = [[hyp.text for hyp in one.hyps] for one in self.lists]
        self.weights = read_any_weights(args.weights).weights
        self.options = EngineOptions(args.threads, "cpu")

    def scores(self, path: str) -> tuple[Scores, TransformerScorer]:
        lm = open_lm(path, self.args.engine, self.options)
        assert isinstance(lm, TransformerScorer)
        found = zip(self.lists, lm.score_lists(self.texts))
        made = {one.utt: UtteranceScores(one.utt, one.digest, v) for one, v in found}
        return Scores(path, {"lm": path}, made), lm

    def full(self, path: str, weights: ScoreWeights) -> tuple[list[str], str]:
        scores, lm = self.scores(path)
        joined = scored_lists(self.lists, [scores])
        best = [one.best for one in rescore(joined, weights, RescoringSummary())]
        return best, f"{lm.stats.unique_tokens} unique tokens"

    def early(self, band: int, complete: int) -> tuple[list[str], str]:
        options = EarlyOptions(band=band, complete=complete)
        lm = open_early(self.args.lm, self.args.engine, self.options, options)
        joined = scored_lists(self.lists, [])
        best = [one.best for one in rescore_early(joined, lm, self.weights, RescoringSummary())]
        return best, f"{lm.stats.saved:.1%} of nodes saved, {lm.stats.waves} waves"

    def cascade(self, margin: float) -> tuple[list[str], str]:
        scores, small = self.scores(self.args.small_lm)
        large = open_lm(self.args.lm, self.args.engine, self.options)
        assert isinstance(large, TransformerScorer)
        summary = CascadeSummary()
        results = rescore_cascade(
            scored_lists(self.lists, [scores]),
            read_any_weights(self.args.small_weights).weights,
            large,
            self.weights,
            margin,
            RescoringSummary(),
            summary,
        )
        best = [one.best for one in results]
        share = large.stats.unique_tokens / small.stats.unique_tokens
        return best, f"{summary.open_lists} lists open, {share:.1%} of tokens to the large LM"

    def wer(self, best: list[str]) -> str:
        counts = ErrorCounts()
        for nbest, text in zip(self.lists, best):
            if nbest.ref is None:
                return "-"
            counts += count_errors(nbest.ref, text)
        return f"{100 * counts.errors / max(counts.words, 1):.2f}"


def main() -> None:
    args = parse()
    bench = Bench(args)
    runs: dict[str, Callable[[], tuple[list[str], str]]] = {
        "full": lambda: bench.full(args.lm, bench.weights)
    }
    for wave in args.waves.split(","):
        band, complete = map(int, wave.split(":"))
        runs[f"early {band}:{complete}"] = lambda b=band, c=complete: bench.early(b, c)
    if args.small_lm:
        small_weights = read_any_weights(args.small_weights).weights
        runs["small alone"] = lambda: bench.full(args.small_lm, small_weights)
        for margin in map(float, args.margins.split(",")):
            runs[f"cascade {margin:g}"] = lambda m=margin: bench.cascade(m)
    times: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, tuple[list[str], str]] = {}
    for _ in range(args.repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            results[name] = run()
            times[name].append(time.perf_counter() - start)
    print(f"{len(bench.lists)} utterances, {sum(map(len, bench.texts))} hypotheses")
    print(f"{'':14} {'wall s':>8} {'ratio':>6} {'differ':>6} {'WER':>6}")
    for name, (best, note) in results.items():
        ratio = statistics.median(b / a for a, b in zip(times["full"], times[name]))
        differ = sum(a != b for a, b in zip(best, results["full"][0]))
        seconds = statistics.median(times[name])
        print(f"{name:14} {seconds:8.2f} {ratio:6.3f} {differ:6} {bench.wer(best):>6}  {note}")


if __name__ == "__main__":
    main()
