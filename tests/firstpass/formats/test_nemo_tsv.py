"""NeMo: ids out of manifests, and beams that are not even."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asrprune.errors import InputError
from asrprune.firstpass.formats.nemo_tsv import read_nemo_tsv
from asrprune.firstpass.reading.nemo_manifest import read_manifest


def _manifest(folder: Path, *entries: dict[str, Any], end: str = "") -> Path:
    path = folder / "manifest.json"
    lines = [json.dumps({"duration": 2.5, "text": "a b", **entry}) for entry in entries]
    path.write_text("".join(f"{line}\n" for line in lines) + end, encoding="utf-8")
    return path


def _at(path: str, **more: Any) -> dict[str, Any]:
    return {"audio_filepath": path, **more}


@pytest.mark.parametrize(
    ("entries", "ids"),
    [
        ([_at("/d/u1.wav"), _at("u2.flac"), _at("d/u.3")], ["u1", "u2", "u.3"]),
        ([_at("/d/my talk/day 1.wav")], ["day_1"]),
        ([_at("/d/a/1.wav"), _at("/d/b/1.wav"), _at("/d/a/2.wav")], ["a-1", "b-1", "2"]),
        (
            [_at("/d/x/m/1.wav"), _at("/d/y/m/1.wav"), _at("/d/y/n/1.wav")],
            ["x-m-1", "y-m-1", "y-n-1"],
        ),
        (
            [_at("/d/s.wav", offset=0.0), _at("/d/s.wav", offset=2.5), _at("/d/t.wav", offset=9)],
            ["s-0000000-0000250", "s-0000250-0000500", "t"],
        ),
        (
            [_at("/d/s.wav"), _at("/d/s.wav"), _at("/d/s.wav", offset=1)],
            ["s-0000000-0000250-line1", "s-0000000-0000250-line2", "s-0000100-0000350"],
        ),
        (
            [_at("/d/a/s.wav", offset=1, duration=None), _at("/d/b/s.wav"), _at("/d/a/s.wav")],
            ["a-s-0000100-end", "b-s", "a-s-0000000-0000250"],
        ),
        ([_at("C:\\\\d\\a\\1.wav"), _at("C:\\d\\b\\1.wav")], ["a-1", "b-1"]),
    ],
)
def test_ids_differ_by_folder_then_segment_then_line(
    tmp_path: Path, entries: list[dict[str, Any]], ids: list[str]
) -> None:
    found = read_manifest(_manifest(tmp_path, *entries, end="\n  \n"))
    assert [entry.utt for entry in found] == ids


def test_ids_of_a_key(tmp_path: Path) -> None:
    path = _manifest(tmp_path, _at("s.wav", utt_id="x"), _at("s.wav", utt_id=7))
    assert [entry.utt for entry in read_manifest(path, "utt_id")] == ["x", "7"]
    for value, found in ((None, "no 'utt_id'"), ("a b", "utt_id 'a b'"), ("x", "x again")):
        path = _manifest(tmp_path, _at("s.wav", utt_id="x"), _at("s.wav", utt_id=value))
        with pytest.raises(InputError, match=rf":2: .*{found}"):
            read_manifest(path, "utt_id")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"duration": 1}', ":1: no 'audio_filepath'"),
        ('{"audio_filepath": "//"}', ":1: audio_filepath '//'"),
        ('{"audio_filepath": "a.wav", "offset": -1}', ":1: utterance a: offset -1"),
        ('{"audio_filepath": "a.wav", "duration": "2"}', ":1: utterance a: duration '2'"),
        ('{"audio_filepath": "a.wav", "duration": NaN}', ":1: the number NaN"),
        ('{"audio_filepath": "a.wav", "text": 3}', ":1: utterance a: text '3'"),
        ('\n{"audio_filepath": "a.wav"}', ":1: bad JSON"),
        ("[]", ":1: '\\[\\]'; expected a JSON object"),
        ("", "no utterance"),
    ],
)
def test_bad_manifests_are_named(tmp_path: Path, line: str, found: str) -> None:
    (tmp_path / "m").write_text(line, encoding="utf-8")
    with pytest.raises(InputError, match=found):
        read_manifest(tmp_path / "m")


TEXTS = ["turn left at the church", "nobody was there", "the ship sails at dawn"]


def _read(folder: Path, beams: list[list[str]], texts: list[str], **options: Any) -> list[Any]:
    entries = [_at(f"{number}.wav", text=text) for number, text in enumerate(texts)]
    lines = [f"{text}\t-1.5\n" for beam in beams for text in beam]
    (folder / "x.tsv").write_text("".join(lines), encoding="utf-8")
    return list(read_nemo_tsv(folder / "x.tsv", _manifest(folder, *entries), **options))


def test_even_beams_are_read_whatever_their_errors(tmp_path: Path) -> None:
    beams = [
        ["turn left at the church", "turned left at a church"],
        ["no body wash hair", "nobody was their"],
        ["this hips ails at don", "the ship sails at don"],
    ]
    lists = _read(tmp_path, beams, TEXTS)
    assert [[hyp.text for hyp in one.hyps] for one in lists] == beams


@pytest.mark.parametrize(
    ("beams", "utt"),
    [
        # three for the first: the last of them would be the second's first
        (
            [
                ["turn left at the church", "turn left at the search", "turn lift at the church"],
                ["nobody was there"],
                ["the ship sails at dawn", "a ship sails at dawn"],
            ],
            "1",
        ),
        # one for the first: the second's first would be the first's second, the last two are right
        (
            [
                ["turn left at the church"],
                ["nobody was there", "nobody was fair", "nobody is there"],
                ["the ship sails at dawn", "a ship sails at dawn"],
            ],
            "0",
        ),
    ],
)
def test_a_shift_is_refused_by_name(tmp_path: Path, beams: list[list[str]], utt: str) -> None:
    for texts in (TEXTS, [text.upper() + "." for text in TEXTS]):
        with pytest.raises(InputError, match=rf"utterance {utt}: .*--beam-size") as caught:
            _read(tmp_path, beams, texts)
        assert "x.tsv:" in str(caught.value)
    with pytest.raises(InputError, match=r"6 lines for the 3 .*expected 3 for each .*9 in all"):
        _read(tmp_path, beams, TEXTS, beam_size=3)
    assert len(_read(tmp_path, beams, TEXTS, beam_size=2)) == 3  # who states it answers for it


def test_a_shift_shows_in_a_language_without_spaces(tmp_path: Path) -> None:
    texts = ["\u4eca\u5929\u5929\u6c14\u5f88\u597d", "\u6211\u4eec\u53bb\u516c\u56ed"]
    beams = [[texts[0], texts[0][:-1], texts[0][1:]], [texts[1]]]
    with pytest.raises(InputError, match="utterance 1: "):
        _read(tmp_path, beams, texts)
    assert len(_read(tmp_path, [[texts[0]] * 2, [texts[1]] * 2], texts)) == 2


def test_beams_that_cannot_be_checked_are_called_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _read(tmp_path, [["a b", "a"], ["c d", "c"]], ["", ""])
    assert "cannot be checked without texts" in caplog.text
    caplog.clear()
    _read(tmp_path, [["a b", "a"], ["c d", "c"]], ["", ""], beam_size=2)
    assert not caplog.text
