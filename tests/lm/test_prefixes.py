"""Words behind prefixes: the same scores as whole sentences, however little memory there is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.engines.pytorch.prefixes import CachedPrefixes, PrefixOptions
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.open import open_model
from asrprune.lm.protocol import SENTENCE_END, UnscorableError
from asrprune.lm.scoring.forests import ScoringOptions
from asrprune.lm.scoring.sentences import TransformerScorer
from tests.small_lm import DrawnTokenizer

POSITIONS = 12
CPU = EngineOptions(threads=1, device="cpu")
WORDS = {"a": [3], "ab": [3, 4], "abc": [3, 4, 5], "b": [4], "cc": [5, 5], "d": [6]}


def encode_batch(texts):
    return [[token for word in text.split() for token in WORDS[word]] for text in texts]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(7)
    made = TransformerLM(ModelShape.uniform(9, 16, 2, 2, max_positions=POSITIONS)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(5.0)
    return made


@pytest.fixture(scope="module")
def whole(model):
    return TransformerScorer(
        TorchEngine(model, torch.float32, CPU), DrawnTokenizer(encode_batch), POSITIONS
    )


def prefixes(model, slots=1000, **options):
    one = CachedPrefixes(model, DrawnTokenizer(encode_batch), engine=CPU)
    size = one._store.slot_bytes * slots
    made = PrefixOptions(cache_bytes=size, **options)
    return CachedPrefixes(model, DrawnTokenizer(encode_batch), engine=CPU, options=made)


SENTENCES = st.lists(st.sampled_from(sorted(WORDS)), max_size=3)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(SENTENCES, max_size=6), max_size=3))
def test_word_scores_add_up_to_the_sentence(whole, lists):
    asked = whole.words()
    sums = [[hyp.sum() for hyp in hyps] for hyps in asked.score_words(lists)]
    expected = whole.score_lists([[" ".join(hyp) for hyp in hyps] for hyps in lists])
    for one, other in zip(sums, expected):
        np.testing.assert_allclose(one, other, atol=1e-4)
    for hyps, values in zip(lists, asked.score_words(lists)):
        assert [len(one) for one in values] == [len(hyp) + 1 for hyp in hyps]


def walk(lm, hyps):
    """Score the sentences word by word, all of them in step."""
    states = [lm.root(number % 2) for number, _ in enumerate(hyps)]
    scores = [[] for _ in hyps]
    for place in range(max(map(len, hyps), default=0) + 1):
        going = [i for i, hyp in enumerate(hyps) if place <= len(hyp)]
        words = [hyps[i][place] if place < len(hyps[i]) else SENTENCE_END for i in going]
        values = lm.score([(states[i], word) for i, word in zip(going, words)])
        for i, word, value in zip(going, words, values.tolist()):
            scores[i].append(value)
            if word != SENTENCE_END:
                states[i] = lm.child(states[i], word)
        lm.keep([states[i] for i in going])
    return scores


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(st.lists(SENTENCES, min_size=1, max_size=6), st.sampled_from([13, 20, 1000]))
def test_prefix_scores_are_those_of_whole_sentences(model, whole, hyps, slots):
    expected = whole.words().score_words([hyps])[0]
    for one, other in zip(walk(prefixes(model, slots, token_budget=14), hyps), expected):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_node_is_run_once_and_only_when_it_is_asked(model):
    lm = prefixes(model)
    root = lm.root(0)
    first = lm.score([(root, "a"), (root, "ab"), (root, "abc"), (root, SENTENCE_END)])
    assert lm.tokens == 3  # <s>, a, ab
    assert lm.score([(root, "b"), (root, "ab")]).tolist()[1] == pytest.approx(first[1])
    assert lm.tokens == 3
    lm.score([(lm.child(root, "abc"), "d"), (lm.child(root, "ab"), "cc")])
    assert (lm.tokens, lm.again) == (4, 0)  # abc, whose last token is also the inner one of cc


def test_utterances_with_few_new_nodes_share_a_row(model):
    asked = {0: ["abc", "b", "cc"], 1: ["ab"], 2: ["d"]}  # 3, 2 and 1 new nodes
    lm, shapes = prefixes(model), []
    roots = {group: lm.root(group) for group in asked}
    hook = model.embedding.register_forward_hook(
        lambda module, inputs, output: shapes.append(tuple(inputs[0].shape))
    )
    try:
        lm.score([(roots[0], "a")])  # one root of three is stored
        got = lm.score([(roots[group], word) for group, words in asked.items() for word in words])
    finally:
        hook.remove()
    assert shapes == [(1, 1), (2, 3)]  # not (3, 3)
    alone = [
        value
        for group, words in asked.items()
        for one in [prefixes(model)]
        for value in one.score([(one.root(group), word) for word in words])
    ]
    np.testing.assert_allclose(got, alone, atol=1e-5)


def test_a_full_store_makes_room_and_runs_again(model):
    small, large = prefixes(model, 13), prefixes(model)
    hyps = [["abc", "abc"], ["cc", "cc", "d"], ["b", "ab"], ["d", "abc", "a"]]
    for one, other in zip(walk(small, hyps), walk(large, hyps)):
        assert one == pytest.approx(other, abs=1e-4)
    assert large.again == 0
    assert small.again > 0
    assert small.tokens == large.tokens + small.again
    assert len(small._store._slot) <= 13


def test_what_is_too_long_is_minus_infinity(model, whole):
    lm = prefixes(model, over_long="minus-inf")
    state = lm.root(0)
    for _ in range(3):
        state = lm.child(state, "abc")
    scores = lm.score([(state, "ab"), (state, "abc"), (state, SENTENCE_END)])
    assert np.isneginf(scores).tolist() == [False, True, False]
    hyps = [[["a"], ["abc"] * 4]]
    dropping = _words(model, "minus-inf")
    (values,) = dropping.score_words(hyps)
    assert np.isfinite(values[0]).all()
    assert np.isneginf(values[1]).all()


def test_what_is_too_long_is_refused_by_default(model, whole):
    lm = prefixes(model)
    state = lm.root(7)
    for _ in range(3):
        state = lm.child(state, "abc")
    assert np.isfinite(lm.score([(state, "ab")])).all()
    with pytest.raises(UnscorableError, match="more tokens than 11") as caught:
        lm.score([(state, "ab"), (state, "abc")])
    assert caught.value.index == (7, 0)
    with pytest.raises(
        UnscorableError, match="has 12 tokens; the model takes at most 11"
    ) as caught:
        whole.words().score_words([[["a"]], [["a"], ["abc"] * 4]])
    assert caught.value.index == (1, 1)


def test_words_in_windows_add_up_to_the_sentence(model):
    hyps = [["a"], ["abc"] * 4, ["abc", "b"] * 6 + ["cc"], [], ["d"] * 11]
    (values,) = _words(model, "window").score_words([hyps])
    sentences = _scorer(model, "window").score_lists([[" ".join(hyp) for hyp in hyps]])[0]
    assert [len(one) for one in values] == [len(hyp) + 1 for hyp in hyps]
    assert [one.sum() for one in values] == pytest.approx(sentences.tolist(), abs=1e-4)


def _scorer(model, over_long):
    options = ScoringOptions(over_long=over_long)
    engine = TorchEngine(model, torch.float32, CPU)
    return TransformerScorer(engine, DrawnTokenizer(encode_batch), POSITIONS, options)


def _words(model, over_long):
    return _scorer(model, over_long).words()


def test_a_store_that_cannot_hold_one_path_is_refused(model):
    with pytest.raises(ValueError, match="one path of 12 tokens"):
        prefixes(model, 11)


def test_a_broken_model_is_an_error(model):
    broken = TransformerLM(model.shape).eval()
    with torch.no_grad():
        broken.norm.weight.fill_(torch.nan)
    scorer = TransformerScorer(
        TorchEngine(broken, torch.float32, CPU), DrawnTokenizer(encode_batch), POSITIONS
    )
    with pytest.raises(UnscorableError, match="nan of a word"):
        scorer.words().score_words([[["a"]]])


def test_an_lm_in_memory_is_asked_in_every_way(model, whole):
    lm = open_model(model, DrawnTokenizer(encode_batch), "torch", CPU)
    hyps = [["abc", "a"], [], ["d"]]
    (expected,) = whole.score_lists([[" ".join(hyp) for hyp in hyps]])
    np.testing.assert_array_equal(lm.score_lists([[" ".join(hyp) for hyp in hyps]])[0], expected)
    for found in (lm.words().score_words([hyps])[0], walk(lm.prefixes(), hyps)):
        np.testing.assert_allclose([sum(one) for one in found], expected, atol=1e-4)


def test_an_engine_that_keeps_nothing_has_no_prefixes(model, whole):
    pytest.importorskip("onnxruntime")
    lm = open_model(model, DrawnTokenizer(encode_batch), "onnx", EngineOptions(threads=1))
    with pytest.raises(ValueError, match="kept keys and values 'onnx'; known: torch, torch-bf16"):
        lm.prefixes()
    with pytest.raises(ValueError, match="whole sentences only"):
        whole.prefixes()
