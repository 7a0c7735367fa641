"""SentencePiece models of other toolkits: taken with their own ids, or refused with the reason."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest

from asrprune.errors import InputError
from asrprune.text.tokenizer import Tokenizer

WORDS = [
    "otter",
    "rowed",
    "its",
    "little",
    "boat",
    "past",
    "seven",
    "reeds",
    "while",
    "crickets",
    "sang",
    "under",
    "old",
    "stars",
]
SENTENCES = [" ".join(random.Random(n).choices(WORDS, k=7)) for n in range(300)]
MODELS: dict[str, dict[str, Any]] = {
    "icefall": {
        "unk_id": 2,
        "bos_id": -1,
        "eos_id": -1,
        "user_defined_symbols": ["<blk>", "<sos/eos>"],
    },
    "espnet": {"model_type": "bpe"},
    "other-ids": {"pad_id": 0, "unk_id": 3, "bos_id": 2, "eos_id": 1},
    "no-dummy-prefix": {"model_type": "bpe", "add_dummy_prefix": False},
    "suffix": {"model_type": "bpe", "treat_whitespace_as_suffix": True},
    "bytes": {"byte_fallback": True, "vocab_size": 330},
    "case-folding": {"normalization_rule_name": "nmt_nfkc_cf"},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "crossing": ({"split_by_whitespace": False, "vocab_size": 120}, "cross word boundaries"),
    "no-end": ({"bos_id": -1, "eos_id": -1}, "no piece for the end of a sentence"),
    "suffix-without-dummy": (
        {"treat_whitespace_as_suffix": True, "add_dummy_prefix": False},
        "depend on the words beside it|spelled as",
    ),
}


def trained(folder: Path, name: str, options: dict[str, Any]) -> Path:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        minloglevel=2,
        hard_vocab_limit=False,
        **{"vocab_size": 60, **options},
    )
    path = folder / f"{name}.model"
    path.write_bytes(model.getvalue())
    return path


@pytest.mark.parametrize("name", MODELS)
def test_a_sentence_has_the_tokens_that_its_toolkit_gives_it(name: str, tmp_path: Path) -> None:
    import sentencepiece

    path = trained(tmp_path, name, MODELS[name])
    own = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokenizer = Tokenizer(path)
    for sentence in SENTENCES[:50]:
        assert tokenizer.encode(sentence) == own.encode(sentence)
        parts = tokenizer.encode_words(sentence.split())
        assert [token for ids in parts for token in ids] == own.encode(sentence)


@pytest.mark.parametrize(
    ("name", "marks"),
    [("icefall", (1, 1, 2)), ("espnet", (1, 2, 0)), ("other-ids", (2, 1, 3))],
)
def test_marks_are_the_models_own(name: str, marks: tuple[int, int, int], tmp_path: Path) -> None:
    tokenizer = Tokenizer(trained(tmp_path, name, MODELS[name]))
    assert (tokenizer.begin, tokenizer.end, tokenizer.unknown) == marks
    assert tokenizer.encode("otter <sos/eos> <blk> boat") == tokenizer.encode("otter boat")


def test_words_spelled_in_bytes_are_counted(tmp_path: Path) -> None:
    tokenizer = Tokenizer(trained(tmp_path, "bytes", MODELS["bytes"]))
    found = tokenizer.coverage({"otter": 3, "ŧe": 1, "<unk>": 1})
    assert (found.words, found.unknown, found.in_bytes, found.special) == (5, 0, 1, 1)


@pytest.mark.parametrize("name", REFUSED)
def test_what_depends_on_its_neighbours_is_refused(name: str, tmp_path: Path) -> None:
    options, message = REFUSED[name]
    path = trained(tmp_path, name, options)
    with pytest.raises(InputError, match=message):
        Tokenizer(path)


def test_a_damaged_piece_is_one_line(tmp_path: Path) -> None:
    path = trained(tmp_path, "damaged", {})
    whole = path.read_bytes()
    path.write_bytes(whole.replace("\u2581".encode(), b"\x96\x96\x96", 1))
    with pytest.raises(InputError, match=r"piece \d+ is no UTF-8; expected a SentencePiece model"):
        Tokenizer(path)
