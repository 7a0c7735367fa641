"""Counts of ``asrprune wer`` against sclite's, jiwer's and Kaldi's printed lines, on made-up pairs.

    apt-get install -y sctk
    python tests/bench/wer_table.py [--pairs 300] [--seed 1]

Prints, for each set of options, the reference words, the errors of both sides (sub, del, ins), and
on how many pairs the four counts, and the numbers of errors, differ. Ours are those of
``--edit-costs sclite``. Pairs are drawn from few words, so that many alignments cost the same.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import jiwer

from asrprune.core.counts import ErrorCounts
from asrprune.core.units import in_units
from asrprune.text.normalise import NORMALISERS
from asrprune.wer.form import (
    ScoringForm,
    drop_punctuation,
    drop_tags,
    drop_words,
    fold_case,
    join_hyphens,
    replace_phrases,
    split_hyphens,
)
from asrprune.wer.score import ScoringRules, prepare_hyps, prepare_refs, score_prepared
from asrprune.wer.texts import Texts
from asrprune.wer.wer import Scoring

WORDS = (
    "the",
    "The",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "t-shirt",
    "uh",
    "um",
    "[noise]",
    "<unk>",
    "hello,",
    "color",
    "colour",
    "3.5",
    "it's",
)
HAN = "我们去图书馆借了三本新书 OK"
Pairs = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Row:
    """``name``; our rules; the words pairs are drawn from; what sclite is called with (None: it has
    no such option, so our formed texts are given to it); marks in the references."""

    name: str
    rules: ScoringRules
    words: Sequence[str] = WORDS
    sclite: Optional[tuple[str, ...]] = None
    marks: str = ""


def _form(unit: str = "word", **steps: object) -> ScoringForm:
    return ScoringForm(unit, tuple(steps.items()))  # type: ignore[arg-type]


PLAIN = ("-s",)
ROWS = (
    Row("words as they stand", ScoringRules(costs="sclite"), sclite=PLAIN),
    Row("--ignore-case", ScoringRules(_form(case=fold_case), costs="sclite"), sclite=()),
    Row("--normalise lower", ScoringRules(_form(name=NORMALISERS["lower"]), costs="sclite")),
    Row("--alternations", ScoringRules(alternations=True, costs="sclite"), sclite=PLAIN, marks="a"),
    Row(
        "--optional-words",
        ScoringRules(optional=frozenset(), costs="sclite"),
        sclite=("-s", "-D"),
        marks="o",
    ),
    Row(
        "both marks",
        ScoringRules(optional=frozenset(), costs="sclite"),
        sclite=("-s", "-D"),
        marks="ao",
    ),
    Row(
        "--unit char", ScoringRules(_form("char"), costs="sclite"), HAN, ("-s", "-e", "utf-8", "-c")
    ),
    Row(
        "--unit mixed",
        ScoringRules(_form("mixed"), costs="sclite"),
        HAN,
        ("-s", "-e", "utf-8", "-c", "NOASCII"),
    ),
    Row("--remove-tags", ScoringRules(_form(tags=drop_tags), costs="sclite")),
    Row("--ignore-punctuation", ScoringRules(_form(punctuation=drop_punctuation), costs="sclite")),
    Row("--hyphens split", ScoringRules(_form(hyphens=split_hyphens), costs="sclite")),
    Row("--hyphens join", ScoringRules(_form(hyphens=join_hyphens), costs="sclite")),
    Row(
        "--remove-words uh um", ScoringRules(_form(words=drop_words(["uh", "um"])), costs="sclite")
    ),
    Row(
        "--equivalents",
        ScoringRules(_form(same=replace_phrases({("color",): ("colour",)})), costs="sclite"),
    ),
    Row(
        "--filter 'sed ...'", ScoringRules(ScoringForm(filter="sed 's/ cat/ dog/'"), costs="sclite")
    ),
)


def draw(row: Row, count: int, rng: random.Random) -> Pairs:
    """Utterance -> (reference, hypothesis); most hypotheses are references with errors."""
    pairs: Pairs = {}
    han = row.words is HAN
    for number in range(count):
        spoken = [rng.choice(row.words) for _ in range(rng.randint(1, 12))]
        heard = []
        for word in spoken:
            chance = rng.random()
            heard += [] if chance < 0.1 else [rng.choice(row.words) if chance < 0.25 else word]
            heard += [rng.choice(row.words)] if chance > 0.9 else []
        marked = []
        for word in spoken:
            chance = rng.random()
            if "o" in row.marks and chance < 0.2:
                marked.append(f"({word})")
            elif "a" in row.marks and chance < 0.4:
                other = rng.choice(["@", rng.choice(row.words), f"{word} {rng.choice(row.words)}"])
                marked.append(f"{{ {word} / {other} }}")
            else:
                marked.append(word)
        join = "" if han else " "
        ref = join.join(marked).strip() or spoken[0]
        pairs[f"s-{number}"] = (" ".join(ref.split()) or "我", " ".join(join.join(heard).split()))
    return pairs


def ours(row: Row, pairs: Pairs) -> Scoring:
    """What ``asrprune wer`` counts."""
    refs = Texts("refs", "kaldi", {utt: ref for utt, (ref, _) in pairs.items()})
    hyps = Texts("hyps", "kaldi", {utt: hyp for utt, (_, hyp) in pairs.items()})
    prepared = prepare_refs(refs, row.rules), prepare_hyps(hyps, refs, row.rules)
    return score_prepared(*prepared, row.rules, "strict")


def sclite(program: str, pairs: Pairs, options: Sequence[str]) -> dict[str, ErrorCounts]:
    """What sclite counts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place, side in enumerate(("ref", "hyp")):
            lines = (f"{texts[place]} ({utt})\n" for utt, texts in pairs.items())
            (folder / f"{side}.trn").write_text("".join(lines), encoding="utf-8")
        argv = [program, "-r", "ref.trn", "-h", "hyp.trn", "-i", "rm", "-f", "0", *options]
        done = subprocess.run(
            [*argv, "-o", "pralign", "stdout"], cwd=folder, capture_output=True, check=True
        )
    pattern = r"id: \((\S+)\)\nScores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)"
    found = re.findall(pattern, done.stdout.decode("utf-8", errors="replace"))
    return {utt: ErrorCounts(*map(int, counts)) for utt, *counts in found}


