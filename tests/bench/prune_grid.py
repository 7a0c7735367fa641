"""Every criterion x method x schedule on one LM: perplexity, size and measured speed as a table.

    python tests/bench/prune_grid.py --lm exp/lm --data data --out exp/grid --nbest dev.jsonl

Budgets are equal size by size: an incremental run spends ``--fine-tune-tokens`` for each size, and
the one-shot model of the n-th size has n times as many for itself, which is what the incremental
run has spent when it gets there (column ``tokens``). So incremental runs cost the whole family a
third of what one-shot runs do. Column ``ppl pruned`` is before fine-tuning. Criteria that read no
data prune the components of the plain SVD, all others those of the two-sided factorisation. A
killed grid goes on where it was; ``--part 1/2`` and ``--part 2/2`` share it between two processes.
The speed is the wall time of the dense LM over the member's, measured in turns on the same lists.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Optional

from asrprune.core.hypothesis import NBest
from asrprune.firstpass.jsonl import read_nbest
from asrprune.lm.checkpoint import load_checkpoint
from asrprune.lm.engines import EngineOptions, resolve_device
from asrprune.lm.open import lm_digest, open_lm
from asrprune.lm.provenance import provenance
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.family import Family, Member, read_family
from asrprune.prune.loop import prune_family
from asrprune.prune.methods import METHODS, Options
from asrprune.prune.plan import Plan, Recovery
from asrprune.prune.schedules import SCHEDULES
from asrprune.prune.scorer import PruningData
from asrprune.rescore.bench import BenchOptions, bench, spread
from asrprune.text.corpus import TokenStream, open_corpus

HALF_AT_MOST = ("2:4", "4:8")
"""Methods whose pattern ends at sparsity 0.5."""

log = logging.getLogger("prune_grid")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lm", required=True, help="dense checkpoint folder")
    parser.add_argument("--data", required=True, help="folder written by `asrprune tokenize`")
    parser.add_argument("--out", required=True, help="folder for all families")
    parser.add_argument("--criteria", nargs="+", choices=CRITERIA, default=list(CRITERIA))
    pruners = [name for name, method in METHODS.items() if not method.fresh]
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=pruners)
    parser.add_argument("--schedules", nargs="+", choices=SCHEDULES, default=["one-shot", "cubic"])
    parser.add_argument("--sparsity", default="0.3,0.5,0.7,0.8,0.9")
    parser.add_argument("--fine-tune-tokens", type=int, default=0, help="tokens from size to size")
    parser.add_argument("--statistics-tokens", type=int, default=Plan().statistics_tokens)
    parser.add_argument(
        "--batch-tokens", type=int, default=Recovery().batch_tokens, help="tokens of a step"
    )
    parser.add_argument("--valid-sentences", type=int, help="valid sentences to use (default: all)")
    parser.add_argument("--part", default="1/1", help="I/N: every N-th cell from the I-th on")
    parser.add_argument("--nbest", help="n-best lists to measure the speed on")
    parser.add_argument("--limit", type=int, default=50, help="lists of them to use")
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


def plans(args: argparse.Namespace) -> Iterator[tuple[Path, list[Plan]]]:
    """The plans of every cell of the grid, and its folder: one a size with one-shot, else one."""
    sizes = sorted(float(part) for part in args.sparsity.split(","))
    for method, schedule, criterion in itertools.product(
        args.methods, args.schedules, args.criteria
    ):
        reachable = tuple(size for size in sizes if method not in HALF_AT_MOST or size <= 0.5)
        if METHODS[method].fresh and schedule != "one-shot":
            continue
        runs = [(size,) for size in reachable] if schedule == "one-shot" else [reachable]
        factorisation = "two-sided" if CRITERIA[criterion].needs else "svd"
        yield (
            Path(args.out) / method / schedule / criterion,
            [
                Plan(
                    criterion=criterion,
                    method=method,
                    schedule=schedule,
                    sparsities=run,
                    fine_tune_tokens=args.fine_tune_tokens * (reachable.index(run[-1]) + 1),
                    statistics_tokens=args.statistics_tokens,
                    options=Options(factorisation=factorisation),
                    recovery=Recovery(batch_tokens=args.batch_tokens),
                )
                for run in runs
                if run
            ],
        )


def part_of(args: argparse.Namespace) -> Iterator[tuple[Path, Plan]]:
    """The runs of the cells that this process is to make."""
    number, _, count = args.part.partition("/")
    for index, (folder, cell) in enumerate(plans(args)):
        if index % int(count) == int(number) - 1:
            for plan in cell:
                yield folder / "-".join(f"{size:g}" for size in plan.sparsities), plan


def make(args: argparse.Namespace, data: PruningData, folder: Path, plan: Plan) -> Family:
    """The family of one cell; without the sizes that are out of the method's reach."""
    parent = load_checkpoint(args.lm, str(resolve_device(args.device)))
    identity = {"lm": lm_digest(args.lm), "data": open_corpus(args.data).digest}
    made = provenance(sys.argv, seed=plan.seed, parent=args.lm)
    try:
        return prune_family(parent, data, plan, folder, made, identity)
    except ValueError as problem:
        if "cannot go down to" not in str(problem):
            raise
        log.warning("%s: %s", folder, problem)
        return read_family(folder)


def speed_ratio(args: argparse.Namespace, lists: Sequence[NBest], folder: Path) -> Optional[float]:
    """Wall time of the dense LM over that of the LM in ``folder``; None without n-best lists."""
    if not lists:
        return None
    options = EngineOptions(device=args.device)
    systems = {
        "dense": open_lm(args.lm, engine_options=options),
        "pruned": open_lm(folder, engine_options=options),
    }
    dense, pruned = bench(lists, systems, BenchOptions())
    return dense.timing.wall_s / pruned.timing.wall_s


def row(method: str, schedule: str, criterion: str, one: Member, speed: Optional[float]) -> str:
    """One line of the table."""
    perplexity = "-" if one.perplexity is None else f"{one.perplexity:.3f}"
    before = "-" if one.perplexity_pruned is None else f"{one.perplexity_pruned:.3f}"
    ratio = "-" if speed is None else f"{speed:.2f}"
    return (
        f"{method:<20} {schedule:<9} {criterion:<15} {one.asked:>6.3f} {one.measured:>8.4f} "
        f"{one.nonzero_parameters:>9} {one.bytes / 1e6:>8.2f} {before:>10} {perplexity:>9} "
        f"{one.tokens:>9} {ratio:>6}"
    )


def main() -> None:
    args = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    corpus = open_corpus(args.data)
    valid = corpus.stream("valid") if corpus.has("valid") else None
    if valid is not None and args.valid_sentences is not None:
        offsets = valid.offsets[: args.valid_sentences + 1]
        valid = TokenStream(valid.tokens[: offsets[-1]], offsets)
    data = PruningData(corpus.stream("train"), valid)
    lists = spread(list(read_nbest(args.nbest)), args.limit) if args.nbest else []
    print(
        f"{'method':<20} {'schedule':<9} {'criterion':<15} {'asked':>6} {'measured':>8} "
        f"{'nonzero':>9} {'MB':>8} {'ppl pruned':>10} {'ppl':>9} {'tokens':>9} {'speed':>6}"
    )
    for folder, plan in part_of(args):
        for member in make(args, data, folder, plan).members:
            speed = speed_ratio(args, lists, folder / member.folder)
            line = row(plan.method, plan.schedule, plan.criterion, member, speed)
            print(line, flush=True)


if __name__ == "__main__":
    main()
