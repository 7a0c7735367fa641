"""The results of recipes/mini in the documents, from the tables of its reports.

    python local/mini/write_results.py exp/mini/report/table.json exp/mini-1/report/table.json \\
        --times exp/mini/times.tsv --fact "machine=2 cores, no GPU"
    python local/mini/write_results.py            # the documents once more, from results.json
    python local/mini/write_results.py --check    # do they say what results.json says?

The first table is that of the run, the others are those of the same run with other seeds (their
reports state them: ``asrprune report --fact "run=seed 1"``). All numbers go to
recipes/mini/results.json; recipes/mini/RESULTS.md and the part of README.md between its marks are
made of that file alone. What stands in RESULTS.md between ``<!-- by hand: NAME -->`` and
``<!-- end by hand -->`` stays as it is written.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any, Optional

from asrprune.core.record import (
    Record,
    a_count,
    a_label,
    a_list,
    a_list_of,
    an_amount,
    read_record,
)
from asrprune.errors import InputError
from asrprune.files import read_lines
from asrprune.report.documents import compact, hand, hand_written, joined, paragraph, write_or_check
from asrprune.report.front import Front, make_front, markdown_item
from asrprune.report.gather import describe_machine
from asrprune.report.page import legend
from asrprune.report.rows import SystemRow
from asrprune.report.table_file import ResultTable, read_rows, read_table, read_texts
from asrprune.report.tables import (
    FRONT_COLUMNS,
    difference,
    markdown_lines,
    markdown_table,
    probability,
)

ROOT = Path(__file__).parents[2]
FORMAT, VERSION = "asrprune-results", 1
BY_HAND = ("setting", "claims")
"""The parts of RESULTS.md that are written by hand."""
SEED_COLUMNS = ("wer_percent", "ppl_word", "delta_percent", "delta_low", "delta_high", "delta_p")
"""What is kept of the rows of other seeds, beside name and kind."""
DIGITS = 6
"""Significant digits of numbers in results.json."""
MARKS = "<!-- results: recipes/mini/RESULTS.md -->", "<!-- end of results -->"
"""Between these README.md has the results."""
MADE = (
    "<!-- Made of results.json by local/mini/write_results.py: change only what is between marks "
    '"by hand". -->'
)


@dataclass(frozen=True)
class Results:
    """What results.json holds. ``runs`` are (label, rows), the run itself first; ``times`` are
    (stage, name, seconds)."""

    baseline: str
    front: tuple[str, ...]
    facts: Mapping[str, str]
    times: tuple[tuple[int, str, float], ...]
    runs: tuple[tuple[str, tuple[SystemRow, ...]], ...]

    @property
    def rows(self) -> tuple[SystemRow, ...]:
        """The rows of the run itself."""
        return self.runs[0][1]

    def first_screen(self) -> Front:
        """The rows of the front, or all, and the sentences on them."""
        names = self.front or [row.name for row in self.rows]
        return make_front(self.rows, names, self.baseline)


def results_of(record: Record) -> Results:
    """What a results.json holds. Raises InputError naming the key that is not right."""
    path = record.path
    if (record.values.get("format"), record.values.get("version")) != (FORMAT, VERSION):
        raise InputError(path, None, "no results", f'"format": "{FORMAT}", "version": {VERSION}')
    times = [record.part("times", n) for n in range(len(record.find("times", a_list) or ()))]
    runs = [record.part("runs", n) for n in range(len(record.get("runs", a_list)))]
    if not runs:
        raise InputError(path, None, "runs is []", "one run at least")
    return Results(
        record.get("baseline", a_label),
        record.find("front", a_list_of(a_label)) or (),
        read_texts(record, "facts"),
        tuple((t.get("stage", a_count), t.get("name", a_label), _seconds(t)) for t in times),
        tuple((run.get("label", a_label), read_rows(run)) for run in runs),
    )


def _seconds(record: Record) -> float:
    return record.get("seconds", an_amount)


def gather(
    tables: Sequence[ResultTable],
    paths: Sequence[Path],
    times: Sequence[tuple[int, str, float]],
    stated: Mapping[str, str],
) -> dict[str, Any]:
    """What results.json is to hold. Raises InputError for tables without a baseline, of different
    baselines or of runs with the same name, and for facts that hold a path of this machine."""
    first = tables[0]
    for path, table in zip(paths, tables):
        if table.baseline is None or table.baseline != first.baseline:
            raise InputError(path, None, f"baseline {table.baseline}", f"{first.baseline or 'one'}")
    facts = {**_facts(first), **stated}
    for label, text in facts.items():
        if re.search(r"(?<![\w./])~?/\w", text):
            found, expected = f"fact {label!r} is {text!r}", "no path of one machine"
            raise InputError(paths[0], None, found, expected)
    labels = [table.facts.get("run", f"run {n}") for n, table in enumerate(tables, start=1)]
    if len(set(labels)) < len(labels):
        twice = next(n for n, label in enumerate(labels) if label in labels[:n])
        found = f"two runs called {labels[twice]!r}"
        raise InputError(paths[twice], None, found, 'another --fact "run=..."')
    runs = [
        {"label": label, "rows": [_columns(row, number == 0) for row in table.rows]}
        for number, (label, table) in enumerate(zip(labels, tables))
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        "baseline": first.baseline,
        "front": list(first.front),
        "facts": facts,
        "times": [dict(zip(("stage", "name", "seconds"), one)) for one in times],
        "runs": runs,
    }


def _facts(table: ResultTable) -> dict[str, str]:
    """How the run was made: what was stated for its report, the machine, versions."""
    facts = {label: text for label, text in table.facts.items() if label != "run"}
    facts |= describe_machine(table.measured)
    made = table.provenance
    versions = [f"{name} {made[name]}" for name in ("python", "torch", "numpy") if name in made]
    facts |= {"versions": ", ".join(versions)} if versions else {}
    facts |= {"commit": made["commit"]} if "commit" in made else {}
    return facts | ({"date": made["time_utc"][:10]} if "time_utc" in made else {})


def _columns(row: SystemRow, whole: bool) -> dict[str, Any]:
    """The fields of a row that are known, without score weights; few of them unless ``whole``."""
    names = [one.name for one in fields(row) if one.name != "weights"]
    kept = names if whole else ["name", "kind", *SEED_COLUMNS]
    values = {name: getattr(row, name) for name in kept}
    return {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in values.items()
        if value not in (None, "")
    }


def read_times(path: Path) -> list[tuple[int, str, float]]:
    """The stages' times: a heading ``stage name seconds``, then one stage a line, with tabs."""
    times = []
    for number, line in read_lines(path):
        parts = line.split("\t")
        if number == 1 and parts == ["stage", "name", "seconds"]:
            continue
        if number == 1:
            raise InputError(path, 1, repr(line), "the heading stage, name, seconds, with tabs")
        try:
            stage, name, seconds = parts
            times.append((a_count(int(stage)), a_label(name), an_amount(float(seconds))))
        except Exception:
            raise InputError(path, number, repr(line), "number, name, seconds >= 0") from None
    return times


