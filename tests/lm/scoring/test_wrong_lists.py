"""A string where a list is expected is refused: it would be scored letter by letter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.open import open_early, open_lm, open_padded
from asrprune.lm.scoring.forests import ScoringOptions
from tests.small_lm import save_small_lm, save_small_ngram

SENTENCE_SCORERS = ("trie", "padded", "early", "n-gram")
WORD_SCORERS = ("trie", "n-gram")


def scorer_of(name: str, folder: Path) -> Callable[..., object]:
    """``score_lists`` of the LM called ``name``."""
    if name == "n-gram":
        return ngram(folder).score_lists
    lm, cpu = save_small_lm(folder), EngineOptions(device="cpu")
    if name == "padded":
        return open_padded(lm, cpu, ScoringOptions(100)).score_lists
    if name == "early":
        early = open_early(lm, "torch", cpu)
        return lambda lists: early.score_lists(lists, [np.zeros(len(one)) for one in lists], 1.0)
    return open_lm(lm, "torch", cpu).score_lists


def ngram(folder: Path):
    pytest.importorskip("kenlm")
    return open_lm(save_small_ngram(folder))


@pytest.mark.parametrize("name", SENTENCE_SCORERS)
def test_sentences(name: str, tmp_path: Path) -> None:
    score = scorer_of(name, tmp_path)
    score([["the cat", "a cat"], ("the hat",), []])
    for lists, found in (
        (["the cat", "a cat"], r"lists\[0\] is the string 'the cat'; expected a list of sentences"),
        ([["a"], "a cat"], r"lists\[1\] is the string 'a cat'; expected a list of sentences"),
        ("cat", r"lists\[0\] is the string 'c'; expected a list of sentences"),
        ([["a"], ["a", ["the", "cat"]]], r"lists\[1\]\[1\] is a list; expected a sentence"),
        ([["a", None]], r"lists\[0\]\[1\] is a NoneType; expected a sentence"),
    ):
        with pytest.raises(TypeError, match=found):
            score(lists)
    with pytest.raises(ValueError, match=r"'a \\ud800' has half a surrogate pair"):
        score([["a"], ["a \ud800"]])


@pytest.mark.parametrize("name", WORD_SCORERS)
def test_words(name: str, tmp_path: Path) -> None:
    if name == "n-gram":
        words = ngram(tmp_path).words()
    else:
        words = open_lm(save_small_lm(tmp_path), "torch", EngineOptions(device="cpu")).words()
    words.score_words([[["the", "cat"], ("a",), []]])
    for lists, found in (
        ([["the cat"]], r"lists\[0\]\[0\] is the string 'the cat'; expected a list of words"),
        ([[["a"]], "a cat"], r"lists\[1\] is the string 'a cat'; expected a list of hypotheses"),
    ):
        with pytest.raises(TypeError, match=found):
            words.score_words(lists)
