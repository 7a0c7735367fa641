"""How much of a reference text stands, word for word, in a training text.

    python local/mini/leakage.py --train lm_train.txt --ref dev/text test/text

A reference set leaks when a whole sentence of it was seen in training, or when long stretches of
it were. Both are counted: sentences of at least ``--min-words`` words found verbatim (line ends of
the training text are ignored, so another line splitting hides nothing), and the fraction of the
distinct 5-grams and 8-grams that occur. Exit status 1 if a whole sentence is found or the fraction
of 8-grams is above ``--max-8gram``.

Five words in a row are often idiom ("and it came to pass"), so 5-grams are printed but not judged;
eight in a row are rarely chance, and a held-out book of one translation that had slipped into the
training text would put most of its 8-grams there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrprune.errors import InputError
from asrprune.files import read_lines

SHORT, LONG = 5, 8
MIN_WORDS = 5
MAX_8GRAM = 0.05

Words = tuple[str, ...]


@dataclass(frozen=True)
class Leakage:
    """What was found of one set: counts of sentences, distinct 5-grams and distinct 8-grams."""

    sentences: int
    judged: int
    verbatim: tuple[str, ...]
    short: int
    short_found: int
    long: int
    long_found: int

    @property
    def long_fraction(self) -> float:
        """Fraction of the distinct 8-grams that occur in the training text; 0 if there are none."""
        return self.long_found / self.long if self.long else 0.0

    def describe(self, name: str) -> str:
        """One line a person can read."""
        return (
            f"{name}: {len(self.verbatim)} of {self.judged} sentences verbatim"
            f" ({self.sentences - self.judged} too short to judge),"
            f" {SHORT}-grams {_percent(self.short_found, self.short)},"
            f" {LONG}-grams {_percent(self.long_found, self.long)}"
        )


def ngrams(words: Sequence[str], order: int) -> Iterator[Words]:
    """Every run of ``order`` words, left to right; nothing if there are fewer words."""
    for start in range(len(words) - order + 1):
        yield tuple(words[start : start + order])


class TrainingMatches:
    """Which of the wanted word runs occur in the training text, found in one pass over it.

    Memory grows with the references, not with the training text. Runs shorter than five words
    are not looked for (ValueError).
    """

    def __init__(self, wanted: Iterable[Words]) -> None:
        self.by_start: dict[Words, set[Words]] = {}
        for run in wanted:
            if len(run) < SHORT:
                raise ValueError(f"a run of {len(run)} words; expected at least {SHORT}")
            self.by_start.setdefault(run[:SHORT], set()).add(run)
        runs = [len(run) for group in self.by_start.values() for run in group]
        self.longest = max(runs, default=SHORT)
        self.found: set[Words] = set()

    def scan(self, lines: Iterable[Sequence[str]]) -> None:
        """Look through the training text, given as the words of each line, in order."""
        window: list[str] = []
        for words in lines:
            window.extend(words)
            ready = len(window) - self.longest + 1
            if ready > 0:
                self._match(window, ready)
                del window[:ready]
        self._match(window, len(window))

    def _match(self, window: list[str], starts: int) -> None:
        for start in range(starts):
            group = self.by_start.get(tuple(window[start : start + SHORT]))
            if group is not None:
                for run in group:
                    if tuple(window[start : start + len(run)]) == run:
                        self.found.add(run)


def wanted_runs(sentences: Iterable[Words], min_words: int) -> Iterator[Words]:
    """Every run that must be looked for to judge these sentences."""
    for words in sentences:
        yield from ngrams(words, SHORT)
        yield from ngrams(words, LONG)
        if len(words) >= min_words:
            yield words


def judge(sentences: Sequence[Words], found: set[Words], min_words: int) -> Leakage:
    """The counts of one reference set, given every wanted run that the training text holds."""
    judged = [words for words in sentences if len(words) >= min_words]
    short = {run for words in sentences for run in ngrams(words, SHORT)}
    long = {run for words in sentences for run in ngrams(words, LONG)}
    return Leakage(
        sentences=len(sentences),
        judged=len(judged),
        verbatim=tuple(" ".join(words) for words in judged if words in found),
        short=len(short),
        short_found=len(short & found),
        long=len(long),
        long_found=len(long & found),
    )


def read_references(path: str, with_ids: bool) -> list[Words]:
    """The sentences of a text, without the utterance id that leads each line of a Kaldi text."""
    sentences = []
    for number, line in read_lines(path):
        words = line.split()
        if with_ids:
            if not words:
                raise InputError(path, number, "an empty line", "an utterance id and its words")
            words = words[1:]
        sentences.append(tuple(words))
    if not sentences:
        raise InputError(path, None, "no lines", "at least one sentence")
    return sentences


def main() -> int:
    """Print one line a set. Returns the exit status: 0 clean, 1 leak or bad data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_HelpFormatter)
    parser.add_argument("--train", required=True, help="LM training text, plain, .gz or .xz")
    parser.add_argument("--ref", nargs="+", required=True, help="reference texts")
    parser.add_argument(
        "--ref-ids",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="each reference line starts with an utterance id",
    )
    parser.add_argument("--min-words", type=int, default=MIN_WORDS)
    parser.add_argument("--max-8gram", type=float, default=MAX_8GRAM)
    args = parser.parse_args()
    if args.min_words < SHORT or not 0 <= args.max_8gram <= 1:
        parser.error(f"--min-words is at least {SHORT} and --max-8gram lies in 0..1")
    try:
        sets = {path: read_references(path, args.ref_ids) for path in args.ref}
        everything = [words for sentences in sets.values() for words in sentences]
        matches = TrainingMatches(wanted_runs(everything, args.min_words))
        matches.scan(line.split() for _, line in read_lines(args.train))
    except InputError as problem:
        print(f"leakage: {problem}", file=sys.stderr)
        return 1
    status = 0
    for path, sentences in sets.items():
        result = judge(sentences, matches.found, args.min_words)
        print(result.describe(path))
        for sentence in result.verbatim[:5]:
            print(f"  verbatim in training: {sentence}")
        if result.verbatim or result.long_fraction > args.max_8gram:
            status = 1
    print("LEAK" if status else "no leak", f"({Path(args.train).name})")
    return status


def _percent(found: int, total: int) -> str:
    return f"{found}/{total} ({100 * found / total:.2f} %)" if total else "none"


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, keeps the line breaks of the module text."""


if __name__ == "__main__":
    sys.exit(main())
