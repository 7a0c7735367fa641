"""A lhotse CutSet of a folder of audio and its references.

    python local/own_lm/make_cuts.py --audio wavs --text text --out cuts.jsonl.gz

Every utterance of the Kaldi text needs one of ``UTT.flac`` and ``UTT.wav`` in the folder. Audio
that is not in the text is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from asrprune.api.first_pass import read_kaldi_text
from asrprune.errors import InputError, MissingPackage
from asrprune.files import write_text

ENDINGS = (".flac", ".wav")


def find_audio(folder: Path, utt: str) -> Path:
    """The audio file of an utterance. Raises InputError for none and for several."""
    paths = [path for ending in ENDINGS if (path := folder / f"{utt}{ending}").is_file()]
    if len(paths) != 1:
        found = f"{utt}: {len(paths)} files"
        raise InputError(folder, None, found, f"one of {', '.join(utt + e for e in ENDINGS)}")
    return paths[0]


def cut_of(path: Path, utt: str, words: str) -> Any:
    """The lhotse cut of one file. Raises InputError for what is no audio of one channel."""
    try:
        import lhotse
        from lhotse.audio.utils import AudioLoadingError
    except ModuleNotFoundError:
        raise MissingPackage("lhotse", "mini") from None
    try:
        recording = lhotse.Recording.from_file(path.resolve(), recording_id=utt)
    except (AudioLoadingError, OSError, RuntimeError) as problem:
        last = (str(problem).strip() or type(problem).__name__).splitlines()[-1]
        raise InputError(path, None, f"{utt}: {last}", "audio") from None
    if recording.num_channels != 1:
        found = f"{utt}: {recording.num_channels} channels"
        raise InputError(path, None, found, "one channel")
    supervision = lhotse.SupervisionSegment(utt, utt, 0.0, recording.duration, text=words)
    return lhotse.MonoCut(utt, 0.0, recording.duration, 0, [supervision], recording=recording)


def main() -> int:
    """Write the cuts. Returns the exit status: 0 done, 1 bad data, 2 a package that is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--audio", type=Path, required=True, help="folder of UTT.flac or UTT.wav")
    parser.add_argument("--text", required=True, help="references (Kaldi text)")
    parser.add_argument("--out", type=Path, required=True, help="cuts to write (.jsonl.gz)")
    args = parser.parse_args()
    try:
        references = read_kaldi_text(args.text)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with write_text(args.out) as stream:
            for utt in sorted(references):
                cut = cut_of(find_audio(args.audio, utt), utt, references[utt])
                stream.write(json.dumps(cut.to_dict()) + "\n")
    except InputError as problem:
        print(f"make_cuts: {problem}", file=sys.stderr)
        return 1
    except MissingPackage as problem:
        print(f"make_cuts: {problem}", file=sys.stderr)
        return 2
    print(f"{args.out}: {len(references)} utterances")
    return 0


if __name__ == "__main__":
    sys.exit(main())
