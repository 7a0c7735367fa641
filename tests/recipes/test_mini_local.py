"""The scripts of local/mini: text, held-out books, leakage, n-gram."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

LOCAL = Path(__file__).parents[2] / "local/mini"
sys.path.insert(0, str(LOCAL))

import bible_text  # noqa: E402
import leakage  # noqa: E402
import prepare_text  # noqa: E402
import prune_ngram  # noqa: E402
import train_ngram  # noqa: E402

import asrprune  # noqa: E402
from asrprune.errors import InputError  # noqa: E402
from asrprune.prune.run.plan import Plan, read_plan  # noqa: E402


@pytest.fixture(autouse=True)
def _local_scripts_can_import_asrprune(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(asrprune.__file__).parents[1]))


def script(name: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(LOCAL / name), *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("printed", "normal"),
    [
        ("And God said, [Let there be] light:", "and god said let there be light"),
        ("God`s Spirit; the king\u2019s Beth-lehem", "god's spirit the king's beth lehem"),
        ("`Let light be;` and light is.", "let light be and light is"),
        ("the fathers\u2019 houses -- (so)", "the fathers houses so"),
        ("Æneas, Noë and Zoïa", "aeneas noe and zoia"),
        ("of Judah 12 thousand", None),
        (" -- !", None),
    ],
)
def test_normalise(printed: str, normal: str) -> None:
    assert bible_text.normalise(printed) == normal


def test_short_verses_are_cut_at_sentence_ends_only() -> None:
    cut = [part.strip() for part in bible_text.sentences("Rise; go! I went: why?! so")]
    assert cut == ["Rise; go!", "I went: why?!", "so"]


def test_long_sentences_are_cut_at_colons_and_lose_no_word() -> None:
    text = "one two three; " * 9 + "end: " + "last words."
    parts = list(bible_text.sentences(text))
    assert len(parts) == 11
    assert "".join(parts) == text


def test_psalm_headings_are_no_text() -> None:
    text = "".join(bible_text.sentences("to eat. BOOK II  Psalm 42 As the deer pants"))
    assert text.split() == ["to", "eat.", "As", "the", "deer", "pants"]


def test_books_of_the_splits_are_disjoint_and_exist() -> None:
    books = [book for split in prepare_text.HELD_OUT.values() for book in split]
    assert len(books) == len(set(books))
    pythonbible = pytest.importorskip("pythonbible")
    assert set(books) <= {book.name for book in pythonbible.Book}
    assert prepare_text.split_of("GENESIS") == "train"


def test_bbe_verses_come_from_the_numbers_in_its_text() -> None:
    class Text:
        scripture_content = "1. A b. 2. C 3 d. 1. E.\\2:2\\F.1. Now. 2. Then."

    verses = [
        (verse.book, verse.chapter, verse.number, verse.text.strip())
        for verse in bible_text._bbe(Text)
    ]
    pytest.importorskip("pythonbible")
    assert verses == [
        ("GENESIS", 1, 1, "A b."),
        ("GENESIS", 1, 2, "C 3 d."),
        ("GENESIS", 2, 1, "E."),
        ("GENESIS", 2, 2, "F."),
        ("EXODUS", 1, 1, "Now."),
        ("EXODUS", 1, 2, "Then."),
    ]


def verse_sentences(count: int) -> list[prepare_text.Sentence]:
    return [
        prepare_text.Sentence(bible_text.Verse(name, "RUTH", 1, number, ""), f"{name} {number}")
        for number in range(1, count + 1)
        for name in ("web", "kjv")
    ]


def test_draw_is_seeded_and_takes_a_verse_once() -> None:
    sentences = verse_sentences(30)
    drawn = prepare_text.draw(sentences, 20, "1")
    assert drawn == prepare_text.draw(sentences[::-1], 20, "1")
    assert drawn != prepare_text.draw(sentences, 20, "2")
    assert drawn[:5] == prepare_text.draw(sentences, 5, "1")
    assert len({sentence.verse.number for sentence in drawn}) == 20


def test_draw_refuses_more_than_there_is() -> None:
    with pytest.raises(ValueError, match="31 utterances"):
        prepare_text.draw(verse_sentences(30), 31, "1")


def test_scan_finds_runs_over_line_ends_and_once_each() -> None:
    runs = [tuple("abcdef"), tuple("cdefghij"), tuple("xabcd"), tuple("ijklm")]
    matches = leakage.TrainingMatches(runs)
    matches.scan([list("abc"), [], list("defgh"), list("ijkl")])
    assert matches.found == {tuple("abcdef"), tuple("cdefghij")}


def test_scan_equals_brute_force() -> None:
    chance = random.Random(3)
    lines = [[chance.choice("ab") for _ in range(chance.randrange(9))] for _ in range(60)]
    stream = "".join("".join(line) for line in lines)
    runs = [tuple(chance.choice("ab") for _ in range(chance.randrange(5, 12))) for _ in range(200)]
    matches = leakage.TrainingMatches(runs)
    matches.scan(lines)
    assert matches.found == {run for run in runs if "".join(run) in stream}
    assert 0 < len(matches.found) < len(set(runs))


def test_planted_leak_is_found(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("first words here\nthen he went down\nto the sea at night\n")
    (tmp_path / "clean").write_text("a nobody ever wrote such words before\n")
    (tmp_path / "leak").write_text("a nobody ever wrote such words\nb he went down to the sea\n")
    clean = script("leakage.py", "--train", tmp_path / "train", "--ref", tmp_path / "clean")
    assert (clean.returncode, "no leak" in clean.stdout) == (0, True)
    both = script(
        "leakage.py", "--train", tmp_path / "train", "--ref", tmp_path / "clean", tmp_path / "leak"
    )
    assert both.returncode == 1
    assert "1 of 2 sentences verbatim" in both.stdout
    assert "verbatim in training: he went down to the sea" in both.stdout


def test_leak_of_long_stretches_is_found(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("a b c d e f g h i j\n")
    (tmp_path / "ref").write_text("x a b c d e f g h i z\n")
    options = ("--train", tmp_path / "train", "--ref", tmp_path / "ref", "--no-ref-ids")
    assert script("leakage.py", *options).returncode == 1
    assert script("leakage.py", *options, "--max-8gram", "0.5").returncode == 0


@pytest.mark.parametrize("text", ["", "utt one\n\n"])
def test_leakage_refuses_bad_references(tmp_path: Path, text: str) -> None:
    (tmp_path / "ref").write_text(text)
    (tmp_path / "train").write_text("words\n")
    run = script("leakage.py", "--train", tmp_path / "train", "--ref", tmp_path / "ref")
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.slow
def test_prepared_text_is_deterministic_and_held_out(tmp_path: Path) -> None:
    for name in bible_text.TRANSLATIONS:
        pytest.importorskip(f"pythonbible_{name}")
    for folder in ("a", "b"):
        prepare_text.prepare(tmp_path / folder, {"dev": 16, "test": 24}, 0, 5000)
    for path in sorted((tmp_path / "a").rglob("*.*")):
        other = tmp_path / "b" / path.relative_to(tmp_path / "a")
        assert path.read_bytes() == other.read_bytes()
    assert len((tmp_path / "a/lm_train.txt").read_text().splitlines()) == 5000
    for split, books in (("dev", prepare_text.HELD_OUT["dev"]), ("test", None)):
        rows = [
            json.loads(line)
            for line in (tmp_path / "a" / split / "utterances.jsonl").read_text().splitlines()
        ]
        wanted = books or prepare_text.HELD_OUT["test"]
        names = {book.lower().replace("_", "") for book in wanted}
        assert {row["source"].split("-")[0] for row in rows} <= names
        assert all(5 <= len(row["text"].split()) <= 25 for row in rows)
        shares = [sum(row["voice"] == voice for row in rows) for voice in prepare_text.VOICES]
        assert max(shares) == min(shares)


ARPA = (
    "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n"
    "-99\t<s>\t-0.3\n-0.5\ta\t-0.2\n-1.5\tb\n-0.4\t</s>\n\n"
)


def test_unk_is_added_with_the_rarest_probability(tmp_path: Path) -> None:
    (tmp_path / "in.arpa").write_text(ARPA + "\\2-grams:\n-2.5\ta b\n\n\\end\\\n")
    assert train_ngram.add_unk(tmp_path / "in.arpa", tmp_path / "out.arpa") == -1.5
    lines = (tmp_path / "out.arpa").read_text().splitlines()
    assert "ngram 1=5" in lines
    assert lines[lines.index("\\1-grams:") + 1] == "-1.5000000\t<unk>"
    kenlm = pytest.importorskip("kenlm")
    lm = kenlm.Model(str(tmp_path / "out.arpa"))
    assert lm.score("zebra", bos=False, eos=False) == pytest.approx(-1.5)


def test_ngrams_of_probability_zero_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in.arpa").write_text(ARPA + "\\2-grams:\n-99.0\ta b\n\n\\end\\\n")
    with pytest.raises(InputError, match=r"-99\.0 a b"):
        train_ngram.add_unk(tmp_path / "in.arpa", tmp_path / "out.arpa")


def trigrams(folder: Path, lines: Iterable[str]) -> Path:
    """An n-gram LM of the lines, by the script."""
    (folder / "text").write_text("".join(f"{line}\n" for line in lines))
    lm = folder / "lm.arpa"
    run = script("train_ngram.py", "--text", folder / "text", "--out", lm, "--order", 3)
    assert run.returncode == 0, run.stderr
    return lm


def mass(lm: Any, context: str, words: Iterable[str]) -> float:
    """The probability of all words and of the end of the sentence after ``context``."""
    base = lm.score(context, eos=False) if context else 0.0
    total = sum(10 ** (lm.score(f"{context} {word}", eos=False) - base) for word in words)
    return float(total + 10 ** (lm.score(context) - base))


@pytest.mark.slow
def test_kaldingram_is_normalised(tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    pytest.importorskip("kaldingram")
    chance = random.Random(5)
    words = [f"w{number}" for number in range(200)]
    shares = [1 / (number + 1) for number in range(200)]
    lines = [
        " ".join(chance.choices(words, shares, k=chance.randrange(1, 12))) for _ in range(2000)
    ]
    lm = kenlm.Model(str(trigrams(tmp_path, lines)))
    seen = sorted(set(" ".join(lines).split()))
    for context in ("", "w0", "w0 w1", "w9 w150"):
        assert mass(lm, context, seen) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("most_bytes", [500_000, 90_000, 4_000])
def test_the_threshold_of_a_size_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int
) -> None:
    def prune(lm: Path, threshold: float, out: Path) -> int:
        size = min(1_000_000, int(30 * threshold**-0.5)) + 900  # words stay
        out.write_bytes(bytes(size))
        tried.append(size)
        return size

    tried: list[int] = []
    monkeypatch.setattr(prune_ngram, "prune", prune)
    (tmp_path / "lm.arpa").write_bytes(bytes(1_000_900))
    found = prune_ngram.prune_to(tmp_path / "lm.arpa", most_bytes, tmp_path / "small.arpa")
    assert found is not None
    threshold, size = found
    assert prune_ngram.TIGHT * most_bytes <= size <= most_bytes
    assert size == (tmp_path / "small.arpa").stat().st_size == tried[-1]
    assert size == min(1_000_000, int(30 * threshold**-0.5)) + 900
    assert len(tried) < prune_ngram.TRIES
    assert prune_ngram.prune_to(tmp_path / "lm.arpa", 1_000, tmp_path / "none.arpa") is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lm.arpa", "small.arpa"]


@pytest.mark.parametrize("below", [0, 20, 100, 200, 1000])
def test_a_size_that_a_threshold_fits_by_little_gets_its_lm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: int
) -> None:
    def prune(lm: Path, threshold: float, out: Path) -> int:
        out.write_bytes(bytes(int(1e6 * (threshold / 1e-9) ** -0.25)))
        return out.stat().st_size

    monkeypatch.setattr(prune_ngram, "prune", prune)
    (tmp_path / "lm.arpa").write_bytes(bytes(1_000_000))
    known: dict[float, tuple[int, bool]] = {}
    prune_ngram.prune_to(tmp_path / "lm.arpa", 3 * 133_352, tmp_path / "large", known)
    most_bytes = min(size for size, _ in known.values()) + below
    found = prune_ngram.prune_to(tmp_path / "lm.arpa", most_bytes, tmp_path / "small", known)
    assert found is not None
    assert prune_ngram.TIGHT * most_bytes <= found[1] <= most_bytes
    assert found[1] == (tmp_path / "small").stat().st_size


def test_what_was_tried_for_a_size_is_known_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try of a large LM takes minutes: none is made twice, and none that cannot help."""

    def prune(lm: Path, threshold: float, out: Path) -> int:
        assert threshold not in tried
        size = int(40 * threshold**-0.5) + 900
        # none of an order is left where fewer than 60,000 bytes are
        out.write_text(ARPA + "\\2-grams:\n" + "-2.5\ta b\n" * (size > 60_000) + "\n\\end\\\n")
        tried.append(threshold)
        return size

    tried: list[float] = []
    monkeypatch.setattr(prune_ngram, "prune", prune)
    (tmp_path / "lm.arpa").write_bytes(bytes(2_000_000))
    known: dict[float, tuple[int, bool]] = {}
    counts = []
    for most_bytes in (500_000, 250_000, 40_000):
        found = prune_ngram.prune_to(tmp_path / "lm.arpa", most_bytes, tmp_path / "out", known)
        assert (found is None) == (most_bytes == 40_000)
        if found is not None:
            assert prune_ngram.TIGHT * most_bytes <= found[1] <= most_bytes
        counts.append(len(tried))
    alone = []
    for most_bytes in (250_000, 40_000):
        tried.clear()
        prune_ngram.prune_to(tmp_path / "lm.arpa", most_bytes, tmp_path / "out")
        alone.append(len(tried))
    assert counts[1] - counts[0] < alone[0]
    assert counts[2] - counts[1] < alone[1] <= prune_ngram.TRIES


