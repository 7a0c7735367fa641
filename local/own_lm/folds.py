"""Two halves of n-best lists and references: each is tuned on, the other is rescored.

    python local/own_lm/folds.py --nbest nbest.jsonl.gz --text text --out exp/own-lm/folds

The utterances are sorted by id and cut in the middle, so that what was spoken together mostly stays
together. Writes ``{a,b}/nbest.jsonl.gz``, ``{a,b}/text`` and ``{a,b}/hyp`` (the first hypothesis of
each list), and ``sentences.txt``, the references of both without ids.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from asrprune.api.first_pass import read_kaldi_text, read_nbest, write_nbest
from asrprune.errors import InputError
from asrprune.files import write_text
from asrprune.rescore.nbest.check import check_lists


def fold(nbest: Path, text: Path, out: Path) -> str:
    """Write the halves. Returns a line that says what they hold. Raises InputError for fewer than
    two utterances, and as ``check_lists`` does for what a later stage would refuse."""
    references = read_kaldi_text(text)
    lists = sorted(read_nbest(nbest), key=lambda one: one.utt)
    if len(lists) < 2:
        raise InputError(nbest, None, f"{len(lists)} lists", "at least two")
    check_lists(nbest, lists, text, references)
    middle = (len(lists) + 1) // 2
    halves = {"a": lists[:middle], "b": lists[middle:]}
    for name, half in halves.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        write_nbest(out / name / "nbest.jsonl.gz", half)
        with write_text(out / name / "text") as stream:
            stream.writelines(f"{one.utt} {references[one.utt]}\n" for one in half)
        with write_text(out / name / "hyp") as stream:
            stream.writelines(f"{one.utt} {one.hyps[0].text}\n" for one in half if one.hyps)
    with write_text(out / "sentences.txt") as stream:
        stream.writelines(f"{references[one.utt]}\n" for one in lists)
    return f"{out}: {len(halves['a'])} and {len(halves['b'])} utterances"


def main() -> int:
    """Cut in two. Returns the exit status: 0 done, 1 bad data."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nbest", type=Path, required=True, help="lists (jsonl)")
    parser.add_argument("--text", type=Path, required=True, help="references (Kaldi text)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    try:
        print(fold(args.nbest, args.text, args.out))
    except InputError as problem:
        print(f"folds: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
