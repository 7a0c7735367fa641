"""``asrprune report``: one table and one page from the folders of finished runs."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from asrprune.cli.modes import Mode
from asrprune.cli.values import output_folder, seed

EXAMPLE = (
    "example: asrprune report --runs exp/mini/runs/* --ref exp/mini/data/test/text "
    "--baseline dense --first-pass exp/mini/first-pass/test/first_pass.json --out exp/mini/report"
)


MODES = (Mode(("runs", "ref", "baseline", "first_pass", "title", "fact", "seed", "out")),)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runs", nargs="+", action="extend", required=True, help="run folders, one a system"
    )
    parser.add_argument("--ref", required=True, help="reference text of the test set (Kaldi text)")
    parser.add_argument("--baseline", help="name of the run that the others are compared with")
    parser.add_argument("--first-pass", help="first_pass.json of the test set, for the total RTF")
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
    from asrprune.files import write_json, write_text
    from asrprune.provenance import provenance
    from asrprune.report.gather import describe_first_pass, gather_rows
    from asrprune.report.page import html_page
    from asrprune.report.readings import read_first_pass
    from asrprune.report.tables import markdown_table

    stated = _facts(args.fact)
    origin = provenance(args.command_line, seed=args.seed)
    first_pass = None if args.first_pass is None else read_first_pass(args.first_pass)
    facts = {label: str(value) for label, value in origin.items()}
    if first_pass is not None:
        facts = {"first pass": describe_first_pass(first_pass), **facts}
    facts = {**stated, **facts, **stated}  # first, and over those of the same label
    rows = gather_rows(args.runs, args.ref, args.baseline, first_pass, args.seed)
    out = Path(args.out)
    table = markdown_table(rows)
    with write_text(out / "index.html") as stream:
        stream.write(html_page(args.title, rows, facts))
    with write_text(out / "table.md") as stream:
        stream.write(table)
    write_json(out / "table.json", {"rows": [asdict(row) for row in rows], "provenance": origin})
    sys.stdout.write(table)
    sys.stdout.write(f"report: {out / 'index.html'}\n")


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
