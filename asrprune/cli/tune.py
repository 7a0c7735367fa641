"""``asrprune tune``: score weights for one LM, a combination, or many, from a dev set."""

from __future__ import annotations

import argparse
import os
from typing import Any

from asrprune.cli.engine_flags import add_size_argument, check_keeping_engine
from asrprune.cli.format_flags import (
    FormatFlags,
    add_on_bad_argument,
    format_options,
    on_lattices,
)
from asrprune.cli.modes import Mode
from asrprune.cli.text_flags import TEXT, add_text_arguments, text_options
from asrprune.cli.values import (
    device,
    engine,
    named_paths,
    number,
    or_none,
    output,
    output_file,
    output_folder,
    seed,
    threads,
    whole,
)
from asrprune.core.units import UNITS, WORD
from asrprune.firstpass.formats.table import FORMATS, OPTIONS

EXAMPLE = """\
examples:
  asrprune tune --nbest exp/dev/nbest.jsonl.gz --scores exp/dev/lm.scores.gz \\
    --ref data/dev/text --out exp/weights.json
  asrprune tune --lattice exp/dev/lattices --format slf --lm exp/lm --ref data/dev/text \\
    --first-pass exp/dev/first_pass.json --out exp/weights.json
  asrprune tune --nbest exp/dev/nbest.jsonl.gz --lm exp/smollm2 --choose-form exp/smollm2-dev \\
    --ref data/dev/text --out exp/weights.json
  asrprune tune --lattice exp/dev/lattices --format slf --ref data/dev/text --towards dense \\
    --system dense=exp/dense small=exp/small/sparsity-0.50 both=exp/dense,lm.arpa --out exp/runs

--system writes OUT/NAME/weights.json of every system
"""

_BEAM_FLAGS = ("history", "beam", "state_hypotheses", "frontier", "parallel")


def _on_lattices(args: argparse.Namespace) -> bool:
    return args.lattice is not None


def _reading_options(args: argparse.Namespace) -> tuple[str, ...]:
    if args.format is None:  # which is the first thing to say
        return tuple(OPTIONS)
    return FORMATS[args.format].read_options


def _has_checkpoint(args: argparse.Namespace) -> bool:
    from asrprune.lm.open import is_ngram

    return not all(map(is_ngram, args.lm))


