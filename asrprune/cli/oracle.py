"""``asrprune oracle``: oracle word error rate of n-best lists at growing depth."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from typing import TYPE_CHECKING, Any, Optional

from asrprune.score.bootstrap import REPLICATIONS, SEED
from asrprune.score.wer import MODES

if TYPE_CHECKING:
    from asrprune.score.oracle import OracleResult

EXAMPLE = "example: asrprune oracle --nbest exp/nbest.jsonl.gz --ref data/test/text"

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune oracle``."""
    parser.add_argument("--nbest", required=True, help="n-best lists, asrprune's JSON lines")
    parser.add_argument("--ref", help="references, Kaldi text; default: those in the lists")
    parser.add_argument(
        "--mode",
        choices=MODES,
        default=MODES[0],
        help="references without a list: refuse, leave out, or count as deleted",
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON (- is stdout)")
    parser.add_argument("--replications", type=int, default=REPLICATIONS, help="bootstrap draws")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the bootstrap")


def run(args: argparse.Namespace) -> None:
    """Read the lists, print the table, write the JSON."""
    from asrprune.files import write_json
    from asrprune.firstpass.jsonl import read_nbest
    from asrprune.score.kaldi_text import read_kaldi_text
    from asrprune.score.oracle import oracle_errors

    refs = read_kaldi_text(args.ref) if args.ref else None
    result = oracle_errors(
        read_nbest(args.nbest),
        refs,
        args.mode,
        ref_name=args.ref or args.nbest,
        nbest_name=args.nbest,
    )
    if result.missing:
        total = len(refs or ())
        log.warning("[PARTIAL] %s: %d of %d missing", args.nbest, len(result.missing), total)
    if result.unknown:
        log.warning("%s: left out %d without reference", args.nbest, len(result.unknown))
    rows = _rows(result, args.replications, args.seed)
    # with the JSON on stdout, the table makes room for it
    stream = sys.stderr if args.json == "-" else sys.stdout
    stream.write(_table(result, rows))
    if args.json:
        write_json(args.json, _figures(args, result, rows))


def _rows(result: OracleResult, replications: int, seed: int) -> list[dict[str, Any]]:
    from asrprune.core.counts import ErrorCounts
    from asrprune.score.bootstrap import bootstrap_wer

    rows = []
    for depth in result.depths:
        counts = result.counts_at(depth)
        total = sum(counts, ErrorCounts())
        rows.append(
            {
                "depth": depth,
                "wer_percent": total.wer_percent,
                **dataclasses.asdict(total),
                "errors": total.errors,
                "words": total.words,
                "interval_percent": bootstrap_wer(counts, replications, seed).percentile,
            }
        )
    return rows


def _table(result: OracleResult, rows: list[dict[str, Any]]) -> str:
    partial = " [PARTIAL]" if result.missing else ""
    lines = [f"{'n':>5}  {'%WER':>6}  {'95% interval':>15}  errors / words, ins, del, sub"]
    for row in rows:
        low, high = row["interval_percent"]
        lines.append(
            f"{row['depth']:>5}  {row['wer_percent']:>6.2f}  {f'[{low:.2f}, {high:.2f}]':>15}  "
            f"{row['errors']} / {row['words']}, {row['insertions']} ins, "
            f"{row['deletions']} del, {row['substitutions']} sub{partial}"
        )
    lines.append(
        f"{len(result.utterances)} utterances, {result.empty_lists} without hypotheses, "
        f"{result.mean_hypotheses:.1f} hypotheses each, "
        f"mean rank of the oracle {_or_none(result.mean_rank)}"
    )
    return "\n".join(lines) + "\n"


def _or_none(value: Optional[float]) -> str:
    return "none" if value is None else f"{value:.1f}"


def _figures(
    args: argparse.Namespace, result: OracleResult, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "command": args.command_line,
        "mode": args.mode,
        "nbest": args.nbest,
        "ref": args.ref,
        "utterances": len(result.utterances),
        "empty_lists": result.empty_lists,
        "mean_hypotheses": result.mean_hypotheses,
        "mean_oracle_rank": result.mean_rank,
        "missing": list(result.missing),
        "unknown": list(result.unknown),
        "depths": rows,
    }
