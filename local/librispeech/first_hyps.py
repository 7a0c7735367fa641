"""The first hypothesis of each n-best list, as Kaldi text.

python local/librispeech/first_hyps.py --nbest nbest.jsonl.gz --out hyp
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from asrprune.errors import InputError
from asrprune.files import write_text
from asrprune.firstpass.formats.jsonl import read_nbest


def main() -> int:
    """Write them. Returns the exit status: 0 done, 1 bad data."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nbest", type=Path, required=True, help="lists (jsonl)")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    try:
        with write_text(args.out) as stream:
            for nbest in read_nbest(args.nbest):
                text = nbest.hyps[0].text if nbest.hyps else ""
                stream.write(f"{nbest.utt} {text}".rstrip() + "\n")
    except InputError as problem:
        print(f"first_hyps: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
