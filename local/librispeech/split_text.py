"""The LM text in the form of the references, in lines to train on and lines for validation.

    python local/librispeech/split_text.py --text librispeech-lm-norm.txt.gz --valid-every 2000 \\
        --out exp/librispeech/text

Reads the text once (``.gz``, ``.xz`` too). Writes ``train.txt`` and ``valid.txt``, which gets every
so many lines; lines that hold nothing in the form ``--normalise`` are left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from asrprune.errors import InputError
from asrprune.files import read_lines, write_text, written_together
from asrprune.text.normalise import NORMALISERS, Normaliser


def split(text: Path, every: int, normalise: Normaliser, out: Path) -> str:
    """Write both files. Returns a line that says what they hold; raises InputError for a text of
    fewer than ``every`` lines."""
    count = 0
    with (
        written_together(out) as folder,
        write_text(folder / "train.txt") as train,
        write_text(folder / "valid.txt") as valid,
    ):
        for _, line in read_lines(text):
            line = normalise(line)
            if line:
                count += 1
                (train if count % every else valid).write(f"{line}\n")
        if count < every:
            raise InputError(text, None, f"{count} sentences", f"at least {every}, one to validate")
    return (
        f"{out}: {count - count // every:,} sentences to train on, {count // every:,} to validate"
    )


def main() -> int:
    """Split. Returns the exit status: 0 done, 1 bad data, 2 bad usage."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--text", type=Path, required=True, help="a sentence a line")
    parser.add_argument("--valid-every", type=int, default=2000, metavar="N")
    parser.add_argument("--normalise", choices=list(NORMALISERS), default="asr")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    if args.valid_every < 2:
        parser.error("--valid-every: expected 2 or more")
    try:
        print(split(args.text, args.valid_every, NORMALISERS[args.normalise], args.out))
    except InputError as problem:
        print(f"split_text: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