FLAGS = FormatFlags("lattice")
LATTICE = Mode(
    ("format", "list_size", "rounds", "tolerance", "engine", "threads", "device", *_BEAM_FLAGS),
    _on_lattices,
    "has a use only with --lattice",
)
FORMS = Mode(
    ("threads", "device", "special", "accept_unknown"),
    lambda args: args.choose_form is not None,
    "has a use only with --lattice or --choose-form",
)
EXPECTED = Mode(
    ("towards", "resamples", "fallback"),
    lambda args: args.objective == "expected",
    "has no use for --objective {objective}",
)
EXACT = Mode(
    ("starts",),
    lambda args: args.objective == "errors",
    "has no use for --objective {objective}",
)
MODES = (
    Mode(
        ("nbest", "lattice", "ref", "first_pass", "out", "objective", "negative_lm", "mbr", "unit")
    ),
    Mode(("allow_test", "system", "on_bad")),
    Mode(
        ("scores",),
        lambda args: not _on_lattices(args) and not args.system and args.choose_form is None,
        "has a use only with --nbest, and without --system and --choose-form",
    ),
    Mode(
        ("choose_form",),
        lambda args: not _on_lattices(args) and not args.system,
        "has a use only with --nbest, and without --system",
    ),
    FORMS,
    Mode(
        ("lm",),
        lambda args: (_on_lattices(args) or FORMS.holds(args)) and not args.system,
        "has a use only with --lattice or --choose-form, and without --system",
    ),
    Mode(
        ("size",),
        lambda args: _on_lattices(args) and not args.system and _has_checkpoint(args),
        "has a use only with --lattice, a checkpoint in --lm, and without --system",
    ),
    Mode(("nj",), lambda args: bool(args.system), "has a use only with --system"),
    LATTICE,
    EXPECTED,
    EXACT,
    Mode(
        ("seed",),
        lambda args: (args.resamples if args.objective == "expected" else args.starts) > 0,
        "has no use without resamples or random starts",
    ),
    Mode(TEXT, inside=LATTICE),
    *FLAGS.modes(_reading_options, "has no use here", inside=LATTICE),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune tune``."""
    from asrprune.rescore.tuning.tune import OBJECTIVES, TuneOptions

    defaults = TuneOptions()
    parser.add_argument("--nbest", metavar="FILE", help="n-best lists of dev")
    parser.add_argument(
        "--scores",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="scores files, one an LM",
    )
    parser.add_argument(
        "--system",
        nargs="+",
        action="extend",
        type=named_paths,
        default=[],
        metavar="NAME=PATH[,PATH]",
        help="many at once, in the place of --scores or --lm: scores files, or LMs, by system",
    )
    parser.add_argument(
        "--ref",
        metavar="FILE",
        help="references: Kaldi text, trn, ..., told from their lines (default: in the lists)",
    )
    parser.add_argument(
        "--first-pass",
        metavar="JSON",
        help="the first pass's own weights: where to start (default: those of the lattices, or 1)",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=output,
        metavar="PATH",
        help="weights (JSON); with --system a folder of folders",
    )
    parser.add_argument(
        "--choose-form",
        type=output_folder,
        metavar="DIR",
        help="score the lists with --lm, an imported LM, in every form of sentence end and case "
        "that it can have (as import --sentence-form and --case), and write it in the one with the "
        "fewest word errors as this checkpoint; the form that it has stays unless the interval of "
        "another's difference lies below 0",
    )
    parser.add_argument(
        "--objective",
        choices=OBJECTIVES,
        default=defaults.objective,
        help="expected word errors, smooth and drawn to a centre; or errors, counted exactly,"
        " which a small dev set misleads",
    )
    parser.add_argument(
        "--towards",
        metavar="FILE",
        help="weights of a similar LM, the centre that the others are drawn to; with --system the"
        " name of one of them (default: the best mixture with the first pass's LM)",
    )
    parser.add_argument(
        "--resamples",
        type=whole(0),
        default=defaults.resamples,
        help="of the utterances, for the intervals of the weights",
    )
    parser.add_argument(
        "--fallback",
        action=argparse.BooleanOptionalAction,
        default=defaults.fallback,
        help="weight 0 for an LM that held-out halves of dev do not speak for, by one standard"
        " error of the expected word errors that it removes there",
    )
    parser.add_argument("--starts", type=whole(0), default=defaults.starts, help="random starts")
    parser.add_argument(
        "--seed", type=seed, default=defaults.seed, help="of the resamples or the random starts"
    )
    parser.add_argument(
        "--negative-lm",
        action=argparse.BooleanOptionalAction,
        default=defaults.negative_lm,
        help="LM weights may be negative: an LM is subtracted",
    )
    parser.add_argument(
        "--mbr",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="also tune the posterior scale of rescore --decision mbr and consensus",
    )
    parser.add_argument(
        "--unit",
        choices=list(UNITS),
        default=WORD,
        help="count errors and the word bonus in words, characters, or both by script (as in wer)",
    )
    parser.add_argument(
        "--allow-test",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="tune even on a set that is called test",
    )
    add_on_bad_argument(parser)
    parser.add_argument("--nj", type=whole(1), default=1, help="systems tuned at once")
    _add_lattice_arguments(parser)
    add_text_arguments(parser)


def _add_lattice_arguments(parser: argparse.ArgumentParser) -> None:
    from asrprune.rescore.lattices.beam_mode import BeamOptions
    from asrprune.rescore.tuning.round_options import RoundOptions

    rounds = RoundOptions()
    group = parser.add_argument_group("lattices (instead of --nbest and --scores)")
    group.add_argument("--lattice", metavar="PATH", help="lattices of dev: a file or a folder")
    formats = [name for name, entry in FORMATS.items() if entry.kind == "lattice"]
    group.add_argument("--format", choices=formats, help="of --lattice, which needs it")
    group.add_argument(
        "--lm",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="checkpoints or n-grams, one an LM weight",
    )
    add_size_argument(group)
    group.add_argument(
        "--list-size",
        type=whole(1),
        default=rounds.list_size,
        help="hypotheses drawn from a rescored lattice in a round",
    )
    group.add_argument("--rounds", type=whole(1), default=rounds.rounds, help="at most")
    group.add_argument(
        "--tolerance",
        type=number(0.0),
        default=rounds.tolerance,
        metavar="X",
        help="weights that move less come to rest; 1: as much as the acoustic score varies",
    )
    default = BeamOptions()
    for name in _BEAM_FLAGS:
        parse: Any = whole(0) if name == "history" else whole(1)
        parse = number(0.0) if name == "beam" else parse
        value = getattr(default, name)
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=parse if name == "parallel" else or_none(parse),
            default=value,
            metavar="N",
            help="as in rescore --mode beam",
        )
    group.add_argument("--engine", type=engine, default="torch", help="torch or torch-bf16")
    group.add_argument("--threads", type=threads, help="CPU threads")
    group.add_argument("--device", type=device, default="auto", help="auto, cpu, cuda, cuda:1, ...")
    FLAGS.add_to(parser)


def _check(args: argparse.Namespace) -> None:
    """Raise ValueError for flags that do not go together."""
    lattices = on_lattices(args)
    if args.choose_form is not None:
        if len(args.lm) != 1:
            raise ValueError(f"--choose-form with {len(args.lm)} LMs; expected one --lm")
        if args.towards is not None:
            raise ValueError("--towards is given with --choose-form; expected one of them")
    elif not args.system and not (args.lm if lattices else args.scores):
        needed = "--lm" if lattices else "--scores"
        raise ValueError(f"nothing to tune for; expected {needed}, or --system NAME=PATH ...")
    try:
        (output_folder if args.system else output_file)(args.out)
    except argparse.ArgumentTypeError as problem:
        raise ValueError(f"--out {problem}") from None
    names = [name for name, _ in args.system]
    if len(set(names)) < len(names):
        raise ValueError(f"--system: one name twice in {', '.join(names)}")
    if args.system and args.towards is not None and args.towards not in names:
        raise ValueError(f"--towards {args.towards}; expected one of {', '.join(names)}")
    if lattices:
        if args.ref is None:
            raise ValueError("--lattice needs --ref")
        check_keeping_engine(args.engine, "lattices")


def run(args: argparse.Namespace) -> None:
    """Read, tune, write."""
    from asrprune.cli.tune_forms import tune_forms
    from asrprune.cli.tune_systems import Settings, System, tune_systems
    from asrprune.rescore.lattices.beam_mode import BeamOptions
    from asrprune.rescore.tuning.round_options import RoundOptions
    from asrprune.rescore.tuning.tune import TuneOptions
    from asrprune.rescore.weights_file import refuse_test_set

    _check(args)
    if not args.allow_test:
        refuse_test_set(args.nbest, args.ref, args.lattice)
    options = TuneOptions(
        seed=args.seed,
        starts=args.starts,
        negative_lm=args.negative_lm,
        objective=args.objective,
        resamples=args.resamples,
        fallback=args.fallback,
    )
    beam = BeamOptions(**{name: getattr(args, name) for name in _BEAM_FLAGS})
    systems = [
        System(name, paths, os.path.join(args.out, name, "weights.json"))
        for name, paths in args.system
    ]
    if not systems and args.choose_form is None:
        systems = [System("", tuple(args.lm or args.scores), args.out)]
    settings = Settings(
        nbest=args.nbest,
        lattice=args.lattice,
        format=args.format,
        format_options=format_options(args),
        ref=args.ref,
        first_pass=args.first_pass,
        towards=args.towards,
        mbr=args.mbr,
        on_bad=args.on_bad,
        unit=args.unit,
        nj=args.nj,
        engine=args.engine,
        threads=args.threads,
        device=args.device,
        size=args.size,
        text=text_options(args),
        accept_unknown=args.accept_unknown,
        command_line=args.command_line,
        options=options,
        rounds=RoundOptions(args.rounds, args.tolerance, args.list_size, beam),
    )
    if args.choose_form is None:
        tune_systems(systems, settings)
    else:
        tune_forms(args.lm[0], args.choose_form, args.out, settings)
