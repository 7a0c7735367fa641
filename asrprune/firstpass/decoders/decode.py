"""Decoding a whole CutSet: over processes, resumable, into one output folder."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Optional

from tqdm import tqdm

from asrprune import __version__
from asrprune.core.hypothesis import NBest
from asrprune.core.resume import DAMAGE, check_same_run, warn_of_damage
from asrprune.errors import InputError
from asrprune.files import PathLike, read_json, write_json, write_text
from asrprune.firstpass.decoders.cuts import CutLine, load_audio, read_cut_lines
from asrprune.firstpass.decoders.pocketsphinx import SAMPLING_RATE, FirstPassConfig, PocketSphinx
from asrprune.firstpass.formats.jsonl import from_line, to_line, write_nbest
from asrprune.firstpass.formats.slf import write_slf

NBEST_FILE, LATTICE_FOLDER, HYP_FILE, SUMMARY_FILE = (
    "nbest.jsonl.gz",
    "lattices",
    "hyp",
    "first_pass.json",
)
IDENTITY_FILE, DONE_FILE = "identity.json", "done.jsonl"
"""In the folder ``.unfinished``, which is there until the run is done."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Done:
    """The record of one decoded utterance, as it is kept while the run goes on."""

    line: str
    decoder_text: str
    decode_s: float
    search_s: float


def decode_cuts(
    cuts: PathLike,
    out: PathLike,
    config: FirstPassConfig,
    nj: int = 1,
    command_line: Optional[Sequence[str]] = None,
) -> dict[str, Any]:
    """Decode all cuts into the folder ``out``; returns what ``first_pass.json`` holds.

    The folder gets ``nbest.jsonl.gz`` and ``hyp`` (Kaldi text, first hypotheses) in the order of
    the cuts, ``lattices/<utt>.slf.gz``, and ``first_pass.json``, written last. Utterances that an
    interrupted run has finished are not decoded again. The results do not depend on ``nj``.

    Raises AnotherRunError when ``out`` belongs to a run with other settings, cuts or versions,
    InputError for lattices of no run in it and for bad cuts or audio, ValueError when nj < 1.
    """
    if nj < 1:
        raise ValueError(f"nj is {nj}; expected at least 1")
    lines = list(read_cut_lines(cuts))
    folder = Path(out)
    work = folder / ".unfinished"
    identity = _identity(lines, config)
    finished = _finished(folder, work, identity)
    if finished is not None:
        _log.info("%s: finished already, nothing to do", folder)
        return finished
    done = _resume(folder, work, identity)
    todo = [line for line in lines if line.utt not in done]
    if done:
        _log.info("%d of %d utterances were decoded before", len(done), len(lines))
    wall = time.perf_counter()
    with open(work / DONE_FILE, "a", encoding="utf-8") as record:
        results = _run(todo, config, folder / LATTICE_FOLDER, nj)
        for utt, result in tqdm(results, total=len(todo), unit="utt", disable=None):
            record.write(json.dumps({"utt": utt, **asdict(result)}, ensure_ascii=False) + "\n")
            record.flush()
            done[utt] = result
    wall = time.perf_counter() - wall
    nbests = [from_line(work / DONE_FILE, 1, done[line.utt].line) for line in lines]
    summary = _summary(nbests, done, identity)
    summary["run"] = {"nj": nj, "wall_s": wall, "utterances": len(todo)}
    summary["command_line"] = None if command_line is None else list(command_line)
    provenance = {"decoder": identity["decoder"], "weights": summary["weights"]}
    write_nbest(folder / NBEST_FILE, nbests, provenance)
    with write_text(folder / HYP_FILE) as stream:
        for nbest in nbests:
            stream.write(f"{nbest.utt} {nbest.hyps[0].text}".rstrip() + "\n")
    write_json(folder / SUMMARY_FILE, summary)
    shutil.rmtree(work)
    _report(summary)
    return summary


