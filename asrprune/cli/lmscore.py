"""``asrprune lmscore``: one LM score per hypothesis; slow, resumable."""

from __future__ import annotations

import argparse
import logging
from typing import Any

EXAMPLE = "example: asrprune lmscore --lm exp/lm --nbest exp/dev/nbest.jsonl.gz --out exp/dev/lm"

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune lmscore``."""
    from asrprune.lm.scoring.forests import OVER_LONG, ScoringOptions

    defaults = ScoringOptions()
    parser.add_argument("--lm", required=True, metavar="PATH", help="checkpoint folder or n-gram")
    parser.add_argument("--nbest", required=True, metavar="FILE", help="n-best lists")
    parser.add_argument("--out", required=True, metavar="FILE", help="scores (.gz is compressed)")
    parser.add_argument("--timing", metavar="FILE", help="figures; by default OUT.timing.json")
    parser.add_argument(
        "--over-long",
        choices=OVER_LONG,
        default=defaults.over_long,
        help="a hypothesis longer than the LM's positions: refuse, or score it -inf",
    )
    add_engine_arguments(parser)


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of everything that runs an LM."""
    from asrprune.lm.engines.engine import EngineOptions
    from asrprune.lm.engines.table import ENGINES
    from asrprune.lm.scoring.forests import TOKEN_BUDGET

    options = EngineOptions()
    parser.add_argument(
        "--engine",
        choices=["auto", *ENGINES],
        default="torch",
        help="what computes; auto takes the fastest here that keeps float32 and says which",
    )
    parser.add_argument(
        "--calibration",
        metavar="PATH",
        help="text or data folder on which onnx-int8 measures its ranges (default: text drawn "
        "from the model)",
    )
    parser.add_argument("--threads", type=int, default=options.threads, help="CPU threads")
    parser.add_argument("--device", default=options.device, help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--token-budget",
        type=int,
        help="most tokens in the forward passes of one moment: bounds memory, does not change "
        f"scores (default: {TOKEN_BUDGET}, and {TOKEN_BUDGET // 2} a thread beyond two)",
    )


def run(args: argparse.Namespace) -> None:
    """Open, score, write."""
    import time

    from asrprune.files import sha256, write_json
    from asrprune.firstpass.formats.jsonl import read_nbest
    from asrprune.lm.engines.engine import EngineOptions
    from asrprune.lm.engines.table import choose_engine
    from asrprune.lm.open import lm_digest, open_lm
    from asrprune.lm.scoring.forests import ScoringOptions
    from asrprune.provenance import provenance
    from asrprune.rescore.lmscore import check_nbest_file, score_nbest
    from asrprune.rescore.scores_file import make_header

    check_nbest_file(args.nbest)
    args.engine, why = choose_engine(args.engine, args.device)
    log.info("engine %s (%s)", args.engine, why)
    start = time.perf_counter()
    lm = open_lm(
        args.lm,
        args.engine,
        EngineOptions(args.threads, args.device, args.calibration),
        ScoringOptions(token_budget=args.token_budget, over_long=args.over_long),
    )
    load_s = time.perf_counter() - start
    settings = {
        "lm_hash": lm_digest(args.lm),
        "nbest_sha256": sha256(args.nbest),
        "engine": args.engine,
        "over_long": args.over_long,
    }
    if args.calibration is not None:
        settings["calibration"] = args.calibration
    header = make_header(lm.name, **settings, provenance=provenance(args.command_line))
    timing = score_nbest(args.nbest, read_nbest(args.nbest), lm, args.out, header, settings)
    figures = _figures(args, lm, timing, load_s)
    write_json(args.timing or f"{args.out}.timing.json", figures)
    rtf = "unknown" if timing.rtf is None else f"{timing.rtf:.5f}"
    log.info("%s: scored in %.2f s, LM RTF %s", args.out, timing.wall_s, rtf)


def _figures(args: argparse.Namespace, lm: Any, timing: Any, load_s: float) -> dict[str, Any]:
    from asrprune.rescore.bench.machine import describe_machine, describe_run, peak_rss_bytes

    return {
        "lm": lm.name,
        **describe_run(lm, args.threads),
        "wall_s": timing.wall_s,
        "audio_s": timing.audio_s,
        "rtf": timing.rtf,
        "tokens": timing.tokens,
        "unique_tokens": timing.unique_tokens,
        "load_wall_s": load_s,
        "peak_rss_bytes": peak_rss_bytes(),
        "machine": describe_machine(),
    }