@pytest.mark.parametrize(("bigrams", "empty"), [("", True), ("-2.5\ta b\n", False)])
def test_an_order_that_pruning_emptied_is_seen(tmp_path: Path, bigrams: str, empty: bool) -> None:
    (tmp_path / "lm.arpa").write_text(ARPA + f"\\2-grams:\n{bigrams}\n\\end\\\n")
    assert prune_ngram.has_empty_order(tmp_path / "lm.arpa") == empty


@pytest.mark.slow
def test_a_pruned_ngram_has_the_bytes_and_is_normalised(tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    pytest.importorskip("kaldingram")
    chance = random.Random(5)
    words = [f"w{number}" for number in range(50)]
    lines = [
        " ".join(words[(7 * place + chance.randrange(9)) % 50] for place in range(9))
        for _ in range(800)
    ]
    lm = trigrams(tmp_path, lines)
    (tmp_path / "other").write_bytes(bytes(lm.stat().st_size))
    options = ["--lm", lm, "--beside", tmp_path / "other", "--out", tmp_path / "small"]
    run = script("prune_ngram.py", *options, "--fractions", "1", "0.5", "0.001", "0.02")
    assert run.returncode == 0, run.stderr
    said = run.stdout.splitlines()
    assert said[0].startswith("lm-1.00.arpa: not made, lm.arpa has ")
    assert re.fullmatch(r"lm-0.00.arpa: not made, \d+ bytes hold no more than its words", said[2])
    assert said[3].startswith("lm-0.02.arpa: not made")  # no bigram of the text is in it
    (pruned,) = (tmp_path / "small").iterdir()
    assert pruned.name == "lm-0.50.arpa"
    assert 0.4 * lm.stat().st_size < pruned.stat().st_size <= 0.5 * lm.stat().st_size
    model = kenlm.Model(str(pruned))
    for context in ("w0", "w8 w15"):
        assert mass(model, context, words) == pytest.approx(1.0, abs=1e-3)
    run = script("prune_ngram.py", *options, "--fractions", "0.5", "0.502")
    assert run.returncode == 2
    assert "expected numbers above 0, two decimals of which differ" in run.stderr
    options[1] = tmp_path / "none.arpa"
    run = script("prune_ngram.py", *options, "--fractions", "0.5")
    assert (run.returncode, run.stderr.count("\n")) == (1, 1)
    assert "none.arpa: no such file; expected an existing file" in run.stderr


def test_plan_files_are_plans_that_differ_from_the_default() -> None:
    files = sorted((Path(__file__).parents[2] / "recipes/mini/conf").glob("plan-*.json"))
    assert files
    for file in files:
        assert read_plan(file, Plan()) != Plan(), file
