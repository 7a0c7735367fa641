"""The LM in SpeechBrain's rescoring and beam search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asrprune.exchange.adapters.speechbrain import (
    NEVER,
    _Rescorer,
    _Scorer,
    speechbrain_rescorer,
    speechbrain_scorer,
)
from asrprune.lm.open import open_lm
from tests.exchange.adapters.searches import (
    KINDS,
    TEXTS,
    WITH_PARTNERS,
    all_sentences,
    asked_of,
    lm_of,
    sentence_sums,
)
from tests.small_lm import save_small_ngram

WEIGHT, LONGEST = 0.7, 3


def speechbrain(name):
    """A module of SpeechBrain's decoders."""
    pytest.importorskip("speechbrain", reason=WITH_PARTNERS)
    return pytest.importorskip(f"speechbrain.decoders.{name}")


@pytest.mark.parametrize("kind", KINDS)
def test_rescorer_gives_the_scores_of_lists(kind, tmp_path):
    _, lists = lm_of(tmp_path, kind)
    scores = _Rescorer(lists).rescore_hyps([TEXTS, ["a rat"]])
    expected = np.concatenate(lists.score_lists([TEXTS, ["a rat"]]))
    assert scores.dtype == torch.float64
    assert scores.tolist() == pytest.approx(expected, abs=1e-9)
    assert _Rescorer(lists).rescore_hyps([]).shape == (0,)


def test_any_language_model_can_rescore(tmp_path):
    lm = open_lm(save_small_ngram(tmp_path))
    assert _Rescorer(lm).rescore_hyps([["a b"]]).tolist() == lm.score_lists([["a b"]])[0].tolist()


def walk(lm, sentences):
    """Sums of the scores of sentences of ids, all as hypotheses of one utterance."""
    scorer = _Scorer(lm, 1, 1)
    memory = scorer.reset_mem(torch.zeros(1, 4, 2), torch.ones(1))
    last, sums = [1] * len(sentences), torch.zeros(len(sentences), dtype=torch.float64)
    for place in range(max(map(len, sentences)) + 1):
        rows, memory = scorer.score(torch.tensor(last), memory, None, None)
        memory = scorer.permute_mem(memory, torch.arange(len(sentences)))
        for number, one in enumerate(sentences):
            last[number] = one[place] if place < len(one) else 1
            if place <= len(one):
                sums[number] += rows[number, last[number]]
    assert (rows == NEVER).all(dim=1).tolist() == [len(one) < place for one in sentences]
    return sums.tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_scorer_adds_up_to_the_scores_of_lists(kind, tmp_path):
    lm, lists = lm_of(tmp_path, kind)
    ids = lm.tokenizer.encode_batch(TEXTS)
    assert walk(lm, ids) == pytest.approx(lists.score_lists([TEXTS])[0], abs=1e-4)


@pytest.mark.parametrize(("bos", "eos"), [(1, 2), (1, 1), (0, 0), (2, 1)])
def test_the_lms_own_marks_are_no_words_of_a_searcher_with_others(bos, eos, tmp_path):
    """The end is scored once, and nothing goes on behind a mark."""
    lm, _ = lm_of(tmp_path)
    scorer = _Scorer(lm, bos, eos)
    rows, memory = scorer.score(
        torch.tensor([bos]), scorer.reset_mem(torch.zeros(1, 2), None), None, None
    )
    plain = lm.next_scores(lm.start())[0]
    assert float(rows[0, eos]) == pytest.approx(float(plain[lm.end]), abs=1e-5)
    marks = {lm.begin, lm.end} - {eos}
    assert all(rows[0, mark] == NEVER for mark in marks)
    words = [one for one in range(lm.vocab_size) if one not in {lm.begin, lm.end, eos}]
    assert rows[0, words].tolist() == pytest.approx(plain[words].tolist(), abs=1e-5)
    for mark in {lm.begin, lm.end, bos, eos}:
        behind, _ = scorer.score(torch.tensor([mark]), memory, None, None)
        assert (behind == NEVER).all()


def test_utterances_have_states_of_their_own_and_can_be_permuted(tmp_path):
    lm, _ = lm_of(tmp_path)
    scorer = _Scorer(lm, 1, 2)
    memory = scorer.reset_mem(torch.zeros(2, 4, 2), None)
    rows, memory = scorer.score(torch.ones(4, dtype=torch.long), memory, None, None)
    assert memory.states[0] is memory.states[1] is not memory.states[2] is memory.states[3]
    assert rows[0].tolist() == pytest.approx(rows[3].tolist(), abs=1e-5)
    plain = lm.next_scores(lm.start())[0]
    assert rows[0, [2, 5]].tolist() == pytest.approx(plain[[lm.end, 5]].tolist(), abs=1e-5)
    _, memory = scorer.score(torch.tensor([4, 5, 6, 7]), memory, None, None)
    moved = scorer.permute_mem(memory, torch.tensor([[1, 1], [3, 2]]))
    assert [one.token for one in moved.states] == [5, 5, 7, 6]


