"""Sentences for validation, and others that the perplexities of a study are measured on.

    python local/study/split_heldout.py --text valid.txt.xz --out exp/study \\
        --valid-sentences 500 --heldout-sentences 2000

Writes ``OUT/valid.txt`` with the first sentences and ``OUT/heldout.txt`` with those after them.
"""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path

from asrprune.errors import InputError
from asrprune.files import read_lines, write_text


def split(text: Path, out: Path, valid: int, heldout: int) -> None:
    """Write both files. Raises InputError for a text with fewer sentences."""
    sentences = (line.strip() for _, line in read_lines(text))
    kept = list(islice((line for line in sentences if line), valid + heldout))
    if len(kept) < valid + heldout:
        raise InputError(text, None, f"{len(kept)} sentences", f"{valid} + {heldout} at least")
    out.mkdir(parents=True, exist_ok=True)
    for name, part in (("valid.txt", kept[:valid]), ("heldout.txt", kept[valid:])):
        with write_text(out / name) as stream:
            stream.writelines(f"{line}\n" for line in part)


def main() -> int:
    """Split the text. Returns the exit status: 0 done, 1 bad data."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--text", type=Path, required=True, help="a sentence a line")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--valid-sentences", type=int, required=True)
    parser.add_argument("--heldout-sentences", type=int, required=True)
    args = parser.parse_args()
    try:
        split(args.text, args.out, args.valid_sentences, args.heldout_sentences)
    except InputError as problem:
        print(f"split_heldout: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