def _identity(lines: Sequence[CutLine], config: FirstPassConfig) -> dict[str, Any]:
    """All that the results depend on; two runs with equal identities give equal results."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.text.encode("utf-8") + b"\n")
    decoder = PocketSphinx(config)
    return {
        "decoder": "pocketsphinx",
        "config": asdict(config),
        "settings": decoder.settings,
        "weights": {
            "acoustic": decoder.weights.acoustic,
            "first_lm": decoder.weights.first_lm,
            "word_bonus": decoder.weights.word_bonus,
        },
        "cuts_sha256": digest.hexdigest(),
        "versions": {
            "asrprune": __version__,
            "pocketsphinx": version("pocketsphinx"),
            "lhotse": version("lhotse"),
        },
    }


def _finished(folder: Path, work: Path, identity: Mapping[str, Any]) -> Optional[dict[str, Any]]:
    """The summary of this very run, None if it has not come to its end."""
    if not (folder / SUMMARY_FILE).is_file() or (work / IDENTITY_FILE).is_file():
        return None
    summary = read_json(folder / SUMMARY_FILE)
    check_same_run(folder, summary.get("identity") if isinstance(summary, dict) else None, identity)
    return dict(summary)


def _resume(folder: Path, work: Path, identity: Mapping[str, Any]) -> dict[str, _Done]:
    """The utterances that an interrupted run with this identity has finished."""
    stated = work / IDENTITY_FILE
    if stated.is_file():
        check_same_run(folder, read_json(stated), identity)
        return _read_done(work / DONE_FILE)
    lattices = folder / LATTICE_FOLDER
    if lattices.exists() and (not lattices.is_dir() or any(lattices.iterdir())):
        expected = "an empty or new folder, or a run of `first-pass`"
        raise InputError(lattices, None, "files of no run", expected)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    lattices.mkdir(exist_ok=True)
    write_json(stated, identity)
    return {}


def _read_done(path: Path) -> dict[str, _Done]:
    """The records in ``path``, which afterwards ends with the last of them that is whole."""
    done: dict[str, _Done] = {}
    whole = 0
    if not path.is_file():
        return done
    with open(path, "rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                break  # the line that was being written when the run was killed
            try:
                entry = dict(json.loads(line))
                utt = entry.pop("utt")
                done[utt] = _Done(**entry)
            except DAMAGE as problem:
                warn_of_damage(path, problem)
                break
            whole += len(line)
    os.truncate(path, whole)
    return done


def _run(
    todo: Sequence[CutLine], config: FirstPassConfig, lattices: Path, nj: int
) -> Iterator[tuple[str, _Done]]:
    if nj == 1 or len(todo) < 2:
        if todo:
            _start_worker(config, str(lattices))
        for cut in todo:
            yield _decode_one(cut)
        return
    # spawned, not forked: the parent may hold threads of other libraries
    pool = ProcessPoolExecutor(
        min(nj, len(todo)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(config, str(lattices)),
    )
    try:
        for future in as_completed([pool.submit(_decode_one, cut) for cut in todo]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: dict[str, Any] = {}
"""This process's decoder and lattice folder; a pool gives its workers no better place."""


def _start_worker(config: FirstPassConfig, lattices: str) -> None:
    logging.getLogger("lhotse").setLevel(logging.ERROR)
    _worker["decoder"] = PocketSphinx(config)
    _worker["lattices"] = Path(lattices)


def _decode_one(cut: CutLine) -> tuple[str, _Done]:
    samples = load_audio(cut, SAMPLING_RATE)
    result = _worker["decoder"].decode(cut.utt, samples, cut.ref)
    if result.lattice is not None:
        write_slf(_worker["lattices"] / f"{cut.utt}.slf.gz", result.lattice)
    line = to_line(result.nbest)
    return cut.utt, _Done(line, result.decoder_text, result.decode_s, result.search_s)


def _summary(
    nbests: Sequence[NBest], done: Mapping[str, _Done], identity: Mapping[str, Any]
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
