"""RESULTS.md of recipes/librispeech, from the tables of its reports.

    python local/librispeech/write_results.py exp/librispeech/report/*/table.json \\
        --times exp/librispeech/times.tsv --command "recipes/librispeech/run.sh" --out RESULTS.md

A section for each table: what was measured, on which machine, with which commit, and all rows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from asrprune.errors import InputError
from asrprune.files import read_lines, write_text
from asrprune.report.front import markdown_item
from asrprune.report.gather import describe_machine
from asrprune.report.page import DRAWN, legend
from asrprune.report.table_file import ResultTable, read_table
from asrprune.report.tables import markdown_lines, markdown_table


def section(table: ResultTable) -> str:
    """The results of one test set."""
    facts = {**table.facts, **describe_machine(table.measured)}
    made = ("commit", "time_utc", "python", "torch")
    facts |= {name: table.provenance[name] for name in made if name in table.provenance}
    return "\n\n".join(
        [
            f"## {table.facts.get('set', 'results')}",
            "\n".join(markdown_item(f"{label}: {text}") for label, text in facts.items()),
            markdown_table(table.rows).strip("\n"),
            legend(table.rows, table.baseline, drawn=table.facts.get(DRAWN, "over utterances")),
        ]
    )


def stage_times(path: Path) -> str:
    """The stages and their seconds. Raises InputError for a line that is not three columns."""
    lines = []
    for number, line in read_lines(path):
        lines.append(line.split("\t"))
        if len(lines[-1]) != 3:
            raise InputError(path, number, repr(line), "stage, name and seconds, with tabs")
    return markdown_lines(lines)


def write(tables: Sequence[Path], times: Path, command: str, out: Path) -> None:
    """Write the page. Raises InputError for files that are no tables or times."""
    parts = ["# Results of recipes/librispeech", f"    {command}"]
    parts += [section(read_table(path)) for path in tables]
    parts += ["## Time of the stages", stage_times(times)]
    with write_text(out) as stream:
        stream.write("\n\n".join(part.rstrip("\n") for part in parts) + "\n")


def main() -> int:
    """Write. Returns the exit status: 0 done, 1 bad data."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tables", nargs="+", type=Path, metavar="TABLE", help="table.json of a set")
    parser.add_argument("--times", type=Path, required=True, help="times.tsv of the stages")
    parser.add_argument("--command", required=True, help="what made them")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    try:
        write(args.tables, args.times, args.command, args.out)
    except InputError as problem:
        print(f"write_results: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
