"""The LM in ESPnet's beam searches: what they find is what brute force finds."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from types import SimpleNamespace

import pytest
import torch

from asrprune.exchange.adapters.espnet import (
    _INTERFACES,
    Seen,
    _interface,
    _Scorer,
    espnet_scorer,
    fuse,
)
from tests.exchange.adapters.searches import (
    KINDS,
    TEXTS,
    WITH_PARTNERS,
    all_sentences,
    asked_of,
    lm_of,
    sentence_sums,
)

WEIGHT, LONGEST = 0.7, 3


def token_list(lm):
    """A list as ESPnet's recipes write it: the LM's pieces in another order, marks around."""
    pieces = lm.pieces()[3:]
    return ["<blank>", "<unk>", *pieces[::-1], "<sos/eos>"]


def ids_in(tokens, lm, text):
    names = lm.pieces()
    return [tokens.index(names[index]) for index in lm.tokenizer.encode_batch([text])[0]]


def walk(scorer, y):
    """Sum of the scores of the tokens of ``y`` behind its first, one call a token."""
    total, state = 0.0, scorer.init_state(None)
    for place in range(1, len(y)):
        row, state = scorer.score(torch.tensor(y[:place]), state, None)
        total += float(row[y[place]])
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_sentences(kind, tmp_path):
    lm, lists = lm_of(tmp_path, kind)
    tokens = token_list(lm)
    scorer, mark = _Scorer(lm, tokens), len(tokens) - 1
    found = [walk(scorer, [mark, *ids_in(tokens, lm, text), mark]) for text in TEXTS]
    assert found == pytest.approx(lists.score_lists([TEXTS])[0], abs=1e-4)


def test_batches_blank_unknown_and_the_end(tmp_path):
    lm, _ = lm_of(tmp_path)
    tokens = token_list(lm)
    scorer, mark = _Scorer(lm, tokens), len(tokens) - 1
    start = scorer.batch_init_state(None)
    rows, states = scorer.batch_score(torch.full((2, 1), mark), [start, start], None)
    assert rows.shape == (2, len(tokens))
    assert states[0] == Seen(start.state, 1)
    expected = lm.next_scores(lm.start())[0]
    assert rows[0, 0] == -torch.inf
    assert float(rows[0, 1]) == pytest.approx(float(expected[lm.tokenizer.unknown]))
    assert float(rows[1, mark]) == pytest.approx(float(expected[lm.end]))
    states = [scorer.select_state(states, torch.tensor(row)) for row in (1, 0, 1)]
    ys = torch.tensor([[mark, 5], [mark, 0], [mark, mark]])
    rows, states = scorer.batch_score(ys, states, None)
    assert torch.isfinite(rows).any(dim=1).tolist() == [True, False, False]
    rows, states = scorer.batch_score(torch.cat([ys, ys[:, 1:]], 1), states, None)
    assert [one.state is None for one in states] == [False, True, True]
    assert scorer.final_score(states[0]) == 0.0
    row, _ = scorer.score(torch.tensor([mark, 5, 5]), None, None)
    assert row.tolist() == pytest.approx(rows[0].tolist())


def test_wrong_calls(tmp_path):
    lm, _ = lm_of(tmp_path)
    tokens = token_list(lm)
    scorer, mark = _Scorer(lm, tokens), len(tokens) - 1
    with pytest.raises(ValueError, match=f"starts with 3; expected more than 0 .* with {mark}"):
        scorer.score(torch.tensor([3]), scorer.init_state(None), None)
    with pytest.raises(ValueError, match=r"a hypothesis of 1 tokens .* expected more than 1"):
        scorer.score(torch.tensor([mark]), Seen(lm.start()[0], 1), None)
    with pytest.raises(ValueError, match="token 4, 'qq', is no piece"):
        _Scorer(lm, [*tokens[:4], "qq", *tokens[5:]])
    with pytest.raises(ValueError, match="expected one <sos/eos> in it"):
        _Scorer(lm, tokens[:-1])


@pytest.mark.parametrize("weight", [0.0, -0.3, math.inf, math.nan])
def test_a_weight_that_would_let_the_blank_win(weight, tmp_path):
    with pytest.raises(ValueError, match="expected a number above 0"):
        fuse(SimpleNamespace(token_list=["<blank>"]), None, weight)


def test_both_places_of_the_interface(monkeypatch):
    new, old = _INTERFACES
    monkeypatch.setitem(sys.modules, old, SimpleNamespace(BatchScorerInterface="old"))
    monkeypatch.setitem(sys.modules, new, SimpleNamespace(BatchScorerInterface="new"))
    assert _interface() == "new"
    monkeypatch.setitem(sys.modules, new, None)  # how Python says that there is none
    assert _interface() == "old"
    monkeypatch.setitem(sys.modules, old, None)
    with pytest.raises(ImportError, match="pip install --no-deps espnet==202511"):
        _interface()


def espnet(name):
    """A module of ``nets`` of the ESPnet that is installed, old or new."""
    pytest.importorskip("espnet", reason=WITH_PARTNERS)
    found = [place for place in _INTERFACES if _there(place)]
    return importlib.import_module(f"{found[0].rpartition('.')[0]}.{name}")


def _there(place):
    try:
        return importlib.util.find_spec(place) is not None
    except ModuleNotFoundError:
        return False


def toy(lm, letters):
    """A decoder whose scores depend on the length of the hypothesis alone, and its table."""
    base = espnet("scorer_interface").BatchScorerInterface
    tokens = token_list(lm)
    table = torch.full((LONGEST + 1, len(tokens)), -60.0)
    torch.manual_seed(4)
    table[:, letters] = torch.randn(LONGEST + 1, len(letters))
    table[:, -1] = torch.tensor([-6.0, 5.0, 0.5, 0.0])

    class Toy(base):
        def score(self, y, state, x):
            return table[len(y) - 1], state

        def batch_score(self, ys, states, xs):
            return table[ys.shape[1] - 1].expand(len(ys), -1), states

    return Toy(), table


def own_sum(lm, tokens, hyp):
    """The LM's score of a hypothesis that ends with its mark."""
    ids = _Scorer(lm, tokens).ids
    return float(sentence_sums(lm, [[ids[token] for token in hyp.yseq.tolist()[1:-1]]])[0])