def test_too_long_a_hypothesis_gets_what_never_wins(tmp_path):
    lm, _ = lm_of(tmp_path, over_long="minus-inf")
    scorer = _Scorer(lm, 1, 1)
    memory = scorer.reset_mem(torch.zeros(1, 2), None)
    rows, memory = scorer.score(torch.tensor([1]), memory, None, None)
    for _ in range(lm.max_tokens + 1):
        assert torch.isfinite(rows).all()
        assert (rows.max(dim=1).values > NEVER).all()
        rows, memory = scorer.score(torch.tensor([5]), memory, None, None)
    assert (rows == NEVER).all()
    assert not torch.isnan(0 * rows).any()


def test_wrong_calls(tmp_path):
    lm, _ = lm_of(tmp_path)
    scorer = _Scorer(lm, 1, 1)
    memory = scorer.reset_mem(torch.zeros(2, 2), None)
    with pytest.raises(ValueError, match=r"start with \[3\]; expected 2 utterances .* with 1"):
        scorer.score(torch.tensor([3, 3]), memory, None, None)
    with pytest.raises(ValueError, match="expected 2 utterances"):
        scorer.score(torch.tensor([1, 1, 1]), memory, None, None)
    with pytest.raises(ValueError, match="the LM's piece with that id"):
        speechbrain_scorer(lm, lm.pieces()[::-1], 1, 1)
    with pytest.raises(ValueError, match="eos_index is 99; expected an id below"):
        speechbrain_scorer(lm, tmp_path / "tokens.txt", 1, 99)


@pytest.mark.slow
def test_rescorer_builder(tmp_path):
    module = speechbrain("scorer")
    _, lists = lm_of(tmp_path)
    rescorer = speechbrain_rescorer(lists)
    assert isinstance(rescorer, module.BaseRescorerInterface)
    builder = module.RescorerBuilder(rescorers=[rescorer], weights={"transformerlm": WEIGHT})
    builder.move_rescorers_to_device("cpu")
    utterances = [TEXTS, ["the rat", "a rat"]]
    first = [[-1.0, -2.0, -3.0, -1.5, -0.5], [0.0, -0.25]]
    texts, scores = builder.rescore(utterances, [list(one) for one in first])
    for number, own in enumerate(lists.score_lists(utterances)):
        total = {
            text: before + WEIGHT * score
            for text, before, score in zip(utterances[number], first[number], own, strict=True)
        }
        assert texts[number] == sorted(total, key=total.__getitem__, reverse=True)
        assert scores[number] == pytest.approx(sorted(total.values(), reverse=True), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "llama-low-rank"])
def test_beam_search_finds_what_brute_force_finds(kind, tmp_path):
    scorers, search = speechbrain("scorer"), speechbrain("seq2seq")
    lm, _ = lm_of(tmp_path, kind)
    letters, mark, vocabulary = [3, 6, 9], lm.begin, lm.vocab_size
    torch.manual_seed(4)
    table = torch.full((2, LONGEST + 1, vocabulary), -60.0)
    table[:, :LONGEST, letters] = torch.randn(2, LONGEST, len(letters))  # all end in the last step
    table[..., mark] = torch.tensor([[-6.0, -1.0, 0.5, 0.0], [-6.0, -6.0, 0.0, 1.0]])

    class Toy(search.S2SBeamSearcher):
        def reset_mem(self, batch_size, device):
            return 0

        def permute_mem(self, memory, index):
            return memory

        def set_n_out(self):
            return vocabulary

        def forward_step(self, inp_tokens, memory, enc_states, enc_lens):
            beam = len(inp_tokens) // len(table)
            return table[:, memory].repeat_interleave(beam, 0).clone(), memory + 1, None

    scorer = speechbrain_scorer(lm, lm.pieces(), mark, mark)
    assert isinstance(scorer, scorers.BaseScorerInterface)
    searcher = Toy(
        bos_index=mark,
        eos_index=mark,
        min_decode_ratio=0.0,
        max_decode_ratio=1.0,
        beam_size=20,
        scorer=scorers.ScorerBuilder(full_scorers=[scorer], weights={"transformerlm": WEIGHT}),
        using_eos_threshold=False,
        length_normalization=False,
        return_topk=True,
        topk=3,
    )
    asked = asked_of(lm)
    hyps, _, scores, _ = searcher(torch.zeros(2, LONGEST + 1, 1), torch.ones(2))
    assert lm.tokens == len(asked) > 2 * (1 + len(letters))
    sentences = all_sentences(letters, LONGEST)
    own = sentence_sums(lm, sentences)
    for number in range(2):
        totals = []
        for one, score in zip(sentences, own, strict=True):
            ids = [*one, mark]
            decoder = sum(float(table[number, place, token]) for place, token in enumerate(ids))
            totals.append((decoder + WEIGHT * score, ids))
        best = sorted(totals, reverse=True)[:3]
        found = [hyps[number, rank].tolist() for rank in range(3)]
        assert [one[: one.index(mark) + 1] for one in found] == [ids for _, ids in best]
        assert scores[number].tolist() == pytest.approx([total for total, _ in best], abs=1e-3)