def results_page(results: Results, by_hand: Mapping[str, str]) -> str:
    """RESULTS.md."""
    front = results.first_screen()
    parts = ["# Results of recipes/mini", MADE, hand("setting", by_hand)]
    facts = [markdown_item(f"{label}: {text}") for label, text in results.facts.items()]
    parts.append("\n".join(facts))
    parts += [front.markdown(), paragraph(legend(front.rows, results.baseline, FRONT_COLUMNS))]
    parts += ["## What it says about the study's claims", hand("claims", by_hand)]
    parts += ["## All systems", markdown_table(results.rows)]
    parts.append(paragraph(legend(results.rows, results.baseline)))
    if len(results.runs) > 1:
        parts += ["## Seeds", *_seeds(results)]
    if results.times:
        parts += ["## Time of the stages", _times(results)]
    return joined(parts)


def _seeds(results: Results) -> list[str]:
    """WER and perplexity of every system with each seed; the n-gram against the baseline."""
    labels = [label for label, _ in results.runs]
    heading = ["system", *(f"WER %, {label}" for label in labels), "mean", "range", "ppl/word"]
    lines, against = [heading], [["n-gram", "run", f"vs {results.baseline}", "p"]]
    for own in results.rows:
        found = [{row.name: row for row in rows}.get(own.name) for _, rows in results.runs]
        wers = [None if row is None else row.wer_percent for row in found]
        known = [wer for wer in wers if wer is not None]
        ppls = [row.ppl_word for row in found if row is not None and row.ppl_word is not None]
        if known:
            texts = ["" if wer is None else f"{wer:.2f}" for wer in wers]
            spread = f"{min(known):.2f} to {max(known):.2f}"
            ppl = " / ".join(f"{one:.1f}" for one in ppls)
            lines.append([own.name, *texts, f"{fmean(known):.2f}", spread, ppl])
        for label, row in zip(labels, found):
            if row is not None and row.kind == "n-gram" and row.delta_percent is not None:
                delta = difference(row.delta_percent, row.delta_low, row.delta_high)
                against.append([own.name, label, delta, probability(row.delta_p)])
    parts = [markdown_lines(lines)]
    return parts if len(against) == 1 else [*parts, markdown_lines(against)]


