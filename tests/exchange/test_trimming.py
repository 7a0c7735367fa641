"""A trimmed vocabulary: the words it was trimmed for are cut as before, scores are renormalised."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asrprune.cli.main import main
from asrprune.errors import InputError
from asrprune.exchange.importing import ImportOptions, import_lm
from asrprune.exchange.trimming import trim_vocabulary
from asrprune.lm.model.checkpoint import Checkpoint, load_checkpoint
from asrprune.lm.open import open_lm
from asrprune.text.form import TextForm
from tests.exchange.foreign_folders import (
    byte_level_tokenizer,
    fallback_tokenizer,
    llama_shape,
    unigram_tokenizer,
    write_hugging_face,
)
from tests.small_lm import save_small_lm

WORDS = ["the", "cat", "don't", "sat", "1990s", "caf\u00e9", "I'll"]
OTHERS = ["mats", "said", "hat", "o'clock", "\u4eca", "THE"]
MAKERS: dict[str, Callable[[], Any]] = {
    "byte-level": byte_level_tokenizer,
    "digits": lambda: byte_level_tokenizer(300, digits=True),
    "unigram": unigram_tokenizer,
    "fallback": fallback_tokenizer,
}


def pair(make: Callable[[], Any], folder: Path, **options: Any) -> tuple[Checkpoint, Checkpoint]:
    """A checkpoint, and what is left of it for WORDS."""
    made = make()
    shape = llama_shape(made.get_vocab_size() + 3, tied=options.pop("tied", False))
    write_hugging_face(folder / "in", "llama", shape, made)
    path = import_lm("hugging-face", folder / "in", folder / "lm", ImportOptions(**options))
    got = trim_vocabulary(load_checkpoint(path), WORDS, folder / "trimmed")
    assert got.pieces < got.of == shape.vocab_size
    return load_checkpoint(path), load_checkpoint(folder / "trimmed")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_words_are_cut_as_before_and_scores_are_renormalised(
    name: str, tied: bool, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"sentence_form": "stop", "form": TextForm(case="sentence")}
    whole, left = pair(MAKERS[name], tmp_path, tied=tied, prompt="the mat:", **options)
    before, after = whole.tokenizer(), left.tokenizer()
    kept = [before.model.piece(i) for i in range(before.vocab_size)]
    kept_ids = [kept.index(after.piece(i)) for i in range(after.vocab_size)]
    sentences = [" ".join(words) for words in itertools.permutations(WORDS, 3)][::9]
    for line in sentences:
        ids = after.encode(line)
        assert [kept_ids[i] for i in ids] == before.encode(line)
        assert after.decode(ids) == before.decode(before.encode(line))
    assert [kept_ids[i] for i in (after.begin, after.end)] == [before.begin, before.end]
    assert [kept_ids[i] for i in after.prompt] == list(before.prompt)
    ids = [before.begin, *before.prompt, *before.encode(sentences[0]), before.end]
    with torch.no_grad():
        logits = whole.model.logits(whole.model(torch.tensor([ids[:-1]]))[0])[0][:, kept_ids]
    log_probs = logits.log_softmax(-1)[len(before.prompt) :].double()
    wanted = torch.tensor([kept_ids.index(i) for i in ids[1 + len(before.prompt) :]])
    expected = float(log_probs.gather(1, wanted[:, None]).sum())
    assert left.path is not None
    assert whole.path is not None
    got = open_lm(left.path).score_lists([[sentences[0]]])[0][0]
    assert got == pytest.approx(expected, abs=1e-4)
    assert got > open_lm(whole.path).score_lists([[sentences[0]]])[0][0]  # others' share is gone


@pytest.mark.parametrize("name", MAKERS)
def test_other_words_can_still_be_spelled(name: str, tmp_path: Path) -> None:
    whole, left = pair(MAKERS[name], tmp_path)
    before, after = whole.tokenizer(), left.tokenizer()
    line = " ".join(word for word in OTHERS if not before.count_unknown(word))
    assert after.count_unknown(line) == 0
    assert after.decode(after.encode(line)) == before.decode(before.encode(line))
    assert len(after.encode(line)) >= len(before.encode(line))
    assert left.path is not None
    assert np.isfinite(open_lm(left.path).score_lists([[line, ""]])[0]).all()


def test_a_trimmed_lm_is_trimmed_no_further(tmp_path: Path) -> None:
    _, left = pair(byte_level_tokenizer, tmp_path)
    before = left.model.embedding.weight.detach().clone()
    trim_vocabulary(left, WORDS, tmp_path / "again")
    again = load_checkpoint(tmp_path / "again")
    assert torch.equal(again.model.embedding.weight, before)
    assert again.tokenizer_sha256 == left.tokenizer_sha256


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_hugging_face(tmp_path / "in")
    path = import_lm("hugging-face", tmp_path / "in", tmp_path / "lm")
    text = tmp_path / "text"
    text.write_text("the cat sat\n\nthe hat\n")
    argv = ["trim", "--lm", str(path), "--text", str(text), "--out", str(tmp_path / "out")]
    assert main(argv) == 0
    after = load_checkpoint(tmp_path / "out").tokenizer()
    assert 256 < after.vocab_size < 300
    assert main(argv) == 1  # something stands there
    assert main([*argv, "--force"]) == 0
    assert main([*argv, "--force", "--min-count", "2"]) == 0  # only "the" comes twice
    fewer = load_checkpoint(tmp_path / "out").tokenizer()
    assert fewer.vocab_size < after.vocab_size
    assert len(fewer.encode("the hat")) > len(after.encode("the hat"))
    capsys.readouterr()
    assert main([*argv, "--force", "--min-count", "3"]) == 1
    assert f"{text}: no word that comes 3 times; expected text" in capsys.readouterr().err


def test_our_own_tokenizer_is_refused(tmp_path: Path) -> None:
    lm = load_checkpoint(save_small_lm(tmp_path))
    with pytest.raises(InputError, match="a SentencePiece model"):
        trim_vocabulary(lm, ["a"], tmp_path / "out")
