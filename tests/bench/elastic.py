"""One elastic LM against a run of its own for every size.

    python tests/bench/elastic.py --lm exp/lm --data data --fine-tune-tokens 20000000 --out runs

Prints, as measured: the perplexity per token of the elastic LM at every size over that of an LM
pruned incrementally to this size alone with ``--fine-tune-tokens`` (the aim: at most 2 % more from
``--allowance`` times these tokens for all sizes together), and what both cost: tokens, each one
pass of the LM, and CPU seconds as in family_cost.py; perplexities are measured afterwards. Runs
that are done are not run again.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path
from typing import Optional

from asrprune.lm.device import resolve_device
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.prune.methods import METHODS
from asrprune.prune.methods.method import FORMS, Options
from asrprune.prune.run.family import ELASTIC
from asrprune.prune.run.fine_tuning import perplexity_per_token
from asrprune.prune.run.plan import FineTuning, Plan
from asrprune.text.corpus import open_corpus
from tests.bench.family_cost import runs_parser, timed

SIZES = "0.2,0.26,0.33,0.39,0.45,0.52,0.58,0.65,0.71,0.77,0.84,0.9"


def parse() -> argparse.Namespace:
    parser = runs_parser(__doc__, SIZES, "of a run of its own")
    parser.add_argument("--allowance", type=float, default=1.5, help="times these: of the elastic")
    parser.add_argument("--precision", default=FineTuning().precision)
    able = [name for name, one in METHODS.items() if one.elastic is not None]
    parser.add_argument("--method", choices=able, default=able[0], help="of all runs")
    parser.add_argument("--form", choices=FORMS, default=FORMS[0], help="of what is stored")
    return parser.parse_args()


def perplexity(args: argparse.Namespace, folder: Path, size: Optional[float] = None) -> float:
    """Per token of the valid set."""
    model = load_checkpoint(folder, str(resolve_device(args.device)), size=size).model
    return perplexity_per_token(model, open_corpus(args.data).stream("valid"), args.batch_tokens)


def main() -> None:
    args = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    alone = Plan(
        criterion=args.criterion,
        method=args.method,
        schedule="cubic",
        steps=args.steps,
        fine_tune_tokens=args.fine_tune_tokens,
        statistics_tokens=args.statistics_tokens,
        seed=args.seed,
        options=Options(form=args.form),
        fine_tuning=FineTuning(batch_tokens=args.batch_tokens, precision=args.precision),
    )
    sizes = tuple(float(part) for part in args.sparsity.split(","))
    tokens = round(args.allowance * args.fine_tune_tokens)
    together = replace(alone, schedule="elastic", sparsities=sizes, fine_tune_tokens=tokens)
    out = Path(args.out)
    family, elastic_s = timed(args, together, out / "together")
    place = out / "together" / ELASTIC
    print(f"{'sparsity':>8} {'elastic':>9} {'separate':>9} {'ratio':>7}")
    separate_s, spent, files = 0.0, 0, []
    for size in sizes:
        folder = out / f"alone-{size:g}"
        own, own_s = timed(args, replace(alone, sparsities=(size,)), folder)
        separate_s, spent = separate_s + own_s, spent + own.members[0].tokens
        files.append(own.members[0].bytes)
        ours = perplexity(args, place, size)
        theirs = perplexity(args, folder / own.members[0].folder)
        print(f"{size:>8.3f} {ours:>9.3f} {theirs:>9.3f} {ours / theirs:>7.4f}", flush=True)
    print(f"dense: {perplexity(args, Path(args.lm)):.3f}")
    print(
        f"elastic over all separate runs: {elastic_s / separate_s:.2f} in CPU time "
        f"({elastic_s:.1f} s, {separate_s:.1f} s), {family.members[0].tokens / spent:.2f} in tokens"
    )
    file = load_checkpoint(place).size_bytes()
    print(f"its file over the largest separate one: {file / max(files):.3f}")


if __name__ == "__main__":
    main()
