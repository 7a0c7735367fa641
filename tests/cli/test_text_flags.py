"""The flags of the text that an LM sees, in the verbs that have them: each changes the result."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import from_arcs
from asrprune.firstpass.formats.jsonl import write_nbest
from asrprune.firstpass.formats.slf import write_slf_files
from asrprune.rescore.scores_file import read_scores
from asrprune.text.corpus import open_corpus
from tests.small_lm import save_small_lm, save_small_ngram

TEXTS = ("the cat sat", "THE CAT SAT", "the <unk> sat", "the [cough] cat sat", "the cat sat <s>")
ONE = '{"weights": {"acoustic": 1.0, "first_lm": 0.0, "lm": [1.0], "word_bonus": 0.0}}'


def call(*argv: object) -> int:
    return main([str(one) for one in argv])


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> dict[str, Path]:
    hyps = tuple(Hypothesis(text, -1.0) for text in TEXTS)
    write_nbest(tmp_path / "nbest", [NBest("u", hyps)])
    (tmp_path / "upper").write_text("THE CAT SAT\n")
    (tmp_path / "weights").write_text(ONE)
    arcs = [(0, 1, "THE", -1.0, None), (1, 2, "CAT", -1.0, None), (2, 3, "SAT", -1.0, None)]
    write_slf_files(tmp_path / "slf", [from_arcs("u", 4, 0, 3, arcs)])
    return {"lm": save_small_lm(tmp_path), "arpa": save_small_ngram(tmp_path), "at": tmp_path}


def scores(place: dict[str, Path], *flags: object, lm: str = "lm") -> list[float]:
    out = place["at"] / "scores"
    command = ("lmscore", "--lm", place[lm], "--nbest", place["at"] / "nbest", "--out", out)
    assert call(*command, *flags) == 0
    return read_scores(out).utterances["u"].scores.tolist()


def test_lmscore_puts_words_into_the_form_or_that_of_the_call(place: dict[str, Path]) -> None:
    plain, upper, unknown, noise, mark = scores(place)
    assert upper == noise == mark == plain != unknown
    raw = scores(place, "--normalise", "none", "--accept-unknown")
    assert raw[0] == pytest.approx(plain, abs=1e-4)  # of another batch
    assert abs(raw[1] - plain) > 1.0


@pytest.mark.parametrize("lm", ["lm", "arpa"])
def test_lmscore_treats_special_words_as_the_call_says(place: dict[str, Path], lm: str) -> None:
    accept = ("--accept-unknown",)
    plain, _, unknown, noise, _ = scores(place, *accept, lm=lm)
    changed = scores(place, *accept, "--special", "[cough]=unknown", "<unk>=drop", lm=lm)
    assert noise == plain
    assert changed[3] != noise
    assert changed[2] != unknown


TURKISH = """\\data\\
ngram 1=6
ngram 2=1

\\1-grams:
-99\t<s>\t0
-1\t</s>
-2\t<unk>
-0.5\t\u0131s\u0131
-0.7\tisi
-0.9\tbu\t0

\\2-grams:
-0.9\t<s> bu

\\end\\
"""


def test_letters_change_as_in_the_language_of_the_call(
    place: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """An n-gram LM states no language: I is i without a dot in Turkish, İ is i with one."""
    at = place["at"]
    place["turkish"] = at / "turkish.arpa"
    place["turkish"].write_text(TURKISH, encoding="utf-8")
    write_nbest(
        at / "nbest", [NBest("u", (Hypothesis("BU ISI", -1.0), Hypothesis("BU İSİ", -1.0)))]
    )
    as_english = scores(place, lm="turkish")
    as_turkish = scores(place, "--language", "tr", lm="turkish")
    known = [-math.log(10) * (1 + 0.9 + word) for word in (0.5, 0.7)]
    assert as_turkish == pytest.approx(known, abs=1e-5)
    assert as_english[0] == pytest.approx(known[1], abs=1e-5)
    perplexity = ("perplexity", "--lm", place["turkish"], "--text", at / "text", "--json", "-")
    (at / "text").write_text("BU ISI\n", encoding="utf-8")
    capsys.readouterr()
    assert call(*perplexity, "--language", "tr") == 0
    assert json.loads(capsys.readouterr().out)["nll"] == pytest.approx(-known[0], abs=1e-5)
    assert call(*perplexity, "--language", "tr", "--normalise", "none") == 2
    assert "language tr: the LM's text keeps its letters" in capsys.readouterr().err


def test_more_unknown_words_than_known_stop_a_verb(
    place: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    nbest, out = place["at"] / "nbest", place["at"] / "scores"
    command = ("lmscore", "--lm", place["arpa"], "--nbest", nbest, "--out", out)
    assert call(*command) == 1
    assert "or --accept-unknown" in capsys.readouterr().err
    assert not out.exists()
    assert call(*command, "--accept-unknown") == 0


@pytest.mark.parametrize("mode", ["beam", "nbest"])
def test_rescore_and_perplexity_follow_the_form(
    place: dict[str, Path], mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    at, lm = place["at"], place["lm"]
    rescore = ("rescore", "--lattice", at / "slf", "--format", "slf", "--weights", at / "weights")
    rescore += ("--lm", lm, "--mode", mode, "--threads", 1, "--json", at / "json")
    assert call(*rescore) == 0
    assert capsys.readouterr().out == "u THE CAT SAT\n"  # as it came
    (known,) = json.loads((at / "json").read_text())["known"].values()
    assert (known["words"], known["unknown"], known["form"]["case"]) == (3, 0, "lower")
    assert call(*rescore, "--normalise", "none") == 1
    assert "use --normalise lower" in capsys.readouterr().err
    perplexity = ("perplexity", "--lm", lm, "--text", at / "upper")
    assert call(*perplexity) == 0
    assert " 0 OOV" in capsys.readouterr().out
    assert call(*perplexity, "--normalise", "none", "--accept-unknown") == 0
    assert " 3 OOV" in capsys.readouterr().out


def test_bench_follows_the_form(place: dict[str, Path]) -> None:
    at = place["at"]
    command = ("bench", "--lm", place["lm"], "--nbest", at / "nbest", "--repeats", 1)
    command += ("--warmup", 0, "--threads", 1, "--json", at / "json")
    for flags, unknown in (((), 0), (("--normalise", "none"), 3)):
        assert call(*command, *flags) == 0
        assert json.loads((at / "json").read_text())["known"]["unknown"] == unknown


def test_tokenize_states_language_and_unit(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("IRAK 今天\n", encoding="utf-8")
    words = {}
    for name, flags in {
        "plain": (),
        "tr": ("--language", "tr"),
        "mixed": ("--unit", "mixed"),
    }.items():
        out = tmp_path / name
        command = ("tokenize", "--text", text, "--normalise", "asr", "--out", out)
        assert call(*command, *flags) == 0
        corpus = open_corpus(out)
        words[name] = corpus.form.words("IRAK"), corpus.data["sets"]["train"]["words"]
    assert words["plain"] == (("irak",), 2)
    assert words["tr"] == (("\u0131rak",), 2)
    assert words["mixed"] == (("irak",), 3)


def test_character_coverage_leaves_rare_characters_out(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("a b a b a b a b\n" * 40 + "\u0167\n")
    found = []
    for share in (1, 0.99):
        command = ("tokenize", "--text", text, "--character-coverage", share)
        assert call(*command, "--out", tmp_path / str(share)) == 0
        found.append(open_corpus(tmp_path / str(share)).data["sets"]["train"]["oov_words"])
    assert found == [0, 1]
