"""RESULTS.md of recipes/study and the table of asrprune recommend, from results.json.

    python local/study/write_results.py            # write both
    python local/study/write_results.py --check    # do they say what results.json says?

What stands in RESULTS.md between ``<!-- by hand: NAME -->`` and ``<!-- end by hand -->`` stays as
it is written. It holds no decimal, percentage or number of several digits: nothing could check it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from recommend_table import study_table
from results_file import read_results
from verdict_page import BY_HAND, results_page

from asrprune.errors import InputError
from asrprune.report.documents import compact, hand_written, write_or_check

ROOT = Path(__file__).parents[2]


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Write or check. Returns the exit status: 0 done, 1 bad data or a difference, 2 bad usage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    study = ROOT / "recipes/study"
    table = ROOT / "asrprune/prune/recommend/study.json"
    parser.add_argument("--results", type=Path, default=study / "results.json")
    parser.add_argument("--page", type=Path, default=study / "RESULTS.md")
    parser.add_argument("--table", type=Path, default=table, help="of asrprune recommend")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; status 1 if they differ"
    )
    args = parser.parse_args(argv)
    try:
        results = read_results(args.results)
        by_hand = hand_written(args.page, BY_HAND)
        _refuse_numbers(args.page, by_hand)
        page = results_page(results, by_hand)
        made = {args.page: page, args.table: compact(study_table(results)) + "\n"}
        write_or_check(made, args.check)
    except InputError as problem:
        print(f"write_results: {problem}", file=sys.stderr)
        return 1
    return 0


def _refuse_numbers(page: Path, by_hand: Mapping[str, str]) -> None:
    for name, text in by_hand.items():
        if number := re.search(r"\b(?:\d+[.,]\d+|\d+ ?%|\d{2,})", text):
            found = f"{number.group()} in the part by hand {name!r}"
            raise InputError(page, None, found, "numbers of results.json, in the other parts")


if __name__ == "__main__":
    sys.exit(main())
