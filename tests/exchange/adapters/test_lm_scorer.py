"""The LM called as icefall's searches call it: by a transducer search of ours, and by rescoring."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from asrprune.errors import InputError
from asrprune.exchange.adapters.incremental import IncrementalLM
from asrprune.exchange.adapters.lm_scorer import LmScorer
from tests.exchange.adapters.searches import (
    CPU,
    KINDS,
    TEXTS,
    all_sentences,
    lm_of,
    sentence_sums,
)
from tests.exchange.pruned_shapes import GPT2
from tests.small_lm import DrawnTokenizer, drawn_model

SCALE = 0.6


def scorer_of(tmp_path, kind="gpt2", **options):
    lm, lists = lm_of(tmp_path, kind)
    return LmScorer(lm, tmp_path / "tokens.txt", SCALE, **options), lists


def padded(rows, filler=0):
    lengths = torch.tensor([len(row) for row in rows])
    width = max(map(len, rows))
    filled = [[*row, *[filler] * (width - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.int64), lengths


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_sentences_token_by_token(kind, tmp_path):
    scorer, lists = scorer_of(tmp_path, kind)
    sentences = scorer.incremental.tokenizer.encode_batch(TEXTS)
    sums = np.zeros(len(sentences))
    for place in range(max(map(len, sentences)) + 1):
        going = [number for number, one in enumerate(sentences) if len(one) >= place]
        x, x_lens = padded([[1, *sentences[number][:place]] for number in going])
        scores, state = scorer.score_token(x, x_lens, None)
        assert scores.shape == (len(going), scorer.incremental.vocab_size)
        assert state is None
        for row, number in enumerate(going):
            sums[number] += float(scores[row, [*sentences[number], 1][place]])
    assert sums == pytest.approx(lists.score_lists([TEXTS])[0], abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_rescoring_call(kind, tmp_path):
    scorer, lists = scorer_of(tmp_path, kind)
    sentences = scorer.incremental.tokenizer.encode_batch(TEXTS)
    x, lengths = padded([[1, *one] for one in sentences])
    y, _ = padded([[*one, 1] for one in sentences])
    nll = scorer.lm(x=x, y=y, lengths=lengths)
    assert nll.shape == x.shape
    assert nll.dtype == torch.float32
    assert (-nll.sum(dim=1)).tolist() == pytest.approx(lists.score_lists([TEXTS])[0], abs=1e-4)
    for row, length in zip(nll, lengths, strict=True):
        assert not row[length:].any()
        assert (row[:length] > 0).all()


def test_padding_order_and_what_is_kept_change_nothing(tmp_path):
    scorer, _ = scorer_of(tmp_path)
    rows = [[1, 4, 5, 6], [1], [1, 4, 5], [1, 7], [1, 4, 5]]
    scores, _ = scorer.score_token(*padded(rows))
    (tmp_path / "other").mkdir()
    other, _ = scorer_of(tmp_path / "other", kept=1)
    x, x_lens = padded(rows[::-1], filler=9)
    again, _ = other.score_token(x, x_lens)
    assert torch.allclose(scores, again.flip(0), atol=1e-5)
    assert len(other._states) == 1
    assert torch.allclose(other.score_token(x, x_lens)[0], again, atol=1e-5)
    assert torch.allclose(scores[2], scores[4])


def test_one_token_is_computed_where_the_rest_is_known(tmp_path):
    scorer, _ = scorer_of(tmp_path)
    scorer.score_token(*padded([[1, 4, 5, 6], [1, 7, 8, 9]]))
    before = scorer.incremental.tokens
    assert before == 8
    scorer.score_token(*padded([[1, 4, 5, 6, 7], [1, 7, 8, 9, 4], [1, 7, 8, 9, 5]]))
    assert scorer.incremental.tokens - before == 3
    scorer.clean_cache()
    scorer.score_token(*padded([[1, 4, 5, 6, 7]]))
    assert scorer.incremental.tokens - before == 3 + 5


def test_what_searches_read_and_call(tmp_path):
    scorer, _ = scorer_of(tmp_path)
    assert (scorer.lm_type, scorer.sos_id, scorer.lm_scale) == ("transformer", 1, SCALE)
    assert scorer.to("cpu").eval() is scorer
    assert scorer.lm is scorer
    assert not list(scorer.parameters())


def test_wrong_calls(tmp_path):
    scorer, _ = scorer_of(tmp_path)
    for x, x_lens in (([[4, 5]], [2]), ([[1, 5]], [0])):
        with pytest.raises(ValueError, match=r"tokens that starts with .*; expected 1 first"):
            scorer.score_token(torch.tensor(x), torch.tensor(x_lens))
    lm = scorer.incremental
    with pytest.raises(ValueError, match="kept is 0"):
        LmScorer(lm, lm.pieces(), kept=0)
    with pytest.raises(ValueError, match="expected '<sos/eos>'"):
        LmScorer(lm, [lm.pieces()[0], *lm.pieces()[2:]])
    (tmp_path / "few.txt").write_text("<blk> 0\n")
    with pytest.raises(InputError, match=r"few.txt: 1 tokens; expected"):
        LmScorer(lm, tmp_path / "few.txt")
    marks = IncrementalLM(drawn_model(GPT2), DrawnTokenizer(vocab_size=26), engine=CPU)
    marks.check_tokens = lambda tokens: None
    with pytest.raises(ValueError, match="the sentence marks 1 and 2; expected 1 for both"):
        LmScorer(marks, [])


def modified_beam_search(logits, LM, beam):
    """Of a transducer without context and with at most a token a frame: the two best hypotheses
    with their scores. The LM is called as icefall calls it: for the tokens of the best expansions
    of a frame, whole hypotheses without state; its score is added when a token is taken."""
    score, _ = LM.score_token(torch.tensor([[LM.sos_id]]), torch.tensor([1]))
    hyps = {(): (0.0, score.reshape(-1))}
    for frame in logits.log_softmax(-1):
        candidates = [
            (total + float(gain), ys, token)
            for ys, (total, _) in hyps.items()
            for token, gain in enumerate(frame.tolist())
        ]
        candidates.sort(key=lambda one: -one[0])
        chosen = candidates[:beam]
        longer = [(*ys, token) for _, ys, token in chosen if token]
        rows = []
        if longer:
            tokens = [torch.tensor([LM.sos_id, *ys]) for ys in longer]
            x_lens = torch.tensor([len(one) for one in tokens])
            x = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=0)
            rows, _ = LM.score_token(x, x_lens, None)
        behind = iter(rows)
        after = {}
        for total, ys, token in chosen:
            row = hyps[ys][1]
            if token:
                total += LM.lm_scale * float(row[token])
                ys, row = (*ys, token), next(behind)
            if ys in after:
                total = float(np.logaddexp(total, after[ys][0]))
            after[ys] = (total, row)
        hyps = after
    return sorted(((total, ys) for ys, (total, _) in hyps.items()), reverse=True)[:2]


def drawn_logits(vocabulary, letters, frames=3):
    torch.manual_seed(8)
    logits = torch.full((frames, vocabulary), -50.0)
    logits[:, [0, *letters]] = torch.randn(frames, 1 + len(letters))
    return logits


@pytest.mark.parametrize("kind", ["gpt2", "gpt2-structured", "llama-low-rank"])
def test_shallow_fusion_finds_what_brute_force_finds(kind, tmp_path):
    scorer, _ = scorer_of(tmp_path, kind)
    lm, letters = scorer.incremental, [3, 6, 9]
    logits = drawn_logits(lm.vocab_size, letters)
    found = modified_beam_search(logits, scorer, beam=200)
    table = logits.log_softmax(-1)
    paths: dict[tuple[int, ...], list[float]] = {}
    for path in all_sentences([0, *letters], 3):
        if len(path) == 3:
            text = tuple(token for token in path if token)
            score = sum(float(table[place, token]) for place, token in enumerate(path))
            paths.setdefault(text, []).append(score)
    totals = sorted(
        (
            float(torch.tensor(scores).logsumexp(0))
            + SCALE * float(lm.score_ids(lm.start(), [text])[0][0]),
            text,
        )
        for text, scores in paths.items()
    )[::-1]
    assert [text for _, text in found] == [text for _, text in totals[:2]]
    assert [total for total, _ in found] == pytest.approx(
        [total for total, _ in totals[:2]], abs=1e-4
    )


def test_what_a_search_computes(tmp_path):
    """Each hypothesis that the search asks for is one token, and each first token one <s>."""
    scorer, _ = scorer_of(tmp_path)
    asked = set()
    score_token = scorer.score_token

    def counted(x, x_lens, state=None):
        asked.update(tuple(row[:n]) for row, n in zip(x.tolist(), x_lens.tolist(), strict=True))
        return score_token(x, x_lens, state)

    scorer.score_token = counted
    modified_beam_search(drawn_logits(scorer.incremental.vocab_size, [3, 6, 9], 5), scorer, 4)
    first = {ys[1] for ys in asked if len(ys) > 1}
    assert scorer.incremental.tokens == len(asked) + len(first)
    assert math.isfinite(sentence_sums(scorer.incremental, [[3, 6]])[0])
