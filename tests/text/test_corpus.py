"""Packing text into a token stream and reading it back."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from asrprune.cli.main import main
from asrprune.errors import InputError
from asrprune.text import corpus
from asrprune.text.corpus import Corpus, TokenStream, open_corpus, token_dtype
from asrprune.text.form import TextForm
from asrprune.text.pack import pack_corpus
from asrprune.text.sentencepiece import TokenizerConfig
from asrprune.text.tokenizer import Tokenizer
from tests.damage import flips

TEXT = ["In the beginning", "", "god created the heavens", "  --  ", "and the earth"] * 20
KEPT = ["in the beginning", "god created the heavens", "and the earth"] * 20
CONFIG = TokenizerConfig(30, "bpe")
FILES = ("train.tokens.bin", "train.offsets.bin", "train.sums.bin")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("\n".join(TEXT) + "\n")
    return path


def test_stream_gives_back_every_sentence(text: Path, tmp_path: Path) -> None:
    packed = pack_corpus([text], text, CONFIG, tmp_path / "data", TextForm("asr"))
    tokenizer = Tokenizer(packed.tokenizer_path)
    stream = packed.stream("train")
    read = [tokenizer.decode([int(i) for i in stream.sentence(n)]) for n in range(len(KEPT))]
    assert read == KEPT
    assert stream.n_sentences == len(KEPT)
    assert stream.lengths.tolist() == [len(tokenizer.encode(line)) for line in KEPT]
    assert stream.n_tokens == stream.lengths.sum()
    counts = packed.data["sets"]["train"]
    assert (counts["empty_lines"], counts["words"], counts["oov_words"]) == (40, 200, 0)
    assert np.array_equal(packed.stream("valid").tokens, stream.tokens)


def test_same_input_same_bytes(text: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        pack_corpus([text], None, CONFIG, tmp_path / name, TextForm("asr"))
    for file in ("tokenizer.model", *FILES, "data.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_compressed_and_standard_input(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "text.txt.gz"
    packed.write_bytes(gzip.compress(text.read_bytes()))
    stdin = io.TextIOWrapper(io.BytesIO(text.read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    one = pack_corpus(["-", packed], None, CONFIG, tmp_path / "one", TextForm("asr"))
    two = pack_corpus([text, text], None, CONFIG, tmp_path / "two", TextForm("asr"))
    assert np.array_equal(one.stream("train").tokens, two.stream("train").tokens)
    assert [s["file"] for s in one.data["sets"]["train"]["sources"]] == ["-", str(packed)]
    assert not list(tmp_path.glob(".*"))


def test_existing_tokenizer_and_its_oov(text: Path, tmp_path: Path) -> None:
    first = pack_corpus([text], None, CONFIG, tmp_path / "first", TextForm("asr"))
    other = tmp_path / "other.txt"
    other.write_text("god ßaw the earth\n")
    second = pack_corpus([other], None, CONFIG, tmp_path / "second", tokenizer=first.tokenizer_path)
    assert second.data["tokenizer_sha256"] == first.data["tokenizer_sha256"]
    assert second.data["sets"]["train"]["oov_words"] == 1


def test_nothing_is_left_behind_on_failure(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n\n")
    with pytest.raises(InputError, match="no sentence for the train set"):
        pack_corpus([empty], None, CONFIG, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["empty.txt"]


def test_empty_valid_set(text: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    with pytest.raises(InputError, match="no sentence for the valid set"):
        pack_corpus([text], empty, CONFIG, tmp_path / "out", TextForm("asr"))


def read_all(folder: Path) -> list[list[int]]:
    stream = open_corpus(folder).stream("train")
    return [stream.sentence(number).tolist() for number in range(stream.n_sentences)]


@pytest.fixture
def packed(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """A corpus with a checksum for every 16 ids."""
    monkeypatch.setattr(corpus, "BLOCK_TOKENS", 16)
    return pack_corpus([text], None, CONFIG, tmp_path / "data", TextForm("asr"))


@pytest.mark.parametrize("file", [*FILES, "data.json", "tokenizer.model"])
def test_every_flipped_bit_is_found(packed: Corpus, file: str) -> None:
    for _ in flips(packed.path / file, tail_bytes=24 if file == "data.json" else 0):
        with pytest.raises(InputError, match=f"{file}:"):
            read_all(packed.path)
    assert len(read_all(packed.path)) == len(KEPT)


def test_what_is_not_read_is_not_checked(packed: Corpus) -> None:
    path = packed.path / "train.tokens.bin"
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 4
    path.write_bytes(whole)
    stream = packed.stream("train")
    expected = Tokenizer(packed.tokenizer_path).encode(KEPT[0])
    assert stream.sentence(0).tolist() == list(expected)
    first = (len(whole) // 2 - 1) // 16 * 32
    found = f"bytes from {first} to {len(whole)} that do not fit their checksum"
    with pytest.raises(InputError, match=f"train.tokens.bin: {found}"):
        stream.sentence(stream.n_sentences - 1)


def test_a_folder_of_before_is_read_without_checksums(packed: Corpus) -> None:
    expected = read_all(packed.path)
    data = json.loads((packed.path / "data.json").read_text())
    del data["crc32"], data["sets"]["train"]["crc32"]
    (packed.path / "data.json").write_text(json.dumps(data))
    (packed.path / "train.sums.bin").unlink()
    assert read_all(packed.path) == expected


@pytest.mark.parametrize("stated", [3, {}, {"block_tokens": "x", "offsets": "", "sums": ""}])
def test_ill_typed_checksums_are_named(packed: Corpus, stated: object) -> None:
    data = json.loads((packed.path / "data.json").read_text())
    del data["crc32"]
    data["sets"]["train"]["crc32"] = stated
    (packed.path / "data.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"data.json: crc32 .*; expected checksums"):
        read_all(packed.path)


@pytest.mark.parametrize("file", FILES)
def test_truncated_file(text: Path, tmp_path: Path, file: str) -> None:
    packed = pack_corpus([text], None, CONFIG, tmp_path / "data", TextForm("asr"))
    path = packed.path / file
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{file}: .* bytes"):
        packed.stream("train")


def test_missing_set_and_replaced_tokenizer(text: Path, tmp_path: Path) -> None:
    packed = pack_corpus([text], None, CONFIG, tmp_path / "data", TextForm("asr"))
    with pytest.raises(InputError, match="no set 'valid'"):
        packed.stream("valid")
    packed.tokenizer_path.write_bytes(b"other")
    with pytest.raises(InputError, match="tokenizer hash"):
        open_corpus(packed.path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": "asrprune-data", "version": 9}'])
def test_not_a_corpus(tmp_path: Path, content: str) -> None:
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(InputError):
        open_corpus(tmp_path)


def test_large_vocabularies_need_wider_ids() -> None:
    assert (token_dtype(65536), token_dtype(65537)) == ("<u2", "<u4")


def test_stream_in_memory() -> None:
    stream = TokenStream.from_sentences([[3, 4], [], [5]])
    assert stream.sentence(0).tolist() == [3, 4]
    assert stream.sentence(1).tolist() == []
    assert TokenStream.from_sentences([]).n_sentences == 0
    with pytest.raises(ValueError, match="offsets end at 1"):
        TokenStream(np.zeros(3, np.uint16), np.array([0, 1]))


def test_verb(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "data"
    flags = ["--normalise", "asr", "--model-type", "bpe", "--out", str(out)]
    assert main(["tokenize", "--text", str(text), *flags, "--vocab-size", "30"]) == 0
    assert json.loads((out / "data.json").read_text())["vocab_size"] == 30
    assert main(["tokenize", "--text", str(text), "--vocab-size", "9000", *flags, "--force"]) == 2
    assert main(["tokenize", "--text", str(tmp_path / "none"), *flags]) == 1
    text.write_bytes(b"ok\n\xff\n")
    assert main(["tokenize", "--text", str(text), *flags, "--force"]) == 1
    assert "text.txt:2:" in capsys.readouterr().err
    assert open_corpus(out).vocab_size == 30  # the old folder is untouched


@pytest.mark.parametrize("unit", ["word", "mixed"])
def test_a_script_without_spaces_is_named(
    unit: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "zh").write_text("今天下雨\n他看书\n" * 5, encoding="utf-8")
    form = TextForm(unit=unit)
    pack_corpus([tmp_path / "zh"], None, TokenizerConfig(unit=unit), tmp_path / "data", form)
    assert ("--unit mixed" in caplog.text) == (unit == "word")
