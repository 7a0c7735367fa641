"""The n-best lists of ../shared/data as canonical files, for the scripts of this folder.

    python tests/bench/real_lists.py ljspeech/pocketsphinx.100best.json.gz --out exp/ps.jsonl.gz
    python tests/bench/real_lists.py ljspeech/whisper_tiny_en.20best.json --out exp/whisper.jsonl.gz

A list's score becomes the acoustic one: ``am`` (a natural log) as it stands, ``score`` (linear) by
its logarithm. pocketsphinx gives its first hypothesis none: it gets the best of the others', which
leaves it in front of them. A file that counts no seconds takes them from ``utt2dur`` beside it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.firstpass.formats.jsonl import write_nbest


def read_shared(path: Path) -> Iterator[NBest]:
    """The lists of one file, utterances in its order."""
    raw = path.read_bytes()
    lists = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    seconds: dict[str, float] = {}
    if (path.parent / "utt2dur").is_file():
        rows = (line.split() for line in (path.parent / "utt2dur").read_text().splitlines())
        seconds = {utt: float(value) for utt, value in rows}
    for utt, one in lists.items():
        scores = [acoustic(hyp) for hyp in one["nbest"]]
        best = max((score for score in scores if score is not None), default=0.0)
        hyps = [
            Hypothesis(" ".join(hyp["text"].split()), best if score is None else score)
            for hyp, score in zip(one["nbest"], scores)
        ]
        yield NBest(utt, tuple(hyps), one.get("audio_s", seconds.get(utt)), one["ref"])


def acoustic(hyp: Mapping[str, Any]) -> float | None:
    """The natural log of a hypothesis's score, None where the file has none."""
    if "am" in hyp:
        return float(hyp["am"])
    return None if hyp["score"] is None else math.log(hyp["score"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("lists", help="file, or its name below --data")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    path = Path(args.lists)
    write_nbest(args.out, read_shared(path if path.is_file() else args.data / path))


if __name__ == "__main__":
    main()