def best_by_force(lm, table, letters):
    """(total, LM score, tokens) of every hypothesis, best first; the search ends the longest ones
    itself, without a score for their end."""
    tokens = token_list(lm)
    ids = _Scorer(lm, tokens).ids
    found = []
    for one in all_sentences(letters, LONGEST):
        inner = [ids[token] for token in one]
        own = float(sentence_sums(lm, [inner])[0])
        decoder = sum(float(table[place, token]) for place, token in enumerate(one))
        if len(one) == LONGEST:
            own = float(lm.score_ids(lm.start(), [inner])[0][0])
        else:
            decoder += float(table[len(one), -1])
        found.append((decoder + WEIGHT * own, own, one))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("kind", ["BeamSearch", "BatchBeamSearch"])
@pytest.mark.parametrize("shape", ["gpt2", "llama-low-rank"])
def test_beam_search_finds_what_brute_force_finds(kind, shape, tmp_path):
    module = espnet("beam_search" if kind == "BeamSearch" else "batch_beam_search")
    lm, _ = lm_of(tmp_path, shape)
    tokens, letters = token_list(lm), [3, 6, 9]
    mark = len(tokens) - 1
    decoder, table = toy(lm, letters)
    search = getattr(module, kind)(
        scorers={"decoder": decoder},
        weights={"decoder": 1.0},
        beam_size=20,
        vocab_size=len(tokens),
        sos=mark,
        eos=mark,
        token_list=tokens,
    )
    scorer = fuse(search, lm, WEIGHT)
    assert isinstance(scorer, espnet("scorer_interface").BatchScorerInterface)
    asked, before = asked_of(lm), lm.tokens
    hyps = search(torch.zeros(8, 2), maxlenratio=-LONGEST)
    assert lm.tokens - before == len(asked) > 1 + len(letters)
    expected = best_by_force(lm, table, letters)
    for hyp, (total, own, one) in zip(hyps[:5], expected, strict=False):
        # ESPnet puts a second mark behind those that end in its last step
        assert [token for token in hyp.yseq.tolist() if token != mark] == [*one]
        assert float(hyp.score) == pytest.approx(total, abs=1e-4)
        assert float(hyp.scores["lm"]) == pytest.approx(own, abs=1e-4)
    assert hyps[0].yseq.tolist() == [mark, *expected[0][2], mark]
    assert len(expected[0][2]) < LONGEST - 1  # so its end is scored
    assert own_sum(lm, tokens, hyps[0]) == pytest.approx(float(hyps[0].scores["lm"]), abs=1e-4)


def test_search_over_time(tmp_path):
    module = espnet("beam_search_timesync")
    lm, _ = lm_of(tmp_path)
    tokens, letters = token_list(lm), [3, 6]
    torch.manual_seed(5)
    logits = torch.full((3, len(tokens)), -40.0)
    logits[:, [0, *letters]] = torch.randn(3, 3)
    scorer = espnet_scorer(lm, tokens)
    search = module.BeamSearchTimeSync(
        sos=len(tokens) - 1,
        beam_size=20,
        pre_beam_ratio=1.0,
        scorers={"ctc": SimpleNamespace(log_softmax=lambda x: x), "decoder": None, "lm": scorer},
        weights={"ctc": 1.0, "decoder": 0.0, "lm": WEIGHT, "length_bonus": 0.0},
        token_list=tokens,
    )
    table = logits.log_softmax(-1)
    best = search(table)[0]
    paths: dict[tuple[int, ...], list[float]] = {}
    for path in all_sentences([0, *letters], 3):
        if len(path) == 3:
            collapsed = [t for t, before in zip(path, (None, *path)) if t != before]
            text = tuple(token for token in collapsed if token)
            score = sum(float(table[place, token]) for place, token in enumerate(path))
            paths.setdefault(text, []).append(score)
    totals = {}
    for text, scores in paths.items():
        own = lm.score_ids(lm.start(), [[scorer.ids[token] for token in text]])[0][0]
        totals[text] = float(torch.tensor(scores).logsumexp(0)) + WEIGHT * own
    winner = max(totals, key=totals.__getitem__)
    assert tuple(best.yseq.tolist()[1:-1]) == winner
    assert float(best.score) == pytest.approx(totals[winner], abs=1e-3)
