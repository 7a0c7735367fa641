"""Transcripts of LibriSpeech as a list of sentences to be read aloud, where there is no audio.

    python local/study/sentences_to_read.py --transcripts LibriSpeech/dev-clean --every 3 \\
        --out exp/dev-clean/utterances.jsonl --rest exp/dev-clean/rest.txt

Writes what ``local/mini/synthesise.py --utterances`` reads, in lower case, as pocketsphinx writes
words. Of the transcripts (``*.trans.txt``, in the order of their ids) with ``--min-words`` to
``--max-words`` words every N-th is taken; the four voices of flite take turns, and stand before
the ids, so that intervals can be over voices. ``rest`` has the other transcripts as they are,
whatever their length, a sentence a line: held-out text of the same kind.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from asrprune.errors import InputError
from asrprune.files import read_lines, write_text

VOICES = ("rms", "slt", "awb", "kal16")


def sentences(
    folder: Path, every: int, least: int, most: int
) -> tuple[list[dict[str, str]], list[str]]:
    """The rows of the list, and the other transcripts. Raises InputError for a folder without
    transcripts, a line without words, or where none has so many."""
    found: dict[str, str] = {}
    files = sorted(folder.rglob("*.trans.txt"))
    if not files:
        raise InputError(folder, None, "no *.trans.txt", "transcripts as LibriSpeech has them")
    for path in files:
        for number, line in read_lines(path):
            utt, _, text = line.strip().partition(" ")
            if not text:
                raise InputError(path, number, f"{utt or 'an empty line'}", "utterance and words")
            if utt in found:
                raise InputError(path, number, f"{utt} again", "each utterance once")
            found[utt] = text
    fitting = [utt for utt in sorted(found) if least <= len(found[utt].split()) <= most]
    if not fitting:
        expected = f"some of {least} to {most} words"
        raise InputError(folder, None, f"{len(found)} transcripts", expected)
    rows = []
    for index, utt in enumerate(fitting[::every]):
        voice = VOICES[index % len(VOICES)]
        rows.append({"utt": f"{voice}-{utt}", "voice": voice, "text": found.pop(utt).lower()})
    rest = [found[utt] for utt in sorted(found)]
    return sorted(rows, key=lambda row: row["utt"]), rest


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}; expected 1 or more")
    return value


def main() -> int:
    """Write the list. Returns the exit status: 0 done, 1 bad data."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--transcripts", type=Path, required=True, help="folder with *.trans.txt")
    parser.add_argument("--every", type=_positive, default=1, help="take every N-th (default: all)")
    parser.add_argument("--min-words", type=_positive, default=5)
    parser.add_argument("--max-words", type=_positive, default=30)
    parser.add_argument("--out", type=Path, required=True, help="list to write (jsonl)")
    parser.add_argument("--rest", type=Path, help="text to write: the other transcripts")
    args = parser.parse_args()
    try:
        rows, rest = sentences(args.transcripts, args.every, args.min_words, args.max_words)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with write_text(args.out) as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
        if args.rest is not None:
            with write_text(args.rest) as stream:
                stream.writelines(f"{text}\n" for text in rest)
    except InputError as problem:
        print(f"sentences_to_read: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
