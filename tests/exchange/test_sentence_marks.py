"""How a sentence is scored is the checkpoint's: prompt, case, full stop and end, on all paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asrprune.exchange.adapters.incremental import open_incremental
from asrprune.exchange.importing import ImportOptions, import_lm
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.padded import PaddedScorer
from asrprune.lm.model.checkpoint import load_checkpoint
from asrprune.lm.open import open_early, open_lm, open_prefix_lm
from asrprune.lm.perplexity import transformer_perplexity
from asrprune.lm.protocol import SENTENCE_END
from asrprune.lm.scoring.forests import ScoringOptions
from asrprune.text.corpus import open_corpus
from asrprune.text.form import TextForm
from asrprune.text.pack import pack_corpus
from asrprune.text.sentencepiece import TokenizerConfig
from tests.exchange.foreign_folders import END, llama_shape, write_hugging_face

SENTENCES = ["the cat sat", "I'll sit", "the cat said the hat", "a", "", "[noise] the cat"]
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "stop": {"sentence_form": "stop", "form": TextForm(case="sentence")},
    "newline": {"sentence_form": "newline"},
    "prompt": {"prompt": "the mat said:", "sentence_form": "stop-newline"},
    "line prompt": {"prompt": "the hat\n", "form": TextForm(case="sentence")},
}
LINES = {
    "plain": ("", "the cat sat", END),
    "stop": ("", "The cat sat.", END),
    "newline": ("", "the cat sat", "\n"),
    "prompt": ("the mat said:", " the cat sat.", "\n"),
    "line prompt": ("the hat\n", "The cat sat", END),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("marks")
    write_hugging_face(root / "in", "llama", llama_shape(300))
    return {
        name: import_lm("hugging-face", root / "in", root / name, ImportOptions(**options))
        for name, options in FORMS.items()
    }


@pytest.mark.parametrize("name", FORMS)
def test_the_score_is_that_of_the_written_line(folders: dict[str, Path], name: str) -> None:
    """By hand: the library's own tokens of the whole text, summed behind the prompt."""
    checkpoint = load_checkpoint(folders[name])
    pieces = checkpoint.tokenizer().model
    raw = pieces._pieces  # type: ignore[attr-defined]
    prompt, line, end = LINES[name]
    before = raw.encode(prompt, add_special_tokens=False).ids
    ids = raw.encode(prompt + line, add_special_tokens=False).ids
    assert ids[: len(before)] == before
    last = raw.token_to_id("\u010a" if end == "\n" else end)
    tokens = torch.tensor([[raw.token_to_id(END), *ids, last]])
    with torch.no_grad():
        log_probs = checkpoint.model.logits(checkpoint.model(tokens[:, :-1])[0]).log_softmax(-1)
    each = log_probs[0].gather(1, tokens[0, 1:, None])[len(before) :]
    expected = float(each.double().sum())
    got = open_lm(folders[name]).score_lists([["the cat sat"]])[0][0]
    assert got == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", FORMS)
def test_searches_of_other_toolkits_agree(folders: dict[str, Path], name: str) -> None:
    lm = open_incremental(folders[name], "cpu")
    words = [lm.tokenizer.encode_words(text.split()) for text in SENTENCES]
    ids = [[token for word in one for token in word] for one in words]
    sums, states = lm.score_ids(lm.start() * len(ids), ids)
    expected = open_lm(folders[name]).score_lists([SENTENCES])[0]
    assert sums + lm.end_scores(states) == pytest.approx(expected, abs=1e-4)
    ends = lm.next_scores(states)[:, lm.end].double().numpy()
    assert sums + ends == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", FORMS)
