"""``asrprune report``: one table and one page from the folders of finished runs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from asrprune.cli.modes import Mode
from asrprune.cli.values import named_path, output_folder, seed
from asrprune.core.units import RATES, UNITS, WORD

EXAMPLE = (
    "example: asrprune report --runs exp/mini/runs/* --ref exp/mini/data/test/text "
    "--baseline dense --first-pass exp/mini/first-pass/test/first_pass.json --out exp/mini/report"
)


MODES = (
    Mode(("runs", "ref", "baseline", "first_pass", "front", "lm", "utt2spk", "unit", "title")),
    Mode(("fact", "seed", "out")),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs", nargs="+", action="extend", required=True, help="run folders, one a system"
    )
    parser.add_argument(
        "--ref",
        required=True,
        help="references of the test set: Kaldi text, trn, ..., told from their lines",
    )
    parser.add_argument("--baseline", help="name of the run that the others are compared with")
    parser.add_argument("--first-pass", help="first_pass.json of the test set, for the total RTF")
    parser.add_argument(
        "--front",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="runs of the first screen, in this order and in few columns, with sentences made of "
        "the numbers; every row and column stands below on the page (default: all runs at once)",
    )
    parser.add_argument(
        "--lm",
        nargs="+",
        action="extend",
        type=named_path,
        default=[],
        metavar="NAME=PATH",
        help="LMs of runs: checkpoint folders, of which the page shows what was removed, how they "
        "learnt and how they were made, or the files of n-grams",
    )
    parser.add_argument(
        "--utt2spk",
        metavar="FILE",
        help="Kaldi's 'utt speaker': intervals over speakers, their errors on the page",
    )
    parser.add_argument(
        "--unit",
        choices=UNITS,
        default=WORD,
        help="count words (WER), characters (CER), or Han and kana by character and the rest by "
        "word (MER)",
    )
    parser.add_argument("--title", default="asrprune report", help="heading of the page")
    parser.add_argument(
        "--fact", action="append", default=[], metavar="LABEL=TEXT", help="a line for the page"
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of the bootstrap")
    parser.add_argument(
        "--out",
        required=True,
        type=output_folder,
        metavar="DIR",
        help="folder for table.md, table.json, index.html",
    )


def run(args: argparse.Namespace) -> None:
    from asrprune.files import write_json, write_text, written_together
    from asrprune.provenance import provenance
    from asrprune.report.budgets import recommend, verdict_sentence
    from asrprune.report.front import make_front
    from asrprune.report.gather import (
        describe_first_pass,
        describe_machine,
        gather_runs,
        read_measurement,
    )
    from asrprune.report.lm_files import read_lm
    from asrprune.report.page import DRAWN, html_page, named_rate
    from asrprune.report.readings import read_first_pass
    from asrprune.report.sections import report_sections
    from asrprune.report.tables import markdown_table

    stated = _facts(args.fact)
    origin = provenance(args.command_line, seed=args.seed)
    first_pass = None if args.first_pass is None else read_first_pass(args.first_pass)
    origin_texts = {label: str(value) for label, value in origin.items()}
    described = {} if first_pass is None else {"first pass": describe_first_pass(first_pass)}
    lms = {name: read_lm(path) for name, path in _lms(args.lm, args.runs)}
    gathered = gather_runs(
        args.runs, args.ref, args.baseline, first_pass, args.seed, args.unit, args.utt2spk
    )
    rows = gathered.rows
    if gathered.speakers is not None:
        described[DRAWN] = "over speakers"
    if gathered.forms:
        described["references and words"] = "; ".join(gathered.forms)
    front = make_front(rows, args.front, args.baseline) if args.front else None
    measured = read_measurement(args.runs, args.baseline)
    facts = {**stated, **described, **describe_machine(measured), **origin_texts}
    facts |= stated  # first, and over those of the same label
    out = Path(args.out)
    rate = RATES[args.unit]
    table = named_rate(markdown_table(rows) if front is None else front.markdown(), rate)
    base = gathered.row(args.baseline)
    said = "" if base is None else named_rate(verdict_sentence(rows, base), rate)
    budgets = [] if base is None else recommend(rows, base)
    sections = report_sections(gathered, args.baseline, lms, gathered.speakers, rate)
    with written_together(out) as folder:
        with write_text(folder / "index.html") as stream:
            page = html_page(args.title, rows, facts, front, args.baseline, sections, rate)
            stream.write(page)
        with write_text(folder / "table.md") as stream:
            stream.write(table)
        write_json(
            folder / "table.json",
            {
                "title": args.title,
                "unit": args.unit,
                "baseline": args.baseline,
                "front": None if front is None else [row.name for row in front.rows],
                "sentences": []
                if front is None
                else [named_rate(one, rate) for one in front.sentences],
                "verdict": said,
                "recommended": {one.limit: one.row.name for one in budgets if one.row is not None},
                "rows": [asdict(row) for row in rows],
                "facts": {**described, **stated},
                "measured": None if measured is None else asdict(measured),
                "provenance": origin,
            },
        )
    sys.stdout.write(table)
    sys.stdout.write(f"{said}\n" if said else "")
    sys.stdout.write(f"report: {out / 'index.html'}\n")


def _lms(given: list[tuple[str, str]], runs: list[str]) -> list[tuple[str, str]]:
    """The LMs of the command line. Raises ValueError for a name that is no run's or comes twice."""
    names = [Path(run).name for run in runs]
    for name, path in given:
        if name not in names:
            raise ValueError(f"--lm {name}={path}: no such run; expected one of {', '.join(names)}")
        if [one for one, _ in given].count(name) > 1:
            raise ValueError(f"--lm {name}={path}: {name} again; expected each run once")
    return given


def _facts(texts: list[str]) -> dict[str, str]:
    """The facts of the command line. Raises ValueError for a label that comes twice."""
    facts: dict[str, str] = {}
    for fact in texts:
        label, sign, text = fact.partition("=")
        if not sign:
            raise ValueError(f"--fact {fact!r}; expected LABEL=TEXT")
        if label in facts:
            raise ValueError(f"--fact {fact!r}: {label!r} again; expected each label once")
        facts[label] = text
    return facts
