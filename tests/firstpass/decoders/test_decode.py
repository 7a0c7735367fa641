"""A first pass that is cut off and started again, with a decoder of our own."""

from __future__ import annotations

import json
from collections.abc import Callable
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
from asrprune.firstpass.decoders.decoder import Decoded
from asrprune.firstpass.decoders.pocketsphinx import PocketSphinxConfig
from asrprune.firstpass.decoders.state import Done, to_record

UTTERANCES = ("u1", "u2", "u3", "u4")
CONFIG = PocketSphinxConfig(nbest=3)


class Killed(BaseException):
    pass


class Decoder:
    """Hears the utterance's id; ``calls`` are the ids of all decoders, ``dies_at`` one of them."""

    settings: ClassVar[dict[str, Any]] = {}
    weights = ScoreWeights(1.0, 2.0)
    calls: ClassVar[list[str]] = []
    dies_at = ""

    def __init__(self, config: PocketSphinxConfig, temporary: Path | None = None) -> None:
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
    monkeypatch.setattr(PocketSphinxConfig, "open", lambda *given: Decoder(*given))
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


def state(out: Path) -> Path:
    return out.with_name(out.name + ".decoding")


def test_it_goes_on_where_it_was(
    cuts: Path, cut_off: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not cut_off.exists()
    with open(state(cut_off) / "done.txt", "a", encoding="utf-8") as stream:
        stream.write('0123456789abcdef {"utt": "u3", "li')  # killed while it wrote
    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "dies_at", "u4")
        with pytest.raises(Killed):
            decode_cuts(cuts, cut_off, CONFIG)
    assert not cut_off.exists()
    decode_cuts(cuts, cut_off, CONFIG)
    assert Decoder.calls == ["u1", "u2", "u3", "u4"]
    assert hyps(cut_off) == ["u1 u1", "u2 u2", "u3 u3", "u4 u4"]
    assert not state(cut_off).exists()


def test_what_a_killed_worker_left_is_not_in_the_result(cuts: Path, cut_off: Path) -> None:
    left = state(cut_off) / "result/lattices"
    (left / ".u3.slf.gz.123.tmp").write_text("half a latt")
    (left / "of-other-cuts.slf.gz").write_text("stale")
    (state(cut_off) / "result/notes").mkdir()
    decode_cuts(cuts, cut_off, CONFIG)
    assert sorted(path.name for path in cut_off.rglob("*")) == [
        *("first_pass.json", "hyp", "lattices", "nbest.jsonl.gz"),
        *(f"{utt}.slf.gz" for utt in UTTERANCES),
    ]


