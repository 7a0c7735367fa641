"""Scoring n-best lists with an LM, block by block, so that a killed run goes on where it was."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Optional

import numpy as np

from asrprune.core.checksums import sealed_line
from asrprune.core.hypothesis import NBest
from asrprune.core.progress import tracked
from asrprune.core.record import a, an_object, parse_record
from asrprune.core.resume import DAMAGE, difference, read_state, warn_of_damage
from asrprune.core.timing import Timing
from asrprune.errors import InputError
from asrprune.files import PathLike, append_text, locked, raw_lines, write_text
from asrprune.firstpass.formats.jsonl import read_nbest
from asrprune.firstpass.on_bad import REFUSE, OnBad
from asrprune.lm.protocol import Floats, LanguageModel, UnscorableError
from asrprune.lm.scoring.sentences import TransformerScorer
from asrprune.rescore.scores_file import UtteranceScores, format_line, parse_line, write_scores

BLOCK_HYPOTHESES = 1000
"""A block, the unit of resuming and of sharding, ends with the utterance that reaches so many
hypotheses. A larger one computes no fewer places, of lists with 5 or with 100 hypotheses."""
GPU_BLOCK_HYPOTHESES = 16_000
"""The block of resuming on a GPU, whose passes are as much larger."""

log = logging.getLogger(__name__)


def score_nbest(
    nbest_path: PathLike,
    lists: Iterable[NBest],
    lm: LanguageModel,
    out: PathLike,
    header: Mapping[str, Any],
    settings: Mapping[str, Any],
    block_hypotheses: Optional[int] = None,
    total: Optional[int] = None,
    partial: Optional[PathLike] = None,
) -> Timing:
    """Write the scores file ``out`` and return the time that scoring took, loading apart.

    ``total`` is the number of lists, for the progress line. Finished blocks are kept in
    ``partial``, by default ``OUT.partial``. A later call with equal ``settings`` (everything that
    decides the scores: hashes of model and lists, engine, policy) takes them over, their time
    included. ``OUT`` is one file, which any call replaces; so the partial file of other settings
    is replaced too, with a warning. Raises InputError naming the utterance for a hypothesis that
    cannot be scored, or a list that changed under the partial file.
    """
    done = _Partial(partial_path(out) if partial is None else Path(partial), settings)
    if block_hypotheses is None:
        gpu = lm.runtime.device.startswith("cuda")
        block_hypotheses = GPU_BLOCK_HYPOTHESES if gpu else BLOCK_HYPOTHESES
    with locked(out), locked(done.path):  # the second, so that a kill as it is made leaves no lock
        for block in _blocks(_not_done(nbest_path, lists, done, total), block_hypotheses):
            done.append(*_score_block(nbest_path, block, lm))
        write_scores(out, header, done.utterances())
        done.remove()
    return done.timing


def partial_path(out: PathLike) -> Path:
    """Where the finished blocks of ``out`` are kept."""
    return Path(f"{os.fspath(out)}.partial")


def unfinished_settings(out: PathLike) -> Mapping[str, Any]:
    """The settings of an unfinished ``out``, none where there is none that can be read."""
    path = partial_path(out)
    if not path.is_file():
        return {}
    try:
        with open(path, "rb") as stream:
            found: Mapping[str, Any] = _settings_in(path, stream.readline())
    except DAMAGE:  # score_nbest says so
        return {}
    return found


def score_lists(path: PathLike, lists: Sequence[NBest], lm: LanguageModel) -> list[Floats]:
    """ln P(words, </s> | <s>) of every hypothesis of every list, [H] a list.

    ``path`` names the lists in errors. Raises InputError naming the utterance for a hypothesis
    that cannot be scored.
    """
    try:
        return lm.score_lists([[hyp.text for hyp in nbest.hyps] for nbest in lists])
    except UnscorableError as problem:
        raise _named(path, lists, problem) from None


def check_lengths(path: PathLike, nbest: NBest, lm: LanguageModel) -> None:
    """Raise as ``score_lists`` does for a hypothesis beyond the LM's positions, which would be met
    only after those before it; takes a part of the time that scoring does."""
    if isinstance(lm, TransformerScorer):
        try:
            lm.check_lengths([[hyp.text for hyp in nbest.hyps]])
        except UnscorableError as problem:
            raise _named(path, [nbest], problem) from None


def _named(path: PathLike, lists: Sequence[NBest], problem: UnscorableError) -> InputError:
    number, index = problem.index
    found = f"utterance {lists[number].utt}: hypothesis {index + 1} {problem.problem}"
    return InputError(path, None, found, "hypotheses that the LM can score")


def check_nbest_file(path: PathLike, bad: OnBad = REFUSE) -> None:
    """Raise before any slow work when ``path`` is no n-best file that can be read again.

    ``bad`` is the policy for lists without hypotheses. Raises InputError for a bad first line or
    list, ValueError for standard input, which cannot be hashed and read once more when a killed
    run goes on.
    """
    if os.fspath(path) == "-":
        raise ValueError("n-best lists from standard input cannot be resumed; expected a file")
    for _ in islice(read_nbest(path, bad), 1):
        pass


def _score_block(
    nbest_path: PathLike, block: list[NBest], lm: LanguageModel
) -> tuple[list[UtteranceScores], Timing]:
    before = lm.stats
    start = time.perf_counter()
    scores = score_lists(nbest_path, block, lm)
    wall_s = time.perf_counter() - start
    audio = [nbest.audio_s for nbest in block]
    audio_s = None if None in audio else sum(value for value in audio if value is not None)
    tokens = lm.stats.tokens - before.tokens
    unique = lm.stats.unique_tokens - before.unique_tokens
    timing = Timing(wall_s, audio_s, tokens, unique)
    impossible = sum(int(np.isneginf(values).sum()) for values in scores)
    if impossible:
        log.warning("%d hypotheses that the LM cannot score got -inf", impossible)
    done = [UtteranceScores(one.utt, one.digest, values) for one, values in zip(block, scores)]
    return done, timing


def _not_done(
    nbest_path: PathLike, lists: Iterable[NBest], partial: _Partial, total: Optional[int]
) -> Iterator[NBest]:
    """The lists after those that the partial file already holds."""
    done = partial.resume()
    if done:
        log.info("%s: going on after %d utterances", partial.path, partial.count)
    lists = iter(lists)
    for utt, digest in done:
        nbest = next(lists, None)
        if nbest is None or (nbest.utt, nbest.digest) != (utt, digest):
            found = f"utterance {utt} of {partial.path} is not there in the same place"
            raise InputError(nbest_path, None, found, "the lists of the interrupted run")
    yield from tracked(lists, "scored", total=total, done=partial.count)


def _blocks(lists: Iterable[NBest], hypotheses: int) -> Iterator[list[NBest]]:
    block: list[NBest] = []
    size = 0
    for nbest in lists:
        block.append(nbest)
        size += len(nbest.hyps)
        if size >= hypotheses:
            yield block
            block, size = [], 0
    if block:
        yield block


def _settings_in(path: Path, first: bytes) -> Any:
    if not first.endswith(b"\n"):
        raise ValueError("its first line is cut short")
    return parse_record(path, 1, first.decode("utf-8").rstrip("\n")).get("settings", an_object)


class _Partial:
    """``OUT.partial``: a line of settings, then blocks: their utterances and a line of timing.

    Each line ends with its checksum. What follows the last line of timing (a block cut short by a
    kill) does not count.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.timing = Timing()
        self.count = 0
        self._settings = dict(settings)

    def resume(self) -> list[tuple[str, str]]:
        """(utterance, hash) of everything finished so far; the file ends after it."""
        done: list[tuple[str, str]] = []
        kept: Optional[int] = None
        if self.path.is_file():
            kept = self._read_blocks(done)
        if kept is None:
            with write_text(self.path) as stream:
                line = sealed_line(json.dumps({"settings": self._settings}, sort_keys=True))
                stream.write(line + "\n")
        else:
            os.truncate(self.path, kept)
        self.count = len(done)
        return done

    def _read_blocks(self, done: list[tuple[str, str]]) -> Optional[int]:
        """Fill ``done``; returns the bytes to keep, None when nothing can be taken over."""
        block: list[tuple[str, str]] = []
        with open(self.path, "rb") as stream:
            first = stream.readline()
            there = read_state(self.path, lambda: _settings_in(self.path, first))
            if there is None:
                return None
            if found := difference(there, self._settings):
                log.warning("%s belongs to another run: %s; starting anew", self.path, found)
                return None
            kept = position = stream.tell()
            for number, raw in enumerate(raw_lines(self.path, stream), start=2):
                if not raw.endswith(b"\n"):
                    break
                position += len(raw)
                try:
                    line = raw.decode("utf-8")
                    if line.startswith('{"timing"'):
                        timing = parse_record(self.path, number, line.rstrip("\n"))
                        self.timing += timing.get("timing", a(Timing))
                        done += block
                        block = []
                        kept = position
                    else:
                        one = parse_line(self.path, number, line.rstrip("\n"))
                        block.append((one.utt, one.digest))
                except DAMAGE as problem:
                    warn_of_damage(self.path, problem)
                    break
        return kept

    def append(self, utterances: list[UtteranceScores], timing: Timing) -> None:
        """Add a finished block, on disk when this returns."""
        lines = [format_line(one) for one in utterances]
        lines.append(sealed_line(json.dumps({"timing": asdict(timing)})))
        with append_text(self.path) as stream:
            stream.write("\n".join(lines) + "\n")
        self.timing += timing
        self.count += len(utterances)

    def utterances(self) -> Iterator[UtteranceScores]:
        """Everything finished, streaming, in the order of the lists."""
        with open(self.path, encoding="utf-8") as stream:
            next(stream)
            for number, line in enumerate(stream, start=2):
                if not line.startswith('{"timing"'):
                    yield parse_line(self.path, number, line.rstrip("\n"))

    def remove(self) -> None:
        """Delete the file: the result is written."""
        self.path.unlink()
