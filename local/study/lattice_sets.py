"""Lattices that a study's LMs are judged on, in two halves that are tuned for each other.

    python local/study/lattice_sets.py --first-pass exp/lj --ref text --out exp/study/lattices/lj

``--first-pass`` is a folder of ``asrprune first-pass``: its SLF lattices, ``hyp`` and
``first_pass.json`` are copied to OUT with the references, lattices of every other utterance to
``OUT/0``, the others to ``OUT/1``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from asrprune.api.first_pass import read_kaldi_text, read_lattices
from asrprune.api.rescoring import rescore_lattices
from asrprune.cli.main import call
from asrprune.core.lattice.lattice import Lattice
from asrprune.core.lattice.oracle import oracle_words
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.files import write_folder
from asrprune.lm.protocol import LanguageModel
from asrprune.rescore.weights_file import read_first_pass, read_weights
from asrprune.wer.wer import count_errors

HALVES = ("0", "1")
SEARCH: Mapping[str, Any] = {"history": 3, "beam": 60, "parallel": 32}
"""How lattices are searched: as in recipes/mini, where a beam of 40, the default, loses the dense
LM 1.6 points and the n-gram 0.6."""
ENDING = ".slf.gz"


def split(first_pass: Path, ref: Path, out: Path) -> None:
    """Write the folder OUT. Raises InputError for a lattice without a reference or a hypothesis of
    the first pass, for fewer than two of them, and for a first pass without weights."""
    paths = sorted((first_pass / "lattices").glob(f"*{ENDING}"))
    if len(paths) < len(HALVES):
        raise InputError(first_pass / "lattices", None, f"{len(paths)} of *{ENDING}", "2 at least")
    refs, hyps = read_kaldi_text(ref), read_kaldi_text(first_pass / "hyp")
    read_first_pass(first_pass / "first_pass.json")
    for utt in (path.name.removesuffix(ENDING) for path in paths):
        if not refs.get(utt, ""):
            raise InputError(ref, None, f"no words of {utt}", "some")
        if utt not in hyps:
            raise InputError(first_pass / "hyp", None, f"no line of {utt}", "one, as of lattices")
    with write_folder(out) as folder:
        for name in ("hyp", "first_pass.json"):
            shutil.copyfile(first_pass / name, folder / name)
        shutil.copyfile(ref, folder / "text")
        for number, half in enumerate(HALVES):
            (folder / half).mkdir()
            for path in paths[number :: len(HALVES)]:
                shutil.copyfile(path, folder / half / path.name)


@dataclass(frozen=True)
class LatticeSet:
    """What ``split`` wrote."""

    folder: Path

    @cached_property
    def halves(self) -> list[list[Lattice]]:
        """The lattices of each half."""
        return [read_lattices(self.folder / half, "slf") for half in HALVES]

    @cached_property
    def refs(self) -> Mapping[str, str]:
        """Utterance id -> words, of the utterances that have lattices, by id."""
        utts = sorted(lattice.utt for half in self.halves for lattice in half)
        known = read_kaldi_text(self.folder / "text")
        return {utt: known[utt] for utt in utts}

    def files(self) -> list[Path]:
        """Every file of it."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def tuned(self, lm: Path, engine: str) -> list[ScoreWeights]:
        """The weights of each half for the LM, scored by the engine."""
        found = []
        for half in HALVES:
            out = self.folder.parent / f"{self.folder.name}.weights-{half}.json"
            words = ["tune", "--lattice", str(self.folder / half), "--format", "slf"]
            words += ["--first-pass", str(self.folder / "first_pass.json"), "--lm", str(lm)]
            words += ["--engine", engine]
            words += ["--ref", str(self.folder / "text")]
            words += [word for name, value in SEARCH.items() for word in (f"--{name}", str(value))]
            call([*words, "--threads", "1", "--out", str(out)])
            found.append(read_weights(out).weights)
            out.unlink()
        return found

    def errors(self, lm: LanguageModel, of_even: ScoreWeights, of_odd: ScoreWeights) -> list[int]:
        """Word errors of each utterance, by id: each half under the weights of the other."""
        chosen: dict[str, str] = {}
        for half, weights in zip(self.halves, (of_odd, of_even)):
            chosen |= rescore_lattices(half, lm, weights, **SEARCH)
        return self.errors_of(chosen)

    def errors_of(self, chosen: Mapping[str, str]) -> list[int]:
        """Word errors of each utterance, by id."""
        return [count_errors(ref, chosen[utt]).errors for utt, ref in self.refs.items()]

    def first_pass_errors(self) -> list[int]:
        """Those of the first pass."""
        return self.errors_of(read_kaldi_text(self.folder / "hyp"))

    def oracle_errors(self) -> list[int]:
        """The fewest of any path."""
        lattices = (lattice for half in self.halves for lattice in half)
        paths = {one.utt: oracle_words(one, self.refs[one.utt].split()) for one in lattices}
        return self.errors_of({utt: " ".join(words) for utt, words in paths.items()})


def read_lattice_sets(exp: Path) -> dict[str, LatticeSet]:
    """Name -> the sets of a study."""
    return {path.parent.name: LatticeSet(path.parent) for path in exp.glob("lattices/*/text")}


def main() -> int:
    """Split the lattices. Returns the exit status: 0 done, 1 bad data."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--first-pass", type=Path, required=True, help="of asrprune first-pass")
    parser.add_argument("--ref", type=Path, required=True, help="Kaldi text")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    try:
        split(args.first_pass, args.ref, args.out)
    except InputError as problem:
        print(f"lattice_sets: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
