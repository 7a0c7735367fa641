"""The speech of recipes/mini: which synthesiser is taken, and what it writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

LOCAL = Path(__file__).parents[2] / "local/mini"
sys.path.insert(0, str(LOCAL))

import hibari_voice
import prepare_text
import synthesise

import asrprune
from asrprune.errors import InputError


def utterance_list(folder: Path) -> Path:
    rows = [
        {"utt": f"{voice}-1", "voice": voice, "text": "he went down to the sea"}
        for voice in prepare_text.VOICES
    ]
    path = folder / "utterances.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_missing_flite_is_one_clear_line(tmp_path: Path) -> None:
    options = ("--utterances", utterance_list(tmp_path), "--out", tmp_path / "out")
    run = subprocess.run(
        [sys.executable, LOCAL / "synthesise.py", *options, "--synthesiser", "flite"],
        env={**os.environ, "PYTHONPATH": str(Path(asrprune.__file__).parents[1]), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.startswith(
        "synthesise: flite: command not found; expected: apt-get install -y flite"
    )
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "line", ["{", '{"utt": "a", "voice": "rms"}', '{"utt": "a", "voice": "b", "text": "c"}\n' * 2]
)
def test_bad_utterance_lists_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "list").write_text(line)
    with pytest.raises(InputError):
        synthesise.read_utterances(str(tmp_path / "list"))


@pytest.fixture(params=["flite", "hibari"])
def synthesiser(request: pytest.FixtureRequest) -> synthesise.Synthesiser:
    if request.param == "flite" and shutil.which("flite") is None:
        pytest.skip("flite is not installed")
    if request.param == "hibari":
        pytest.importorskip("hibari")
    return synthesise.SYNTHESISERS[request.param](prepare_text.VOICES)


def test_speech_is_deterministic_and_resumes(
    synthesiser: synthesise.Synthesiser, tmp_path: Path
) -> None:
    lhotse = pytest.importorskip("lhotse")
    utterances = synthesise.read_utterances(str(utterance_list(tmp_path)))
    audio_s = synthesise.synthesise(synthesiser, utterances, tmp_path / "a", 2)
    synthesise.synthesise(synthesiser, utterances, tmp_path / "b", 1)
    wavs = sorted((tmp_path / "a/wav").iterdir())
    assert len(wavs) == 4
    assert [path.read_bytes() for path in wavs] == [
        path.read_bytes() for path in sorted((tmp_path / "b/wav").iterdir())
    ]
    cuts = lhotse.CutSet.from_file(tmp_path / "a/cuts.jsonl.gz")
    assert [cut.sampling_rate for cut in cuts] == [16000] * 4
    assert all(1.0 < cut.duration < 4.0 for cut in cuts)
    assert sum(cut.duration for cut in cuts) == pytest.approx(audio_s)
    assert [cut.id for cut in cuts] == ["awb-1", "kal16-1", "rms-1", "slt-1"]
    spoken = [cut.supervisions[0] for cut in cuts]
    assert {one.text for one in spoken} == {"he went down to the sea"}
    assert all(one.custom == {"synthetic": True, "synthesiser": synthesiser.name} for one in spoken)
    readers = ["awb", "kal16", "rms", "slt"] if synthesiser.name == "flite" else ["heart"] * 4
    assert [one.speaker for one in spoken] == readers
    times = {path: path.stat().st_mtime_ns for path in wavs}
    (tmp_path / "a/wav/left-over.wav").touch()
    wavs[0].unlink()
    synthesise.synthesise(synthesiser, utterances, tmp_path / "a", 2)
    assert sorted((tmp_path / "a/wav").iterdir()) == wavs
    assert all(path.stat().st_mtime_ns == times[path] for path in wavs[1:])


def test_another_synthesiser_reads_everything_anew() -> None:
    class Reader:
        def __init__(self, name: str, speaker: str) -> None:
            self.name = name
            self.speaker = lambda voice: speaker

    utterance = synthesise.Utterance("rms-1", "rms", "go down")
    names = {
        utterance.wav_name(Reader(name, speaker))
        for name, speaker in [("flite", "rms"), ("flite", "slt"), ("hibari", "rms")]
    }
    assert len(names) == 3


def test_speech_that_cannot_be_made_names_the_utterance(tmp_path: Path) -> None:
    class Mute:
        name = "mute"

        def speaker(self, voice: str) -> str:
            return voice

        def write(self, text: str, voice: str, wav: Path) -> None:
            wav.write_bytes(b"half")
            raise RuntimeError("no air")

    with pytest.raises(InputError, match="rms-1: no air"):
        synthesise.speak(Mute(), synthesise.Utterance("rms-1", "rms", "go"), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [1, 2, 3, 2401, 24000])
def test_speech_is_resampled_at_the_same_pitch_and_amplitude(length: int) -> None:
    def tone(rate: int, samples: int) -> np.ndarray:
        time = np.arange(samples) / rate
        return 0.5 * np.sin(2 * np.pi * 440 * time) * np.hanning(samples)

    samples = hibari_voice.to_16_khz(tone(24000, length))
    assert len(samples) == -(-length // 3) * 2
    if length == 24000:
        assert samples == pytest.approx(tone(16000, 16000), abs=1e-4)


def test_what_16_khz_cannot_hold_is_left_out() -> None:
    time = np.arange(24000) / 24000
    assert abs(hibari_voice.to_16_khz(np.sin(2 * np.pi * 9000 * time))).max() < 1e-9


FAKE_APT = """#!/usr/bin/env bash
echo "$*" >>"$LOG"
case "$* " in
  *--version*) ;;
  *update*) touch "$BIN/lists" ;;
  *install*)
    [ -e "$BIN/lists" ] || { echo "E: Unable to locate package flite"; exit 100; }
    printf '#!/bin/sh\\n' >"$BIN/flite"
    chmod +x "$BIN/flite"
    ;;
