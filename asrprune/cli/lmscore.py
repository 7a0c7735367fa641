"""``asrprune lmscore``: one LM score per hypothesis; slow, resumable."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Optional

from asrprune.cli.engine_flags import (
    CHECKPOINT,
    ENGINE_MODES,
    add_engine_arguments,
    add_size_argument,
    engine_options,
    warn_of_over_long,
)
from asrprune.cli.format_flags import add_on_bad_argument
from asrprune.cli.modes import Mode
from asrprune.cli.sharding import add_shard_argument
from asrprune.cli.text_flags import (
    TEXT,
    add_text_arguments,
    check_known,
    text_options,
    words_of_lists,
)
from asrprune.cli.values import output_file

if TYPE_CHECKING:
    from asrprune.core.hypothesis import NBest
    from asrprune.lm.fastest import Sample

EXAMPLE = "example: asrprune lmscore --lm exp/lm --nbest exp/dev/nbest.jsonl.gz --out exp/dev/lm"

MODES = (
    Mode(("lm", "nbest", "out", "timing", "on_bad", "shard")),
    Mode(TEXT),
    *ENGINE_MODES,
    Mode(("over_long",), inside=CHECKPOINT),
)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune lmscore``."""
    from asrprune.lm.scoring.forests import OVER_LONG, ScoringOptions

    defaults = ScoringOptions()
    parser.add_argument("--lm", required=True, metavar="PATH", help="checkpoint folder or n-gram")
    parser.add_argument("--nbest", required=True, metavar="FILE", help="n-best lists")
    parser.add_argument(
        "--out", required=True, type=output_file, metavar="FILE", help="scores (.gz is compressed)"
    )
    parser.add_argument(
        "--timing",
        type=output_file,
        metavar="FILE",
        help="figures; by default OUT.timing.json, unless OUT is no file",
    )
    parser.add_argument(
        "--over-long",
        choices=OVER_LONG,
        default=defaults.over_long,
        help="a hypothesis longer than the LM's positions: refuse, score it -inf (a shorter one "
        "wins), or score it in windows of a sliding context",
    )
    add_size_argument(parser)
    add_on_bad_argument(parser)
    add_shard_argument(parser)
    add_text_arguments(parser)
    add_engine_arguments(parser)


def kept(args: argparse.Namespace) -> bool:
    """Whether there are scores, below the line of settings, that it would go on behind."""
    from asrprune.rescore.lmscore import partial_path

    path = partial_path(args.out)
    if not path.is_file():
        return False
    with open(path, "rb") as stream:
        return bool(stream.readline() and stream.readline())


