"""One incremental low-rank run with many sizes against a run of its own for every size.

    python tests/bench/family_cost.py --lm exp/lm --data data --out exp/family-cost

Prints, as measured: the perplexity of every member of the family over that of a model pruned
separately, with the same schedule, to that size (the aim: at most 2 % more), and the family's cost
over that of the single run to the smallest size (the aim: at most 1.3). A separate run may spend
the tokens that the family had spent when it reached that size over ``--allowance``: with 1 a family
costs no more tokens than the single run, with 1.3 all of what it may cost. Cost is tokens, and CPU
seconds of pruning, fine-tuning and saving; perplexities are measured afterwards.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Optional

from asrprune.files import read_json, write_json
from asrprune.lm.device import resolve_device
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.open import lm_digest
from asrprune.provenance import provenance
from asrprune.prune.run.family import Family, Member
from asrprune.prune.run.fine_tuning import perplexity_per_token
from asrprune.prune.run.loop import prune_family
from asrprune.prune.run.plan import FineTuning, Plan
from asrprune.prune.run.scorer import PruningData
from asrprune.text.corpus import open_corpus


def runs_parser(doc: Optional[str], sizes: str, budget: str) -> argparse.ArgumentParser:
    """The flags of a comparison of low-rank runs to ``sizes``; ``budget`` says whose the tokens
    are."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--lm", required=True, help="dense checkpoint folder")
    parser.add_argument("--data", required=True, help="folder written by `asrprune tokenize`")
    parser.add_argument("--out", required=True, help="folder for all runs")
    parser.add_argument("--criterion", default="kfac")
    parser.add_argument("--sparsity", default=sizes)
    parser.add_argument("--steps", type=int, default=Plan().steps)
    parser.add_argument("--fine-tune-tokens", type=int, required=True, help=budget)
    parser.add_argument(
        "--batch-tokens", type=int, default=FineTuning().batch_tokens, help="tokens of a step"
    )
    parser.add_argument("--statistics-tokens", type=int, default=Plan().statistics_tokens)
    parser.add_argument("--seed", type=int, default=Plan().seed)
    parser.add_argument("--device", default="auto")
    return parser


def parse() -> argparse.Namespace:
    parser = runs_parser(__doc__, "0.3,0.4,0.5,0.6,0.7,0.8", "of the family")
    parser.add_argument("--hold", type=float, default=Plan().hold, help="share spent at members")
    parser.add_argument("--growth", type=float, default=2.0, help="of the share from size to size")
    parser.add_argument(
        "--allowance", type=float, default=1.0, help="tokens of the family over those of a run"
    )
    parser.add_argument(
        "--rate", type=float, default=1.0, help="learning rates over those of a plan by default"
    )
    return parser.parse_args()


def timed(args: argparse.Namespace, plan: Plan, folder: Path) -> tuple[Family, float]:
    """The family of a plan and the CPU seconds of its run, pruning and saving included.

    A run that is done is not run again; its time is read from beside it. The time of one that
    was killed and goes on is that of the last call, so start such a run afresh.
    """
    corpus = open_corpus(args.data)
    parent = load_checkpoint(args.lm, str(resolve_device(args.device)))
    identity = {"lm": lm_digest(args.lm), "data": corpus.digest}
    made = provenance(sys.argv, seed=plan.seed, parent=args.lm)
    mark = folder.parent / f"{folder.name}.time.json"
    data = PruningData(corpus.stream("train"))
    started = time.process_time()
    family = prune_family(parent, data, plan, folder, made, identity)
    cpu_s = time.process_time() - started
    if mark.is_file():
        return family, float(read_json(mark)["cpu_s"])
    write_json(mark, {"cpu_s": cpu_s})
    return family, cpu_s


def perplexity(args: argparse.Namespace, folder: Path, member: Member) -> float:
    """Perplexity per token of the valid set."""
    model = load_checkpoint(folder / member.folder, str(resolve_device(args.device))).model
    return perplexity_per_token(model, open_corpus(args.data).stream("valid"), args.batch_tokens)


def main() -> None:
    args = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    usual = FineTuning().optimizer
    rates = replace(usual, lr=args.rate * usual.lr, muon_lr=args.rate * usual.muon_lr)
    plan = Plan(
        criterion=args.criterion,
        method="low-rank",
        schedule="cubic",
        sparsities=tuple(float(part) for part in args.sparsity.split(",")),
        steps=args.steps,
        fine_tune_tokens=args.fine_tune_tokens,
        hold=args.hold,
        growth=args.growth,
        statistics_tokens=args.statistics_tokens,
        seed=args.seed,
        fine_tuning=FineTuning(batch_tokens=args.batch_tokens, optimizer=rates),
    )
    out = Path(args.out)
    family, family_s = timed(args, plan, out / "family")
    print(f"{'sparsity':>8} {'family':>9} {'separate':>9} {'ratio':>7} {'tokens':>9} {'own':>9}")
    for member in family.members:
        tokens = round(member.tokens / args.allowance)
        alone = replace(plan, sparsities=(member.asked,), fine_tune_tokens=tokens)
        folder = out / f"alone-{member.asked:g}"
        own, single_s = timed(args, alone, folder)
        ours = perplexity(args, out / "family", member)
        theirs = perplexity(args, folder, own.members[0])
        print(
            f"{member.asked:>8.3f} {ours:>9.3f} {theirs:>9.3f} {ours / theirs:>7.4f} "
            f"{member.tokens:>9} {own.members[0].tokens:>9}",
            flush=True,
        )
    last, single = family.members[-1].tokens, own.members[0].tokens
    print(
        f"family over the single run to the smallest size: {family_s / single_s:.2f} in CPU time "
        f"({family_s:.1f} s, {single_s:.1f} s), {last / single:.2f} in tokens"
    )


if __name__ == "__main__":
    main()
