from __future__ import annotations

import math

import pytest

from asrprune.core.counts import ErrorCounts, PerplexitySum


def test_error_counts_add_up():
    total = sum(
        [ErrorCounts(correct=7, substitutions=1), ErrorCounts(2, 0, 1, 3)], start=ErrorCounts()
    )
    assert total == ErrorCounts(correct=9, substitutions=1, deletions=1, insertions=3)
    assert (total.words, total.hyp_words, total.errors) == (11, 13, 5)
    assert total.wer_percent == pytest.approx(500 / 11)


def test_wer_without_reference_words_is_never_a_plain_number():
    assert math.isnan(ErrorCounts().wer_percent)
    assert ErrorCounts(insertions=2).wer_percent == math.inf


def test_error_counts_refuse_negative_numbers():
    with pytest.raises(ValueError, match="deletions is -1"):
        ErrorCounts(deletions=-1)


def test_perplexity_denominators_by_hand():
    # two sentences of 3 and 1 words, 6 pieces and two </s>
    one = PerplexitySum(nll=10.0, tokens=5, words=3, sentences=1, oov=1)
    two = PerplexitySum(nll=2.0, tokens=3, words=1, sentences=1, characters=4)
    total = one + two
    assert total == PerplexitySum(nll=12.0, tokens=8, words=4, sentences=2, oov=1, characters=4)
    assert total.ppl_char == pytest.approx(math.exp(12 / 4))
    assert total.ppl_token == pytest.approx(math.exp(12 / 8))
    assert total.ppl_word == pytest.approx(math.exp(12 / 6))
    assert total.ppl_word_no_eos == pytest.approx(math.exp(12 / 4))


def test_perplexity_boundaries():
    assert math.isnan(PerplexitySum().ppl_token)
    assert math.isnan(PerplexitySum(nll=1.0, tokens=1, sentences=1).ppl_word_no_eos)
    assert PerplexitySum(nll=math.inf, tokens=1, sentences=1).ppl_token == math.inf
    assert PerplexitySum(nll=1e6, tokens=1, sentences=1).ppl_token == math.inf
    with pytest.raises(ValueError, match="NaN"):
        PerplexitySum(nll=math.nan)
    with pytest.raises(ValueError, match="oov is 2"):
        PerplexitySum(words=1, oov=2)
