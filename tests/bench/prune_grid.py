"""Every criterion x method x schedule on one LM: perplexity, size and measured speed as tables.

    python tests/bench/prune_grid.py --lm exp/lm --data data --out exp/grid --nbest dev.jsonl

Budgets are equal size by size: an incremental run spends ``--fine-tune-tokens`` for each size, and
the one-shot model of the n-th size has n times as many for itself, which is what the incremental
run has spent when it gets there. So incremental runs cost the whole family a third of what one-shot
runs do. With as many ``--steps`` as sizes an incremental run prunes at each size and nowhere else.
All criteria share one fine-tuning (rates, distillation, batches). Criteria that read no data
prune the components of the plain SVD, all others those of the two-sided factorisation.

A method may carry options of the plan: ``--methods unstructured:scope=row depth:depth_unit=block``.
A killed grid resumes where it was; ``--part 1/2`` and ``--part 2/2`` share it between two processes
that only prune, and a last call without ``--part`` finds all done and prints. The speed is the wall
time of the dense LM over the member's with the torch engine, in turns on the same lists, once for
each shape: masked models have the dense one's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

from asrprune.core.hypothesis import NBest
from asrprune.files import read_json, write_json
from asrprune.firstpass.formats.jsonl import read_nbest
from asrprune.lm.device import resolve_device
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.model.checkpoint import Checkpoint, load_checkpoint
from asrprune.lm.open import lm_digest, open_lm
from asrprune.provenance import provenance
from asrprune.prune.criteria import CRITERIA
from asrprune.prune.methods import METHODS
from asrprune.prune.run.family import Family, Member, read_family
from asrprune.prune.run.loop import prune_family
from asrprune.prune.run.plan import FineTuning, Plan, plan_from_dict
from asrprune.prune.run.schedules import SCHEDULES
from asrprune.prune.run.scorer import PruningData
from asrprune.rescore.bench.bench import BenchOptions, bench, spread
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
    parser.add_argument("--methods", nargs="+", metavar="METHOD[:KEY=VALUE]", default=pruners)
    parser.add_argument("--schedules", nargs="+", choices=SCHEDULES, default=["one-shot", "cubic"])
    parser.add_argument("--sparsity", default="0.3,0.5,0.7,0.8,0.9")
    parser.add_argument("--steps", type=int, default=Plan().steps, help="of incremental runs")
    parser.add_argument("--fine-tune-tokens", type=int, default=0, help="tokens from size to size")
    parser.add_argument("--statistics-tokens", type=int, default=Plan().statistics_tokens)
    parser.add_argument(
        "--batch-tokens", type=int, default=FineTuning().batch_tokens, help="tokens of a step"
    )
    rates = FineTuning().optimizer
    parser.add_argument("--lr", type=float, default=rates.lr, help="of fine-tuning, AdamW's part")
    parser.add_argument("--muon-lr", type=float, default=rates.muon_lr, help="Muon's part")
    parser.add_argument("--valid-sentences", type=int, help="valid sentences to use (default: all)")
    parser.add_argument("--part", help="I/N: prune every N-th cell from the I-th on, print nothing")
    parser.add_argument("--nbest", help="n-best lists to measure the speed on")
    parser.add_argument("--limit", type=int, default=50, help="lists of them to use")
    parser.add_argument("--repeats", type=int, default=BenchOptions().repeats)
    parser.add_argument("--device", default="auto")
    return parser.parse_args()


@dataclass(frozen=True)
class Cell:
    """One method, schedule and criterion; ``plans``: one a size with one-shot, else one."""

    method: str
    schedule: str
    criterion: str
    folder: Path
    plans: tuple[Plan, ...]

    def members(self) -> Iterator[tuple[Path, Member]]:
        """What was made of it, with each member's folder."""
        for plan in self.plans:
            folder = self.made_folder(plan)
            for member in read_family(folder).members:
                yield folder / member.folder, member

    def run_folder(self, plan: Plan) -> Path:
        return self.folder / "-".join(f"{size:g}" for size in plan.sparsities)

    def made_folder(self, plan: Plan) -> Path:
        """Where the sizes are: those of a run that cannot reach all of them, where it worked."""
        folder = self.run_folder(plan)
        return folder if folder.is_dir() else folder.with_name(f"{folder.name}.pruning")


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """The cells of the grid."""
    sizes = sorted(float(part) for part in args.sparsity.split(","))
    for method, schedule, criterion in itertools.product(
        args.methods, args.schedules, args.criteria
    ):
        name, _, text = method.partition(":") if method not in METHODS else (method, "", "")
        options = dict(option(item) for item in text.split(",")) if text else {}
        if name in HALF_AT_MOST:
            reachable = tuple(size for size in sizes if size <= 0.5)
        else:
            reachable = tuple(sizes)
        options.setdefault("factorisation", "two-sided" if CRITERIA[criterion].needs else "svd")
        base = Plan(
            criterion=criterion,
            method=name,
            schedule=schedule,
            steps=args.steps,
            statistics_tokens=args.statistics_tokens,
            fine_tuning=FineTuning(
                batch_tokens=args.batch_tokens,
                optimizer=replace(FineTuning().optimizer, lr=args.lr, muon_lr=args.muon_lr),
            ),
        )
        runs: list[tuple[tuple[float, ...], int]]
        if schedule == "one-shot":
            runs = [((size,), count) for count, size in enumerate(reachable, start=1)]
        else:
            runs = [(reachable, len(reachable))]
        plans = [
            {"sparsities": run, "fine_tune_tokens": args.fine_tune_tokens * count}
            for run, count in runs
        ]
        folder = Path(args.out) / method / schedule / criterion
        made = (plan_from_dict({**plan, "options": options}, base) for plan in plans)
        yield Cell(method, schedule, criterion, folder, tuple(made))


