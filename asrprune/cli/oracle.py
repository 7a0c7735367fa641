"""``asrprune oracle``: oracle word error rate of n-best lists at growing depth, and of lattices."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Optional

from asrprune.cli import scoring_flags
from asrprune.cli.format_flags import FormatFlags, add_on_bad_argument, format_options
from asrprune.cli.modes import Mode
from asrprune.cli.values import output_file, seed, whole
from asrprune.core.progress import tracked
from asrprune.core.spool import Spool, SpooledDict
from asrprune.firstpass.formats.table import FORMATS, OPTIONS, read_items
from asrprune.firstpass.on_bad import OnBad
from asrprune.wer.bootstrap import REPLICATIONS, SEED
from asrprune.wer.wer import MODES as POLICIES

if TYPE_CHECKING:
    from asrprune.core.hypothesis import NBest
    from asrprune.wer.oracle import OracleResult
    from asrprune.wer.score import Prepared, ScoringRules

EXAMPLE = """\
examples:
  asrprune oracle --nbest exp/nbest.jsonl.gz --ref data/test/text
  asrprune oracle --lattice lattices/ --format slf --ref data/test/text
"""

LATTICE = Mode(("format",), lambda args: args.lattice is not None, "has a use only with --lattice")
FLAGS = FormatFlags("lattice")
MODES = (
    Mode(("nbest", "lattice", "ref", "json", "replications", "seed", "unit", "on_bad")),
    Mode(scoring_flags.WORDS),
    scoring_flags.LANGUAGE,
    Mode(("mode", "ref_format"), lambda args: args.ref is not None, "has a use only with --ref"),
    Mode(
        (*scoring_flags.PHRASES, *scoring_flags.FILTERS, *scoring_flags.MARKS),
        lambda args: args.lattice is None,
        "has a use only with --nbest: a lattice is compared word by word",
    ),
    LATTICE,
    *FLAGS.modes(
        lambda args: OPTIONS if args.format is None else FORMATS[args.format].read_options,
        "has no use for format {format}",
        inside=LATTICE,
    ),
)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune oracle``."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--nbest", metavar="FILE", help="n-best lists, asrprune's JSON lines")
    source.add_argument("--lattice", metavar="PATH", help="lattices; needs --format and --ref")
    formats = [name for name, entry in FORMATS.items() if entry.kind == "lattice"]
    parser.add_argument("--format", choices=formats, help="of --lattice")
    FLAGS.add_to(parser)
    add_on_bad_argument(parser)
    parser.add_argument("--ref", help="references; default: those in the lists")
    parser.add_argument(
        "--mode",
        choices=POLICIES,
        default=POLICIES[0],
        help="references of --ref without a list: refuse, leave out, or count as deleted",
    )
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the figures as JSON (- is stdout)"
    )
    parser.add_argument(
        "--replications", type=whole(2), default=REPLICATIONS, help="bootstrap draws"
    )
    parser.add_argument("--seed", type=seed, default=SEED, help="seed of the bootstrap")
    scoring_flags.add_format_argument(parser, "ref")
    group = scoring_flags.add_form_arguments(parser)
    scoring_flags.add_filter_arguments(group)
    scoring_flags.add_mark_arguments(group)


def run(args: argparse.Namespace) -> None:
    """Read the lists, print the table, write the JSON."""
    from asrprune.files import write_json
    from asrprune.wer.bootstrap import warn_of_few
    from asrprune.wer.oracle import oracle_errors
    from asrprune.wer.score import described, header, prepare_refs, warn_of_digits, warn_of_form
    from asrprune.wer.texts import Texts, read_texts

    name = args.nbest or args.lattice
    rules = scoring_flags.scoring_rules(args)
    bad = OnBad(args.on_bad)
    lists, in_lists = _lists(args, bad), None
    if not args.ref:
        lists = Spool(lists)
        given = SpooledDict((one.utt, one.ref) for one in lists if one.ref is not None)
        in_lists = Texts(name, "kaldi", given)
    refs = prepare_refs(in_lists or read_texts(args.ref, args.ref_format), rules)
    first: SpooledDict[str] = SpooledDict()
    lost: Counter[str] = Counter()
    formed = _formed(args, rules, lists, refs, first, lost)
    result = oracle_errors(
        formed,
        refs.texts if args.ref else None,
        args.mode,
        ref_name=args.ref or name,
        nbest_name=name,
        marked=refs.marked,
        on_disk=True,
    )
    bad.warn(name)
    warn_of_form(refs.texts, first, args.unit, name)
    warn_of_digits(rules.form, refs.digits_lost, lost["words"], name)
    if result.missing:
        total = len(refs.texts)
        log.warning("[PARTIAL] %s: %d of %d missing", name, len(result.missing), total)
    if result.unknown:
        log.warning("%s: left out %d without reference", name, len(result.unknown))
    warn_of_few(name, len(result.utterances))
    rows = _rows(result, args.replications, args.seed)
    # with the JSON on stdout, the table makes room for it
    stream = sys.stderr if args.json == "-" else sys.stdout
    stream.write(header(rules, refs, []) + _table(result, rows, args.unit))
    if args.json:
        figures = {**_figures(args, result, rows), "on_bad": sorted(bad.met)}
        write_json(args.json, {**figures, "scoring": described(rules, refs)})


def _lists(args: argparse.Namespace, bad: OnBad) -> Iterable[Any]:
    """The lists or lattices as they stand in their files."""
    from asrprune.firstpass.formats.jsonl import read_nbest

    if args.lattice is None:
        return tracked(read_nbest(args.nbest, bad), "compared")
    if args.format is None or args.ref is None:
        raise ValueError("--lattice needs --format and --ref")
    items: Iterable[Any] = read_items(args.format, args.lattice, format_options(args), bad)
    return tracked(items, "compared")


def _formed(
    args: argparse.Namespace,
    rules: ScoringRules,
    items: Iterable[Any],
    refs: Prepared,
    first: SpooledDict[str],
    lost: Counter[str],
) -> Iterator[NBest]:
    """The lists in the form to score, of a lattice its oracle path; ``first`` gets the first texts,
    ``lost`` the number of "words" of first hypotheses, or lattices, that lost digits.

    Those of utterances that are not scored (of an stm) are left out.
    """
    from asrprune.wer.oracle import filtered_lists, formed_lattice, formed_lists, lattice_lists

    def told(items: Iterable[Any]) -> Iterator[Any]:
        for one in items:
            words = one.words if args.lattice else [hyp.text for hyp in one.hyps[:1]]
            lost["words"] += sum(map(rules.form.digits_lost, words))
            yield one

    kept = (one for one in items if one.utt not in refs.ignored)
    if args.lattice is None:
        filtered = told(filtered_lists(kept, rules.form))
        formed = formed_lists(filtered, rules.form, refs.texts, bool(args.ref))
    else:
        split = (formed_lattice(one, rules.form.units) for one in told(kept))
        formed = lattice_lists(split, refs.texts, args.lattice)
    for nbest in formed:
        first.setdefault(nbest.utt, nbest.hyps[0].text if nbest.hyps else "")
        yield nbest


def _rows(result: OracleResult, replications: int, seed: int) -> list[dict[str, Any]]:
    from asrprune.wer.bootstrap import bootstrap_wer

    rows = []
    for depth, counts in zip(result.depths, result.tables):
        total = counts.total
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


def _table(result: OracleResult, rows: list[dict[str, Any]], unit: str) -> str:
    from asrprune.core.units import COUNTED, RATES

    rate = f"%{RATES[unit]}"
    partial = " [PARTIAL]" if result.missing else ""
    lines = [f"{'n':>5}  {rate:>6}  {'95% interval':>15}  errors / {COUNTED[unit]}, ins, del, sub"]
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
        "lattice": args.lattice,
        "ref": args.ref,
        "utterances": len(result.utterances),
        "empty_lists": result.empty_lists,
        "mean_hypotheses": result.mean_hypotheses,
        "mean_oracle_rank": result.mean_rank,
        "missing": list(result.missing),
        "unknown": list(result.unknown),
        "depths": rows,
    }
