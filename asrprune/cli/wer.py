"""``asrprune wer``: word error rate, its confidence interval, and a paired comparison."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from typing import TYPE_CHECKING, Any, Optional

from asrprune.cli import scoring_flags
from asrprune.cli.modes import Mode
from asrprune.cli.values import file_name_part, output_file, output_folder, seed, whole
from asrprune.errors import InputError
from asrprune.wer.bootstrap import REPLICATIONS, SEED
from asrprune.wer.marks import COSTS
from asrprune.wer.wer import MODES as POLICIES

if TYPE_CHECKING:
    from asrprune.wer.bootstrap import BootstrapWer, PairedComparison
    from asrprune.wer.score import Prepared, ScoringRules
    from asrprune.wer.wer import Rows, Scoring

EXAMPLE = """\
examples:
  asrprune wer --ref data/test/text --hyp exp/first.txt --compare exp/pruned.txt
  asrprune wer --ref data/test/text --hyp exp/hyp.txt --unit char
  asrprune wer --ref data/test/text --hyp exp/hyp.txt --utt2spk data/test/utt2spk

the same in other scorers:
  (default)               compute-wer --text --mode=strict (all: Kaldi's default; present: =present)
  --unit char             score_kaldi_cer.sh; jiwer's cer of texts without spaces
  --unit mixed            sclite -c NOASCII
  --filter, --hyp-filter  local/wer_output_filter (both sides), local/wer_hyp_filter
  --ignore-case           sclite without -s
  --edit-costs sclite     sclite (4 a substitution, 3 the others); icefall's sclite_mode
  --alternations          sclite's { a / b / @ }
  --optional-words        sclite -D, words marked (word)
  --equivalents           the rules of a glm file without contexts (csrfilt.sh)
  --hyphens split, join   csrfilt.sh -dh; sclite -c DH
"""

MODES = (
    Mode(("ref", "hyp", "compare", "mode", "out", "json", "replications", "seed")),
    Mode(("utt2spk", "ref_format", "hyp_format", "edit_costs")),
    Mode((*scoring_flags.FORM, *scoring_flags.FILTERS, *scoring_flags.MARKS)),
    scoring_flags.LANGUAGE,
    Mode(("set_name", "settings"), lambda args: args.out is not None, "has a use only with --out"),
)

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of ``asrprune wer``."""
    parser.add_argument("--ref", required=True, help="references (- is stdin)")
    parser.add_argument("--hyp", required=True, help="hypotheses (- is stdin)")
    parser.add_argument(
        "--compare", metavar="HYP2", help="a second system, compared utterance wise"
    )
    for side in ("ref", "hyp"):
        scoring_flags.add_format_argument(parser, side)
    parser.add_argument(
        "--mode",
        choices=POLICIES,
        default=POLICIES[0],
        help="references without hypothesis: refuse, leave out, or count as deleted",
    )
    parser.add_argument(
        "--out",
        type=output_folder,
        metavar="DIR",
        help="write Kaldi, icefall and trn files of --hyp",
    )
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write the figures as JSON (- is stdout)"
    )
    parser.add_argument(
        "--set-name",
        type=file_name_part,
        default="test",
        help="name of the test set in --out files",
    )
    parser.add_argument(
        "--settings", type=file_name_part, default="hyp", help="name of the system in --out files"
    )
    parser.add_argument(
        "--replications", type=whole(2), default=REPLICATIONS, help="bootstrap draws"
    )
    parser.add_argument("--seed", type=seed, default=SEED, help="seed of the bootstrap")
    parser.add_argument(
        "--utt2spk",
        metavar="FILE",
        help="Kaldi's 'utt speaker': the bootstrap draws speakers with all of their utterances",
    )
    group = scoring_flags.add_form_arguments(parser)
    scoring_flags.add_filter_arguments(group)
    scoring_flags.add_mark_arguments(group)
    group.add_argument(
        "--edit-costs",
        choices=list(COSTS),
        default="equal",
        help="by which the cheapest alignment is chosen",
    )


def run(args: argparse.Namespace) -> None:
    """Score, print, and write what was asked for."""
    from asrprune.files import write_json
    from asrprune.wer.bootstrap import bootstrap_wer, compare_scorings, warn_of_few
    from asrprune.wer.speakers import check_compared, number_speakers, read_utt2spk

    if [args.ref, args.hyp, args.compare].count("-") > 1:
        raise ValueError("more than one of --ref, --hyp, --compare is -; expected at most one")
    rules = scoring_flags.scoring_rules(args)
    scored = _score(args, rules)
    first, second = scored.first, scored.second
    comparison: Optional[PairedComparison] = None
    rate = first.rate
    speakers = None
    if args.utt2spk is not None:
        utterances = (one.utt for one in first.utterances)
        speakers = number_speakers(args.utt2spk, read_utt2spk(args.utt2spk), utterances)
    else:
        compared = first.utterances if scored.shared is None else scored.shared[0]
        warn_of_few(args.hyp, len(compared))
    if second is None:
        interval = bootstrap_wer(first.table, args.replications, args.seed, speakers)
        bootci_lines = interval.kaldi_line("Set1", rate)
        own_lines = interval.percentile_line(args.hyp, rate)
    else:
        if scored.shared is not None:
            check_compared(args.utt2spk, speakers, scored.shared[0])
        alternatives = scored.refs.alternatives
        comparison = compare_scorings(
            first, second, args.replications, args.seed, alternatives, scored.shared, speakers
        )
        interval = comparison.first
        bootci_lines = comparison.kaldi_lines(rate)
        own_lines = interval.percentile_line(args.hyp, rate)
        own_lines += comparison.second.percentile_line(args.compare, rate)
        own_lines += comparison.difference_line(args.hyp, args.compare, rate)
    # with the JSON on stdout, the lines make room for it
    stream = sys.stderr if args.json == "-" else sys.stdout
    stream.write(scored.header + first.kaldi_lines() + bootci_lines + own_lines)
    if args.out:
        _write_layouts(args, first, bootci_lines)
    if args.json:
        figures = _figures(args, first, interval, second, comparison)
        write_json(args.json, {**figures, "scoring": scored.described})


