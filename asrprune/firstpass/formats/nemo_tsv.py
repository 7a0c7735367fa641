"""n-best lists of NeMo's beam search: a TSV beside the manifest that it decoded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.files import PathLike, read_lines
from asrprune.firstpass.reading.numbers import log_score
from asrprune.firstpass.references import read_nemo_manifest


def read_nemo_tsv(path: PathLike, manifest: PathLike) -> Iterator[NBest]:
    """Yield the lists of ``text<TAB>score`` lines, equally many for each line of ``manifest``.

    The ids, references and durations are those of ``read_nemo_manifest``. The score is a total,
    read as the acoustic score; LM None. Raises InputError with the line for lines without one
    tab, scores that are no numbers, and a number of lines that is no multiple of the manifest's.
    """
    if str(path) == "-":
        raise ValueError("path is '-'; the TSV is read twice, so it must be a file")
    references = list(read_nemo_manifest(manifest))
    n_lines = sum(1 for _ in read_lines(path))
    if n_lines == 0 or n_lines % len(references):
        found = f"{n_lines} lines for the {len(references)} of {Path(manifest).name}"
        raise InputError(path, None, found, "the same number for each (beam_size)")
    beam = n_lines // len(references)
    lines = read_lines(path)
    for reference in references:
        hyps = []
        for number, line in (next(lines) for _ in range(beam)):
            text, tab, score = line.rpartition("\t")
            try:
                if not tab or "\t" in text:
                    raise ValueError(f"{line[:40]!r} does not have one tab")
                hyps.append(Hypothesis(" ".join(text.split()), log_score(score.strip())))
            except ValueError as problem:
                found = f"utterance {reference.utt}: {problem}"
                raise InputError(path, number, found, "text, tab, score") from None
        yield NBest(reference.utt, tuple(hyps), reference.audio_s, reference.text)
