"""A CutSet runs and fetches nothing, unless it may."""

from __future__ import annotations

import importlib.util
import json
import shlex
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asrprune.cli.main import main
from asrprune.errors import InputError, MissingPackage
from asrprune.firstpass.decoders.cuts import CutLine, load_audio, read_cut_lines

AUDIO = {"type": "file", "channels": [0], "source": "a.wav"}


def recording(source: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "r",
        "sources": [source],
        "sampling_rate": 16000,
        "num_samples": 160,
        "duration": 0.01,
        "channel_ids": [0],
    }


def cut(source: dict[str, Any], **more: Any) -> dict[str, Any]:
    where = {"id": "u", "start": 0.0, "duration": 0.01, "channel": 0, "supervisions": []}
    return {**where, "recording": recording(source), "type": "MonoCut", **more}


def places(source: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Cuts with the source in every place where lhotse makes audio of one."""
    track = {"cut": cut(source), "type": "MonoCut", "offset": 0.0}
    echo = {"name": "ReverbWithImpulseResponse", "kwargs": {"rir": recording(source)}}
    plain = cut(AUDIO)
    return {
        "recording": cut(source),
        "second": {**plain, "recording": {**recording(AUDIO), "sources": [AUDIO, source]}},
        "track": {"id": "u", "type": "MixedCut", "tracks": [track]},
        "echo": {**plain, "recording": {**recording(AUDIO), "transforms": [echo]}},
        "mixed echo": {"id": "u", "type": "MixedCut", "tracks": [], "transforms": [echo]},
        "custom": cut(AUDIO, custom={"clean": recording(source)}),
        "no cut": {**recording(source), "id": "u"},
    }


def write(path: Path, *cuts: dict[str, Any]) -> Path:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in cuts), encoding="utf-8")
    return path


@pytest.mark.parametrize("place", places(AUDIO))
@pytest.mark.parametrize("kind", ["command", "url", "memory", "shar", None])
def test_audio_out_of_no_file_is_refused_before_anything_is_read(
    kind: str | None, place: str, tmp_path: Path
) -> None:
    source = {**AUDIO, "type": kind, "source": "pipe:touch here"}
    path = write(tmp_path / "cuts.jsonl", {**cut(AUDIO), "id": "first"}, places(source)[place])
    message = rf"cuts.jsonl:2: utterance u: audio of type {kind!r} \('pipe:touch here'\); expected "
    with pytest.raises(InputError, match=message):
        list(read_cut_lines(path))
    assert [one.utt for one in read_cut_lines(path, allow_commands=True)] == ["first", "u"]
    assert list(read_cut_lines(write(path, places(AUDIO)[place])))


def test_other_fields_that_look_alike_are_none(tmp_path: Path) -> None:
    custom = {"type": "command", "source": "call centre", "speakers": ["a"]}
    assert list(read_cut_lines(write(tmp_path / "cuts.jsonl", cut(AUDIO, custom=custom))))


def test_the_verb_refuses_them_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = {**AUDIO, "type": "command", "source": f"touch {tmp_path}/run"}
    cuts = write(tmp_path / "cuts.jsonl", cut(source))
    assert main(["first-pass", "--cuts", str(cuts), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "cuts.jsonl:1: utterance u: audio of type 'command'" in error
    assert "--allow-commands" in error
    assert [path.name for path in tmp_path.iterdir()] == ["cuts.jsonl"]


def load(one: dict[str, Any], **allowed: bool) -> Any:
    return load_audio(CutLine("cuts.jsonl", 1, "u", None, json.dumps(one)), 16000, **allowed)


@pytest.mark.slow
def test_no_name_of_a_file_is_given_to_a_shell_or_fetched(tmp_path: Path) -> None:
    from lhotse.audio.backend import get_current_audio_backend

    before = get_current_audio_backend()
    for name in ("a.sph", "a.opus", "a.mp4", "a.wav"):  # lhotse has sph2pipe run by a shell
        bad = f"x; touch {shlex.quote(str(tmp_path / 'run'))}; true {name}"
        with pytest.raises(InputError, match=r"utterance u: audio cannot be read .*--allow-comm"):
            load(cut({**AUDIO, "source": bad}))
        assert not (tmp_path / "run").exists()
    assert get_current_audio_backend() is before
    with pytest.raises(InputError, match="audio cannot be read"):
        load(cut({**AUDIO, "source": "a b; exit 3; .sph"}), allow_commands=True)


@pytest.mark.slow
def test_why_audio_cannot_be_read_is_said(tmp_path: Path) -> None:
    pytest.importorskip("lhotse")
    with pytest.raises(InputError, match=r"utterance u: audio cannot be read \(no such file 'a.wa"):
        load(cut(AUDIO))
    path = write_wav(tmp_path / "a.wav")
    long = cut({**AUDIO, "source": str(path)})
    long["recording"] = {**long["recording"], "num_samples": 32000, "duration": 2.0}
    with pytest.raises(InputError, match="u: audio of another length; expected as many samples"):
        load({**long, "duration": 2.0})


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 22050])
def test_audio_of_other_sampling_rates_is_resampled(
    rate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lhotse")
    path = write_wav(tmp_path / "a.wav", rate)
    other = cut({**AUDIO, "source": str(path)}, duration=160 / rate)
    other["recording"].update(sampling_rate=rate, duration=160 / rate)
    if importlib.util.find_spec("scipy"):
        assert abs(len(load(other)) - 160 * 16000 / rate) <= 1

    def without(*given: Any) -> None:
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    monkeypatch.setattr("lhotse.augmentation.torchaudio.Resample.__call__", without)
    with pytest.raises(MissingPackage, match=r"scipy is needed here: pip install 'asrprune\[mini"):
        load(other)


def write_wav(path: Path, rate: int = 16000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((1000 * np.sin(np.arange(160) / 5)).astype("<i2").tobytes())
    return path


@pytest.mark.slow
def test_allowed_commands_run(tmp_path: Path) -> None:
    pytest.importorskip("lhotse")
    path = write_wav(tmp_path / "a.wav")
    samples = load(cut({**AUDIO, "source": str(path)}))
    assert samples.shape == (160,)
    command = {**AUDIO, "type": "command", "source": f"cat {shlex.quote(str(path))}"}
    assert (load(cut(command), allow_commands=True) == samples).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "shar"])
def test_audio_that_is_nowhere_is_one_line(kind: str) -> None:
    pytest.importorskip("lhotse")
    with pytest.raises(InputError, match=r"cuts.jsonl:1: utterance u: \w+Error .*; expected"):
        load(cut({**AUDIO, "type": kind}), allow_commands=True)


def said(name: str, start: float, text: str) -> dict[str, Any]:
    return {"id": name, "recording_id": "r", "start": start, "duration": 1.0, "text": text}


def test_words_are_in_the_order_in_which_they_are_said(tmp_path: Path) -> None:
    both = [said("s2", 1.0, "second half"), said("s1", 0.0, "first half")]
    alone = {"type": "MonoCut", "offset": 0.0}
    padded = {
        "id": "padded",
        "type": "MixedCut",
        "tracks": [
            {**alone, "cut": cut(AUDIO, supervisions=[said("p1", 0.0, "padded words")])},
            {"type": "PaddingCut", "offset": 1.0, "cut": {"id": "pad", "duration": 1.0}},
        ],
    }
    appended = {
        "id": "appended",
        "type": "MixedCut",
        "tracks": [
            {**alone, "offset": 2.0, "cut": cut(AUDIO, supervisions=[said("a2", 0.5, "c")])},
            {**alone, "cut": cut(AUDIO, supervisions=both)},
        ],
    }
    path = write(tmp_path / "cuts.jsonl", cut(AUDIO, supervisions=both), padded, appended)
    assert [(one.utt, one.ref) for one in read_cut_lines(path)] == [
        ("u", "first half second half"),
        ("p1", "padded words"),
        ("appended", "first half second half c"),
    ]
    for tracks in ([{"offset": 1.0}], {}, [1]):
        write(path, {"id": "m", "type": "MixedCut", "tracks": tracks})
        with pytest.raises(InputError, match=r"cuts\.jsonl:1: (a track|tracks) .*; expected lists"):
            list(read_cut_lines(path))
