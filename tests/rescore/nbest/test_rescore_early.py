"""Rescoring on the way chooses as rescoring with a scores file does; cascades by their margin."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.engine import TorchEngine
from asrprune.lm.engines.pytorch.nodes import CachedModel
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.scoring.early import EarlyOptions, EarlyScorer
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.rescore.nbest.early import CascadeSummary, rescore_cascade, rescore_early
from asrprune.rescore.nbest.rescore import RescoringSummary, rescore
from asrprune.rescore.nbest.scored_list import scored_lists
from asrprune.rescore.scores_file import Scores, UtteranceScores
from tests.quick import slow
from tests.small_lm import DrawnTokenizer

POSITIONS = 16
CPU = EngineOptions(threads=1, device="cpu")


def encode_batch(texts):
    return [[int(word) for word in text.split()] for text in texts]


def make_model(seed):
    torch.manual_seed(seed)
    model = TransformerLM(ModelShape.uniform(13, 16, 2, 2, max_positions=POSITIONS)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5.0)
    return model


MODEL = make_model(3)


def full():
    return TransformerScorer(
        TorchEngine(MODEL, torch.float32, CPU), DrawnTokenizer(encode_batch), POSITIONS
    )


def early():
    model = CachedModel(MODEL, torch.float32, CPU)
    options = EarlyOptions(band=2, complete=1)
    return EarlyScorer(model, DrawnTokenizer(encode_batch), POSITIONS, full().score_lists, options)


def make_lists(count=40, hyps=25):
    """Random lists with equal hypotheses, equal other scores, the empty one, -inf, and none."""
    random = np.random.default_rng(2)
    lists = [NBest("none", ()), NBest("one", (Hypothesis("3 4"),))]
    lists.append(NBest("lost", (Hypothesis("3", -np.inf, -1.0), Hypothesis("4", -np.inf, -1.0))))
    for number in range(count):
        made = []
        for _ in range(hyps):
            size = random.integers(0, 12)
            text = " ".join(map(str, random.integers(3, 5, size)))
            acoustic = float(random.integers(-12, 0)) if random.random() < 0.95 else -np.inf
            made.append(Hypothesis(text, acoustic, float(-size)))
        lists.append(NBest(f"u{number}", tuple(made)))
    return lists


def scores_of(lists, lm):
    values = lm.score_lists([[hyp.text for hyp in nbest.hyps] for nbest in lists])
    made = {n.utt: UtteranceScores(n.utt, n.digest, v) for n, v in zip(lists, values)}
    return Scores("scores", {"lm": "lm"}, made)


@pytest.mark.parametrize("bonus", [-1.5, *slow([0.0, 2.0])])
@pytest.mark.parametrize("weight", [0.05, 0.7, 5.0])
def test_chooses_as_with_a_scores_file(weight, bonus):
    lists = make_lists()
    weights = ScoreWeights(1.0, 0.5, (weight,), bonus)
    summary, expected_summary = RescoringSummary(), RescoringSummary()
    scorer = early()
    found = list(rescore_early(scored_lists(lists, []), scorer, weights, summary))
    expected = list(
        rescore(scored_lists(lists, [scores_of(lists, full())]), weights, expected_summary)
    )
    for one, other in zip(found, expected):
        assert one.best == other.best, one.nbest.utt
        assert (one.changed, one.unscored) == (other.changed, other.unscored)
        key = {id(hyp) for hyp in one.nbest.hyps}
        assert key == {id(hyp) for hyp in other.nbest.hyps}
    for name in ("utterances", "changed", "unscored", "empty_lists"):
        assert getattr(summary, name) == getattr(expected_summary, name)
    assert scorer.stats.computed_nodes < scorer.stats.nodes


def test_other_lms_count_beside_it():
    lists = make_lists(8)
    other = TransformerScorer(
        TorchEngine(make_model(9), torch.float32, CPU), DrawnTokenizer(encode_batch), POSITIONS
    )
    weights = ScoreWeights(1.0, 0.0, (1.5, 0.7), 0.1)
    first = scores_of(lists, other)
    found = rescore_early(scored_lists(lists, [first]), early(), weights, RescoringSummary())
    both = scored_lists(lists, [first, scores_of(lists, full())])
    expected = rescore(both, weights, RescoringSummary())
    assert [one.best for one in found] == [one.best for one in expected]


def test_needs_a_weight_and_scorable_hypotheses():
    lists = make_lists(1)
    with pytest.raises(ValueError, match="no LM weight"):
        list(rescore_early(scored_lists(lists, []), early(), ScoreWeights(), RescoringSummary()))
    longest = Hypothesis(" ".join(["3"] * POSITIONS), -1.0, -1.0)
    lists = [NBest("u", (Hypothesis("3", -1.0, -1.0), longest))]
    weights = ScoreWeights(lm=(1.0,))
    with pytest.raises(InputError, match="utterance u: hypothesis 2 has 16 tokens"):
        list(rescore_early(scored_lists(lists, []), early(), weights, RescoringSummary()))


def cascade_of(lists, margin, small_weight=1.0):
    small = TransformerScorer(
        TorchEngine(make_model(9), torch.float32, CPU), DrawnTokenizer(encode_batch), POSITIONS
    )
    summary, cascade = RescoringSummary(), CascadeSummary()
    weights = ScoreWeights(1.0, 0.5, (small_weight,))
    joined = scored_lists(lists, [scores_of(lists, small)])
    results = rescore_cascade(
        joined, weights, full(), ScoreWeights(1.0, 0.5, (0.7,)), margin, summary, cascade
    )
    found = [one.best for one in results]
    alone = rescore(joined_again(lists, small), weights, RescoringSummary())
    return found, [one.best for one in alone], cascade


def joined_again(lists, lm):
    return scored_lists(lists, [scores_of(lists, lm)])


def test_a_cascade_with_an_endless_margin_is_the_large_lm_and_with_none_the_small_one():
    lists = make_lists(12)
    weights = ScoreWeights(1.0, 0.5, (0.7,))
    large = [one.best for one in rescore(joined_again(lists, full()), weights, RescoringSummary())]
    found, alone, everything = cascade_of(lists, np.inf)
    assert found == large
    assert everything.open_lists == 12
    found, alone, nothing = cascade_of(lists, 0.0)
    assert found == alone
    some = cascade_of(lists, 4.0)[2]
    assert nothing.open_hypotheses <= some.open_hypotheses < everything.open_hypotheses
    assert everything.lists == len(lists)
    with pytest.raises(ValueError, match="margin is -1"):
        cascade_of(lists, -1.0)


class NoneScored:
    """A large LM that gives -inf to all, or to all but the last hypothesis that it is asked."""

    def __init__(self, last):
        self.last = last

    def score_lists(self, lists):
        scores = [np.full(len(hyps), -np.inf) for hyps in lists]
        for values in scores:
            values[-1:] = self.last
        return scores


def test_what_the_large_lm_cannot_score_keeps_the_order_of_the_small_one():
    texts = ("a", "b", "c", "d")
    nbest = NBest("u", tuple(Hypothesis(text, 0.0, 0.0) for text in texts))
    small = np.array([-2.0, -1.0, -3.0, -9.0])
    scores = Scores("small", {}, {"u": UtteranceScores("u", nbest.digest, small)})
    weights = ScoreWeights(1.0, 0.0, (1.0,))
    for last, order in ((-np.inf, "bacd"), (-50.0, "cbad")):
        summary = RescoringSummary()
        joined = scored_lists([nbest], [scores])
        large = NoneScored(last)
        (result,) = rescore_cascade(joined, weights, large, weights, 3.0, summary, CascadeSummary())
        assert "".join(hyp.text for hyp in result.nbest.hyps) == order
        assert summary.unscored == 0
