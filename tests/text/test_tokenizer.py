"""The SentencePiece wrapper."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest

from asrprune.errors import InputError
from asrprune.text.sentencepiece import (
    BOS,
    EOS,
    UNK,
    SentencePieceModel,
    SentenceSample,
    TokenizerConfig,
    train_tokenizer,
)
from asrprune.text.tokenizer import Tokenizer

WORDS = ["don't", "let", "there", "be", "light", "and", "was", "the", "beginning", "heaven"]


def sentences(n: int = 500) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=6)) for _ in range(n)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    path.write_bytes(train_tokenizer(sentences(), TokenizerConfig(40, "bpe")))
    return Tokenizer(path)


def test_round_trip_and_special_ids(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("let there be light")
    assert tokenizer.decode(ids) == "let there be light"
    assert not {UNK, BOS, EOS} & set(ids)
    assert tokenizer.encode("") == []
    assert [tokenizer.piece(i) for i in (UNK, BOS, EOS)] == ["<unk>", "<s>", "</s>"]
    assert tokenizer.vocab_size == 40
    assert tokenizer.encode_batch(["let", ""]) == [tokenizer.encode("let"), []]


def test_pieces_stay_inside_words(tokenizer: Tokenizer) -> None:
    first, both = tokenizer.encode("let there"), tokenizer.encode("let there be")
    assert both[: len(first)] == first
    assert both[len(first) :] == tokenizer.encode("be")


def test_unseen_words_are_spelled_and_unseen_characters_are_oov(
    tokenizer: Tokenizer,
) -> None:
    assert tokenizer.count_unknown("tarred thee") == 0
    assert UNK in tokenizer.encode("let ßx be")
    assert tokenizer.count_unknown("let ßx be é") == 2


def test_survives_pickling_without_its_file(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "moved.model"
    path.write_bytes(tokenizer.model.path.read_bytes())
    packed = pickle.dumps(Tokenizer(path))
    path.unlink()
    copy = pickle.loads(packed)
    assert copy.encode("let there") == tokenizer.encode("let there")
    assert copy.model.sha256 == tokenizer.model.sha256


def test_training_is_repeatable() -> None:
    config = TokenizerConfig(27, sample_sentences=100, seed=3)
    assert train_tokenizer(iter(sentences()), config) == train_tokenizer(sentences(), config)


def test_a_character_outside_the_sample_still_gets_a_piece(tmp_path: Path) -> None:
    text = [*sentences(300), "zeal"]
    model = tmp_path / "t.model"
    model.write_bytes(train_tokenizer(text, TokenizerConfig(26, sample_sentences=20)))
    assert Tokenizer(model).count_unknown("zeal") == 0


def test_the_sample_is_uniform() -> None:
    hits = 0
    for seed in range(400):
        sample = SentenceSample(5, seed)
        for number in range(20):
            sample.add(str(number))
        assert len(sample.sentences) == 5
        hits += "19" in sample.sentences
    assert 70 < hits < 130  # 100 expected, standard deviation 9


@pytest.mark.parametrize(
    ("size", "message"),
    [(5000, "expected at most ")],
)
def test_vocabulary_that_does_not_fit(size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_tokenizer(sentences(), TokenizerConfig(size))


def test_no_text() -> None:
    with pytest.raises(ValueError, match="no sentence"):
        train_tokenizer([], TokenizerConfig(10))


@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_bad_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.model"
    path.write_bytes(content)
    with pytest.raises(InputError):
        SentencePieceModel(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        SentencePieceModel(tmp_path / "t.model")


def test_bad_config() -> None:
    with pytest.raises(ValueError, match="vocab_size"):
        TokenizerConfig(3)
    with pytest.raises(ValueError, match="model_type"):
        TokenizerConfig(10, "word")


def test_a_vocabulary_smaller_than_the_alphabet_is_raised(caplog, tmp_path: Path) -> None:
    (tmp_path / "t.model").write_bytes(train_tokenizer(sentences(), TokenizerConfig(8)))
    assert "different characters" in caplog.text
    assert Tokenizer(tmp_path / "t.model").vocab_size > 8
