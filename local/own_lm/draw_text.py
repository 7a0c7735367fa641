"""Text of the domain for recipes/own_lm: a random part to learn from, and sentences for validation.

    python local/own_lm/draw_text.py --text lm-text.txt.xz --train-sentences 400000 \\
        --valid-sentences 300 --out exp/own-lm/text

Reads the text once and keeps what was drawn, whatever its size (``.gz`` and ``.xz`` are accepted).
Writes ``train.txt`` and ``valid.txt`` in the order of the text, each line in the form
``--normalise``. A text of fewer sentences is taken whole, but for those of validation. The same
seed and counts give the same files.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterable
from pathlib import Path

from asrprune.errors import InputError
from asrprune.files import read_lines, write_text
from asrprune.text.normalise import NORMALISERS, normaliser

Drawn = list[tuple[int, str]]
"""Line numbers and sentences."""


def draw(lines: Iterable[tuple[int, str]], count: int, seed: int) -> Drawn:
    """``count`` of the lines that are not empty, each as likely as any other, in random order
    (Algorithm R, Vitter 1985)."""
    rng = random.Random(seed)
    drawn: Drawn = []
    seen = 0
    for number, line in lines:
        if not line.strip():
            continue
        if len(drawn) < count:
            drawn.append((number, line))
        else:
            place = rng.randrange(seen + 1)
            if place < count:
                drawn[place] = (number, line)
        seen += 1
    rng.shuffle(drawn)
    return drawn


def prepare(text: Path, train: int, valid: int, seed: int, form: str, out: Path) -> str:
    """Write both files. Returns a line that says what they hold; raises InputError for a text of
    too few sentences."""
    drawn = draw(read_lines(text), train + valid, seed)
    if len(drawn) < 2 * valid:
        found = f"{len(drawn)} sentences"
        raise InputError(text, None, found, f"at least {2 * valid}, twice those of validation")
    normalise = normaliser(form)
    out.mkdir(parents=True, exist_ok=True)
    counts = []
    for name, part in (("valid", drawn[:valid]), ("train", drawn[valid:])):
        with write_text(out / f"{name}.txt") as stream:
            stream.writelines(f"{normalise(line)}\n" for _, line in sorted(part))
        counts.append(f"{name} {len(part):,}")
    return f"{out}: sentences: {', '.join(counts)}"


def main() -> int:
    """Draw the sentences. Returns the exit status: 0 done, 1 bad data, 2 bad usage."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--text", type=Path, required=True, help="a sentence a line")
    parser.add_argument("--train-sentences", type=int, default=400_000)
    parser.add_argument("--valid-sentences", type=int, default=300)
    parser.add_argument("--normalise", choices=NORMALISERS, default="lower")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    if min(args.train_sentences, args.valid_sentences) < 1:
        parser.error("expected at least one sentence to train on and one for validation")
    try:
        counts = (args.train_sentences, args.valid_sentences)
        print(prepare(args.text, *counts, args.seed, args.normalise, args.out))
    except InputError as problem:
        print(f"draw_text: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
