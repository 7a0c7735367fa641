"""An n-gram LM pruned to given sizes by relative entropy (Stolcke 1998), by kaldingram.

    python local/mini/prune_ngram.py --lm kn3.arpa --beside lm/model.safetensors \\
      --fractions 0.5 0.25 --out ngrams

Writes OUT/LM-0.50.arpa and OUT/LM-0.25.arpa: what is left of the LM in half, and in a quarter, of
the bytes of another file. kaldingram prunes by a threshold of perplexity, which is searched for,
until the file has 97 % of the bytes that it may have, or more. A size that is not below the LM's
own, or that holds no more than its words, is passed over with a line.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from pathlib import Path

from train_ngram import kaldingram

from asrprune.errors import InputError, MissingPackage
from asrprune.files import passing_folder

TIGHT = 0.97
"""The fraction of the wanted bytes with which a file is large enough."""
AIM = 0.985
"""The fraction that is aimed at."""
TRIES = 12
"""Thresholds that are tried for a size."""
NEAREST = 0.01
"""Difference of the logarithms of two thresholds between which none is tried."""
THRESHOLDS = 1e-9, 1e-2
"""Relative changes of perplexity between which the threshold is searched."""


def prune(lm: Path, threshold: float, out: Path) -> int:
    """Write ``lm`` without the n-grams whose loss changes perplexity by less than ``threshold``.
    Returns its bytes."""
    kaldingram("prune", lm, out, ["--lm", str(lm), "--threshold", f"{threshold:.6g}"])
    return out.stat().st_size


def has_empty_order(arpa: Path) -> bool:
    """Whether no n-gram of the highest order is left: kaldingram's header then counts what there
    was before, and no reader takes the file."""
    with arpa.open("rb") as stream:
        stream.seek(-min(arpa.stat().st_size, 64), 2)
        return re.search(rb"-grams:\s+\\end\\", stream.read()) is not None


def prune_to(
    lm: Path, most_bytes: int, out: Path, known: dict[float, tuple[int, bool]] | None = None
) -> tuple[float, int] | None:
    """Write the largest pruned LM of at most ``most_bytes`` that TRIES thresholds find. Returns its
    threshold and bytes; None where none is small enough with n-grams of each order in it.
    ``known``: ln of a threshold -> bytes, and whether n-grams of each order are left; of this LM,
    for other sizes, and it gets those that are tried."""
    known = {} if known is None else known
    fit = (one for one, (size, whole) in known.items() if size <= most_bytes and whole)
    again = min(fit, default=None)  # the largest that fits, of which there is no file any more
    wanted = math.log(most_bytes) + math.log(AIM)
    best: tuple[float, int] | None = None
    out.parent.mkdir(parents=True, exist_ok=True)
    with passing_folder(out.parent) as scratch:
        for _ in range(TRIES):
            low, above = math.log(THRESHOLDS[0]), math.log(lm.stat().st_size)
            high, below = math.log(THRESHOLDS[1]), 0.0
            for one, (size, _) in known.items():
                if size > most_bytes and one > low:
                    low, above = one, math.log(size)
                elif size <= most_bytes and one < high:
                    high, below = one, math.log(size)
            if high - low < NEAREST:
                break
            # ln bytes as straight over ln threshold, once both ends are known
            part = (above - wanted) / (above - below) if below else 0.5
            tried = low + min(max(part, 0.1), 0.9) * (high - low)
            size = prune(lm, math.exp(tried), scratch / "tried.arpa")
            known[tried] = size, not has_empty_order(scratch / "tried.arpa")
            if size > most_bytes or not known[tried][1]:
                continue
            best = math.exp(tried), size  # the largest so far: the threshold only falls
            (scratch / "tried.arpa").replace(scratch / "best.arpa")
            if size >= TIGHT * most_bytes:
                break
        if best is None and again is not None:
            best = math.exp(again), prune(lm, math.exp(again), scratch / "best.arpa")
        if best is not None:
            (scratch / "best.arpa").replace(out)
    return best


def main() -> int:
    """Prune one LM. Returns the exit status: 0 done, 1 bad data, 2 bad usage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lm", type=Path, required=True, help="ARPA file, not compressed")
    parser.add_argument("--beside", type=Path, required=True, help="file with the bytes to go by")
    parser.add_argument("--fractions", type=float, nargs="+", required=True, help="of its bytes")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    args = parser.parse_args()
    try:
        for path in (args.lm, args.beside):
            if not path.is_file():
                raise InputError(path, None, "no such file", "an existing file")
        names = {fraction: f"{args.lm.stem}-{fraction:.2f}.arpa" for fraction in args.fractions}
        positive = all(0 < one < math.inf for one in names)
        if not positive or len(set(names.values())) < len(args.fractions):
            expected = "numbers above 0, two decimals of which differ"
            parser.error(f"--fractions {args.fractions}; expected {expected}")
        own, whole = args.lm.stat().st_size, args.beside.stat().st_size
        known: dict[float, tuple[int, bool]] = {}
        for fraction, name in names.items():
            most_bytes = round(fraction * whole)
            made = None
            if own > most_bytes:
                made = prune_to(args.lm, most_bytes, args.out / name, known)
            if made is not None:
                print(f"{name}: {made[1]} bytes of {most_bytes}, threshold {made[0]:.3g}")
            elif own <= most_bytes:
                print(f"{name}: not made, {args.lm.name} has {own} bytes of {most_bytes}")
            else:
                print(f"{name}: not made, {most_bytes} bytes hold no more than its words")
    except InputError as problem:
        print(f"prune_ngram: {problem}", file=sys.stderr)
        return 1
    except MissingPackage as problem:
        print(f"prune_ngram: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