def test_all_paths_agree(folders: dict[str, Path], name: str) -> None:
    path = folders[name]
    lm = open_lm(path)
    expected = lm.score_lists([SENTENCES])[0]
    checkpoint = load_checkpoint(path)
    tokenizer = checkpoint.tokenizer()
    alone = [open_lm(path).score_lists([[one]])[0][0] for one in SENTENCES]
    padded = PaddedScorer(checkpoint.model, tokenizer).score_lists([SENTENCES])[0]
    by_word = lm.words().score_words([[one.split() for one in SENTENCES]])[0]
    early = open_early(path).score_lists([SENTENCES], [np.zeros(len(SENTENCES))], 1.0)[0]
    np.testing.assert_allclose(alone, expected, atol=1e-4)
    np.testing.assert_allclose(padded, expected, atol=1e-4)
    np.testing.assert_allclose([one.sum() for one in by_word], expected, atol=1e-4)
    np.testing.assert_allclose(early.lm[early.complete], expected[early.complete], atol=1e-4)
    assert early.complete[int(expected.argmax())]
    prefixes = open_prefix_lm(path)
    for number, sentence in enumerate(SENTENCES):
        prefix, total = prefixes.root(number), 0.0
        for word, one in zip([*sentence.split(), SENTENCE_END], by_word[number]):
            value = float(prefixes.score([(prefix, word)])[0])
            assert value == pytest.approx(float(one), abs=1e-4)
            prefix = prefix if word == SENTENCE_END else prefixes.child(prefix, word)
            total += value
        assert total == pytest.approx(float(expected[number]), abs=1e-4)
    lines = [(1, tokenizer.line(one)) for one in SENTENCES if one]
    nll = transformer_perplexity(checkpoint.model, tokenizer, lines, "text").total.nll
    assert -nll == pytest.approx(float(expected[[bool(one) for one in SENTENCES]].sum()), abs=1e-3)


@pytest.mark.parametrize("name", FORMS)
def test_windows_keep_the_prompt(folders: dict[str, Path], name: str) -> None:
    options = ScoringOptions(over_long="window")
    lm = open_lm(folders[name], scoring_options=options)
    checkpoint = load_checkpoint(folders[name])
    long = " ".join(["the cat sat on the mat"] * 12)
    padded = PaddedScorer(checkpoint.model, checkpoint.tokenizer(), EngineOptions(), 2048, "window")
    got = lm.score_lists([[long, "the cat"]])[0]
    np.testing.assert_allclose(got, padded.score_lists([[long, "the cat"]])[0], atol=1e-4)
    by_word = lm.words().score_words([[long.split()]])[0][0]
    assert by_word.sum() == pytest.approx(float(got[0]), abs=1e-4)
    assert lm.stats.over_long == 2


@pytest.mark.parametrize("name", FORMS)
def test_packed_text_is_trained_as_it_is_scored(
    folders: dict[str, Path], name: str, tmp_path: Path
) -> None:
    from asrprune.lm.training.nll import stream_nll

    text = tmp_path / "text"
    text.write_text("".join(f"{one}\n" for one in SENTENCES if one))
    checkpoint = load_checkpoint(folders[name])
    place = checkpoint.tokenizer_path
    assert place.name == "tokenizer.json"
    pack_corpus([text], None, TokenizerConfig(), tmp_path / "data", tokenizer=place)
    corpus = open_corpus(tmp_path / "data")
    assert corpus.data["tokenizer_sha256"] == checkpoint.tokenizer_sha256
    assert corpus.form == checkpoint.form
    stream = corpus.stream("train")
    nll = stream_nll(checkpoint.model, stream, np.arange(stream.n_sentences))
    kept = [one for one in SENTENCES if one]
    np.testing.assert_allclose(-nll, open_lm(folders[name]).score_lists([kept])[0], atol=1e-3)


def test_a_prompt_too_long_is_an_error(tmp_path: Path) -> None:
    write_hugging_face(tmp_path / "in", "llama", llama_shape(300))
    options = ImportOptions(prompt="the cat " * 30 + "said")
    with pytest.raises(ValueError, match="prompt of"):
        import_lm("hugging-face", tmp_path / "in", tmp_path / "out", options)
