"""The core of the adapters: sums are the scores of sentences, whatever a search does with it."""

from __future__ import annotations

import copy
import gc

import numpy as np
import pytest
import torch

from asrprune.exchange.adapters.incremental import IncrementalLM, open_incremental
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.prefixes import PrefixOptions
from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.open import open_lm
from asrprune.lm.protocol import UnscorableError
from tests.exchange.pruned_shapes import GPT2, LLAMA, SHAPES, save_transducer_lm
from tests.small_lm import DrawnTokenizer, drawn_model

CPU = EngineOptions(threads=1, device="cpu")
TEXTS = ["a cat", "the cat", "", "a hat sat", "a cat sat"]


def made(shape=GPT2, options=None, **tokenizer) -> IncrementalLM:
    return IncrementalLM(
        drawn_model(shape), DrawnTokenizer(vocab_size=26, **tokenizer), engine=CPU, options=options
    )


def walked(lm: IncrementalLM, sentences) -> list[float]:
    """Sums of sentences of token ids, all walked together in one batch of states."""
    states = lm.select(lm.start(1), [0] * len(sentences))
    rows = lm.next_scores(states)
    sums = np.zeros(len(sentences))
    place = 0
    while any(len(one) > place for one in sentences):
        going = [number for number, one in enumerate(sentences) if len(one) > place]
        tokens = [sentences[number][place] for number in going]
        for row, number in enumerate(going):
            sums[number] += float(rows[number, tokens[row]])
        behind, after = lm.score_next(torch.tensor(tokens), lm.select(states, torch.tensor(going)))
        for row, number in enumerate(going):
            rows[number], states[number] = behind[row], after[row]
        place += 1
    return (sums + rows[:, lm.end].double().numpy()).tolist()


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_are_the_scores_of_sentences(shape, tmp_path):
    path = save_transducer_lm(tmp_path, SHAPES[shape])
    lm = open_incremental(path, device="cpu", threads=1)
    expected = open_lm(path, engine_options=CPU).score_lists([TEXTS])[0]
    ids = lm.tokenizer.encode_batch(TEXTS)
    assert walked(lm, ids) == pytest.approx(expected, abs=1e-4)
    states = lm.select(lm.start(), [0] * len(ids))
    sums, behind = lm.score_ids(states, ids)
    assert sums + lm.end_scores(behind) == pytest.approx(expected, abs=1e-4)


