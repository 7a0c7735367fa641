"""Synthetic speech for the utterance lists of recipes/mini, read by flite's own voices.

    python local/mini/synthesise.py --utterances exp/mini/text/dev/utterances.jsonl \\
        --out exp/mini/audio/dev --nj 2

Writes ``wav/*.wav`` (16 kHz, 16 bit, mono), ``cuts.jsonl.gz`` (a lhotse CutSet with the text as
supervision), ``text`` and ``utt2dur`` (Kaldi), all sorted by utterance id. flite is deterministic:
the same list gives the same samples. A finished wav is used again; its name holds a hash of voice
and text, so a changed sentence is read anew. The speech is synthetic: results on it compare
language models, they do not predict a word error rate on people's speech.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asrprune.errors import InputError, MissingPackage
from asrprune.files import read_lines, write_text

SAMPLING_RATE = 16000


class NoFlite(Exception):
    """flite is not installed."""

    def __init__(self) -> None:
        super().__init__("flite: command not found; expected: apt-get install -y flite")


@dataclass(frozen=True)
class Utterance:
    """One sentence to read: its id, the flite voice and the words."""

    utt: str
    voice: str
    text: str

    @property
    def wav_name(self) -> str:
        """File name that changes when voice or words change."""
        digest = hashlib.sha256(f"{self.voice}\n{self.text}".encode()).hexdigest()
        return f"{self.utt}-{digest[:8]}.wav"


def read_utterances(path: str) -> list[Utterance]:
    """The utterances of a JSON-lines list, sorted by id. Raises InputError naming the line."""
    utterances: dict[str, Utterance] = {}
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
            utterance = Utterance(row["utt"], row["voice"], row["text"])
        except (json.JSONDecodeError, KeyError, TypeError):
            raise InputError(path, number, line[:60], '{"utt", "voice", "text"}') from None
        if utterance.utt in utterances:
            raise InputError(path, number, f"{utterance.utt} again", "each utterance once")
        utterances[utterance.utt] = utterance
    if not utterances:
        raise InputError(path, None, "no lines", "at least one utterance")
    return [utterances[utt] for utt in sorted(utterances)]


def flite_command(voices: Sequence[str]) -> str:
    """Path of flite, after checking that it has these voices."""
    flite = shutil.which("flite")
    if flite is None:
        raise NoFlite
    run = subprocess.run([flite, "-lv"], capture_output=True, text=True, check=False)
    known = run.stdout.partition(":")[2].split()
    missing = sorted(set(voices) - set(known))
    if missing:
        raise InputError(flite, None, f"no voice {missing[0]}", f"one of {' '.join(known)}")
    return flite


def speak(flite: str, utterance: Utterance, folder: Path) -> float:
    """Duration in seconds of the utterance's wav, written first where it is not there yet."""
    target = folder / utterance.wav_name
    if not target.exists():
        temporary = folder / f".{utterance.wav_name}.{os.getpid()}.tmp"
        call = [flite, "-voice", utterance.voice, "-t", utterance.text, "-o", str(temporary)]
        done = subprocess.run(
            call, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0 or not temporary.exists():
            temporary.unlink(missing_ok=True)
            found = f"{utterance.utt}: flite failed ({done.stderr.strip() or done.returncode})"
            raise InputError(target, None, found, "a wav")
        os.replace(temporary, target)
    with wave.open(str(target), "rb") as stream:
        shape = (stream.getframerate(), stream.getnchannels(), stream.getsampwidth())
        samples = stream.getnframes()
    if shape != (SAMPLING_RATE, 1, 2) or not samples:
        found = f"{utterance.utt}: {shape[0]} Hz, {shape[1]} channels, {samples} samples"
        raise InputError(target, None, found, f"{SAMPLING_RATE} Hz, 1 channel, 16 bit")
    return samples / SAMPLING_RATE


def cut_set(utterances: Sequence[Utterance], wavs: Path, durations: Sequence[float]) -> Any:
    """A lhotse CutSet: one MonoCut, one recording and one supervision an utterance."""
    try:
        import lhotse
    except ModuleNotFoundError:
        raise MissingPackage("lhotse", "mini") from None
    cuts = []
    for utterance, duration in zip(utterances, durations):
        source = str((wavs / utterance.wav_name).resolve())
        recording = lhotse.Recording(
            id=utterance.utt,
            sources=[lhotse.AudioSource(type="file", channels=[0], source=source)],
            sampling_rate=SAMPLING_RATE,
            num_samples=round(duration * SAMPLING_RATE),
            duration=duration,
        )
        supervision = lhotse.SupervisionSegment(
            id=utterance.utt,
            recording_id=utterance.utt,
            start=0.0,
            duration=duration,
            text=utterance.text,
            language="English",
            speaker=utterance.voice,
            custom={"synthetic": True, "synthesiser": "flite"},
        )
        cut = lhotse.MonoCut(utterance.utt, 0.0, duration, 0, [supervision], recording=recording)
        cuts.append(cut)
    return lhotse.CutSet.from_cuts(cuts)


def synthesise(utterances: Sequence[Utterance], out: Path, jobs: int) -> float:
    """Write everything under ``out``. Returns the seconds of audio."""
    wavs = out / "wav"
    wavs.mkdir(parents=True, exist_ok=True)
    flite = flite_command([utterance.voice for utterance in utterances])
    with ThreadPoolExecutor(jobs) as pool:
        durations = list(pool.map(lambda utterance: speak(flite, utterance, wavs), utterances))
    wanted = {utterance.wav_name for utterance in utterances}
    for old in wavs.iterdir():
        if old.name not in wanted:
            old.unlink()
    with write_text(out / "cuts.jsonl.gz") as stream:
        for cut in cut_set(utterances, wavs, durations):
            stream.write(json.dumps(cut.to_dict()) + "\n")
    with write_text(out / "text") as stream:
        stream.writelines(f"{utterance.utt} {utterance.text}\n" for utterance in utterances)
    with write_text(out / "utt2dur") as stream:
        for utterance, duration in zip(utterances, durations):
            stream.write(f"{utterance.utt} {duration:.4f}\n")
    return sum(durations)


def main() -> int:
    """Read a list aloud. Returns the exit status: 0 done, 1 bad data or no flite, 2 bad usage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--utterances", required=True, help="list from prepare_text.py")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--nj", type=int, default=1, help="parallel jobs (default: %(default)s)")
    args = parser.parse_args()
    if args.nj < 1:
        parser.error("--nj is at least 1")
    try:
        utterances = read_utterances(args.utterances)
        audio_s = synthesise(utterances, args.out, args.nj)
    except NoFlite as problem:
        print(problem, file=sys.stderr)
        return 1
    except InputError as problem:
        print(f"synthesise: {problem}", file=sys.stderr)
        return 1
    except MissingPackage as problem:
        print(f"synthesise: {problem}", file=sys.stderr)
        return 2
    print(f"{args.out}: {len(utterances)} utterances, {audio_s:.1f} s of synthetic speech (flite)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
