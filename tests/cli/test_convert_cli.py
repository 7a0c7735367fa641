"""``convert`` and ``validate``: options of formats, what is left out, statuses."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pytest

from asrprune.cli.main import main

LATTICE = "utt-1 \n0\t1\t1\t1.0,2.0,7\n1\t2\t2\t0.5,1.0,\n0\t2\t2\t4.0,2.5,3\n2\n\n"
NBEST = (
    '{"format": "asrprune-nbest", "version": 1, "log_base": "e", "sign": "logprob"}\n'
    '{"utt": "u-1", "audio_s": 1.5, "ref": "a", '
    '"hyps": [{"text": "a b", "acoustic": -1, "lm": -2}]}\n'
)


@pytest.fixture
def decode(tmp_path: Path) -> Path:
    folder = tmp_path / "decode"
    folder.mkdir()
    (folder / "lat.1.gz").write_bytes(gzip.compress(LATTICE.encode()))
    (folder / "num_jobs").write_text("1\n", encoding="utf-8")
    (tmp_path / "words.txt").write_text("<eps> 0\na 1\nb 2\n", encoding="utf-8")
    return folder


def test_a_folder_of_jobs_keeps_them(tmp_path: Path, decode: Path) -> None:
    text = LATTICE.replace("utt-1", "utt-2")
    (decode / "lat.2.gz").write_bytes(gzip.compress(text.encode()))
    (decode / "num_jobs").write_text("2\n", encoding="utf-8")
    command = ["convert", "--from", "kaldi-lat", "--to", "kaldi-lat", str(decode)]
    command += ["--words", str(tmp_path / "words.txt"), "--like", str(decode)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    names = ["lat.1.gz", "lat.2.gz", "num_jobs"]
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == names
    for name, old in (("lat.1.gz", LATTICE), ("lat.2.gz", text)):
        again = gzip.decompress((tmp_path / "out" / name).read_bytes()).decode()
        assert again.split("\n")[0] == old.split("\n")[0]


@pytest.mark.parametrize(
    "target", ["kaldi-lat", "kaldi-lat-plain", "kaldi-lat-binary", "slf", "k2"]
)
def test_a_kaldi_folder_through_every_lattice_format_and_back(
    tmp_path: Path, decode: Path, target: str
) -> None:
    words = ["--words", str(tmp_path / "words.txt")]
    there, back = tmp_path / "there", tmp_path / "back"
    convert = ["convert", "--from", "kaldi-lat", "--to", target, str(decode), "--out", str(there)]
    assert main([*convert, *words]) == 0
    again = ["convert", "--from", target, "--to", "kaldi-lat", str(there), "--out", str(back)]
    assert main([*again, *(words if target != "slf" else [])]) == 0
    for folder, option in ((decode, words), (back, words if target != "slf" else [])):
        out = tmp_path / f"{folder.name}.jsonl"
        to_list = [
            "convert",
            "--from",
            "kaldi-lat",
            "--to",
            "jsonl",
            str(folder),
            "--out",
            str(out),
        ]
        assert main([*to_list, *option]) == 0
    assert (tmp_path / "back.jsonl").read_text() == (tmp_path / "decode.jsonl").read_text()
    assert '"text": "a b", "acoustic": -3.0, "lm": -1.5' in (tmp_path / "back.jsonl").read_text()


def test_what_the_target_cannot_hold_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "n.jsonl").write_text(NBEST, encoding="utf-8")
    out = tmp_path / "out"
    with caplog.at_level(logging.WARNING):
        command = ["convert", "--from", "jsonl", "--to", "kaldi-nbest", str(tmp_path / "n.jsonl")]
        assert main([*command, "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["acwt", "lmwt", "words_text"]
    said = sorted(record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert said == [
        "kaldi-nbest cannot hold audio_s: left out of 1 utterances",
        "kaldi-nbest cannot hold ref: left out of 1 utterances",
    ]


def test_options_that_have_no_use_or_are_missing_are_usage_errors(
    tmp_path: Path, decode: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "x.jsonl")
    command = ["convert", "--from", "jsonl", "--to", "mlm-json", "x", "--out", out]
    assert main([*command, "--words", "w"]) == 2
    assert "--words has no use from jsonl to mlm-json" in capsys.readouterr().err
    assert main(["validate", "--format", "nemo-tsv", "x"]) == 2
    assert "format nemo-tsv needs --manifest FILE" in capsys.readouterr().err
    assert main(["validate", "--format", "kaldi-lat", str(decode)]) == 1
    assert "pass --words words.txt" in capsys.readouterr().err
    writers = ["validate", "--format", "kaldi-lat", str(decode), "--like", str(decode)]
    assert main(writers) == 2  # a flag of writers


def test_validate_takes_the_options_of_a_format(
    tmp_path: Path, decode: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--words", str(tmp_path / "words.txt")]
    assert main(["validate", "--format", "kaldi-lat", str(decode), *words]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "format": "kaldi-lat",
        "utterances": 1,
        "states": 3,
        "arcs": 3,
        "without_lm_score": 0,
    }
    (tmp_path / "x.txt").write_text("u | -3 | -2 | -1 | 0 | a\n", encoding="utf-8")
    for base, status in (("e", 0), ("10", 0), ("1", 2)):
        command = ["validate", "--format", "flashlight", str(tmp_path / "x.txt"), "--lm-base", base]
        assert main(command) == status


def test_references_and_durations_are_joined_by_utterance(
    tmp_path: Path, decode: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "text").write_text("other x\nutt-1 a c\n", encoding="utf-8")
    (data / "utt2dur").write_text("utt-1 2.5\nother 1\n", encoding="utf-8")
    out = tmp_path / "x.jsonl"
    command = ["convert", "--from", "kaldi-lat", "--to", "jsonl", str(decode), "--out", str(out)]
    command += ["--words", str(tmp_path / "words.txt"), "--references", str(data)]
    assert main([*command, "--references-format", "kaldi"]) == 0
    record = json.loads(out.read_text().splitlines()[1])
    assert (record["ref"], record["audio_s"]) == ("a c", 2.5)
    (data / "text").write_text("other x\n", encoding="utf-8")
    assert main([*command, "--references-format", "kaldi", "--force"]) == 1
    assert "utterance utt-1 has no reference" in capsys.readouterr().err
    assert main(command) == 2
    assert "go together" in capsys.readouterr().err


def test_content_that_the_target_cannot_hold_is_one_line_about_the_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = tmp_path / "x.jsonl"
    lists.write_text(NBEST.replace("]}", ', {"text": "a", "lm": -2}]}'))
    command = ["convert", "--from", "jsonl", "--to", "kaldi-nbest", str(lists)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == (
        f"asrprune convert: {lists}: utterance u-1, hypothesis 2: scores for lmwt, those before it"
        " for acwt and lmwt; expected what kaldi-nbest holds\n"
    )
    assert not (tmp_path / "out").exists()
