"""N-gram models: a hand-written ARPA file that can be added up."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest

from asrprune.errors import InputError
from asrprune.lm.protocol import SENTENCE_END, LanguageModel

pytest.importorskip("kenlm")
from asrprune.lm.ngram import NgramLM
from tests.small_lm import ARPA

LOG10_SUMS = {
    "a b": -0.25 - 0.375 - 0.3125,
    "a": -0.25 - 0.875,
    "": -0.25 - 0.75,  # backoff of <s>, then </s>
    "b a": (-0.25 - 0.625) + (-0.0625 - 0.5) - 0.875,
    "a x b": -0.25 + (-0.125 - 1.5) - 0.625 - 0.3125,
}


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA)
    return path


@pytest.fixture
def without_unknown(tmp_path: Path) -> Path:
    path = tmp_path / "closed.arpa"
    path.write_text(ARPA.replace("-1.5\t<unk>\n", "").replace("ngram 1=5", "ngram 1=4"))
    return path


def test_scores_add_up_by_hand(arpa: Path) -> None:
    lm = NgramLM(arpa)
    scores = lm.score_lists([list(LOG10_SUMS), [], ["a"]])
    expected = [value * math.log(10) for value in LOG10_SUMS.values()]
    assert scores[0] == pytest.approx(expected, abs=1e-5)
    assert [len(part) for part in scores] == [5, 0, 1]
    assert all(part.dtype == np.float64 for part in scores)
    assert isinstance(lm, LanguageModel)
    assert lm.has_unknown
    assert lm.name == "lm.arpa (2-gram)"


def test_words_and_oov(arpa: Path) -> None:
    log_probs, oov = NgramLM(arpa).word_log_probs("a x")
    assert oov.tolist() == [False, True, False]
    assert log_probs / math.log(10) == pytest.approx([-0.25, -1.625, -0.75], abs=1e-5)


def test_compressed_file_is_the_same(arpa: Path, tmp_path: Path) -> None:
    packed = tmp_path / "lm.arpa.gz"
    packed.write_bytes(gzip.compress(ARPA.encode()))
    assert NgramLM(packed).score_lists([["a b"]]) == NgramLM(arpa).score_lists([["a b"]])


def test_file_without_unknown(without_unknown: Path) -> None:
    lm = NgramLM(without_unknown)
    assert not lm.has_unknown
    (scores,) = lm.score_lists([["a b", "x"]])
    assert scores[0] == pytest.approx(LOG10_SUMS["a b"] * math.log(10), abs=1e-5)
    assert scores[1] == pytest.approx((-0.25 - 100 - 0.75) * math.log(10), abs=1e-3)
    (scores,) = NgramLM(without_unknown, oov_log_prob=-9.0).score_lists([["x"]])
    assert scores[0] == pytest.approx(-9.0 - 0.75 * math.log(10), abs=1e-5)


def test_own_unknown_is_not_replaced(arpa: Path) -> None:
    with pytest.raises(ValueError, match="has its own <unk>"):
        NgramLM(arpa, oov_log_prob=-9.0)


@pytest.mark.parametrize("sentence", ["<s> a", "a </s>", "!SIL a [noise]"])
def test_sentence_marks_and_noises_are_no_words_to_the_lm(arpa: Path, sentence: str) -> None:
    lm = NgramLM(arpa)
    plain, marked = lm.score_lists([["a", sentence]])[0]
    assert marked == plain
    (scores,) = lm.words().score_words([[sentence.split()]])[0]
    assert len(scores) == len(sentence.split()) + 1
    assert scores.sum() == pytest.approx(plain)
    assert np.count_nonzero(scores) == 2


@pytest.mark.parametrize("content", ["", "words\n", ARPA[:120]])
def test_bad_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.arpa"
    path.write_text(content)
    with pytest.raises(InputError, match="KenLM cannot read it"):
        NgramLM(path)


def test_bad_compressed_file_is_named_as_it_was_given(arpa: Path, tmp_path: Path) -> None:
    packed = tmp_path / "bad.arpa.gz"
    packed.write_bytes(gzip.compress(b"words\n"))
    with pytest.raises(InputError, match="KenLM cannot read it") as problem:
        NgramLM(packed)
    assert str(problem.value).count(str(packed)) >= 2  # in the place, and in KenLM's own words
    assert "asrprune-" not in str(problem.value)
    packed.write_bytes(gzip.compress(ARPA.encode())[:-9])
    with pytest.raises(InputError, match=r"bad\.arpa\.gz: damaged compressed data"):
        NgramLM(packed)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        NgramLM(tmp_path / "none.arpa")


def test_words_behind_prefixes_have_the_scores_of_the_sentence(arpa: Path) -> None:
    lm = NgramLM(arpa)
    for text in LOG10_SUMS:
        (words,) = lm.words().score_words([[text.split()]])
        prefixes = lm.prefixes()
        state = prefixes.root(0)
        for word, value in zip([*text.split(), SENTENCE_END], words[0]):
            assert prefixes.score([(state, word)])[0] == pytest.approx(value, abs=1e-6)
            prefixes.keep([state])
            state = prefixes.child(state, word)
        assert words[0].sum() == pytest.approx(LOG10_SUMS[text] * math.log(10), abs=1e-6)


def test_prefixes_replace_the_score_of_unknown_words_too(without_unknown: Path) -> None:
    from asrprune.lm.ngram import NgramPrefixes

    prefixes = NgramPrefixes(NgramLM(without_unknown, oov_log_prob=-7.5))
    assert prefixes.score([(prefixes.root(0), "x")]).tolist() == [-7.5]
