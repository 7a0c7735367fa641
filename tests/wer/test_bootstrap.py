from __future__ import annotations

import tracemalloc

import kaldialign
import numpy as np
import pytest

from asrprune.core.counts import ErrorCounts
from asrprune.wer import bootstrap
from asrprune.wer.bootstrap import bootstrap_wer, compare_paired, compare_scorings
from asrprune.wer.wer import score_texts


def _counts(seed, utterances=200, rate=0.1, words=12):
    errors = np.random.default_rng(seed).binomial(words, rate, size=utterances)
    return [ErrorCounts(words - int(wrong), int(wrong)) for wrong in errors]


def test_same_seed_same_interval_other_seed_other_interval():
    counts = _counts(1)
    assert bootstrap_wer(counts, 500, seed=3) == bootstrap_wer(counts, 500, seed=3)
    assert bootstrap_wer(counts, 500, seed=3).normal != bootstrap_wer(counts, 500, seed=4).normal


def test_size_of_blocks_does_not_change_the_answer(monkeypatch):
    whole = bootstrap_wer(_counts(1, utterances=50), 300)
    monkeypatch.setattr(bootstrap, "_BLOCK_DRAWS", 64)
    assert bootstrap_wer(_counts(1, utterances=50), 300).mean_percent == whole.mean_percent


def test_width_is_that_of_the_binomial():
    result = bootstrap_wer(_counts(2, utterances=1000))
    deviation = 100 * np.sqrt(0.1 * 0.9 / 12_000)
    for interval in (result.normal, result.percentile):
        assert interval.low < result.wer_percent < interval.high
        assert interval.high - interval.low == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_the_normal_interval_is_196_hundredths_of_a_deviation_to_each_side():
    counts = [ErrorCounts(3, 1), ErrorCounts(1, 3)]
    result = bootstrap_wer(counts, 400, seed=1)
    # the second utterance is drawn never, once or twice: 25, 50 or 75 % of errors
    drawn = np.random.default_rng(1).integers(2, size=(400, 2), dtype=np.int32).sum(axis=1)
    rates = 25.0 + 25.0 * drawn
    assert result.mean_percent == pytest.approx(rates.mean())
    assert result.normal.low == pytest.approx(rates.mean() - 1.96 * rates.std(), rel=1e-9)
    assert result.normal.high == pytest.approx(rates.mean() + 1.96 * rates.std(), rel=1e-9)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    covered = 0
    for seed in range(200):
        interval = bootstrap_wer(_counts(seed, utterances=100), 400, seed).percentile
        covered += interval.low <= 10.0 <= interval.high
    assert 178 <= covered <= 199


def test_agrees_with_kaldialign():
    generator = np.random.default_rng(5)
    refs = {f"u{number}": " ".join(generator.choice(list("abcd"), 8)) for number in range(150)}
    hyps = {utt: " ".join(generator.permutation(ref.split())) for utt, ref in refs.items()}
    ours = bootstrap_wer([one.counts for one in score_texts(refs, hyps).utterances])
    theirs = kaldialign.bootstrap_wer_ci(
        [ref.split() for ref in refs.values()], [hyps[utt].split() for utt in refs]
    )
    assert ours.mean_percent == pytest.approx(100 * theirs["wer"], abs=0.1)
    assert ours.normal.low == pytest.approx(100 * theirs["ci95min"], abs=0.2)
    assert ours.normal.high == pytest.approx(100 * theirs["ci95max"], abs=0.2)


def test_kaldi_wording():
    result = bootstrap_wer([ErrorCounts(3, 1), ErrorCounts(3, 1)], 10)
    assert result.kaldi_line("Set1") == "Set1: %WER 25.00 95% Conf Interval [ 25.00, 25.00 ]\n"
    pair = {"u1": ErrorCounts(3, 1), "u2": ErrorCounts(3, 1)}
    lines = compare_paired(pair, pair, 10).kaldi_lines()
    assert lines.splitlines()[1:] == [
        "Set2: %WER 25.00 95% Conf Interval [ 25.00, 25.00 ]",
        "Probability of Set2 improving Set1: 0.00",
    ]


def test_identical_systems_do_not_differ():
    counts = dict(enumerate(_counts(7)))
    result = compare_paired(counts, counts, 1000)
    assert (result.difference_percent, result.p_value) == (0.0, 1.0)
    assert result.interval == (0.0, 0.0)
    assert result.improvement_probability == 0.0
    assert result.first == result.second


def test_a_clearly_better_system_and_the_same_turned_round():
    worse = dict(enumerate(_counts(8, rate=0.3)))
    better = dict(enumerate(_counts(9, rate=0.1)))
    result = compare_paired(worse, better, 1000)
    assert result.improvement_probability == 1.0
    assert result.p_value == pytest.approx(2 / 1001)
    assert result.interval.high < 0
    assert result.difference_percent < -15
    turned = compare_paired(better, worse, 1000)
    assert turned.p_value == result.p_value
    assert turned.difference_percent == -result.difference_percent
    assert turned.improvement_probability == 0.0


@pytest.mark.slow
def test_p_value_is_uniform_enough_when_there_is_no_difference():
    values = [
        compare_paired(
            dict(enumerate(_counts(seed))), dict(enumerate(_counts(1000 + seed))), 300, seed
        ).p_value
        for seed in range(150)
    ]
    assert 0 <= sum(value < 0.05 for value in values) <= 18
    assert 0.35 < float(np.median(values)) < 0.65


def test_replications_without_reference_words_are_drawn_again():
    counts = [ErrorCounts(1, 1), ErrorCounts(), ErrorCounts()]
    result = bootstrap_wer(counts, 200)
    assert result.percentile == (50.0, 50.0)


def test_memory_does_not_grow_with_replications_times_utterances():
    counts = _counts(3, utterances=5000)
    tracemalloc.start()
    try:
        bootstrap_wer(counts, 1000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 20e6  # all draws at once would take 60 MB


def test_wrong_calls():
    with pytest.raises(ValueError, match="0 reference words"):
        bootstrap_wer([ErrorCounts(insertions=1)])
    with pytest.raises(ValueError, match="replications is 1"):
        bootstrap_wer([ErrorCounts(1)], 1)
    with pytest.raises(
        ValueError, match=r"replications is 2\.5; expected a whole number, at least 2"
    ):
        bootstrap_wer([ErrorCounts(1)], 2.5)
    with pytest.raises(ValueError, match="seed is -1; expected a whole number, at least 0"):
        bootstrap_wer([ErrorCounts(1)], 2, -1)
    with pytest.raises(ValueError, match="utterance b is in one"):
        compare_paired({"a": ErrorCounts(1)}, {"a": ErrorCounts(1), "b": ErrorCounts(1)})
    with pytest.raises(ValueError, match="utterance a has 1 reference words"):
        compare_paired({"a": ErrorCounts(1)}, {"a": ErrorCounts(2)})


def test_present_mode_compares_shared_utterances_only():
    refs = {"u1": "a b", "u2": "c d", "u3": "e f"}
    first = score_texts(refs, {"u1": "a b", "u2": "c x"}, "present")
    second = score_texts(refs, {"u2": "c d", "u3": "e f"}, "present")
    result = compare_scorings(first, second, 10)
    assert result.first.utterances == 1
    assert result.difference_percent == -50.0