esac
"""


class Machine:
    """A folder of commands that stands for a machine: what is not put there is not installed."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.log = folder / "bin", folder / "log"
        self.bin.mkdir()
        self.log.touch()
        for tool in ("bash", "env", "date", "mktemp", "tail", "rm", "touch", "chmod"):
            (self.bin / tool).symlink_to(str(shutil.which(tool)))

    def add(self, command: str, text: str) -> None:
        (self.bin / command).write_text(text)
        (self.bin / command).chmod(0o755)

    def find(self, wanted: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.bin / "bash"), str(LOCAL / "find_synthesiser.sh"), wanted],
            env={"PATH": str(self.bin), "BIN": str(self.bin), "LOG": str(self.log)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("wanted", ["auto", "flite"])
def test_flite_that_is_there_is_taken(machine: Machine, wanted: str) -> None:
    machine.add("flite", "#!/bin/sh\n")
    machine.add("apt-get", FAKE_APT)
    run = machine.find(wanted)
    assert (run.returncode, run.stdout, machine.log.read_text()) == (0, "flite\n", "")


@pytest.mark.parametrize("user", ["0", "1000"])
def test_flite_is_installed_by_root_and_by_sudo_without_a_password(
    machine: Machine, user: str
) -> None:
    machine.add("id", f"#!/bin/sh\necho {user}\n")
    machine.add("apt-get", FAKE_APT)
    machine.add("sudo", '#!/usr/bin/env bash\n[ "$1" = -n ] && shift && echo sudo >>"$LOG"\n"$@"\n')
    run = machine.find("auto")
    assert (run.returncode, run.stdout) == (0, "flite\n")
    assert "installing flite" in run.stderr
    calls = machine.log.read_text().splitlines()
    assert ("sudo" in calls) == (user == "1000")
    asked = [call.split()[-1] for call in calls if call.startswith("-q -y")]
    assert asked == ["flite", "update", "flite"]  # the lists were empty


def test_without_a_way_to_flite_the_neural_voice_is_taken_and_the_log_says_why(
    machine: Machine,
) -> None:
    run = machine.find("auto")
    assert (run.returncode, run.stdout) == (0, "hibari\n")
    assert "hibari, one neural voice, since there is no flite and there is no apt-get" in run.stderr
    machine.add("id", "#!/bin/sh\necho 1000\n")
    machine.add("apt-get", FAKE_APT)
    machine.add("sudo", "#!/bin/sh\necho 'a password is required' >&2\nexit 1\n")
    run = machine.find("auto")
    assert (run.returncode, run.stdout, machine.log.read_text()) == (0, "hibari\n", "")
    assert "apt-get needs root" in run.stderr
    machine.add("id", "#!/bin/sh\necho 0\n")
    machine.add("apt-get", "#!/bin/sh\necho 'E: no network'\nexit 100\n")
    run = machine.find("auto")
    assert (run.returncode, run.stdout) == (0, "hibari\n")
    assert "apt-get: E: no network" in run.stderr


def test_a_synthesiser_that_was_asked_for_is_not_replaced(machine: Machine) -> None:
    run = machine.find("flite")
    assert (run.returncode, run.stdout) == (1, "")
    assert "expected: apt-get install -y flite" in run.stderr
    machine.add("flite", "#!/bin/sh\n")
    assert machine.find("hibari").stdout == "hibari\n"
    run = machine.find("espeak")
    assert (run.returncode, run.stdout) == (2, "")
    assert "expected auto, flite or hibari" in run.stderr


def test_a_folder_of_outputs_keeps_the_synthesiser_that_it_began_with(
    machine: Machine, tmp_path: Path
) -> None:
    for tool in ("dirname", "mkdir", "nproc"):
        (machine.bin / tool).symlink_to(str(shutil.which(tool)))
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").symlink_to(sys.executable)

    def prepare(exp: str, *options: str) -> str:
        recipe = LOCAL.parents[1] / "recipes/mini/run.sh"
        subprocess.run(
            [machine.bin / "bash", recipe, "--stop-stage", "-1", "--exp", tmp_path / exp, *options],
            env={"PATH": str(machine.bin), "ASRPRUNE_VENV": str(tmp_path / "venv")},
            capture_output=True,
            check=True,
            timeout=60,
        )
        return (tmp_path / exp / "synthesiser").read_text()

    assert prepare("old") == "hibari\n"
    machine.add("flite", "#!/bin/sh\n")
    assert prepare("old") == "hibari\n"
    assert prepare("new") == "flite\n"
    assert prepare("old", "--synthesiser", "flite") == "flite\n"
