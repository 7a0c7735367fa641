"""The dev sets as one: what the score weights are tuned on.

    python local/librispeech/join_sets.py --first-pass exp/first --data exp/data \\
        --sets dev_clean dev_other --name dev

Writes ``FIRST/NAME/nbest.jsonl.gz``, links to the sets' lattices if they have any in
``FIRST/NAME/lattices``, and ``DATA/NAME/text``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from asrprune.api.first_pass import read_kaldi_text
from asrprune.core.hypothesis import NBest
from asrprune.errors import InputError
from asrprune.files import write_text, written_together
from asrprune.firstpass.formats.jsonl import read_nbest, write_nbest


def join(first: Path, data: Path, names: Sequence[str], name: str) -> None:
    """Write the joined set. Raises InputError for an utterance that two sets have."""
    seen: dict[str, str] = {}

    def lists() -> Iterator[NBest]:
        for one in names:
            path = first / one / "nbest.jsonl.gz"
            for nbest in read_nbest(path):
                if nbest.utt in seen:
                    found = f"utterance {nbest.utt} again (first in {seen[nbest.utt]})"
                    raise InputError(path, None, found, "each utterance in one set")
                seen[nbest.utt] = one
                yield nbest

    with written_together(first / name) as folder:
        write_nbest(folder / "nbest.jsonl.gz", lists())
        (folder / "lattices").mkdir()
        for one in names:
            for lattice in sorted((first / one / "lattices").glob("*")):
                os.symlink(lattice.resolve(), folder / "lattices" / lattice.name)
    with written_together(data / name) as folder, write_text(folder / "text") as text:
        for one in names:
            for utt, words in read_kaldi_text(data / one / "text").items():
                text.write(f"{utt} {words}".rstrip() + "\n")


def main() -> int:
    """Join. Returns the exit status: 0 done, 1 bad data."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--first-pass", type=Path, required=True, help="folder of the sets' lists")
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets' references")
    parser.add_argument("--sets", nargs="+", required=True)
    parser.add_argument("--name", default="dev", help="of the joined set")
    args = parser.parse_args()
    try:
        join(args.first_pass, args.data, args.sets, args.name)
    except InputError as problem:
        print(f"join_sets: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
