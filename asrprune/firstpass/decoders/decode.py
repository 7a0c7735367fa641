"""Decoding a whole CutSet: over processes, resumable, into one output folder."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Optional

from tqdm import tqdm

from asrprune import __version__
from asrprune.core.hypothesis import NBest
from asrprune.core.processes import in_processes
from asrprune.core.shards import Part
from asrprune.errors import MissingPackage
from asrprune.files import PathLike, append_text, locked, sha256, write_json, write_text
from asrprune.firstpass.decoders.cuts import CutLine, load_audio, read_cut_lines
from asrprune.firstpass.decoders.decoder import SAMPLING_RATE, DecoderConfig
from asrprune.firstpass.decoders.state import (
    HYP_FILE,
    NBEST_FILE,
    SUMMARY_FILE,
    DecodingFolder,
    Done,
    lattice_name,
    to_record,
)
from asrprune.firstpass.formats.jsonl import from_line, to_line, write_nbest
from asrprune.firstpass.formats.slf import write_slf

_log = logging.getLogger(__name__)


def decode_cuts(
    cuts: PathLike,
    out: PathLike,
    config: DecoderConfig,
    nj: int = 1,
    command_line: Optional[Sequence[str]] = None,
    allow_commands: bool = False,
    part: Optional[Part] = None,
) -> dict[str, Any]:
    """Decode all cuts, or those of ``part``, into the folder ``out``; returns what
    ``first_pass.json`` holds.

    The folder gets ``nbest.jsonl.gz`` and ``hyp`` (Kaldi text, first hypotheses) in the order of
    the cuts, ``lattices/<utt>.slf.gz``, and ``first_pass.json``. It appears when all is done; until
    then ``OUT.decoding`` beside it holds what is (state.py). Utterances that an interrupted run has
    finished are not decoded again. The results do not depend on ``nj``. With ``allow_commands``
    cuts may run commands and fetch audio (``read_cut_lines``).

    Raises AnotherRunError when ``out`` belongs to a run with other settings, cuts or versions,
    InputError for files of no run in it, for bad cuts or audio and for a process that dies,
    ValueError when nj < 1.
    """
    if nj < 1:
        raise ValueError(f"nj is {nj}; expected at least 1")
    part = part or Part()
    digest = hashlib.sha256()

    def hashed() -> Iterator[CutLine]:
        for line in read_cut_lines(cuts, allow_commands):
            digest.update(line.text.encode("utf-8") + b"\n")
            yield line

    lines = list(part.take(hashed()))
    identity = _identity(digest.hexdigest(), config)
    if part.shard is not None:
        identity["shard"] = str(part.shard)
    with locked(out):
        return _decode(lines, identity, out, config, nj, command_line, allow_commands)


def _decode(
    lines: Sequence[CutLine],
    identity: Mapping[str, Any],
    out: PathLike,
    config: DecoderConfig,
    nj: int,
    command_line: Optional[Sequence[str]],
    allow_commands: bool,
) -> dict[str, Any]:
    folder = DecodingFolder(out, identity)
    finished = folder.finished()
    if finished is not None:
        _log.info("%s: finished already, nothing to do", out)
        return finished
    done = folder.resume()
    todo = [line for line in lines if line.utt not in done]
    if len(todo) < len(lines):
        decoded = len(lines) - len(todo)
        _log.info("%d of %d utterances were decoded before", decoded, len(lines))
    wall = time.perf_counter()
    with (
        append_text(folder.done) as record,
        contextlib.closing(_run(todo, config, folder, nj, allow_commands)) as results,
    ):
        for utt, result in tqdm(results, total=len(todo), unit="utt", disable=None):
            record.write(to_record(utt, result))
            record.flush()
            done[utt] = result
    wall = time.perf_counter() - wall
    nbests = [from_line(folder.done, 1, done[line.utt].line) for line in lines]
    summary = _summary(nbests, done, identity)
    summary["run"] = {"nj": nj, "wall_s": wall, "utterances": len(todo)}
    summary["command_line"] = None if command_line is None else list(command_line)
    provenance = {"decoder": identity["decoder"], "weights": summary["weights"]}
    write_nbest(folder.result / NBEST_FILE, nbests, provenance)
    with write_text(folder.result / HYP_FILE) as stream:
        for nbest in nbests:
            stream.write(f"{nbest.utt} {nbest.hyps[0].text}".rstrip() + "\n")
    write_json(folder.result / SUMMARY_FILE, summary)
    folder.finish(line.utt for line in lines if done[line.utt].lattice_sha256)
    _report(summary)
    return summary


def _identity(cuts_sha256: str, config: DecoderConfig) -> dict[str, Any]:
    """All that the results depend on; two runs with equal identities give equal results."""
    try:
        lhotse = version("lhotse")
    except PackageNotFoundError:
        raise MissingPackage("lhotse", "mini") from None
    decoder = config.open()
    return {
        "decoder": config.name,
        "config": {one.name: getattr(config, one.name) for one in fields(config) if one.compare},
        "settings": decoder.settings,
        "weights": {
            "acoustic": decoder.weights.acoustic,
            "first_lm": decoder.weights.first_lm,
            "word_bonus": decoder.weights.word_bonus,
        },
        "cuts_sha256": cuts_sha256,
        "versions": {
            "asrprune": __version__,
            **{package: version(package) for package in config.packages},
            "lhotse": lhotse,
        },
    }


def _run(
    todo: Sequence[CutLine],
    config: DecoderConfig,
    folder: DecodingFolder,
    nj: int,
    allow_commands: bool,
) -> Generator[tuple[str, Done], None, None]:
    arguments = (config, folder.lattices, folder.temporary, allow_commands)
    if nj > 1 and len(todo) > 1:
        yield from in_processes(_decode_one, todo, nj, _start_worker, arguments, folder.path)
        return
    if todo:
        _start_worker(*arguments)
    for cut in todo:
        yield _decode_one(cut)


_worker: dict[str, Any] = {}
"""What this process decodes with; a pool gives its workers no better place."""


def _start_worker(
    config: DecoderConfig, lattices: Path, temporary: Path, allow_commands: bool
) -> None:
    logging.getLogger("lhotse").setLevel(logging.ERROR)
    _worker["decoder"] = config.open(temporary)
    _worker["lattices"] = lattices
    _worker["allow_commands"] = allow_commands


def _decode_one(cut: CutLine) -> tuple[str, Done]:
    samples = load_audio(cut, SAMPLING_RATE, _worker["allow_commands"])
    result = _worker["decoder"].decode(cut.utt, samples, cut.ref)
    digest = ""
    if result.lattice is not None:
        path = _worker["lattices"] / lattice_name(cut.utt)
        write_slf(path, result.lattice)
        digest = sha256(path)
    line = to_line(result.nbest)
    return cut.utt, Done(line, result.decoder_text, result.decode_s, result.search_s, digest)


def _summary(
    nbests: Sequence[NBest], done: Mapping[str, Done], identity: Mapping[str, Any]
) -> dict[str, Any]:
    audio_s = sum(nbest.audio_s or 0.0 for nbest in nbests)
    decode_s = sum(done[nbest.utt].decode_s for nbest in nbests)
    search_s = sum(done[nbest.utt].search_s for nbest in nbests)
    own = {nbest.utt: done[nbest.utt].decoder_text for nbest in nbests}
    texts = {nbest.utt: [hyp.text for hyp in nbest.hyps] for nbest in nbests}
    return {
        "weights": identity["weights"],
        "utterances": len(nbests),
        "hypotheses": sum(len(nbest.hyps) for nbest in nbests),
        "audio_s": audio_s,
        "decode_wall_s": decode_s,
        "search_wall_s": search_s,
        "rtf_per_process": (decode_s + search_s) / audio_s if audio_s else None,
        "no_hypothesis": [nbest.utt for nbest in nbests if nbest.hyps[0].acoustic is None],
        "decoder_1best_not_first": [utt for utt, hyps in texts.items() if hyps[0] != own[utt]],
        "decoder_1best_not_listed": [utt for utt, hyps in texts.items() if own[utt] not in hyps],
        "identity": dict(identity),
    }


def _report(summary: Mapping[str, Any]) -> None:
    count = summary["utterances"]
    _log.info("%d utterances, %d hypotheses", count, summary["hypotheses"])
    if summary["audio_s"]:
        _log.info(
            "%.1f s of audio, RTF %.3f a process", summary["audio_s"], summary["rtf_per_process"]
        )
    for key, words in (
        ("no_hypothesis", "have no hypothesis (the empty one is listed)"),
        ("decoder_1best_not_first", "have another first hypothesis than the decoder's own"),
        ("decoder_1best_not_listed", "do not list the decoder's own first hypothesis"),
    ):
        if summary[key]:
            _log.warning("%d of %d utterances %s", len(summary[key]), count, words)
