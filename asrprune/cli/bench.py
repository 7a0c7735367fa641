"""``asrprune bench``: how fast an LM scores n-best lists."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from asrprune.cli.lmscore import add_engine_arguments

if TYPE_CHECKING:
    from asrprune.rescore.bench import BenchResult

EXAMPLE = "example: asrprune bench --lm exp/lm --nbest exp/dev/nbest.jsonl.gz --threads 1"
BASELINES = ("padded",)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune bench``."""
    from asrprune.rescore.bench import BenchOptions

    defaults = BenchOptions()
    parser.add_argument("--lm", required=True, metavar="PATH", help="checkpoint folder or n-gram")
    parser.add_argument("--nbest", required=True, metavar="FILE", help="n-best lists")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only N utterances, spread over the file"
    )
    parser.add_argument("--repeats", type=int, default=defaults.repeats, help="counted runs")
    parser.add_argument("--warmup", type=int, default=defaults.warmup, help="runs before them")
    parser.add_argument("--json", metavar="FILE", help="write the figures (- is stdout)")
    parser.add_argument(
        "--baseline",
        choices=BASELINES,
        help="measure this too, in turns: padded batches in fp32 torch that share no prefix",
    )
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Read, measure, print."""
    from asrprune.files import write_json
    from asrprune.firstpass.jsonl import read_nbest
    from asrprune.lm.checkpoint import is_checkpoint, load_checkpoint
    from asrprune.lm.engines import EngineOptions, choose_engine
    from asrprune.lm.open import open_lm
    from asrprune.lm.padded import open_padded
    from asrprune.lm.protocol import LanguageModel
    from asrprune.lm.provenance import provenance
    from asrprune.lm.scoring import ScoringOptions
    from asrprune.lm.transformer import count_nonzero, count_parameters
    from asrprune.rescore.bench import BenchOptions, bench, spread
    from asrprune.rescore.machine import describe_machine, describe_run, peak_rss_bytes

    lists = spread(list(read_nbest(args.nbest)), args.limit)
    options = EngineOptions(args.threads, args.device, args.calibration)
    args.engine, why = choose_engine(args.engine, args.device)
    log.info("engine %s (%s)", args.engine, why)
    lm = open_lm(args.lm, args.engine, options, ScoringOptions(token_budget=args.token_budget))
    figures: dict[str, Any] = {"lm": lm.name, **describe_run(lm, args.engine, args.threads)}
    if is_checkpoint(args.lm):
        checkpoint = load_checkpoint(args.lm)
        figures["parameters"] = count_parameters(checkpoint.model)
        figures["nonzero_parameters"] = count_nonzero(checkpoint.model)
        figures["size_bytes"] = checkpoint.size_bytes()
        figures["history"] = list(checkpoint.history)
        del checkpoint
    else:
        figures["size_bytes"] = os.path.getsize(args.lm)
    systems: dict[str, LanguageModel] = {lm.name: lm}
    if args.baseline:
        systems[f"{args.baseline} baseline"] = open_padded(args.lm, options, args.token_budget)
    results = bench(lists, systems, BenchOptions(args.repeats, args.warmup))
    figures["warmup"] = args.warmup
    figures["systems"] = [_row(one, results[-1]) for one in results]
    figures["peak_rss_bytes"] = peak_rss_bytes()
    figures["machine"] = describe_machine()
    figures["provenance"] = provenance(args.command_line)
    (sys.stderr if args.json == "-" else sys.stdout).write(_table(figures))
    if args.json:
        write_json(args.json, figures)


def _row(result: BenchResult, slowest: BenchResult) -> dict[str, Any]:
    timing = result.timing
    return {
        "name": result.name,
        "wall_s": timing.wall_s,
        "runs_s": list(result.runs_s),
        "audio_s": timing.audio_s,
        "rtf": timing.rtf,
        "tokens": timing.tokens,
        "unique_tokens": timing.unique_tokens,
        "tokens_per_s": timing.tokens_per_s,
        "unique_ratio": timing.unique_ratio,
        "speed_up": slowest.timing.wall_s / timing.wall_s,
    }


def _table(figures: dict[str, Any]) -> str:
    facts = [f"{key} {figures[key]}" for key in ("engine", "device", "threads")]
    if "parameters" in figures:
        facts.append(f"{figures['parameters'] / 1e6:.2f} M parameters")
    facts.append(f"{figures['size_bytes'] / 1e6:.2f} MB")
    facts.append(f"peak memory {figures['peak_rss_bytes'] / 1e6:.0f} MB")
    lines = [", ".join(facts)]
    lines.append(
        f"{'system':<20} {'wall s':>8} {'LM RTF':>9} {'tokens/s':>9} {'unique':>7} {'x':>6}"
    )
    for row in figures["systems"]:
        rtf = "unknown" if row["rtf"] is None else f"{row['rtf']:.5f}"
        speed = "-" if not row["tokens"] else f"{row['tokens_per_s']:.0f}"
        unique = "-" if row["unique_ratio"] is None else f"{row['unique_ratio']:.3f}"
        lines.append(
            f"{row['name']:<20} {row['wall_s']:>8.3f} {rtf:>9} {speed:>9} {unique:>7} "
            f"{row['speed_up']:>6.2f}"
        )
    runs = len(figures["systems"][0]["runs_s"])
    lines.append(f"median of {runs} runs after {figures['warmup']} for warm-up")
    return "\n".join(lines) + "\n"