def find_sclite() -> Optional[str]:
    """The path of sclite, also where Debian's package puts it."""
    place = Path("/usr/lib/sctk/bin/sclite")
    return shutil.which("sclite") or (str(place) if place.exists() else None)


def compare(row: Row, pairs: Pairs, program: str) -> tuple[ErrorCounts, ErrorCounts, int, int]:
    """Our counts, sclite's, on how many pairs one of them differs, and on how many the number of
    errors differs. Raises ValueError where sclite scored other utterances."""
    scoring = ours(row, pairs)
    formed = {one.utt: (one.ref, one.hyp) for one in scoring.utterances}
    given = (formed, PLAIN) if row.sclite is None else (pairs, row.sclite)
    theirs = sclite(program, *given)
    if theirs.keys() != pairs.keys():
        raise ValueError(f"{row.name}: sclite scored {len(theirs)} of {len(pairs)} pairs")
    other = [
        (one.counts, theirs[one.utt]) for one in scoring.utterances if one.counts != theirs[one.utt]
    ]
    errors = sum(one.errors != another.errors for one, another in other)
    return scoring.counts, sum(theirs.values(), ErrorCounts()), len(other), errors


def kaldi_lines(pairs: Pairs) -> str:
    """The three lines of ``compute-wer --text --mode=strict``, from jiwer's counts."""
    output = jiwer.process_words(
        [ref for ref, _ in pairs.values()], [hyp for _, hyp in pairs.values()]
    )
    errors = output.substitutions + output.deletions + output.insertions
    words = output.hits + output.substitutions + output.deletions
    wrong = sum(ref.split() != hyp.split() for ref, hyp in pairs.values())
    return (
        f"%WER {100 * errors / words:.2f} [ {errors} / {words}, {output.insertions} ins, "
        f"{output.deletions} del, {output.substitutions} sub ]\n"
        f"%SER {100 * wrong / len(pairs):.2f} [ {wrong} / {len(pairs)} ]\n"
        f"Scored {len(pairs)} sentences, 0 not present in hyp.\n"
    )


def jiwer_cer(pairs: Pairs) -> float:
    """jiwer's CER in percent, of texts without spaces."""
    refs = ["".join(ref.split()) for ref, _ in pairs.values()]
    return 100.0 * float(jiwer.cer(refs, ["".join(hyp.split()) for _, hyp in pairs.values()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    program = find_sclite()
    if program is None:
        raise SystemExit("sclite is missing: apt-get install -y sctk")
    print("| options | words | asrprune: sub, del, ins | sclite | pairs that differ | in errors |")
    print("|---|---:|---:|---:|---:|---:|")
    for row in ROWS:
        pairs = draw(row, args.pairs, random.Random(args.seed))
        mine, other, differ, errors = compare(row, pairs, program)
        cells = [f"{one.substitutions}, {one.deletions}, {one.insertions}" for one in (mine, other)]
        print(f"| {row.name} | {mine.words} | {' | '.join(cells)} | {differ} | {errors} |")
    pairs = draw(ROWS[0], args.pairs, random.Random(args.seed))
    default = Row("", ScoringRules())
    same = ours(default, pairs).kaldi_lines() == kaldi_lines(pairs)
    print(
        f"compute-wer's lines from jiwer's counts, byte for byte: {'equal' if same else 'differ'}"
    )
    pairs = draw(
        next(row for row in ROWS if row.words is HAN), args.pairs, random.Random(args.seed)
    )
    cer = ours(Row("", ScoringRules(_form("char"))), pairs).counts.wer_percent
    cut = {utt: (" ".join(ref), in_units(hyp, "char")) for utt, (ref, hyp) in pairs.items()}
    again = ours(Row("", ScoringRules(_form("char"))), cut).counts.wer_percent
    print(f"CER {cer:.6f}, segmented otherwise {again:.6f}, jiwer's {jiwer_cer(pairs):.6f}")


if __name__ == "__main__":
    main()
