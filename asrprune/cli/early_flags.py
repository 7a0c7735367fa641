"""Flags of ``rescore`` for an LM that scores on the way, without a scores file."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from asrprune.cli.engine_flags import lm_names
from asrprune.cli.modes import Mode
from asrprune.cli.text_flags import check_known, text_options
from asrprune.cli.values import engine, number, threads

if TYPE_CHECKING:
    from asrprune.rescore.nbest.rescore import Rescored, RescoringSummary
    from asrprune.rescore.nbest.scored_list import ScoredList
    from asrprune.rescore.weights_file import WeightsFile


def _is_checkpoint(args: argparse.Namespace) -> bool:
    from asrprune.lm.open import is_ngram

    return not is_ngram(args.early_lm)


LISTS = Mode(
    ("scores", "early_lm"), lambda args: args.nbest is not None, "has a use only with --nbest"
)
EARLY = Mode(
    ("cascade_margin", "cascade_weights"),
    lambda args: args.early_lm is not None,
    "has a use only with --early-lm",
    inside=LISTS,
)
EARLY_MODES = (
    LISTS,
    EARLY,
    Mode(
        ("early_engine", "early_threads"),
        _is_checkpoint,
        "has no use for an n-gram LM",
        inside=EARLY,
    ),
)


def add_early_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    group = parser.add_argument_group("an LM that scores only what can win (instead of lmscore)")
    group.add_argument(
        "--early-lm",
        metavar="DIR",
        help="checkpoint; the last LM weight is its. Exact: the same best hypotheses as with its"
        " scores file",
    )
    group.add_argument(
        "--early-engine",
        type=engine,
        default="torch",
        help="torch, torch-bf16 or int8; in a cascade any",
    )
    group.add_argument("--early-threads", type=threads, help="CPU threads")
    group.add_argument(
        "--cascade-margin",
        type=number(0.0),
        metavar="X",
        help="approximate: the last of --scores is a small LM's; --early-lm scores the hypotheses"
        " within X of the best total under --cascade-weights, and takes its place",
    )
    group.add_argument("--cascade-weights", metavar="FILE", help="weights for the small LM")


def check_early_arguments(args: argparse.Namespace) -> None:
    """Raise ValueError for flags that do not go together."""
    if args.early_lm is None:
        return
    if (args.cascade_margin is None) != (args.cascade_weights is None):
        raise ValueError("--cascade-margin and --cascade-weights go together; found one of them")
    if args.cascade_margin is not None and not args.scores:
        raise ValueError("--cascade-margin needs the small LM's --scores")
    if args.cascade_margin is None and EARLY_MODES[-1].holds(args):
        from asrprune.lm.engines.table import EARLY as ENGINES

        if args.early_engine not in ENGINES:
            found = f"--early-engine is {args.early_engine}"
            raise ValueError(f"{found}; expected one that stops early: {', '.join(ENGINES)}")


def early_lm_names(args: argparse.Namespace, names: list[str]) -> list[str]:
    """The LMs that ``--weights`` weighs, given those of the scores files."""
    if not args.early_lm:
        return names
    kept = names if args.cascade_margin is None else names[:-1]
    return [*kept, *lm_names([args.early_lm])]


def rescore_on_the_way(
    args: argparse.Namespace,
    lists: Iterable[ScoredList],
    names: Sequence[str],
    words: Mapping[str, int],
    weights: WeightsFile,
    summary: RescoringSummary,
    figures: dict[str, Any],
) -> Iterator[Rescored]:
    """The results of ``--early-lm``; what it did is put into ``figures``. ``names`` are the LMs of
    the scores files; ``words`` those of all lists, when ``lists`` have been gone through.

    Raises InputError for an LM weight that is not positive.
    """
    from asrprune.core.spool import Spool
    from asrprune.errors import InputError
    from asrprune.lm.engines.engine import EngineOptions
    from asrprune.lm.open import open_early, open_lm
    from asrprune.rescore.nbest.early import CascadeSummary, rescore_cascade, rescore_early
    from asrprune.rescore.weights_file import read_any_weights

    options = EngineOptions(args.early_threads)
    text = text_options(args)
    lists = Spool(lists)  # all words are known before the first list is scored
    accept = args.accept_unknown
    if args.cascade_margin is None:
        if weights.weights.lm[-1] <= 0:
            found = f"LM weight {weights.weights.lm[-1]}"
            raise InputError(args.weights, None, found, "a positive one to stop early")
        early = open_early(args.early_lm, args.early_engine, options, text=text)
        figures["known"] = check_known(early, words, args.nbest, accept, args.early_lm)
        yield from rescore_early(lists, early, weights.weights, summary, args.nbest)
        figures["early"] = {**asdict(early.stats), "saved": early.stats.saved}
        return
    small = read_any_weights(args.cascade_weights)
    small.check_lms(names, args.cascade_weights)
    large = open_lm(args.early_lm, args.early_engine, options, text=text)
    figures["known"] = check_known(large, words, args.nbest, accept)
    cascade = CascadeSummary()
    yield from rescore_cascade(
        lists,
        small.weights,
        large,
        weights.weights,
        args.cascade_margin,
        summary,
        cascade,
        args.nbest,
    )
    figures["cascade"] = {"margin": args.cascade_margin, **asdict(cascade), **asdict(large.stats)}
