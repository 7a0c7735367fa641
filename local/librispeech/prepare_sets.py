"""Cuts, references and speakers of LibriSpeech's sets, as Kaldi's data folders.

    python local/librispeech/prepare_sets.py --corpus LibriSpeech --sets dev_clean test_other \\
        --out exp/librispeech/data

``--corpus`` is LibriSpeech's folder (``dev-clean/``, ...); ``--download`` lets lhotse fetch the
sets that are not there. Writes ``SET/{cuts.jsonl.gz,text,utt2spk}``, sorted by utterance id, with
the words in the form of ``--normalise``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asrprune.core.processes import in_processes
from asrprune.errors import InputError, MissingPackage
from asrprune.files import read_lines, write_text, written_together
from asrprune.firstpass.decoders.cuts import CutLine, load_audio
from asrprune.text.normalise import NORMALISERS, Normaliser

WHOLE = {
    "dev_clean": (2703, 54402),
    "dev_other": (2864, 50948),
    "test_clean": (2620, 52576),
    "test_other": (2939, 52343),
}
"""Utterances and words of the sets (Kaldi's egs/librispeech/s5/RESULTS)."""


def part_of(name: str) -> str:
    """LibriSpeech's folder of a set."""
    return name.replace("_", "-")


def prepare_set(corpus: Path, name: str, normalise: Normaliser, nj: int, out: Path) -> str:
    """Write the folder of one set. Returns a line that says what it holds. Raises InputError for a
    set that is not there, and for an utterance without audio or with less than its file states."""
    from lhotse.audio.utils import AudioLoadingError
    from lhotse.recipes.librispeech import prepare_librispeech

    folder = corpus / part_of(name)
    transcripts = sorted(folder.rglob("*.trans.txt"))
    if not transcripts:
        expected = "LibriSpeech's folder with this set, or --download"
        raise InputError(folder, None, "no transcripts", expected)
    for path in transcripts:
        for number, line in read_lines(path):
            utt = line.partition(" ")[0]
            if utt and not path.with_name(f"{utt}.flac").is_file():
                found = f"utterance {utt}: no audio"
                raise InputError(path, number, found, f"{utt}.flac beside it")
    try:
        parts: Any = prepare_librispeech(corpus, dataset_parts=[part_of(name)], num_jobs=nj)
    except AudioLoadingError as problem:
        raise InputError(folder, None, str(problem).splitlines()[0], "FLAC files") from None
    parts = parts[part_of(name)]
    heard = {one.id: one for one in parts["supervisions"]}
    check_audio(list(parts["recordings"]), nj, folder)
    return _write(out / name, name, heard, parts["recordings"], normalise)


def check_audio(recordings: Sequence[Any], nj: int, folder: Path) -> None:
    """Decode all recordings (thousands of times faster than they are spoken): the header of a file
    that was cut off states what it held once. Raises InputError naming the first such file."""
    share = max(-(-len(recordings) // nj), 1)
    parts = [recordings[start : start + share] for start in range(0, len(recordings), share)]
    for _ in in_processes(_hear, parts, nj, _nothing, (), folder):
        pass


def _nothing() -> None:
    """What a process does before its recordings."""


def _hear(recordings: Sequence[Any]) -> None:
    for one in recordings:
        path = str(one.sources[0].source)
        cut = CutLine(path, 1, one.id, None, json.dumps(one.to_cut().to_dict()))
        try:
            load_audio(cut, one.sampling_rate)
        except InputError:
            found = f"utterance {one.id}: audio that cannot be read to its end"
            raise InputError(path, None, found, "all that its header states") from None


def _write(out: Path, name: str, heard: Any, recordings: Any, normalise: Normaliser) -> str:
    from lhotse import MonoCut

    n_words = 0
    with (
        written_together(out) as folder,
        write_text(folder / "cuts.jsonl.gz") as cuts,
        write_text(folder / "text") as text,
        write_text(folder / "utt2spk") as utt2spk,
    ):
        for utt in sorted(heard):
            one = heard[utt]
            one.text = normalise(one.text)
            n_words += len(one.text.split())
            recording = recordings[one.recording_id]
            cut = MonoCut(utt, 0.0, recording.duration, 0, [one], recording=recording)
            cuts.write(json.dumps(cut.to_dict()) + "\n")
            text.write(f"{utt} {one.text}".rstrip() + "\n")
            utt2spk.write(f"{utt} {one.speaker}\n")
    line = f"{out}: {len(heard):,} utterances, {n_words:,} words"
    if name in WHOLE and (len(heard), n_words) != WHOLE[name]:
        line += f" (the whole set has {WHOLE[name][0]:,} and {WHOLE[name][1]:,})"
    return line


def download(corpus: Path, names: Sequence[str]) -> None:
    """Let lhotse fetch and unpack the sets that are not there. Raises InputError if it cannot."""
    from lhotse.recipes.librispeech import download_librispeech

    missing = [part_of(name) for name in names if not (corpus / part_of(name)).is_dir()]
    if missing and corpus.name != "LibriSpeech":
        raise InputError(corpus, None, "another name", "LibriSpeech, as its archives unpack")
    try:
        if missing:
            download_librispeech(corpus.parent, missing)
    except OSError as problem:
        expected = f"{', '.join(missing)} from openslr.org, or --corpus with a copy"
        raise InputError(corpus, None, str(problem), expected) from None


def main() -> int:
    """Prepare. Returns the exit status: 0 done, 1 bad data, 2 a package that is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="LibriSpeech's folder")
    parser.add_argument("--sets", nargs="+", default=list(WHOLE), help="Kaldi's names of the sets")
    parser.add_argument("--normalise", choices=list(NORMALISERS), default="asr")
    parser.add_argument("--download", action="store_true", help="fetch what is not there")
    parser.add_argument("--nj", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # lhotse shows bars everywhere
    try:
        import lhotse  # noqa: F401
    except ImportError:
        print(f"prepare_sets: {MissingPackage('lhotse', 'mini')}", file=sys.stderr)
        return 2
    try:
        if args.download:
            download(args.corpus, args.sets)
        for name in args.sets:
            form = NORMALISERS[args.normalise]
            print(prepare_set(args.corpus, name, form, args.nj, args.out))
    except InputError as problem:
        print(f"prepare_sets: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
