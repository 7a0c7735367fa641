"""How good the choice of ``--engine fastest`` is: what it takes against what a long run finds.

    python tests/bench/choice.py --lm exp/dense exp/small/sparsity-0.50 --random \\
        --nbest ../shared/data/ljspeech/pocketsphinx.100best.json.gz --threads 1 2

Every engine that is a candidate scores the same lists in turns; torch takes ``--seconds`` for them.
The choice is measured anew each time, on its own sample. A row says how fast the engine that it
took was in the long run, as a share of the fastest there. With one thread CPU time is counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

from subjects import Subject, open_subject, read_lists, take_turns

from asrprune.lm import fastest
from asrprune.lm.engines import choice
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.table import CHOICES, open_engine
from asrprune.lm.scoring.forests import ForestScorer, ScoringOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lm", nargs="*", default=[], help="checkpoint folders")
    parser.add_argument("--random", action="store_true", help="also 6 layers, d 512, V 5000")
    parser.add_argument("--nbest", nargs="+", required=True)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--engine", nargs="+", choices=list(CHOICES), default=["auto", "fastest"])
    parser.add_argument("--seconds", type=float, default=1.0, help="of torch, for the long run")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print(f"{'LM, lists, threads':<58} {'asked':<12} took, share of the fastest, seconds")
    for path in [*args.lm, *([None] if args.random else [])]:
        subject = open_subject(path)
        for nbest in args.nbest:
            for threads in args.threads:
                case = f"{path or 'random'}, {Path(nbest).name}, {threads}"
                _one(case, subject, nbest, threads, args)


def _one(case: str, subject: Subject, nbest: str, threads: int, args: argparse.Namespace) -> None:
    lists = [[hyp.text for hyp in one.hyps] for one in read_lists(nbest, None)]
    sample = fastest.Sample(lists, Path(nbest).name)
    options, scoring = EngineOptions(threads, "cpu"), ScoringOptions()
    chosen = {}
    for asked in args.engine:
        with tempfile.TemporaryDirectory() as folder:
            choice.private_cache = lambda name, kept=Path(folder): kept
            start = time.perf_counter()
            found = fastest.choose(
                asked, subject.model, subject.tokenizer, options, scoring, sample
            )
            chosen[asked] = (found, time.perf_counter() - start)
    names = dict.fromkeys(name for found, _ in chosen.values() for name in found.speeds)
    scorers = {
        name: ForestScorer(
            open_engine(name, subject.model, options, subject.tokenizer),
            subject.tokenizer,
            subject.model.max_positions,
        )
        for name in names
    }
    ids = [subject.tokenizer.encode_batch(hyps) for hyps in lists]
    ids = fastest.first_lists(scorers["torch"], ids, (args.seconds, args.seconds), 0)
    forest = scorers["torch"].forest(ids)
    runs = {name: partial(one.run, forest) for name, one in scorers.items()}
    times = take_turns(runs, args.repeats, threads)
    seconds = {name: min(some) for name, some in times.items()}
    for asked, (found, wall_s) in chosen.items():
        best = min(seconds[name] for name in found.speeds)
        print(
            f"{case[-58:]:<58} {asked:<12} {found.engine} {best / seconds[found.engine]:.3f} "
            f"in {wall_s:.1f} s",
            flush=True,
        )
    speeds = {name: f"{seconds['torch'] / value:.2f}" for name, value in seconds.items()}
    measured = {name: f"{value:.2f}" for name, value in chosen[args.engine[-1]][0].speeds.items()}
    print(f"    long run, {len(ids)} lists: {speeds}\n    choice: {measured}", flush=True)


if __name__ == "__main__":
    main()
