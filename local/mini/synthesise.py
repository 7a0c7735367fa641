"""Synthetic speech for the utterance lists of recipes/mini.

    python local/mini/synthesise.py --utterances exp/mini/text/dev/utterances.jsonl \\
        --synthesiser flite --out exp/mini/audio/dev --nj 2

Writes ``wav/*.wav`` (16 kHz, 16 bit, mono), ``cuts.jsonl.gz`` (a lhotse CutSet with the text as
supervision), ``text`` and ``utt2dur`` (Kaldi), all sorted by utterance id. ``flite`` reads with the
voices of the list, ``hibari`` with the one voice that it has, whatever the list says. The same list
gives the same samples. A finished wav is used again; its name holds a hash of synthesiser, speaker
and text, so a changed sentence is read anew. The speech is synthetic: results on it compare
language models, they do not predict a word error rate on people's speech.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import wave
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flite_voice import Flite, NoFlite
from hibari_voice import Hibari

from asrprune.errors import InputError, MissingPackage
from asrprune.files import read_lines, write_text

SAMPLING_RATE = 16000


class Synthesiser(Protocol):
    """What reads texts aloud; made from the voices that the list asks for."""

    name: str

    def speaker(self, voice: str) -> str:
        """Who reads the texts of this voice."""

    def write(self, text: str, voice: str, wav: Path) -> None:
        """Read the text into a wav file of 16 kHz, 16 bit, mono. Raises RuntimeError."""


SYNTHESISERS: dict[str, Callable[[Sequence[str]], Synthesiser]] = {
    "flite": Flite,
    "hibari": Hibari,
}


@dataclass(frozen=True)
class Utterance:
    """One sentence to read: its id, the voice that is to read it (a flite voice) and the words."""

    utt: str
    voice: str
    text: str

    def wav_name(self, synthesiser: Synthesiser) -> str:
        """File name that changes when the synthesiser, the speaker or the words change."""
        source = f"{synthesiser.name}\n{synthesiser.speaker(self.voice)}\n{self.text}"
        return f"{self.utt}-{hashlib.sha256(source.encode()).hexdigest()[:8]}.wav"


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


def speak(synthesiser: Synthesiser, utterance: Utterance, folder: Path) -> float:
    """Duration in seconds of the utterance's wav, written first where it is not there yet."""
    target = folder / utterance.wav_name(synthesiser)
    if not target.exists():
        temporary = folder / f".{target.name}.{os.getpid()}.tmp"
        try:
            synthesiser.write(utterance.text, utterance.voice, temporary)
            os.replace(temporary, target)
        except RuntimeError as problem:
            temporary.unlink(missing_ok=True)
            raise InputError(target, None, f"{utterance.utt}: {problem}", "a wav") from None
    with wave.open(str(target), "rb") as stream:
        shape = (stream.getframerate(), stream.getnchannels(), stream.getsampwidth())
        samples = stream.getnframes()
    if shape != (SAMPLING_RATE, 1, 2) or not samples:
        found = f"{utterance.utt}: {shape[0]} Hz, {shape[1]} channels, {samples} samples"
        raise InputError(target, None, found, f"{SAMPLING_RATE} Hz, 1 channel, 16 bit")
    return samples / SAMPLING_RATE


def cut_set(
    synthesiser: Synthesiser,
    utterances: Sequence[Utterance],
    wavs: Path,
    durations: Sequence[float],
) -> Any:
    """A lhotse CutSet: one MonoCut, one recording and one supervision an utterance."""
    try:
        import lhotse
    except ModuleNotFoundError:
        raise MissingPackage("lhotse", "mini") from None
    cuts = []
    for utterance, duration in zip(utterances, durations):
        source = str((wavs / utterance.wav_name(synthesiser)).resolve())
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
            speaker=synthesiser.speaker(utterance.voice),
            custom={"synthetic": True, "synthesiser": synthesiser.name},
        )
        cut = lhotse.MonoCut(utterance.utt, 0.0, duration, 0, [supervision], recording=recording)
        cuts.append(cut)
    return lhotse.CutSet.from_cuts(cuts)


def synthesise(
    synthesiser: Synthesiser, utterances: Sequence[Utterance], out: Path, jobs: int
) -> float:
    """Write everything under ``out``. Returns the seconds of audio."""
    wavs = out / "wav"
    wavs.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(jobs) as pool:
        durations = list(pool.map(lambda each: speak(synthesiser, each, wavs), utterances))
    wanted = {utterance.wav_name(synthesiser) for utterance in utterances}
    for old in wavs.iterdir():
        if old.name not in wanted:
            old.unlink()
    with write_text(out / "cuts.jsonl.gz") as stream:
        for cut in cut_set(synthesiser, utterances, wavs, durations):
            stream.write(json.dumps(cut.to_dict()) + "\n")
    with write_text(out / "text") as stream:
        stream.writelines(f"{utterance.utt} {utterance.text}\n" for utterance in utterances)
    with write_text(out / "utt2dur") as stream:
        for utterance, duration in zip(utterances, durations):
            stream.write(f"{utterance.utt} {duration:.4f}\n")
    return sum(durations)


def main() -> int:
    """Read a list aloud. Returns the exit status: 0 done, 1 bad data or no flite, 2 bad usage or
    a package that is not installed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--utterances", required=True, help="list from prepare_text.py")
    parser.add_argument("--synthesiser", choices=SYNTHESISERS, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--nj", type=int, default=1, help="parallel jobs (default: %(default)s)")
    args = parser.parse_args()
    if args.nj < 1:
        parser.error("--nj is at least 1")
    try:
        utterances = read_utterances(args.utterances)
        synthesiser = SYNTHESISERS[args.synthesiser]([each.voice for each in utterances])
        audio_s = synthesise(synthesiser, utterances, args.out, args.nj)
    except (NoFlite, InputError) as problem:
        print(f"synthesise: {problem}", file=sys.stderr)
        return 1
    except MissingPackage as problem:
        print(f"synthesise: {problem}", file=sys.stderr)
        return 2
    speech = f"{audio_s:.1f} s of synthetic speech ({synthesiser.name})"
    print(f"{args.out}: {len(utterances)} utterances, {speech}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
