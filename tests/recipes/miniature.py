"""LibriSpeech and its LM text in small, laid out like the real thing.

    python -m tests.recipes.miniature --out mini [--librispeech LibriSpeech]

Where a part of the real LibriSpeech is given, transcripts of its dev-clean and all of its
test-clean that has audio are taken; everything else is read by a synthesiser: sentences of this
file, or the transcripts. ``SYNTHETIC.TXT`` in the folder names each utterance that nobody spoke.
"""

from __future__ import annotations

import argparse
import gzip
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared/data/librispeech/LibriSpeech"
SETS = {"dev-clean": "11", "dev-other": "21", "test-clean": "31", "test-other": "41"}
"""Set -> what its made-up speakers begin with."""
WORDS = {
    "who": "the old man,a young girl,my brother,the captain,her father,nobody here,the doctor",
    "did": "saw,found,left,wanted,remembered,carried,had lost",
    "what": "the little boat,a letter,his horse,the open door,some bread,a book,the long road",
    "when": "in the morning,before dinner,last summer,after the war,at night,on the way home",
}


def sentences(seed: int) -> Iterator[str]:
    """Sentences without end, in capitals."""
    rng = random.Random(seed)
    choices = [text.split(",") for text in WORDS.values()]
    while True:
        yield " ".join(rng.choice(words) for words in choices).upper()


def fives(words: str) -> set[tuple[str, ...]]:
    """All five words in a row."""
    split = words.split()
    return {tuple(split[n : n + 5]) for n in range(len(split) - 4)}


def real_transcripts(librispeech: Optional[Path]) -> list[str]:
    """The transcripts of dev-clean; none where there is no LibriSpeech."""
    if librispeech is None:
        return []
    paths = sorted((librispeech / "dev-clean").rglob("*.trans.txt"))
    lines = [line for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return [line.partition(" ")[2] for line in lines]


def write_miniature(
    out: Path, librispeech: Optional[Path], speakers: int = 2, each: int = 2, count: int = 1500
) -> None:
    """Write ``out/LibriSpeech``: ``each`` utterances of each of the made-up ``speakers`` of a set,
    and the real ones of test-clean; and the LM text: the transcripts that nobody reads, and
    ``count`` made-up sentences without five words in a row that somebody reads."""
    import soundfile

    sys.path.insert(0, str(ROOT / "local/mini"))
    from hibari_voice import Hibari

    voice, made, read = Hibari([]), [], set()
    transcripts = real_transcripts(librispeech)
    short = [words for words in transcripts if 4 <= len(words.split()) <= 6]
    invented = sentences(1)
    for name, first in SETS.items():
        for speaker in range(speakers):
            chapter = out / "LibriSpeech" / name / f"{first}{speaker}" / "100"
            chapter.mkdir(parents=True)
            lines = []
            for number in range(each):
                utt = f"{first}{speaker}-100-{number:04}"
                words = short.pop(0) if short else next(invented)
                transcripts = [other for other in transcripts if other != words]
                read |= fives(words)
                voice.write(words.lower(), "", chapter / "speech.wav")
                samples, rate = soundfile.read(chapter / "speech.wav", dtype="int16")
                soundfile.write(chapter / f"{utt}.flac", samples, rate)
                (chapter / "speech.wav").unlink()
                lines.append(f"{utt} {words}\n")
                made.append(f"{name} {utt}\n")
            (chapter / f"{first}{speaker}-100.trans.txt").write_text("".join(lines))
    if librispeech is not None:
        for path in sorted((librispeech / "test-clean").rglob("*.trans.txt")):
            if list(path.parent.glob("*.flac")):
                chapter = out / "LibriSpeech" / path.parent.relative_to(librispeech)
                shutil.copytree(path.parent, chapter)
    (out / "LibriSpeech/SYNTHETIC.TXT").write_text("".join(made))
    lines = (words for words in sentences(2) if not fives(words) & read)  # none leaks
    with gzip.open(out / "librispeech-lm-norm.txt.gz", "wt", encoding="utf-8") as stream:
        stream.writelines(f"{words}\n" for words in transcripts)
        stream.writelines(f"{next(lines)}\n" for _ in range(count))


def main() -> None:
    """Write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--librispeech", type=Path, default=SHARED if SHARED.is_dir() else None)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    args = parser.parse_args()
    write_miniature(args.out, args.librispeech)


if __name__ == "__main__":
    main()