def test_an_unstructured_checkpoint(tmp_path):
    path = save_transducer_lm(tmp_path)
    checkpoint = load_checkpoint(path)
    with torch.no_grad():
        for _, linear in checkpoint.model.linears():
            for part in linear.parts.values():
                part[torch.rand_like(part) < 0.6] = 0.0
    path = save_checkpoint(tmp_path / "zeros", checkpoint.model, checkpoint.tokenizer_path, {})
    lm = open_incremental(path, device="cpu")
    expected = open_lm(path, engine_options=CPU).score_lists([TEXTS])[0]
    assert walked(lm, lm.tokenizer.encode_batch(TEXTS)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("shape", [GPT2, LLAMA])
def test_prompt_and_full_stop_stand_around_the_sentence(shape):
    plain = made(shape)
    lm = made(shape, prompt=(9, 10), tail=(11,))
    whole = walked(plain, [[9, 10, 5, 6, 11], [9, 10, 11]])
    before, _ = plain.score_ids(plain.start(), [[9, 10]])
    expected = np.array(whole) - before[0]
    assert walked(lm, [[5, 6], []]) == pytest.approx(expected, abs=1e-4)
    assert lm.end_scores(lm.start()) == pytest.approx(expected[1:], abs=1e-4)
    assert lm.max_tokens == plain.max_tokens - 3


def test_rows_are_distributions_on_all_tokens():
    lm = made()
    assert lm.next_scores([]).shape == (0, 26)
    rows, _ = lm.score_next([4, 5], lm.start(2))
    assert rows.dtype == torch.float32
    assert rows.exp().sum(dim=1).tolist() == pytest.approx([1.0, 1.0], abs=1e-5)


def test_equal_tokens_are_one_state_and_computed_once():
    lm = made()
    (start,) = lm.start()
    first, second = lm.extend([start, start], [7, 7])
    assert first is second
    lm.next_scores([first, second, first])
    assert lm.tokens == 2
    lm.next_scores(lm.extend([first], [8]))
    assert lm.tokens == 3
    other = lm.extend(lm.start(), [7])
    assert other[0] is not first


def test_states_that_nobody_holds_leave_the_store():
    lm = made()
    (start,) = lm.start()
    kept = lm.extend([start], [3])
    lm.next_scores(kept)
    stored = [lm.next_scores(lm.extend(kept, [token])) for token in range(20)]
    assert len(stored) == 20
    gc.collect()
    lm.next_scores(kept)
    assert len(lm._store._slot) == 2
    assert len(lm._nodes) == 2


def test_a_full_store_changes_no_score():
    path = [[4, 5, 6, 7, 8], [4, 5, 9], [3, 3, 3, 3, 3, 3], [20, 21, 22, 23]]
    lm = made()
    small = PrefixOptions(cache_bytes=12 * lm._store.slot_bytes, token_budget=3, row_width=2)
    tight = made(options=small)
    assert walked(tight, path) == pytest.approx(walked(lm, path), abs=1e-5)
    assert tight.tokens > lm.tokens
    with pytest.raises(ValueError, match="cache_bytes is 64; expected at least"):
        made(options=PrefixOptions(cache_bytes=64))


@pytest.mark.parametrize("shape", ["gpt2", "gpt2-structured", "llama"])
def test_bytes_of_a_token_are_those_of_its_keys_and_values(shape):
    blocks, width = SHAPES[shape].blocks, SHAPES[shape].d_model
    keys_and_values = sum(2 * block.kv_heads * SHAPES[shape].head_dim for block in blocks)
    assert 0 <= made(SHAPES[shape]).token_bytes - 4 * (keys_and_values + width) <= 8


def test_utterances_together_and_alone():
    paths = [[4, 5, 6], [4, 5, 6, 7, 8, 9], []]
    lm = made()
    states = lm.start(3)
    together = lm.score_ids(states, paths)[0]
    alone = [lm.score_ids(lm.start(), [one])[0][0] for one in paths]
    assert together == pytest.approx(alone, abs=1e-5)
    assert alone[2] == 0.0


def test_beyond_the_positions_is_an_error_or_minus_infinity():
    lm = made()
    states = lm.start()
    assert lm.max_tokens == 11
    for _ in range(11):
        states = lm.extend(states, [5])
    assert torch.isfinite(lm.next_scores(states)).all()
    with pytest.raises(UnscorableError, match="the model takes at most 11"):
        lm.extend(states, [5])
    lm = made(options=PrefixOptions(over_long="minus-inf"))
    states = lm.start()
    for _ in range(10):
        states = lm.extend(states, [5])
    assert torch.isfinite(lm.next_scores(states)).all()
    rows, states = lm.score_next([5], states)
    assert torch.isfinite(rows[0]).tolist() == [token == lm.end for token in range(26)]
    assert np.isfinite(lm.end_scores(states)).all()
    rows, states = lm.score_next([6], states)
    assert (rows == -torch.inf).all()
    assert lm.end_scores(states)[0] == -np.inf
    assert lm.score_ids(lm.start(), [[5] * 12])[0][0] == -np.inf
    tail = made(options=PrefixOptions(over_long="minus-inf"), tail=(4,))
    sums, states = tail.score_ids(tail.start(), [[5] * 11])
    assert np.isfinite(sums[0])
    assert tail.end_scores(states)[0] == -np.inf
    assert (tail.next_scores(states) == -torch.inf).all()
    tail = made(tail=(4,))
    _, states = tail.score_ids(tail.start(), [[5] * 11])
    with pytest.raises(UnscorableError, match="5 5 5"):
        tail.next_scores(states)


def test_wrong_calls():
    lm = made()
    with pytest.raises(ValueError, match="token 26 in row 0; expected 0 to 25"):
        lm.extend(lm.start(), [26])
    with pytest.raises(ValueError, match="a state of another LM"):
        lm.next_scores(made().start())
    with pytest.raises(ValueError, match="zip"):
        lm.extend(lm.start(2), [3])
    state = lm.start()[0]
    assert copy.deepcopy([state]) == [state]
    assert copy.copy(state) is state


def test_a_score_that_is_no_number_stops():
    model = drawn_model(GPT2)
    with torch.no_grad():
        model.embedding.weight[3, 0] = torch.nan
    lm = IncrementalLM(model, DrawnTokenizer(), engine=CPU, name="broken")
    with pytest.raises(Exception, match="broken: an LM with the score NaN"):
        lm.next_scores(lm.start())


def test_half_precision_is_near(tmp_path):
    path = save_transducer_lm(tmp_path)
    sums = []
    for dtype in (torch.bfloat16, torch.float32):
        lm = open_incremental(path, device="cpu", dtype=dtype)
        rows, states = lm.score_next([4], lm.start())
        assert rows.dtype == torch.float32
        sums.append(lm.score_ids(states, [[5, 6]])[0][0])
    assert sums[0] == pytest.approx(sums[1], abs=0.3)
    assert sums[0] != sums[1]


def test_the_tokens_of_a_decoder(tmp_path):
    path = save_transducer_lm(tmp_path)
    lm = open_incremental(path, device="cpu")
    pieces = lm.pieces()
    lm.check_tokens(pieces)
    lm.check_tokens(["<blank>", *pieces[1:]])
    lm.check_tokens(tmp_path / "tokens.txt")
    swapped = [*pieces[:4], pieces[5], pieces[4], *pieces[6:]]
    with pytest.raises(ValueError, match=f"token 4 is '{pieces[5]}'; expected '{pieces[4]}'"):
        lm.check_tokens(swapped)
    with pytest.raises(ValueError, match="has 20 tokens; expected 21"):
        lm.check_tokens(pieces[:-1])
    with pytest.raises(ValueError, match="has 22 tokens; expected 21"):
        lm.check_tokens([*pieces, "x"])
    assert lm.ids_by_name(["-", pieces[7], pieces[3]], without=["-"]) == [None, 7, 3]
    with pytest.raises(ValueError, match="token 1, 'no such', is no piece of the LM"):
        lm.ids_by_name([pieces[3], "no such"])
