"""pyctcdecode with our LM finds what all paths, added up by hand, say is best."""

from __future__ import annotations

import numpy as np
import pytest

from asrprune.exchange.adapters.pyctcdecode import word_lm
from tests.exchange.adapters.small_ctc import best_paths, drawn_logits, lm_scores, peaked_lm

pyctcdecode = pytest.importorskip(
    "pyctcdecode",
    reason="pyctcdecode is not installed here; tests/run.sh --with-partners installs it",
)

LABELS = ["", "a", "c", " "]
T = 5
WIDE = {"beam_width": 5000, "beam_prune_logp": -1e6, "token_min_logp": -1e6, "prune_history": True}


def totals(core, logits, alpha, beta):
    """Sentence -> ln of the sum over its paths, and what the LM adds."""
    found: dict[str, float] = {}
    for tokens, score in best_paths(logits, 0, add=True).items():
        text = " ".join("".join(LABELS[token] for token in tokens).split())
        found[text] = float(np.logaddexp(found.get(text, -np.inf), score))
    for text, score in zip(found, lm_scores(core, core.tokenizer.encode_batch(list(found)))):
        found[text] += alpha * score + beta * len(text.split())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.6, 0.4), (1.5, -0.5)])
def test_the_decoder_finds_the_best_of_all(alpha, beta, tmp_path):
    core = peaked_lm(tmp_path)
    lm = word_lm(core, alpha, beta)
    alphabet = pyctcdecode.alphabet.Alphabet(LABELS, False)
    decoder = pyctcdecode.BeamSearchDecoderCTC(alphabet, lm)
    for seed in range(2):
        logits = drawn_logits(T, len(LABELS), seed)
        found = decoder.decode_beams(logits, **WIDE)
        wanted = totals(core, logits, alpha, beta)
        best = max(wanted, key=wanted.__getitem__)
        assert found[0][0] == best
        by_text = {}
        for text, _, _, _, score in found:
            by_text[text] = max(by_text.get(text, -np.inf), score)
        # beams that differ in their last frame alone are not added up by the decoder
        assert by_text[best] <= wanted[best] + 1e-3
        assert by_text[best] > wanted[best] - 1.5
    decoder.cleanup()


def test_words_and_the_end_add_up_to_the_sentence(tmp_path):
    core = peaked_lm(tmp_path)
    lm = word_lm(core, alpha=0.5, beta=2.0)
    state, total = lm.get_start_state(), 0.0
    for number, word in enumerate(["the", "cat", "sat"]):
        score, state = lm.score(state, word, is_last_word=number == 2)
        total += score
    ids = core.tokenizer.encode("the cat sat")
    assert total == pytest.approx(0.5 * lm_scores(core, [ids])[0] + 6.0, abs=1e-4)
    empty, _ = lm.score(lm.get_start_state(), "", is_last_word=True)
    assert empty == pytest.approx(0.5 * core.end_scores(core.start())[0], abs=1e-5)


def test_history_is_the_whole_sentence(tmp_path):
    core = peaked_lm(tmp_path)
    assert word_lm(core).order > core.max_tokens


def test_unfinished_words(tmp_path):
    core = peaked_lm(tmp_path)
    assert word_lm(core).score_partial_token("zz") == 0.0
    lm = word_lm(core, words=["cat", "hat"], partial_offset=-7.0)
    assert [lm.score_partial_token(part) for part in ("c", "ca", "cat", "at")] == [0, 0, 0, -7.0]


def test_weights_are_set_by_the_decoder(tmp_path):
    lm = word_lm(peaked_lm(tmp_path), alpha=1.0, beta=0.0)
    alphabet = pyctcdecode.alphabet.Alphabet(LABELS, False)
    decoder = pyctcdecode.BeamSearchDecoderCTC(alphabet, lm)
    decoder.reset_params(alpha=0.25, beta=3.0)
    assert (lm.alpha, lm.beta) == (0.25, 3.0)
    with pytest.raises(ValueError, match="unknown 'unk_score_offset'"):
        decoder.reset_params(unk_score_offset=-3.0)
    decoder.cleanup()
