"""``asrprune bench``: how fast an LM, or each of many, scores n-best lists."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from asrprune.cli.bench_tables import engines_table, many_table, one_table
from asrprune.cli.engine_flags import (
    CHECKPOINT,
    ENGINE_MODES,
    add_engine_arguments,
    add_over_long_argument,
    add_size_argument,
    engine_options,
    lm_names,
    lm_paths,
)
from asrprune.cli.format_flags import add_on_bad_argument
from asrprune.cli.modes import Mode
from asrprune.cli.text_flags import (
    TEXT,
    add_text_arguments,
    check_known,
    text_options,
    words_of_lists,
)
from asrprune.cli.values import engine_names, named_path, output_file, output_folder, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asrprune.core.hypothesis import NBest
    from asrprune.core.weights import ScoreWeights
    from asrprune.lm.engines.engine import EngineOptions
    from asrprune.lm.protocol import LanguageModel
    from asrprune.lm.scoring.forests import ScoringOptions
    from asrprune.rescore.bench.agreement import Floats
    from asrprune.rescore.bench.bench import BenchResult

EXAMPLE = """examples:
  asrprune bench --lm exp/lm --nbest exp/dev/nbest.jsonl.gz --threads 1
  asrprune bench --system dense=exp/lm small=exp/small/sparsity-0.50 ngram=exp/ngram.arpa \\
      --baseline padded --nbest exp/dev/nbest.jsonl.gz --threads 1 --out runs
  asrprune bench --lm exp/lm --nbest exp/dev/nbest.jsonl.gz --threads 1 --engines all"""
BASELINES = ("padded",)


def _has_padded(args: argparse.Namespace) -> bool:
    from asrprune.lm.open import is_ngram

    return not is_ngram(lm_paths(args)[0])


def _compares(args: argparse.Namespace) -> bool:
    """Whether there is something to compare with: the reference engine is itself the measure."""
    return bool(args.baseline) or args.engines is not None or args.engine != "torch"


def _on_one_engine(args: argparse.Namespace) -> bool:
    return args.engines is None or args.system is not None


def _calibrates(args: argparse.Namespace) -> bool:
    from asrprune.lm.engines.table import ENGINES

    return args.engines is not None and any(ENGINES[name].calibrated for name in args.engines)


MANY = Mode(("out",), lambda args: args.system is not None, "has no use without --system")
ONE = Mode(
    ("lm", "json"),
    lambda args: args.system is None,
    "has no use with --system, whose figures go to DIR/NAME/bench.json",
)
ENGINES = Mode(
    ("engines",), ONE.active, "has no use with --system: it is of one LM", inside=CHECKPOINT
)
COMPARING = Mode(
    ("check",),
    _compares,
    "has no use for engine torch without --baseline: there is nothing to compare it with",
    inside=CHECKPOINT,
)
CHECKED = Mode((), lambda args: bool(args.check), "has no use with --no-check", inside=COMPARING)
WEIGHTED = Mode(
    ("weights",),
    lambda args: args.system is None,
    "has no use with --system: weights are those of one LM",
    inside=CHECKED,
)
MODES = (
    Mode(("system", "nbest", "limit", "repeats", "warmup", "on_bad")),
    ONE,
    MANY,
    Mode(TEXT),
    ENGINES,
    replace(CHECKPOINT, reads=("threads", "device", "token_budget", "over_long")),
    Mode(("size",), ONE.active, "has no use with --system: it is of one LM", inside=CHECKPOINT),
    Mode(("engine",), _on_one_engine, "has no use with --engines", inside=CHECKPOINT),
    *(mode for mode in ENGINE_MODES if mode is not CHECKPOINT),
    Mode(("calibration",), _calibrates, inside=ENGINES),
    Mode(
        ("baseline",),
        _on_one_engine,
        "has no use with --engines, which always measures it",
        inside=Mode(
            (),
            _has_padded,
            "has no use where the first --system is an n-gram LM: it has no padded batches",
            inside=CHECKPOINT,
        ),
    ),
    COMPARING,
    WEIGHTED,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune bench``."""
    from asrprune.rescore.bench.bench import BenchOptions

    defaults = BenchOptions()
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--lm", metavar="PATH", help="checkpoint folder or n-gram")
    which.add_argument(
        "--system",
        nargs="+",
        action="extend",
        type=named_path,
        metavar="NAME=PATH",
        help="many LMs, which take turns within every repeat; the first is the yardstick's",
    )
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
        "--out",
        type=output_folder,
        metavar="DIR",
        help="with --system, which needs it: write the figures to DIR/NAME/bench.json",
    )
    parser.add_argument(
        "--baseline",
        choices=BASELINES,
        help="measure this too, in turns: padded batches in fp32 torch that share no prefix, of "
        "the LM, or of the first --system",
    )
    parser.add_argument(
        "--engines",
        type=engine_names,
        metavar="all|NAME,...",
        help="a table of the --lm on these engines, which take turns with padded batches: speed, "
        "agreement, opening time and memory of each",
    )
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare the scores with those of the LM's baseline, or of the torch engine without",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="tuned for this LM: the comparison is of totals under them, and of WER",
    )
    add_size_argument(parser)
    add_over_long_argument(parser)
    add_on_bad_argument(parser)
    add_text_arguments(parser)
    add_engine_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Read, measure, print."""
    if MANY.holds(args):
        _run_many(args)
    elif args.engines is not None:
        _run_engines(args)
    else:
        _run_one(args)


def _run_one(args: argparse.Namespace) -> None:
    from asrprune.files import write_json
    from asrprune.rescore.bench.bench import bench
    from asrprune.rescore.bench.figures import describe_lm, describe_turns, times_padded

    options = engine_options(args)
    weights = _read_weights(args)
    lists = _read_lists(args)
    lm = _open(args.lm, args, options, lists)
    figures = describe_lm(args.lm, lm, args.threads, args.size)
    figures["known"] = check_known(lm, words_of_lists(lists), args.nbest, args.accept_unknown)
    systems: dict[str, LanguageModel] = {lm.name: lm}
    if args.baseline:
        systems[f"{args.baseline} baseline"] = _open_padded(args.lm, args, options)
    results = bench(lists, systems, _bench_options(args), args.nbest)
    figures |= _measured(args, results)
    figures["run"] = describe_turns(lists, results, _padded_hash(args.lm, args))
    if args.baseline:
        figures["times_padded"] = times_padded(results[0], results[1], lm.name)
    padded = args.baseline is not None
    if CHECKED.holds(args) and (padded or lm.runtime.engine != "torch"):
        reference = results[-1].scores if padded else _torch_scores(args.lm, args, options, lists)
        figures["agreement"] = _agreement(
            args.baseline or "torch",
            lists,
            reference,
            results[0],
            weights,
        )
    (sys.stderr if args.json == "-" else sys.stdout).write(one_table(figures))
    if args.json:
        write_json(args.json, figures)


def _run_engines(args: argparse.Namespace) -> None:
    from asrprune.files import write_json
    from asrprune.lm.engines.engine import EngineOptions
    from asrprune.lm.open import open_lm
    from asrprune.provenance import provenance
    from asrprune.rescore.bench.engines import Subject, bench_engines
    from asrprune.rescore.bench.machine import describe_machine

    options = EngineOptions(args.threads, args.device, args.calibration)
    weights = _read_weights(args)
    lists = _read_lists(args)
    text = text_options(args)
    plain = open_lm(args.lm, text=text, size=args.size)
    known = check_known(plain, words_of_lists(lists), args.nbest, args.accept_unknown)
    figures = bench_engines(
        Subject(args.lm, options, _scoring(args), text, args.size),
        args.engines,
        lists,
        _bench_options(args),
        args.nbest,
        weights,
        CHECKED.holds(args),
    )
    figures |= {"known": known, "warmup": args.warmup, "machine": describe_machine()}
    figures["provenance"] = provenance(args.command_line)
    (sys.stderr if args.json == "-" else sys.stdout).write(engines_table(figures))
    if args.json:
        write_json(args.json, figures)


def _read_weights(args: argparse.Namespace) -> Optional[ScoreWeights]:
    from asrprune.rescore.weights_file import read_any_weights

    if args.weights is None:
        return None
    weights = read_any_weights(args.weights)
    weights.check_lms(lm_names([args.lm], args.size), args.weights)
    return weights.weights


def _run_many(args: argparse.Namespace) -> None:
    """The systems in turns; nothing is written before all of them are measured."""
    from asrprune.files import write_json
    from asrprune.lm.open import is_ngram
    from asrprune.rescore.bench.bench import bench
    from asrprune.rescore.bench.figures import describe_lm, describe_turns, times_padded

    names = [name for name, _ in args.system]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"--system {twice}: two of this name; expected different names")
    if args.out is None:
        raise ValueError("--system is given without --out; expected --out DIR for the figures")
    options = engine_options(args)
    lists = _read_lists(args)
    systems: dict[str, LanguageModel] = {}
    for name, path in args.system:
        try:
            systems[name] = _open(path, args, options, lists)
        except ValueError as problem:
            raise ValueError(f"--system {name}={path}: {problem}") from None
    words = words_of_lists(lists)
    known = {
        name: check_known(lm, words, args.nbest, args.accept_unknown)
        for name, lm in systems.items()
    }
    described = {name: describe_lm(path, systems[name], args.threads) for name, path in args.system}
    first, first_path = args.system[0]
    if args.baseline:  # with a space: no system's name
        systems[f"{first} {args.baseline}"] = _open_padded(first_path, args, options)
    results = bench(lists, systems, _bench_options(args), args.nbest)
    turns = describe_turns(lists, results, _padded_hash(first_path, args))
    every = {}
    for (name, path), own in zip(args.system, results):
        measured = [own, results[-1]] if args.baseline else [own]
        figures = {**described[name], **_measured(args, measured), "turns": list(systems)}
        figures["run"] = turns
        figures["known"] = known[name]
        if args.baseline:
            figures["times_padded"] = times_padded(own, results[-1], first)
        if CHECKED.holds(args) and not is_ngram(path):
            if args.baseline and name == first:
                found = _agreement(args.baseline, lists, results[-1].scores, own)
                figures["agreement"] = found
            elif systems[name].runtime.engine != "torch":
                reference = _torch_scores(path, args, options, lists)
                figures["agreement"] = _agreement("torch", lists, reference, own)
        every[name] = figures
    for name, figures in every.items():
        write_json(Path(args.out) / name / "bench.json", figures)
    sys.stdout.write(many_table(every))


def _read_lists(args: argparse.Namespace) -> list[NBest]:
    from asrprune.firstpass.formats.jsonl import read_nbest
    from asrprune.firstpass.on_bad import OnBad
    from asrprune.rescore.bench.bench import spread

    bad = OnBad(args.on_bad)
    lists = list(read_nbest(args.nbest, bad))
    bad.warn(args.nbest)
    return spread(lists, args.limit)


def _bench_options(args: argparse.Namespace) -> Any:
    from asrprune.rescore.bench.bench import BenchOptions

    return BenchOptions(args.repeats, args.warmup)


def _open(
    path: str, args: argparse.Namespace, options: EngineOptions, lists: Sequence[NBest]
) -> LanguageModel:
    from asrprune.lm.fastest import Sample
    from asrprune.lm.open import open_lm

    sample = Sample([[hyp.text for hyp in nbest.hyps] for nbest in lists], args.nbest)
    return open_lm(
        path, args.engine, options, _scoring(args), text_options(args), sample, args.size
    )


def _open_padded(path: str, args: argparse.Namespace, options: EngineOptions) -> LanguageModel:
    from asrprune.lm.open import open_padded

    return open_padded(path, options, _scoring(args), text_options(args), args.size)


def _scoring(args: argparse.Namespace) -> ScoringOptions:
    from asrprune.lm.scoring.forests import ScoringOptions

    return ScoringOptions(token_budget=args.token_budget, over_long=args.over_long)


def _padded_hash(path: str, args: argparse.Namespace) -> Optional[str]:
    """A hash of the LM at ``path``, whose padded batch is measured; None where none is."""
    from asrprune.lm.open import lm_digest

    return lm_digest(path, args.size) if args.baseline else None


def _torch_scores(
    path: str, args: argparse.Namespace, options: EngineOptions, lists: Sequence[NBest]
) -> Sequence[Floats]:
    """The scores of the reference engine, one array [H] a list."""
    from asrprune.lm.open import open_lm

    plain = replace(options, calibration=None)
    lm = open_lm(path, "torch", plain, _scoring(args), text_options(args), size=args.size)
    return lm.score_lists([[hyp.text for hyp in nbest.hyps] for nbest in lists])


def _measured(args: argparse.Namespace, results: Sequence[BenchResult]) -> dict[str, Any]:
    """What the run gives: the LM's own times first, the yardstick's last."""
    from asrprune.provenance import provenance
    from asrprune.rescore.bench.figures import system_row
    from asrprune.rescore.bench.machine import describe_machine, peak_rss_bytes

    return {
        "warmup": args.warmup,
        "systems": [system_row(one, results[-1]) for one in results],
        "peak_rss_bytes": peak_rss_bytes(),
        "machine": describe_machine(),
        "provenance": provenance(args.command_line),
    }


def _agreement(
    name: str,
    lists: Sequence[NBest],
    reference: Sequence[Floats],
    result: BenchResult,
    weights: Optional[ScoreWeights] = None,
) -> dict[str, Any]:
    from asrprune.rescore.bench.agreement import compare_scores

    return {"reference": name, **asdict(compare_scores(lists, reference, result.scores, weights))}