@pytest.mark.parametrize(
    "damage",
    [
        *("{}\n", "3\n", "not a record\n", "\u00e9\n", '0123456789abcdef {"utt": "u1"}\n', "bit"),
        to_record("u2", Done('{"utt": "u2", "hyps": []}', "", [], 0.0, "")),  # type: ignore[arg-type]
        to_record("u2", Done('{"utt": "u3", "hyps": []}', "", 0.0, 0.0, "")),
    ],
)
def test_a_damaged_record_and_those_after_it_are_made_again(
    cuts: Path, cut_off: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    record = state(cut_off) / "done.txt"
    first, second = record.read_text(encoding="utf-8").splitlines(keepends=True)
    assert "u2" in second
    changed = second.replace("u2", "u3") if damage == "bit" else damage + second
    record.write_bytes((first + changed).encode("latin-1"))
    decode_cuts(cuts, cut_off, CONFIG)
    assert "done.txt is damaged" in caplog.text
    assert Decoder.calls[2:] == ["u2", "u3", "u4"]
    assert hyps(cut_off) == ["u1 u1", "u2 u2", "u3 u3", "u4 u4"]


@pytest.mark.parametrize("damage", [None, b"other bytes"])
def test_a_lattice_that_is_not_as_written_is_made_again(
    cuts: Path, cut_off: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    lattice = state(cut_off) / "result/lattices/u1.slf.gz"
    written = lattice.read_bytes()
    lattice.unlink()
    if damage is not None:
        lattice.write_bytes(damage)
    decode_cuts(cuts, cut_off, CONFIG)
    assert "u1.slf.gz is damaged" in caplog.text
    assert Decoder.calls[2:] == ["u1", "u3", "u4"]
    assert (cut_off / "lattices/u1.slf.gz").read_bytes() == written


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: '{"decoder": "pock',
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"nbest": 3', '"nbest": 2'),  # one bit
    ],
)
def test_a_damaged_identity_starts_anew(
    cuts: Path,
    cut_off: Path,
    damage: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = state(cut_off) / "identity.json"
    text = place.read_text()
    place.write_text(damage(text))
    assert place.read_text() != text
    decode_cuts(cuts, cut_off, CONFIG)
    assert "identity.json is damaged" in caplog.text
    assert Decoder.calls[2:] == list(UTTERANCES)
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
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert Decoder.calls == list(UTTERANCES)


@pytest.mark.parametrize("left", [[], ["identity.json"], ["identity.json", "done.txt"]])
def test_a_run_that_was_killed_as_it_removed_its_state_leaves_none(
    cuts: Path, cut_off: Path, left: list[str]
) -> None:
    kept = {name: (state(cut_off) / name).read_bytes() for name in left}
    decode_cuts(cuts, cut_off, CONFIG)
    state(cut_off).mkdir()
    for name, data in kept.items():
        (state(cut_off) / name).write_bytes(data)
    before = hyps(cut_off)
    decode_cuts(cuts, cut_off, CONFIG)
    assert hyps(cut_off) == before
    assert not state(cut_off).exists()


@pytest.mark.parametrize("finished", [False, True])
def test_another_run_is_never_touched(cuts: Path, cut_off: Path, finished: bool) -> None:
    if finished:
        decode_cuts(cuts, cut_off, CONFIG)
    place = cut_off if finished else state(cut_off)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    message = f"{place} belongs to another run: config.nbest is 3 there, 9 now; remove it or choose"
    with pytest.raises(AnotherRunError, match=message):
        decode_cuts(cuts, cut_off, PocketSphinxConfig(nbest=9))
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


@pytest.mark.parametrize("name", ["out/lattices/mine", "out/mine", "out.decoding/mine"])
def test_files_of_no_run_are_never_touched(cuts: Path, tmp_path: Path, name: str) -> None:
    mine = tmp_path / name
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    folder = name.partition("/")[0]
    with pytest.raises(InputError, match=rf"{folder}: files of no run; expected a new"):
        decode_cuts(cuts, tmp_path / "out", CONFIG)
    assert mine.read_text() == "mine"
    assert Decoder.calls == []


def test_an_unfinished_run_of_an_earlier_version_is_named(cuts: Path, tmp_path: Path) -> None:
    old = tmp_path / "out/.unfinished"
    old.mkdir(parents=True)
    (old / "identity.json").write_text("{}")
    message = r"out/\.unfinished: a first pass that an earlier version .* left unfinished; expected"
    with pytest.raises(InputError, match=message):
        decode_cuts(cuts, tmp_path / "out", CONFIG)
    assert (old / "identity.json").exists()


def test_a_run_that_was_killed_before_its_identity_stood_starts(cuts: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out.decoding").mkdir()
    (tmp_path / "out.decoding/.identity.json.99.tmp").touch()
    decode_cuts(cuts, tmp_path / "out", CONFIG)
    summary = json.loads((tmp_path / "out/first_pass.json").read_text(encoding="utf-8"))
    assert summary["utterances"] == 4


def test_a_link_to_a_folder_stays_one(cuts: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk/first")
    decode_cuts(cuts, tmp_path / "out", CONFIG)
    assert (tmp_path / "out").is_symlink()
    assert len(hyps(tmp_path / "disk/first")) == 4
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["first"]
