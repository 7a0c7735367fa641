from __future__ import annotations

import gzip

import pytest

from asrprune.errors import InputError
from asrprune.wer.kaldi_text import kaldi_text_writer, read_kaldi_text


def _write(path, texts):
    with kaldi_text_writer(path) as put:
        for utt, text in texts.items():
            put(utt, text)


def test_tabs_crlf_runs_of_space_and_empty_transcripts(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"b-2\tthe  cat\r\na-1\r\nc-3 i\n")
    texts = read_kaldi_text(path)
    assert list(texts.items()) == [("b-2", "the cat"), ("a-1", ""), ("c-3", "i")]


@pytest.mark.parametrize("name", ["text", "text.gz"])
def test_written_then_read_is_the_same(tmp_path, name):
    texts = {"u2": "naïve 字", "u1": "", "u3": "a"}
    _write(tmp_path / name, texts)
    assert list(read_kaldi_text(tmp_path / name).items()) == list(texts.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"u1 a\n\nu2 b\n", r"text:2: a blank line"),
        (b"u1 a\nu2 b\nu1 c\n", r"text:3: utterance u1 again \(first on line 1\)"),
        (b"u1 \xff\n", r"text:1: bytes that are not UTF-8"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, message):
    path = tmp_path / "text"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_kaldi_text(path)


def test_truncated_gzip_is_refused(tmp_path):
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"u1 some words here\nu2 and more\n")[:-9])
    with pytest.raises(InputError, match="damaged compressed data"):
        read_kaldi_text(path)


@pytest.mark.parametrize("texts", [{"u 1": "a"}, {"": "a"}, {"u1": "a  b"}, {"u1": "a\nu2 b"}])
def test_what_could_not_be_read_back_is_not_written(tmp_path, texts):
    with pytest.raises(ValueError, match=r"white space"):
        _write(tmp_path / "text", texts)
    assert not (tmp_path / "text").exists()
