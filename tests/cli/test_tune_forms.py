"""``tune --choose-form``: an imported LM in the form that dev speaks for, or in that it has."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.exchange.importing import ImportOptions, import_lm
from asrprune.firstpass.formats.jsonl import write_nbest
from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.open import open_lm
from asrprune.rescore.weights_file import read_weights
from asrprune.text.form import TextForm
from asrprune.text.marked import MarkedTokenizer
from asrprune.text.sentence_choices import sentence_choices
from tests.exchange.foreign_folders import llama_shape, write_hugging_face

SUBJECTS, VERBS, OBJECTS = ["the cat", "a man", "the light"], ["sat", "saw"], ["the hat", "a mat"]
SHOUTED = ImportOptions(sentence_form="stop", form=TextForm(case="upper"))


def call(*argv: object) -> int:
    return main([str(one) for one in argv])


def sentences(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    parts = (SUBJECTS, VERBS, OBJECTS)
    return [" ".join(draw.choice(part) for part in parts) for _ in range(count)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LM ``drawn`` that knows nothing, ``shouted`` in another form; dev lists whose first
    hypotheses have their words in another order."""
    root = tmp_path_factory.mktemp("forms")
    write_hugging_face(root / "in", "llama", llama_shape(300))
    import_lm("hugging-face", root / "in", root / "shouted", SHOUTED)
    import_lm("hugging-face", root / "in", root / "drawn")
    draw = random.Random(2)
    lists, refs = [], []
    for number, sentence in enumerate(sentences(3, 40)):
        words = sentence.split()
        wrong = [" ".join(draw.sample(words, len(words))) for _ in range(3)]
        texts = dict.fromkeys([*wrong, sentence])
        hyps = [Hypothesis(text, acoustic=-0.01 * rank) for rank, text in enumerate(texts)]
        lists.append(NBest(f"u{number:02}", tuple(hyps)))
        refs.append(f"u{number:02} {sentence}\n")
    write_nbest(root / "dev.jsonl", lists)
    (root / "ref").write_text("".join(refs))
    return root


@pytest.fixture(scope="module")
def now(place: Path) -> Path:
    """One that was trained on shouted sentences with a full stop, in the plain form."""
    root = place
    (root / "text").write_text("".join(f"{line}\n" for line in sentences(1, 200)))
    pieces = root / "shouted" / "tokenizer.json"
    assert (
        call("tokenize", "--text", root / "text", "--tokenizer", pieces, "--out", root / "d") == 0
    )
    steps = (
        "max_steps=40",
        "optimizer.warmup_steps=5",
        "optimizer.lr=0.01",
        "tokens_per_batch=512",
    )
    flags = [part for one in steps for part in ("--set", one)]
    train = ("train", "--data", root / "d", "--init", root / "shouted", "--threads", 1)
    assert call(*train, *flags, "--out", root / "trained") == 0
    model = load_checkpoint(root / "trained").model
    plain = (root / "drawn" / "tokenizer.json").read_bytes()
    save_checkpoint(root / "now", model, plain, {}, form=TextForm())
    return root / "now"


def tune(place: Path, lm: str, out: Path, *more: object) -> int:
    dev = ("--nbest", place / "dev.jsonl", "--ref", place / "ref", "--resamples", 2)
    chosen = ("--choose-form", out / "lm", "--out", out / "w.json", "--threads", 1)
    return call("tune", *dev, "--lm", place / lm, *chosen, *more)


@pytest.mark.slow
def test_the_form_that_dev_speaks_for_is_written(
    place: Path, now: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert tune(place, now.name, tmp_path) == 0
    chosen = load_checkpoint(tmp_path / "lm")
    assert chosen.form == TextForm(case="upper")
    line = "the cat saw a mat"
    assert chosen.tokenizer().line(line) == line.upper()
    assert "on dev, 40 utterances" in caplog.text
    rows = [row for row in caplog.messages if " WER " in row and "[" in row and row[0] in "pns"]
    assert len(rows) == 12  # "mixed" and "lower" are the same here
    assert rows[0].startswith("plain         mixed")
    assert rows[0].endswith("(now)")
    assert chosen.provenance["forms_on_dev"][1:] == rows
    weights = read_weights(tmp_path / "w.json")
    # later verbs need no flag: the scores of the written LM get that WER
    scores = tmp_path / "scores"
    lists = ("--nbest", place / "dev.jsonl")
    assert call("lmscore", "--lm", tmp_path / "lm", *lists, "--out", scores, "--threads", 1) == 0
    more = ("--scores", scores, "--ref", place / "ref", "--resamples", 2)
    assert call("tune", *lists, *more, "--out", tmp_path / "again.json") == 0
    again = read_weights(tmp_path / "again.json")
    assert again.dev["errors"] == weights.dev["errors"]
    assert again.weights.lm == pytest.approx(weights.weights.lm, rel=1e-3)


@pytest.mark.slow
def test_forms_by_character_have_a_character_error_rate(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert tune(place, "drawn", tmp_path, "--unit", "char") == 0
    rows = [row for row in caplog.messages if row.endswith("(now)")]
    assert [" CER " in row for row in rows] == [True]


@pytest.mark.slow
def test_without_a_sure_gain_the_form_stays(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert tune(place, "drawn", tmp_path) == 0
    assert "kept: --sentence-form plain --case mixed" in caplog.text
    lists = [["the cat saw a mat", "a man"]]
    before, after = (
        open_lm(path).score_lists(lists)[0] for path in (place / "drawn", tmp_path / "lm")
    )
    assert before == pytest.approx(after)


def test_forms_as_far_as_the_tokens_are_there(place: Path) -> None:
    pieces = MarkedTokenizer(place / "drawn" / "tokenizer.json")
    found = sentence_choices(pieces, TextForm(), ["the", "cat"])
    names = [(one.sentence, one.case) for one in found]
    assert names[0] == ("plain", "mixed")
    assert len(names) == len(set(names)) == 12
    newline = pieces.only_token("\n")
    for one in found:
        made = MarkedTokenizer("pieces", one.text)
        assert (made.end == newline) == ("newline" in one.sentence)
        assert (made.marks.stop == ".") == ("stop" in one.sentence)
    lines = replace(found[0], text=next(one.text for one in found if one.sentence == "newline"))
    ended = MarkedTokenizer("pieces", lines.text)  # whose own end token is not stated any more
    assert {one.sentence for one in sentence_choices(ended, TextForm(), ["a"])} == {
        "newline",
        "stop-newline",
    }


def test_other_lms_are_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from tests.small_lm import save_small_lm

    dev = ("--nbest", place / "dev.jsonl", "--ref", place / "ref")
    out = ("--choose-form", tmp_path / "lm", "--out", tmp_path / "w.json")
    assert call("tune", *dev, "--lm", save_small_lm(tmp_path), *out) == 1
    assert "a SentencePiece model; expected" in capsys.readouterr().err
    assert call("tune", *dev, *out) == 2
    assert "expected one --lm" in capsys.readouterr().err


def test_what_is_no_checkpoint_is_never_replaced(place: Path, tmp_path: Path) -> None:
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "notes").write_text("mine")
    assert tune(place, "drawn", tmp_path) == 1
    assert (tmp_path / "lm" / "notes").read_text() == "mine"
    assert not (tmp_path / "w.json").exists()
