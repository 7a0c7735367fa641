"""The perplexities of a report: those of one text."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from asrprune.report.readings import PerplexityReading, read_perplexity

log = logging.getLogger(__name__)


def perplexities(folders: Sequence[Path], baseline: Optional[str]) -> dict[str, float]:
    """Name -> perplexity per word, of those over the text of the baseline's, or else of the first
    one. Logs in one line which are left out, as of another text."""
    files = {folder.name: folder / "perplexity.json" for folder in folders}
    read = {name: read_perplexity(path) for name, path in files.items() if path.is_file()}
    first = baseline if baseline in read else next(iter(read), None)
    if first is None:
        return {}
    kept = {name: one.ppl_word for name, one in read.items() if _same_text(one, read[first])}
    others = ", ".join(f"{name} ({_told(read[name])})" for name in read if name not in kept)
    if others:
        told = "perplexities of another text than that of %s (%s) are left out: %s"
        log.warning(told, first, _told(read[first]), others)
    return kept


def _same_text(one: PerplexityReading, other: PerplexityReading) -> bool:
    """As far as both say. Words may differ in number between LMs that want the same text in
    different forms: they are compared where a file has no hash."""
    if one.text_hash is not None and other.text_hash is not None:
        return one.text_hash == other.text_hash
    pairs = (one.lines, other.lines), (one.words, other.words)
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def _told(one: PerplexityReading) -> str:
    return f"{one.lines} lines, {one.words} words"
