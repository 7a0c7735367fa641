"""Perplexity: against sums by hand, and independent of batches."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from asrprune.cli.main import main
from asrprune.errors import InputError
from asrprune.lm import perplexity as perplexity_module
from asrprune.lm.engines.pytorch.padded import PaddedScorer
from asrprune.lm.model.checkpoint import save_checkpoint
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.perplexity import transformer_perplexity
from asrprune.lm.training import nll as nll_module
from asrprune.lm.training.batches import make_batch
from asrprune.lm.training.nll import sentence_nll, stream_nll
from asrprune.text.corpus import TokenStream
from asrprune.text.sentencepiece import TokenizerConfig, train_tokenizer
from asrprune.text.tokenizer import Tokenizer

LINES = ["in the beginning", "god", "and the earth was", "the light in the heaven"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("perplexity")
    (out / "pieces").write_bytes(train_tokenizer(LINES * 20, TokenizerConfig(30, "bpe")))
    torch.manual_seed(0)
    model = TransformerLM(ModelShape.uniform(30, 8, 2, 2, max_positions=40))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return save_checkpoint(out / "lm", model, out / "pieces", {})


def parts(folder: Path) -> tuple[TransformerLM, Tokenizer]:
    from asrprune.lm.model.checkpoint import load_checkpoint

    loaded = load_checkpoint(folder)
    return loaded.model, Tokenizer(loaded.tokenizer_path)


def by_hand(model: TransformerLM, ids: list[int]) -> float:
    """-ln P token by token, with a whole log-softmax in float64."""
    total = 0.0
    sentence = [1, *ids, 2]
    for end in range(1, len(sentence)):
        with torch.no_grad():
            hidden, _ = model(torch.tensor([sentence[:end]]))
            log_probs = model.logits(hidden)[0, -1].double().log_softmax(-1)
        total -= float(log_probs[sentence[end]])
    return total


@pytest.mark.parametrize("logits_at_once", [1 << 25, 30 * 3])
def test_sums_by_hand(folder: Path, logits_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nll_module, "LOGITS_AT_ONCE", logits_at_once)
    model, tokenizer = parts(folder)
    encoded = [*tokenizer.encode_batch(LINES), []]
    nll = sentence_nll(model, make_batch([np.array(ids, dtype=int) for ids in encoded]))
    assert nll.dtype == torch.float64
    assert nll.tolist() == pytest.approx([by_hand(model, ids) for ids in encoded], abs=1e-4)


@pytest.mark.parametrize("tokens_per_batch", [1, 20, 4096])
def test_batches_do_not_matter(folder: Path, tokens_per_batch: int) -> None:
    model, tokenizer = parts(folder)
    stream = TokenStream.from_sentences(tokenizer.encode_batch(LINES))
    asked = np.array([2, 0, 3])
    expected = [by_hand(model, stream.sentence(i).tolist()) for i in asked]
    assert stream_nll(model, stream, asked, tokens_per_batch) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("at_once", [2, 5000])
def test_text(folder: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perplexity_module, "_SENTENCES_AT_ONCE", at_once)
    model, tokenizer = parts(folder)
    lines = list(enumerate([*LINES, "", "the ßea"], start=1))
    result = transformer_perplexity(model, tokenizer, iter(lines), "x")
    total = result.total
    encoded = tokenizer.encode_batch([*LINES, "the ßea"])
    assert total.nll == pytest.approx(sum(by_hand(model, ids) for ids in encoded), abs=1e-3)
    assert (total.sentences, total.words, total.oov, result.empty_lines) == (5, 15, 1, 1)
    assert total.tokens == sum(map(len, encoded)) + 5
    assert total.ppl_word == pytest.approx(math.exp(total.nll / 20))


def test_over_long_sentence_names_its_line(folder: Path) -> None:
    model, tokenizer = parts(folder)
    lines = [(1, "god"), (2, "the beginning " * 12)]
    with pytest.raises(InputError, match=r"text:2: a sentence of \d+ tokens; expected <= 39 \("):
        transformer_perplexity(model, tokenizer, lines, "text")
    with pytest.raises(ValueError, match="over_long is 'minus-inf'; expected error, window"):
        transformer_perplexity(model, tokenizer, lines, "text", over_long="minus-inf")


@pytest.mark.parametrize("prompt", [(), (5, 7)])
@pytest.mark.parametrize("tokens_per_batch", [1, 4096])
def test_over_long_sentences_are_scored_in_windows(
    folder: Path, tokens_per_batch: int, prompt: tuple[int, ...]
) -> None:
    model, tokenizer = parts(folder)
    tokenizer.prompt = prompt
    lines = [(1, "god"), (2, "the beginning " * 12), (3, ""), (4, "the light " * 40)]
    result = transformer_perplexity(
        model, tokenizer, lines, "text", tokens_per_batch, over_long="window"
    )
    padded = PaddedScorer(model, tokenizer, over_long="window")
    (scores,) = padded.score_lists([[line for _, line in lines if line]])
    assert result.over_long == 2
    assert result.total.nll == pytest.approx(-scores.sum(), abs=1e-3)
    assert result.total.tokens == padded.stats.tokens
    assert (result.total.sentences, result.total.words, result.empty_lines) == (3, 105, 1)
    alone = transformer_perplexity(
        model, tokenizer, lines[3:], "text", tokens_per_batch, over_long="window"
    )
    assert alone.total.nll == pytest.approx(-scores[2], abs=1e-3)


def test_verb_on_over_long_sentences(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    text, out = tmp_path / "text", tmp_path / "numbers.json"
    text.write_text("god\n" + "the light " * 40 + "\n")
    argv = ["perplexity", "--lm", str(folder), "--text", str(text), "--json", str(out)]
    assert main(argv) == 1
    assert f"{text}:2: a sentence of " in capsys.readouterr().err
    assert not out.exists()
    assert main([*argv, "--over-long", "window"]) == 0
    assert "1 sentences longer than the LM's positions are scored with a sliding" in caplog.text
    numbers = json.loads(out.read_text())
    assert (numbers["over_long"], numbers["words"]) == (1, 81)


def test_characters_are_those_of_the_words_and_one_behind_each(folder: Path) -> None:
    total = transformer_perplexity(*parts(folder), [(1, "in the light")], "x").total
    assert total.characters == 2 + 3 + 5 + 3
    assert total.ppl_char == pytest.approx(math.exp(total.nll / 13))


def test_verb(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, out = tmp_path / "text", tmp_path / "numbers.json"
    text.write_text("\n".join(LINES).upper() + "\n")
    flags = ["perplexity", "--lm", str(folder), "--normalise", "asr", "--json", str(out)]
    assert main([*flags, "--text", str(text)]) == 0
    numbers = json.loads(out.read_text())
    assert numbers["words"] == 13
    assert numbers["ppl_token"] == pytest.approx(math.exp(numbers["nll"] / numbers["tokens"]))
    assert f"perplexity {numbers['ppl_word']:.2f} per word with </s>" in capsys.readouterr().out
    text.write_text("\n")
    assert main([*flags, "--text", str(text)]) == 1
    assert main(["perplexity", "--lm", str(tmp_path), "--text", str(text)]) == 1


def test_verb_on_an_ngram_model_without_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("kenlm")
    arpa, text = tmp_path / "uni.arpa", tmp_path / "text"
    unigrams = "\\1-grams:\n-99\t<s>\t0\n-0.5\t</s>\n-1\ta\t0\n"
    bigrams = "\\2-grams:\n-1\t<s> a\n"
    arpa.write_text(f"\\data\\\nngram 1=3\nngram 2=1\n\n{unigrams}\n{bigrams}\n\\end\\\n")
    text.write_text("a a x\na\n")
    out = tmp_path / "numbers.json"
    argv = ["perplexity", "--lm", str(arpa), "--text", str(text), "--json", str(out)]
    assert main(argv) == 0
    numbers = json.loads(out.read_text())
    assert numbers["ppl_word"] == pytest.approx(10 ** (4.0 / 5), rel=1e-5)
    assert (numbers["words"], numbers["oov_left_out"]) == (3, 1)
    assert "1 OOV words left out" in capsys.readouterr().out
