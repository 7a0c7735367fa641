"""A Kneser-Ney n-gram LM of recipes/mini, as ARPA, estimated by kaldingram: back-off, with one
discount an order (unmodified).

    python local/mini/train_ngram.py --text exp/mini/text/lm_train.txt --order 3 --out kn3.arpa

kaldingram writes no ``<unk>``, and a reader then gives an unknown word the log10 probability -100:
one such word would decide any comparison of hypotheses. ``<unk>`` is added here with the
probability of the rarest known word (an unseen word is no likelier than that); the unigrams then
sum to 1 plus that probability. kaldingram's count cut-offs (``--gt3min``) are not offered: they
give seen bigrams the log10 probability -99, which this script refuses.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from asrprune.errors import InputError, MissingPackage
from asrprune.files import read_lines, write_text

INPUTS = {"train": "one sentence a line", "prune": "an ARPA file"}
"""What kaldingram's verbs read."""
ZERO_LOG10 = -90.0
"""What an n-gram with less than this holds is a place-holder for probability zero."""


def estimate(text: Path, order: int, arpa: Path) -> None:
    """Write kaldingram's ARPA file. Raises InputError with its last words when it fails."""
    kaldingram("train", text, arpa, ["--ngram-order", str(order), "--text", str(text)])


def kaldingram(verb: str, source: Path, arpa: Path, options: Sequence[str]) -> None:
    """Have kaldingram make an ARPA file of ``source``. Raises InputError with its last words when
    it fails, MissingPackage without it."""
    target = {"train": "--lm", "prune": "--write-lm"}[verb]
    call = [sys.executable, "-m", "kaldingram.cli", verb, "--verbose", "5"]
    done = subprocess.run(
        [*call, *options, target, str(arpa)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named kaldingram" in done.stderr:
        raise MissingPackage("kaldingram", "mini")
    if done.returncode != 0 or not arpa.exists():
        last = (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1]
        raise InputError(source, None, f"kaldingram failed ({last})", INPUTS[verb])


def rarest_log10(arpa: Path) -> float:
    """The lowest unigram log10 probability. Raises InputError for an n-gram of probability zero
    other than ``<s>`` (kaldingram writes them from very little text too), and for a file that has
    ``<unk>`` already."""
    lowest, order = 0.0, 0
    for number, line in read_lines(arpa):
        if line.startswith("\\"):
            section = re.match(r"\\(\d+)-grams:", line)
            order = int(section.group(1)) if section else 0
            continue
        fields = line.split("\t")
        if not order or len(fields) < 2 or fields[1] == "<s>":
            continue
        log10 = float(fields[0])
        if log10 < ZERO_LOG10 or fields[1] == "<unk>":
            raise InputError(arpa, number, line, "a probability above 0 (more text?), and no <unk>")
        if order == 1:
            lowest = min(lowest, log10)
    return lowest


def add_unk(arpa: Path, out: Path) -> float:
    """Copy an ARPA file with ``<unk>`` added. Returns its log10 probability."""
    log10 = rarest_log10(arpa)
    with write_text(out) as stream:
        for _, line in read_lines(arpa):
            count = re.fullmatch(r"ngram 1=(\d+)", line)
            if count:
                line = f"ngram 1={int(count.group(1)) + 1}"
            stream.write(line + "\n")
            if line == "\\1-grams:":
                stream.write(f"{log10:.7f}\t<unk>\n")
    return log10


def main() -> int:
    """Estimate one n-gram LM. Returns the exit status: 0 done, 1 bad data, 2 bad usage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--text", type=Path, required=True, help="plain text, a sentence a line")
    parser.add_argument("--order", type=int, default=3, choices=(2, 3, 4, 5))
    parser.add_argument("--out", type=Path, required=True, help="ARPA file (.gz is compressed)")
    args = parser.parse_args()
    try:
        if not args.text.is_file():
            raise InputError(args.text, None, "no such file", "an existing file")
        with tempfile.TemporaryDirectory() as scratch:
            plain = Path(scratch) / "plain.arpa"
            estimate(args.text, args.order, plain)
            log10 = add_unk(plain, args.out)
    except InputError as problem:
        print(f"train_ngram: {problem}", file=sys.stderr)
        return 1
    except MissingPackage as problem:
        print(f"train_ngram: {problem}", file=sys.stderr)
        return 2
    print(f"{args.out}: order {args.order}, <unk> at log10 {log10:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