@dataclasses.dataclass(frozen=True)
class _Scored:
    """The one or two systems, the references as compared, what was done to the texts, and which
    utterances both systems have."""

    first: Scoring
    second: Optional[Scoring]
    refs: Prepared
    header: str
    described: dict[str, Any]
    shared: Optional[tuple[Rows, Rows]] = None


def _score(args: argparse.Namespace, rules: ScoringRules) -> _Scored:
    from asrprune.wer.score import (
        described,
        header,
        prepare_hyps,
        prepare_refs,
        score_prepared,
        warn_of_digits,
    )
    from asrprune.wer.texts import read_texts
    from asrprune.wer.wer import shared_rows

    texts = read_texts(args.ref, args.ref_format, "ref")
    refs = prepare_refs(texts, rules)

    def score(path: str) -> tuple[Scoring, Prepared]:
        hyps = prepare_hyps(read_texts(path, args.hyp_format, "hyp"), texts, rules)
        scoring = score_prepared(refs, hyps, rules, args.mode)
        if scoring.missing:
            total = len(refs.texts)
            log.warning("[PARTIAL] %s: %d of %d missing", path, len(scoring.missing), total)
        if scoring.unknown:
            log.warning("%s: left out %d without reference", path, len(scoring.unknown))
        return scoring, hyps

    first, hyps = score(args.hyp)
    if not args.compare:
        warn_of_digits(rules.form, refs.digits_lost, hyps.digits_lost, args.hyp)
        line = header(rules, refs, [hyps])
        return _Scored(first, None, refs, line, described(rules, refs))
    second, others = score(args.compare)
    lost = hyps.digits_lost + others.digits_lost
    warn_of_digits(rules.form, refs.digits_lost, lost, args.hyp)
    shared = shared_rows(first, second)
    if not any(first.table.words(number) for number in shared[0]):
        found = f"no reference word in the {len(shared[0])} utterances shared with {args.hyp}"
        raise InputError(args.compare, None, found, "at least one to compare on")
    if len(shared[0]) < len(refs.texts):
        log.warning("[PARTIAL] compared on %d of %d utterances", len(shared[0]), len(refs.texts))
    line = header(rules, refs, [hyps, others])
    return _Scored(first, second, refs, line, described(rules, refs), shared)


def _write_layouts(args: argparse.Namespace, scoring: Scoring, bootci_lines: str) -> None:
    from asrprune.files import written_together
    from asrprune.wer.icefall_layout import write_icefall_layout
    from asrprune.wer.kaldi_layout import write_kaldi_layout
    from asrprune.wer.trn import write_trn_pair

    with written_together(args.out) as folder:
        write_kaldi_layout(folder, scoring, bootci_lines, args.out)
        write_icefall_layout(folder, {args.settings: scoring}, args.set_name)
        write_trn_pair(folder, scoring, args.out)


def _figures(
    args: argparse.Namespace,
    first: Scoring,
    interval: BootstrapWer,
    second: Optional[Scoring],
    comparison: Optional[PairedComparison],
) -> dict[str, Any]:
    figures = {
        "command": args.command_line,
        "mode": args.mode,
        "ref": args.ref,
        "hyp": _system(args.hyp, first, interval),
    }
    if second is not None and comparison is not None:
        figures["compare"] = _system(args.compare, second, comparison.second)
        figures["comparison"] = {
            "utterances": comparison.first.utterances,
            "difference_percent": comparison.difference_percent,
            "interval_percent": comparison.interval,
            "improvement_probability": comparison.improvement_probability,
            "p_value": comparison.p_value,
        }
    return figures


def _system(path: str, scoring: Scoring, interval: BootstrapWer) -> dict[str, Any]:
    counts = scoring.counts
    return {
        "path": path,
        "wer_percent": counts.wer_percent,
        **dataclasses.asdict(counts),
        "errors": counts.errors,
        "words": counts.words,
        "sentence_errors": scoring.sentence_errors,
        "sentences": len(scoring.utterances),
        "missing": list(scoring.missing),
        "unknown": list(scoring.unknown),
        "bootstrap": dataclasses.asdict(interval),
    }