def option(item: str) -> tuple[str, Any]:
    """``KEY=VALUE`` with a JSON value or a bare word."""
    key, _, value = item.partition("=")
    return key, value if value.isidentifier() else json.loads(value)


class Grid:
    """The dense LM with its data, and the runs that prune it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        corpus = open_corpus(args.data)
        valid = corpus.stream("valid") if corpus.has("valid") else None
        if valid is not None and args.valid_sentences is not None:
            offsets = valid.offsets[: args.valid_sentences + 1]
            valid = TokenStream(valid.tokens[: offsets[-1]], offsets)
        self.data = PruningData(corpus.stream("train"), valid)
        self.parent: Checkpoint = load_checkpoint(args.lm, str(resolve_device(args.device)))
        self.identity = {"lm": lm_digest(args.lm), "data": corpus.digest}

    def make(self, cell: Cell) -> None:
        """The families of a cell; without the sizes that are out of the method's reach."""
        for plan in cell.plans:
            made = provenance(sys.argv, seed=plan.seed, parent=self.args.lm)
            folder = cell.run_folder(plan)
            try:
                prune_family(self.parent, self.data, plan, folder, made, self.identity)
            except ValueError as problem:
                if "cannot go down to" not in str(problem):
                    raise
                log.warning("%s: %s", folder, problem)

    def dense(self, cell: Cell) -> Family:
        """A family that knows the dense LM's figures."""
        return read_family(cell.made_folder(cell.plans[0]))


class Speeds:
    """Wall time of the dense LM over that of a member, measured once for every shape."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.lists: list[NBest] = []
        if args.nbest:
            self.lists = spread(list(read_nbest(args.nbest)), args.limit)
        self.path = Path(args.out) / "speeds.json"
        self.known = read_json(self.path) if self.path.is_file() else {}

    def of(self, folder: Path) -> Optional[float]:
        """None without n-best lists."""
        if not self.lists:
            return None
        shape = str(read_json(folder / "config.json")["shape"])
        if shape not in self.known:
            options = EngineOptions(device=self.args.device)
            systems = {
                "dense": open_lm(self.args.lm, engine="torch", engine_options=options),
                "pruned": open_lm(folder, engine="torch", engine_options=options),
            }
            dense, pruned = bench(self.lists, systems, BenchOptions(self.args.repeats))
            self.known[shape] = dense.timing.wall_s / pruned.timing.wall_s
            write_json(self.path, self.known)
        return float(self.known[shape])


def row(cell: Cell, one: Member, dense: int, speed: Optional[float]) -> str:
    """One line of the long table; ``work``: parameters that a dense kernel multiplies less."""
    ratio = "-" if speed is None else f"{speed:.2f}"
    return (
        f"{cell.method:<22} {cell.schedule:<9} {cell.criterion:<20} {one.asked:>6.3f} "
        f"{one.measured:>8.4f} {one.nonzero_parameters:>9} {one.bytes / 1e6:>8.2f} "
        f"{number(one.perplexity_pruned):>10} {number(one.perplexity):>9} {one.tokens:>9} "
        f"{dense / one.parameters:>5.2f} {ratio:>6}"
    )


def number(value: Optional[float]) -> str:
    """A perplexity in six characters or so."""
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 1e4 else f"{value:.1e}"


def matrix(method: str, made: list[tuple[Cell, Member]], sizes: list[float]) -> Iterator[str]:
    """Perplexities of one method as Markdown: criteria by sizes, one-shot / incremental."""
    heads = [f"{size:.0%}" for size in sizes]
    yield f"| {method} | {' | '.join(heads)} |"
    yield f"|---|{'---:|' * len(sizes)}"
    criteria = dict.fromkeys(cell.criterion for cell, _ in made)
    schedules = dict.fromkeys(cell.schedule for cell, _ in made)
    for criterion in criteria:
        row = []
        for size in sizes:
            found = {
                cell.schedule: one.perplexity
                for cell, one in made
                if cell.criterion == criterion and one.asked == size
            }
            row.append(" / ".join(number(found.get(schedule)) for schedule in schedules))
        yield f"| {criterion} | {' | '.join(row)} |"


def main() -> None:
    args = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    grid, speeds = Grid(args), Speeds(args)
    number_of, _, parts = (args.part or "1/1").partition("/")
    mine = [c for i, c in enumerate(cells(args)) if i % int(parts) == int(number_of) - 1]
    for cell in mine:
        grid.make(cell)
    if args.part:
        return
    parent = grid.dense(mine[0]).parent
    print(f"dense: perplexity {number(parent['perplexity'])}, {parent['bytes'] / 1e6:.2f} MB")
    print(
        f"{'method':<22} {'schedule':<9} {'criterion':<20} {'asked':>6} {'measured':>8} "
        f"{'nonzero':>9} {'MB':>8} {'ppl pruned':>10} {'ppl':>9} {'tokens':>9} {'work':>5} "
        f"{'speed':>6}"
    )
    made = [(cell, folder, member) for cell in mine for folder, member in cell.members()]
    for cell, folder, member in made:
        print(row(cell, member, parent["parameters"], speeds.of(folder)), flush=True)
    for method in args.methods:
        found = [(cell, member) for cell, _, member in made if cell.method == method]
        sizes = sorted({member.asked for _, member in found})
        print("\n" + "\n".join(matrix(method, found, sizes)))


if __name__ == "__main__":
    main()
