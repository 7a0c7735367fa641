"""``asrprune sweep``: many LMs on one pair of dev and test lists, down to the report."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrprune.cli.engine_flags import add_over_long_argument
from asrprune.cli.modes import Mode
from asrprune.cli.text_flags import TEXT, add_text_arguments
from asrprune.cli.values import engine, named_paths, output_folder, whole
from asrprune.core.units import UNITS, WORD

EXAMPLE = """\
example:
  asrprune sweep --dev dev.jsonl.gz --dev-ref dev/text --test eval.jsonl.gz --test-ref eval/text \\
    --system dense=exp/dense small=exp/small/sparsity-0.50 both=exp/dense,lm.arpa --out exp/runs

runs lmscore, perplexity, tune, rescore, bench, oracle and report, and says each command; a step
whose command and inputs are those of the last run is not run again
writes OUT/runs/NAME/ of every system, OUT/lms/ (scores and speed by LM) and OUT/report/
"""

MODES = (
    Mode(("system", "dev", "dev_ref", "test", "test_ref", "first_pass", "baseline", "out")),
    Mode(("engine", "over_long", "threads", "nj", "bench_utts", "title", "unit", "utt2spk", *TEXT)),
    Mode(("repeats",), lambda args: args.bench_utts > 0, "has no use with --bench-utts 0"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune sweep``."""
    parser.add_argument(
        "--system",
        nargs="+",
        action="extend",
        required=True,
        type=named_paths,
        metavar="NAME=PATH[,PATH]",
        help="checkpoints and n-grams; those with commas between them are one system",
    )
    parser.add_argument("--dev", required=True, metavar="FILE", help="n-best lists to tune on")
    parser.add_argument("--dev-ref", required=True, metavar="FILE", help="their references")
    parser.add_argument("--test", required=True, metavar="FILE", help="n-best lists to report on")
    parser.add_argument("--test-ref", required=True, metavar="FILE", help="their references")
    parser.add_argument(
        "--first-pass",
        metavar="JSON",
        help="first_pass.json of the test lists: its time, and where tuning starts",
    )
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        help="system that the others are compared with, and whose weights they are drawn to "
        "(default: the first)",
    )
    parser.add_argument("--engine", type=engine, default="auto", help="of checkpoints")
    add_over_long_argument(parser)
    parser.add_argument(
        "--threads", type=whole(1), default=1, help="CPU threads of an LM, in scoring and bench"
    )
    parser.add_argument("--nj", type=whole(1), default=1, help="LMs scored or tuned at once")
    parser.add_argument(
        "--bench-utts",
        type=whole(0),
        default=20,
        metavar="N",
        help="utterances that the speed is measured on; 0: it is not",
    )
    parser.add_argument("--repeats", type=whole(1), default=3, help="counted runs of the bench")
    parser.add_argument(
        "--unit",
        choices=list(UNITS),
        default=WORD,
        help="count errors and the word bonus in words, characters, or both by script (as in wer)",
    )
    parser.add_argument(
        "--utt2spk",
        metavar="FILE",
        help="Kaldi's 'utt speaker' of the test lists: the report's intervals are over speakers",
    )
    parser.add_argument("--title", default="asrprune sweep", help="heading of the report")
    parser.add_argument(
        "--out", required=True, type=output_folder, metavar="DIR", help="folder of all runs"
    )
    add_text_arguments(parser)


def kept(args: argparse.Namespace) -> bool:
    """Whether a step was done that it would not do again."""
    from asrprune.cli.sweep_steps import STEPS

    return (Path(args.out) / STEPS).is_file()


def run(args: argparse.Namespace) -> None:
    """Go through the steps."""
    from asrprune.cli.sweep_steps import Sweep, run_steps

    names = [name for name, _ in args.system]
    if len(set(names)) < len(names):
        raise ValueError(f"--system: one name twice in {', '.join(names)}")
    taken = sorted({"first-pass", "oracle"} & set(names))
    if taken:
        raise ValueError(f"--system: the name {taken[0]} is taken; expected another")
    if args.baseline is not None and args.baseline not in names:
        raise ValueError(f"--baseline: {args.baseline}; expected one of {', '.join(names)}")
    run_steps(
        Sweep(
            systems=tuple(args.system),
            dev=args.dev,
            dev_ref=args.dev_ref,
            test=args.test,
            test_ref=args.test_ref,
            first_pass=args.first_pass,
            baseline=args.baseline or names[0],
            engine=args.engine,
            threads=args.threads,
            nj=args.nj,
            bench_utts=args.bench_utts,
            repeats=args.repeats,
            title=args.title,
            accept_unknown=args.accept_unknown,
            utt2spk=args.utt2spk,
            out=args.out,
            unit=args.unit,
            normalise=args.normalise,
            language=args.language,
            special=tuple(args.special),
            over_long=args.over_long,
        )
    )