def _times(results: Results) -> str:
    every = sum(seconds for *_, seconds in results.times)
    lines = [[str(stage), name, f"{seconds:,.0f}"] for stage, name, seconds in results.times]
    total = ["", "all", f"{every:,.0f} ({every / 60:.0f} min)"]
    return markdown_lines([["stage", "what", "s"], *lines, total])


def readme_with(path: Path, results: Results) -> str:
    """README.md with the results between its marks. Raises InputError without the marks."""
    text = path.read_text(encoding="utf-8")
    before, start, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not start or not end:
        raise InputError(path, None, f"no {MARKS[0]} ... {MARKS[1]}", "these marks")
    return f"{before}{start}\n{results.first_screen().markdown()}{end}{after}"


def run(args: argparse.Namespace) -> None:
    """Write results.json if there are tables, then write or check the documents."""
    if args.tables:
        tables = [read_table(path) for path in args.tables]
        times = [] if args.times is None else read_times(args.times)
        facts = dict(fact.split("=", 1) for fact in args.fact)
        text = compact(gather(tables, args.tables, times, facts)) + "\n"
        written = {args.results: text}
        results = results_of(Record(args.results, json.loads(text)))
    else:
        written, results = {}, results_of(read_record(args.results))
    written[args.page] = results_page(results, hand_written(args.page, BY_HAND))
    written[args.readme] = readme_with(args.readme, results)
    write_or_check(written, args.check)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Write or check. Returns the exit status: 0 done, 1 bad data or a difference, 2 bad usage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    mini = ROOT / "recipes/mini"
    parser.add_argument("tables", nargs="*", type=Path, metavar="TABLE", help="table.json of runs")
    parser.add_argument("--times", type=Path, help="times.tsv of the stages")
    parser.add_argument("--fact", action="append", default=[], metavar="LABEL=TEXT")
    parser.add_argument("--results", type=Path, default=mini / "results.json")
    parser.add_argument("--page", type=Path, default=mini / "RESULTS.md")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 if they differ"
    )
    args = parser.parse_args(argv)
    if args.check and args.tables:
        parser.error("--check takes no tables: it reads results.json")
    if (args.times or args.fact) and not args.tables:
        parser.error("--times and --fact have no use without tables")
    if not all("=" in fact for fact in args.fact):
        parser.error(f"--fact {args.fact}; expected LABEL=TEXT")
    try:
        run(args)
    except InputError as problem:
        print(f"write_results: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
