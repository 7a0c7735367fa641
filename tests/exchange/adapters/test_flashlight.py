"""flashlight-text's decoders with our LM find what all paths, added up by hand, say is best."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asrprune.exchange.adapters.flashlight import decode_frames, token_lm, tokens_of, word_lm
from asrprune.lm.engines.pytorch.prefixes import PrefixOptions
from asrprune.lm.protocol import UnscorableError
from tests.exchange.adapters.small_ctc import best_paths, drawn_logits, lm_scores, peaked_lm
from tests.exchange.pruned_shapes import LLAMA, SHAPES

flashlight = pytest.importorskip(
    "flashlight.lib.text.decoder",
    reason="flashlight-text is not installed here; tests/run.sh --with-partners installs it",
)

WEIGHT = 0.7
T, N = 4, 4


def decoder_of(lm, lm_weight=WEIGHT, n=N, beam=500, log_add=False):
    options = flashlight.LexiconFreeDecoderOptions(
        beam, n, 1e6, lm_weight, 0.0, log_add, flashlight.CriterionType.CTC
    )
    return flashlight.LexiconFreeDecoder(options, lm, -1, 0, [])


def expected(core, ids, logits, weight=WEIGHT):
    """Sentence (the decoder's tokens) -> total of its best path."""
    paths = best_paths(logits, 0)
    scores = lm_scores(core, [[ids[token] for token in tokens] for tokens in paths])
    return {tokens: paths[tokens] + weight * score for tokens, score in zip(paths, scores)}


@pytest.mark.parametrize("shape", ["gpt2", "gpt2-structured", "llama-low-rank"])
@pytest.mark.parametrize("frames_at_once", [False, True])
def test_the_lexicon_free_decoder_finds_the_best_of_all(shape, frames_at_once, tmp_path):
    core = peaked_lm(tmp_path, shape=SHAPES[shape])
    tokens = ["-", *core.pieces()[5 : 4 + N]]
    lm = token_lm(core, tokens)
    assert isinstance(lm, flashlight.LM)
    decoder = decoder_of(lm)
    changed = 0
    for seed in range(2):
        logits = drawn_logits(T, N, seed)
        totals = expected(core, core.ids_by_name(tokens, ["-"]), logits)
        if frames_at_once:
            results = decode_frames(decoder, lm, logits)
        else:
            results = decoder.decode(logits.ctypes.data, T, N)
        best = max(totals, key=totals.__getitem__)
        assert tuple(tokens_of(results[0].tokens, 0)) == best
        assert results[0].score == pytest.approx(totals[best], abs=1e-3)
        for result in results:
            told = tuple(tokens_of(result.tokens, 0))
            assert result.score <= totals[told] + 1e-3
        without = best_paths(logits, 0)
        changed += best != max(without, key=without.__getitem__)
    assert changed, "the LM turned nothing"


def test_one_batch_a_frame_finds_the_same_with_fewer_passes(tmp_path, monkeypatch):
    core = peaked_lm(tmp_path, shape=LLAMA)
    tokens = ["-", *core.pieces()[5 : 4 + N]]
    logits = drawn_logits(6, N, 5)
    passes = []
    compute = core._store.compute
    monkeypatch.setattr(core._store, "compute", lambda rows: (passes.append(1), compute(rows)))
    found, counts = [], []
    for frames_at_once in (False, True):
        passes.clear()
        lm = token_lm(core, tokens)
        decoder = decoder_of(lm, beam=40)
        if frames_at_once:
            results = decode_frames(decoder, lm, logits, n_best=2)
        else:
            results = decoder.decode(logits.ctypes.data, len(logits), N)[:2]
        found.append([(result.tokens, round(result.score, 3)) for result in results])
        counts.append(len(passes))
    assert found[0] == found[1]
    assert counts[1] <= 6 + 1 < counts[0]


def test_lm_weight_zero_is_the_decoder_without_lm(tmp_path):
    core = peaked_lm(tmp_path)
    tokens = ["-", *core.pieces()[5 : 4 + N]]
    logits = drawn_logits(T, N, 1)
    with_lm = decoder_of(token_lm(core, tokens), 0.0).decode(logits.ctypes.data, T, N)[0]
    alone = decoder_of(flashlight.ZeroLM(), 0.0).decode(logits.ctypes.data, T, N)[0]
    assert with_lm.tokens == alone.tokens
    assert with_lm.score == pytest.approx(alone.score)


SILENCE, SPELLED = 3, {(1,): 0, (2, 1): 1, (2,): 2}  # the decoder's own units of three words


def lexicon_decoder(lm, weight, of_tokens):
    trie = flashlight.Trie(N, 0)
    for units, index in SPELLED.items():
        trie.insert([*units, SILENCE], index, 0.0)
    options = flashlight.LexiconDecoderOptions(
        500, N, 1e6, weight, 0.0, -np.inf, 0.0, False, flashlight.CriterionType.CTC
    )
    return flashlight.LexiconDecoder(options, trie, lm, SILENCE, 0, -1, [], of_tokens)


@pytest.mark.parametrize("of_tokens", [False, True])
def test_the_lexicon_decoder_scores_words_or_tokens(of_tokens, tmp_path):
    core = peaked_lm(tmp_path)
    words, units = ["a", "cat", "hat"], {index: one for one, index in SPELLED.items()}
    tokens = ["-", *core.pieces()[5 : 4 + N]]
    lm = token_lm(core, tokens) if of_tokens else word_lm(core, words)
    decoder = lexicon_decoder(lm, 0.1, of_tokens)
    found = set()
    for seed in range(3):
        logits = drawn_logits(5, N, seed)
        result = decoder.decode(logits.ctypes.data, 5, N)[0]
        paths = {}
        for heard, score in best_paths(logits, 0).items():
            said = _words_of(heard, SPELLED, SILENCE)
            if said is not None:
                paths[said] = max(paths.get(said, -np.inf), score)
        if of_tokens:
            ids = core.ids_by_name(tokens, ["-"])
            spelled = [
                [ids[token] for index in said for token in (*units[index], SILENCE)]
                for said in paths
            ]
        else:
            texts = [" ".join(words[index] for index in said) for said in paths]
            spelled = core.tokenizer.encode_batch(texts)
        scores = lm_scores(core, spelled)
        totals = {said: paths[said] + 0.1 * score for said, score in zip(paths, scores)}
        best = max(totals, key=totals.__getitem__)
        assert tuple(word for word in result.words if word >= 0) == best
        assert result.score == pytest.approx(totals[best], abs=1e-3)
        found.add(best)
    assert any(found)


def _words_of(tokens, spelled, silence):
    """The words that end in a silence each; None where anything else is left over."""
    said, units = [], ()
    for token in tokens:
        if token != silence:
            units = (*units, token)
        elif units in spelled:
            said.append(spelled[units])
            units = ()
        elif units:
            return None
    return None if units else tuple(said)


def test_torchaudio_hands_the_lm_on(tmp_path):
    decoders = pytest.importorskip(
        "torchaudio.models.decoder",
        reason="torchaudio is not installed here; tests/run.sh --with-partners installs it",
    )
    core = peaked_lm(tmp_path)
    tokens = ["<blank>", *core.pieces()[5 : 4 + N]]
    decoder = decoders.ctc_decoder(
        lexicon=None,
        tokens=tokens,
        lm=token_lm(core, tokens),
        beam_size=500,
        beam_threshold=1e6,
        lm_weight=WEIGHT,
        blank_token="<blank>",
        sil_token="<blank>",
    )
    logits = drawn_logits(T, N, 2)
    totals = expected(core, core.ids_by_name(tokens, ["<blank>"]), logits)
    best = max(totals, key=totals.__getitem__)
    (hypotheses,) = decoder(torch.from_numpy(logits)[None])
    assert tuple(hypotheses[0].tokens.tolist()) == best
    assert hypotheses[0].score == pytest.approx(totals[best], abs=1e-3)


def test_beyond_the_positions(tmp_path):
    drop = PrefixOptions(over_long="minus-inf")
    core = peaked_lm(tmp_path, options=drop)
    tokens = ["-", *core.pieces()[5 : 4 + N]]
    path = [token for _ in range(9) for token in (1, 2)]
    logits = np.full((len(path), N), -20.0, np.float32)
    logits[np.arange(len(path)), path] = 0.0
    result = decoder_of(token_lm(core, tokens), beam=20).decode(logits.ctypes.data, len(path), N)[0]
    assert len(tokens_of(result.tokens, 0)) <= core.max_tokens
    assert np.isfinite(result.score)
    strict = peaked_lm(tmp_path)
    decoder = decoder_of(token_lm(strict, tokens), beam=20)
    with pytest.raises(UnscorableError, match="at most 11"):
        decoder.decode(logits.ctypes.data, len(path), N)


def test_wrong_calls(tmp_path):
    core = peaked_lm(tmp_path)
    tokens = ["-", *core.pieces()[5 : 4 + N]]
    with pytest.raises(ValueError, match="token 1, 'odd', is no piece"):
        token_lm(core, ["-", "odd"])
    lm = token_lm(core, tokens)
    options = flashlight.LexiconFreeDecoderOptions(
        5, N, 9.0, 1.0, 0.0, False, flashlight.CriterionType.CTC
    )
    silent = flashlight.LexiconFreeDecoder(options, lm, 2, 0, [])
    with pytest.raises(ValueError, match="sil_token_idx is 2; expected -1 or the blank 0"):
        decode_frames(silent, lm, drawn_logits(T, N, 0))
    with pytest.raises(ValueError, match="start_with_nothing"):
        lm.start(True)
    first = lm.start(False)
    with pytest.raises(ValueError, match="for its token 0"):
        lm.score(first, 0)
    child, _ = lm.score(first, 1)
    lm.start(False)
    with pytest.raises(ValueError, match="a state of an earlier utterance"):
        lm.score(child, 1)
