"""A first pass that is cut off and started again, with a decoder of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

import asrprune.firstpass.decoders.decode as decode_module
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import from_arcs
from asrprune.core.resume import AnotherRunError
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.firstpass.decoders.decode import decode_cuts
from asrprune.firstpass.decoders.pocketsphinx import Decoded, FirstPassConfig

UTTERANCES = ("u1", "u2", "u3", "u4")
CONFIG = FirstPassConfig(nbest=3)


class Killed(BaseException):
    pass


class Decoder:
    """Hears the utterance's id; ``calls`` are the ids of all decoders, ``dies_at`` one of them."""

    settings: ClassVar[dict[str, Any]] = {}
    weights = ScoreWeights(1.0, 2.0)
    calls: ClassVar[list[str]] = []
    dies_at = ""

    def __init__(self, config: FirstPassConfig) -> None:
        self.config = config

    def decode(self, utt: str, samples: Any, ref: str) -> Decoded:
        if utt == Decoder.dies_at:
            raise Killed
        Decoder.calls.append(utt)
        lattice = from_arcs(utt, 2, 0, 1, [(0, 1, utt, -1.0, -2.0)])
        nbest = NBest(utt, (Hypothesis(utt, -1.0, -2.0),), 1.0, ref)
        return Decoded(nbest, lattice, utt, 0.1, 0.1)


@pytest.fixture
def cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lines = [json.dumps({"id": utt}) + "\n" for utt in UTTERANCES]
    (tmp_path / "cuts.jsonl").write_text("".join(lines))
    monkeypatch.setattr(decode_module, "PocketSphinx", Decoder)
    monkeypatch.setattr(decode_module, "load_audio", lambda *given: None)
    monkeypatch.setattr(decode_module, "version", lambda name: "1")
    monkeypatch.setattr(Decoder, "calls", [])
    monkeypatch.setattr(Decoder, "dies_at", "")
    return tmp_path / "cuts.jsonl"


@pytest.fixture
def cut_off(cuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run that was killed at the third utterance."""
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "dies_at", "u3")
        with pytest.raises(Killed):
            decode_cuts(cuts, tmp_path / "out", CONFIG)
    assert Decoder.calls == ["u1", "u2"]
    return tmp_path / "out"


def hyps(out: Path) -> list[str]:
    return (out / "hyp").read_text(encoding="utf-8").splitlines()


def test_it_goes_on_where_it_was(cuts: Path, cut_off: Path) -> None:
    with open(cut_off / ".unfinished" / "done.jsonl", "a", encoding="utf-8") as stream:
        stream.write('{"utt": "u3", "li')  # killed while it wrote
    decode_cuts(cuts, cut_off, CONFIG)
    assert Decoder.calls == ["u1", "u2", "u3", "u4"]
    assert hyps(cut_off) == ["u1 u1", "u2 u2", "u3 u3", "u4 u4"]
    assert not (cut_off / ".unfinished").exists()


@pytest.mark.parametrize("damage", ["{}\n", "3\n", "not JSON\n", "\u00e9\n", '{"utt": "u1"}\n'])
def test_a_damaged_record_and_those_after_it_are_made_again(
    cuts: Path, cut_off: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    record = cut_off / ".unfinished" / "done.jsonl"
    first, second = record.read_text(encoding="utf-8").splitlines(keepends=True)
    record.write_bytes((first + damage + second).encode("latin-1"))
    decode_cuts(cuts, cut_off, CONFIG)
    assert "done.jsonl is damaged" in caplog.text
    assert Decoder.calls[2:] == ["u2", "u3", "u4"]
    assert len(hyps(cut_off)) == 4


def test_a_finished_run_is_left_as_it_is(
    cuts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    out = tmp_path / "out"
    summary = decode_cuts(cuts, out, CONFIG)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert decode_cuts(cuts, out, CONFIG) == summary
    assert "out: finished already, nothing to do" in caplog.text
    (out / ".unfinished").mkdir()  # killed while it removed its records
    assert decode_cuts(cuts, out, CONFIG) == summary
    (out / ".unfinished").rmdir()
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert after == before
    assert Decoder.calls == list(UTTERANCES)


@pytest.mark.parametrize("finished", [False, True])
def test_another_run_is_never_touched(cuts: Path, cut_off: Path, finished: bool) -> None:
    if finished:
        decode_cuts(cuts, cut_off, CONFIG)
    before = {path: path.stat().st_mtime_ns for path in cut_off.rglob("*")}
    message = r"out belongs to another run: config.nbest is 3 there, 9 now; remove it or choose"
    with pytest.raises(AnotherRunError, match=message):
        decode_cuts(cuts, cut_off, FirstPassConfig(nbest=9))
    assert {path: path.stat().st_mtime_ns for path in cut_off.rglob("*")} == before


def test_lattices_of_no_run_are_never_touched(cuts: Path, tmp_path: Path) -> None:
    (tmp_path / "out/lattices").mkdir(parents=True)
    (tmp_path / "out/lattices/mine").write_text("mine")
    with pytest.raises(InputError, match="lattices: files of no run; expected an empty or new"):
        decode_cuts(cuts, tmp_path / "out", CONFIG)
    assert (tmp_path / "out/lattices/mine").read_text() == "mine"
    assert not (tmp_path / "out/.unfinished").exists()


def test_a_run_that_was_killed_before_its_identity_stood_starts(cuts: Path, tmp_path: Path) -> None:
    (tmp_path / "out/lattices").mkdir(parents=True)
    (tmp_path / "out/.unfinished").mkdir()
    decode_cuts(cuts, tmp_path / "out", CONFIG)
    summary = json.loads((tmp_path / "out/first_pass.json").read_text(encoding="utf-8"))
    assert summary["utterances"] == 4