def run(args: argparse.Namespace) -> None:
    """Open, score, write."""
    import time

    from asrprune.files import is_stream, sha256, write_json
    from asrprune.firstpass.formats.jsonl import read_nbest
    from asrprune.firstpass.on_bad import OnBad
    from asrprune.lm.open import lm_digest, open_lm
    from asrprune.lm.scoring.forests import ScoringOptions
    from asrprune.provenance import provenance
    from asrprune.rescore.lmscore import (
        BLOCK_HYPOTHESES,
        check_lengths,
        check_nbest_file,
        score_nbest,
    )
    from asrprune.rescore.scores_file import make_header

    options = engine_options(args)
    check_nbest_file(args.nbest, OnBad(args.on_bad))
    bad = OnBad(args.on_bad)
    used: dict[str, Any] = {}  # what decides the scores, beside the LM and the lists
    if args.on_bad != "error":
        used["on_bad"] = args.on_bad
    if CHECKPOINT.holds(args):
        used["over_long"] = args.over_long
        if args.calibration is not None:
            used["calibration"] = args.calibration
    if args.special:
        used["special"] = dict(args.special)
    if args.shard is not None:
        used["shard"] = str(args.shard)
    _go_on_with_its_engine(args, used)
    start = time.perf_counter()
    lm = open_lm(
        args.lm,
        args.engine,
        options,
        ScoringOptions(token_budget=args.token_budget, over_long=args.over_long),
        text_options(args),
        _sample(args),
        args.size,
    )
    load_s = time.perf_counter() - start
    count = 0

    def counted() -> Iterator[NBest]:
        nonlocal count
        for nbest in read_nbest(args.nbest, OnBad(args.on_bad)):
            count += 1
            check_lengths(args.nbest, nbest, lm)
            yield nbest

    words = words_of_lists(counted())
    known = check_known(lm, words, args.nbest, args.accept_unknown)
    used["text"] = known["form"]
    how: dict[str, Any] = {}
    if CHECKPOINT.holds(args):
        used["engine"] = lm.runtime.engine
        if lm.runtime.choice is not None:
            how["engine_choice"] = lm.runtime.choice
    lm_hash = lm_digest(args.lm, args.size)
    settings = {"lm_hash": lm_hash, "nbest_sha256": sha256(args.nbest), **used}
    header = make_header(lm.name, **settings, provenance=provenance(args.command_line, **how))
    lists = args.part.take(
        read_nbest(args.nbest, bad), size=lambda one: len(one.hyps), group=BLOCK_HYPOTHESES
    )
    total = count if args.shard is None else None
    with _partial(args.out) as partial:
        timing = score_nbest(
            args.nbest, lists, lm, args.out, header, settings, total=total, partial=partial
        )
    bad.warn(args.nbest)
    warn_of_over_long(args, lm.stats.over_long)
    figures = {**_figures(args, lm, timing, load_s), "known": known}
    if args.timing is None and not is_stream(args.out):
        args.timing = f"{args.out}.timing.json"
    if args.timing is not None:
        write_json(args.timing, figures)
    rtf = "unknown" if timing.rtf is None else f"{timing.rtf:.5f}"
    log.info("%s: scored in %.2f s, LM RTF %s", args.out, timing.wall_s, rtf)


def _go_on_with_its_engine(args: argparse.Namespace, used: Mapping[str, Any]) -> None:
    """Take the engine of an unfinished ``--out`` of the same LM, lists and settings, where one is
    to be chosen: another would not give the same scores."""
    from asrprune.files import is_stream, sha256
    from asrprune.lm.engines.table import CHOICES
    from asrprune.lm.fastest import candidates
    from asrprune.lm.open import lm_digest
    from asrprune.rescore.lmscore import partial_path, unfinished_settings

    if not CHECKPOINT.holds(args) or args.engine not in CHOICES or is_stream(args.out):
        return
    there = unfinished_settings(args.out)
    engine = there.get("engine")
    if engine not in candidates(args.engine, args.device)[0]:
        return
    lm_hash = lm_digest(args.lm, args.size)
    settings = {"lm_hash": lm_hash, "nbest_sha256": sha256(args.nbest), **used}
    if all(there.get(key) == value for key, value in settings.items()):
        log.info("engine %s (%s: that of %s)", engine, args.engine, partial_path(args.out))
        args.engine = engine


def _sample(args: argparse.Namespace) -> Optional[Sample]:
    """The first lists, for the choice of an engine."""
    from itertools import islice

    from asrprune.firstpass.formats.jsonl import read_nbest
    from asrprune.firstpass.on_bad import OnBad
    from asrprune.lm.engines.table import CHOICES
    from asrprune.lm.fastest import LISTS, Sample

    if not CHECKPOINT.holds(args) or args.engine not in CHOICES:
        return None
    lists = islice(read_nbest(args.nbest, OnBad(args.on_bad)), LISTS)
    return Sample([[hyp.text for hyp in nbest.hyps] for nbest in lists], args.nbest)


@contextlib.contextmanager
def _partial(out: str) -> Iterator[Optional[str]]:
    """Where finished scores are kept: beside ``out``; in a passing folder if that is no file."""
    from asrprune.files import is_stream, passing_folder

    if not is_stream(out):
        yield None
        return
    log.warning("%s is no file: a killed run cannot go on", out)
    with passing_folder() as folder:
        yield f"{folder}/partial"


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
        "over_long": lm.stats.over_long,
        "load_wall_s": load_s,
        "peak_rss_bytes": peak_rss_bytes(),
        "machine": describe_machine(),
    }
