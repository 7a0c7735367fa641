"""``asrprune bench``: how fast an LM scores n-best lists."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from asrprune.cli.engine_flags import (
    CHECKPOINT,
    ENGINE_MODES,
    add_engine_arguments,
    engine_options,
)
from asrprune.cli.modes import Mode
from asrprune.cli.values import output_file, whole

if TYPE_CHECKING:
    from asrprune.rescore.bench.bench import BenchResult

EXAMPLE = "example: asrprune bench --lm exp/lm --nbest exp/dev/nbest.jsonl.gz --threads 1"
BASELINES = ("padded",)

log = logging.getLogger(__name__)


def _compares(args: argparse.Namespace) -> bool:
    """Whether there is something to compare with: the reference engine is itself the measure."""
    from asrprune.lm.engines.table import choose_engine

    return bool(args.baseline) or choose_engine(args.engine, args.device)[0] != "torch"


COMPARING = Mode(
    ("check",),
    _compares,
    "has no use for engine torch without --baseline: there is nothing to compare it with",
    inside=CHECKPOINT,
)
CHECKED = Mode(
    ("weights",), lambda args: bool(args.check), "has no use with --no-check", inside=COMPARING
)
MODES = (
    Mode(("lm", "nbest", "limit", "repeats", "warmup", "json")),
    *ENGINE_MODES,
    Mode(("baseline",), inside=CHECKPOINT),
    COMPARING,
    CHECKED,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune bench``."""
    from asrprune.rescore.bench.bench import BenchOptions

    defaults = BenchOptions()
    parser.add_argument("--lm", required=True, metavar="PATH", help="checkpoint folder or n-gram")
    parser.add_argument("--nbest", required=True, metavar="FILE", help="n-best lists")
    parser.add_argument(
        "--limit", type=whole(1), metavar="N", help="only N utterances, spread over the file"
    )
    parser.add_argument("--repeats", type=whole(1), default=defaults.repeats, help="counted runs")
    parser.add_argument("--warmup", type=whole(0), default=defaults.warmup, help="runs before them")
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the figures (- is stdout)"
    )
    parser.add_argument(
        "--baseline",
        choices=BASELINES,
        help="measure this too, in turns: padded batches in fp32 torch that share no prefix",
    )
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare the scores with those of the baseline, or of the torch engine without one",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="tuned for this LM: the comparison is of totals under them, and of WER",
    )
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Read, measure, print."""
    from asrprune.files import write_json
    from asrprune.firstpass.formats.jsonl import read_nbest
    from asrprune.lm.model.checkpoint import is_checkpoint, load_checkpoint
    from asrprune.lm.model.transformer import count_nonzero, count_parameters
    from asrprune.lm.open import open_lm, open_padded
    from asrprune.lm.protocol import LanguageModel
    from asrprune.lm.scoring.forests import TOKEN_BUDGET, ScoringOptions
    from asrprune.provenance import provenance
    from asrprune.rescore.bench.agreement import compare_scores
    from asrprune.rescore.bench.bench import BenchOptions, bench, spread
    from asrprune.rescore.bench.machine import describe_machine, describe_run, peak_rss_bytes
    from asrprune.rescore.weights_file import read_any_weights

    options = engine_options(args)
    weights = None if args.weights is None else read_any_weights(args.weights)
    if weights is not None:
        weights.check_lms([args.lm], args.weights)
    lists = spread(list(read_nbest(args.nbest)), args.limit)
    scoring = ScoringOptions(token_budget=args.token_budget)
    lm = open_lm(args.lm, args.engine, options, scoring)
    figures: dict[str, Any] = {"lm": lm.name, **describe_run(lm, args.threads)}
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
        systems[f"{args.baseline} baseline"] = open_padded(
            args.lm, options, args.token_budget or TOKEN_BUDGET
        )
    results = bench(lists, systems, BenchOptions(args.repeats, args.warmup), args.nbest)
    figures["warmup"] = args.warmup
    figures["systems"] = [_row(one, results[-1]) for one in results]
    figures["peak_rss_bytes"] = peak_rss_bytes()
    figures["machine"] = describe_machine()
    figures["provenance"] = provenance(args.command_line)
    if CHECKED.holds(args):
        if args.baseline:
            reference = results[-1].scores
        else:
            texts = [[hyp.text for hyp in nbest.hyps] for nbest in lists]
            plain = replace(options, calibration=None)
            reference = open_lm(args.lm, "torch", plain, scoring).score_lists(texts)
        found = compare_scores(
            lists, reference, results[0].scores, None if weights is None else weights.weights
        )
        figures["agreement"] = {"reference": args.baseline or "torch", **asdict(found)}
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
    if figures["note"]:
        facts.append(figures["note"])
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
    if "agreement" in figures:
        lines += _agreement_lines(figures["agreement"])
    return "\n".join(lines) + "\n"


def _agreement_lines(found: dict[str, Any]) -> list[str]:
    ranked = "LM score" if found["wer"] is None else "total"
    lines = [
        f"against {found['reference']} in fp32: |difference| of ln P at most "
        f"{found['max_difference']:.2g}, {found['mean_difference']:.2g} on average "
        f"(bias {found['bias']:+.2g}) over {found['hypotheses']} hypotheses",
        f"by {ranked}: another best hypothesis in {found['changed_best']} of {found['lists']} "
        f"lists, another rank for {found['moved']} hypotheses",
    ]
    if found["wer"] is not None:
        first, second, interval = (found["wer"][key] for key in ("first", "second", "interval"))
        lines.append(
            f"WER {first['wer_percent']:.2f} -> {second['wer_percent']:.2f}, difference "
            f"{found['wer']['difference_percent']:+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}]"
        )
    return lines
