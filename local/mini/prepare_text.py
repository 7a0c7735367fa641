"""LM text and utterance lists of recipes/mini from five public-domain Bible translations.

    python local/mini/prepare_text.py --out exp/mini/text --dev-utts 200 --test-utts 300

Whole books are held out, from all five translations at once: a verse of one translation is close
to a copy of the same verse in another. The held-out books are those whose text stands nowhere else
(so no Gospels, Kings, Chronicles, Isaiah or Psalms) and that hold few exotic names:

    dev    Ruth, Ecclesiastes, Philippians, 1 John
    test   Jonah, James, Song of Songs, 1 Thessalonians, Lamentations, Galatians, Habakkuk
    valid  Esther, Titus, Malachi (LM perplexity while training; no audio)

Utterances are sentences of 5 to 25 words, at most one a verse over all translations, drawn with
``--seed``. The same seed and counts give the same files; a smaller count gives a subset. A sentence
that occurs word for word in the training text, or with more than a quarter of its 8-grams, is
never drawn; ``selection.json`` says how many were passed over for that. The voices take turns, so
each reads an equal share.

Writes ``lm_train.txt``, ``lm_valid.txt`` (one sentence a line), ``{dev,test}/utterances.jsonl``
(``utt``, ``voice``, ``source``, ``text``), ``{dev,test}/text`` (Kaldi), the same without ids in
``{dev,test}/sentences.txt``, and ``selection.json``. With ``--train-sentences N`` the training text
is a random part of N sentences (leaks are still judged against all of it).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import leakage
from bible_text import MAX_SENTENCE_WORDS, TRANSLATIONS, Verse, normalise, read_translation
from bible_text import sentences as split_sentences

from asrprune.errors import InputError, MissingPackage
from asrprune.files import write_json, write_text

HELD_OUT = {
    "dev": ("RUTH", "ECCLESIASTES", "PHILIPPIANS", "JOHN_1"),
    "test": (
        "JONAH",
        "JAMES",
        "SONG_OF_SONGS",
        "THESSALONIANS_1",
        "LAMENTATIONS",
        "GALATIANS",
        "HABAKKUK",
    ),
    "valid": ("ESTHER", "TITUS", "MALACHI"),
}
SPOKEN = ("dev", "test")
VOICES = ("rms", "slt", "awb", "kal16")
MIN_WORDS = 5
MAX_SENTENCE_8GRAM = 0.25


@dataclass(frozen=True)
class Sentence:
    """A normalised sentence and the verse it comes from."""

    verse: Verse
    text: str

    @property
    def words(self) -> tuple[str, ...]:
        """The words, in order."""
        return tuple(self.text.split())

    @property
    def source(self) -> str:
        """The verse, such as ``ruth-01-16-web``."""
        verse = self.verse
        book = verse.book.lower().replace("_", "")
        return f"{book}-{verse.chapter:02d}-{verse.number:02d}-{verse.translation}"


def split_of(book: str) -> str:
    """The split that a book belongs to: "dev", "test", "valid" or "train"."""
    return next((split for split, books in HELD_OUT.items() if book in books), "train")


def split_sentences_by_book(verses: Iterable[Verse]) -> tuple[dict[str, list[Sentence]], int]:
    """Split name -> its sentences in order, and the number of sentences dropped for digits."""
    splits: dict[str, list[Sentence]] = {name: [] for name in ("train", *HELD_OUT)}
    dropped = 0
    for verse in verses:
        for printed in split_sentences(verse.text):
            text = normalise(printed)
            if text is not None:
                splits[split_of(verse.book)].append(Sentence(verse, text))
            elif any(sign.isdigit() for sign in printed):
                dropped += 1
    return splits, dropped


def leaks(sentence: Sentence, found: set[leakage.Words]) -> bool:
    """Whether the training text holds the sentence, or over a quarter of its 8-grams."""
    runs = set(leakage.ngrams(sentence.words, leakage.LONG))
    return sentence.words in found or len(runs & found) > MAX_SENTENCE_8GRAM * len(runs)


def draw(candidates: Sequence[Sentence], count: int, seed: str) -> list[Sentence]:
    """``count`` sentences of different verses and different wording, in a seeded random order."""
    order = sorted(candidates, key=lambda sentence: (sentence.source, sentence.text))
    random.Random(seed).shuffle(order)
    drawn: list[Sentence] = []
    verses: set[tuple[str, int, int]] = set()
    texts: set[str] = set()
    for sentence in order:
        verse = sentence.verse
        place = (verse.book, verse.chapter, verse.number)
        if place not in verses and sentence.text not in texts and len(drawn) < count:
            verses.add(place)
            texts.add(sentence.text)
            drawn.append(sentence)
    if len(drawn) < count:
        raise ValueError(f"{count} utterances asked for; the books offer {len(drawn)}")
    return drawn


def write_utterances(folder: Path, drawn: Sequence[Sentence]) -> None:
    """``utterances.jsonl`` and the Kaldi ``text`` of one set, sorted by utterance id."""
    rows = []
    for index, sentence in enumerate(drawn):
        voice = VOICES[index % len(VOICES)]
        utt = f"{voice}-{sentence.source}"
        rows.append({"utt": utt, "voice": voice, "source": sentence.source, "text": sentence.text})
    rows.sort(key=lambda row: row["utt"])
    with write_text(folder / "utterances.jsonl") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    with write_text(folder / "text") as stream:
        stream.writelines(f"{row['utt']} {row['text']}\n" for row in rows)
    with write_text(folder / "sentences.txt") as stream:
        stream.writelines(f"{row['text']}\n" for row in rows)


def prepare(
    out: Path, counts: dict[str, int], seed: int, train_sentences: Optional[int] = None
) -> dict[str, object]:
    """Write every file under ``out``. Returns what ``selection.json`` holds."""
    verses = [verse for name in TRANSLATIONS for verse in read_translation(name)]
    splits, digits = split_sentences_by_book(verses)
    candidates = {
        split: [
            sentence
            for sentence in splits[split]
            if MIN_WORDS <= len(sentence.words) <= MAX_SENTENCE_WORDS
        ]
        for split in SPOKEN
    }
    spoken = [sentence.words for split in SPOKEN for sentence in candidates[split]]
    matches = leakage.TrainingMatches(leakage.wanted_runs(spoken, MIN_WORDS))
    matches.scan(sentence.words for sentence in splits["train"])
    if train_sentences is not None:
        if not 0 < train_sentences <= len(splits["train"]):
            raise ValueError(f"--train-sentences {train_sentences}; 1 to {len(splits['train'])}")
        kept = random.Random(f"{seed}-train").sample(range(len(splits["train"])), train_sentences)
        splits["train"] = [splits["train"][index] for index in sorted(kept)]
    for name in ("train", "valid"):
        with write_text(out / f"lm_{name}.txt") as stream:
            stream.writelines(sentence.text + "\n" for sentence in splits[name])
    selection: dict[str, object] = {
        "seed": seed,
        "translations": TRANSLATIONS,
        "held_out_books": HELD_OUT,
        "sentences_dropped_for_digits": digits,
    }
    for name in ("train", "valid"):
        words = sum(len(sentence.words) for sentence in splits[name])
        selection[name] = {"sentences": len(splits[name]), "words": words}
    for split in SPOKEN:
        clean = [sentence for sentence in candidates[split] if not leaks(sentence, matches.found)]
        drawn = draw(clean, counts[split], f"{seed}-{split}")
        write_utterances(out / split, drawn)
        selection[split] = {
            "candidates": len(candidates[split]),
            "passed_over_as_leaks": len(candidates[split]) - len(clean),
            "utterances": len(drawn),
            "words": sum(len(sentence.words) for sentence in drawn),
        }
    write_json(out / "selection.json", selection)
    return selection


def main() -> int:
    """Prepare the text. Returns the exit status: 0 done, 1 bad data, 2 bad usage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--dev-utts", type=int, default=220, help="default: %(default)s")
    parser.add_argument("--test-utts", type=int, default=540, help="default: %(default)s")
    parser.add_argument("--train-sentences", type=int, metavar="N", help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    args = parser.parse_args()
    try:
        counts = {"dev": args.dev_utts, "test": args.test_utts}
        selection = prepare(args.out, counts, args.seed, args.train_sentences)
    except InputError as problem:
        print(f"prepare_text: {problem}", file=sys.stderr)
        return 1
    except (ValueError, MissingPackage) as problem:
        print(f"prepare_text: {problem}", file=sys.stderr)
        return 2
    for name in ("train", "valid", *SPOKEN):
        print(f"{name}: {json.dumps(selection[name])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
