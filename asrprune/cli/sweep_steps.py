"""The steps of ``sweep``: calls of other verbs, with what each reads and writes."""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrprune.core.processes import in_processes
from asrprune.core.record import a_list_of, a_string, read_record
from asrprune.core.units import WORD
from asrprune.files import PathLike, content_hash, write_binary, write_json, write_text

log = logging.getLogger(__name__)

STEPS = "steps.json"
_FORMAT, _VERSION = "asrprune-sweep", 1
_NAMES = a_list_of(a_string)


@dataclass(frozen=True)
class Step:
    """A call of a verb. ``reads``: files and folders; ``writes``: files that it leaves behind."""

    argv: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def command(self) -> str:
        """As it would be typed."""
        return shlex.join(("asrprune", *self.argv))


@dataclass(frozen=True)
class Sweep:
    """What the command line says. ``systems``: name and paths of each."""

    systems: tuple[tuple[str, tuple[str, ...]], ...]
    dev: str
    dev_ref: str
    test: str
    test_ref: str
    first_pass: str | None
    baseline: str
    engine: str
    threads: int
    nj: int
    bench_utts: int
    repeats: int
    title: str
    accept_unknown: bool
    utt2spk: str | None
    out: str
    unit: str = WORD
    normalise: str | None = None
    language: str | None = None
    special: tuple[tuple[str, str], ...] = ()
    over_long: str = "error"

    def path(self, *parts: str) -> str:
        """A place in the folder that is written."""
        return os.path.join(self.out, *parts)

    def run_path(self, *parts: str) -> str:
        """A place in the folder of the runs: one a system, the first pass, and the oracle."""
        return self.path("runs", *parts)

    @property
    def lms(self) -> dict[str, str]:
        """Name -> path of every LM: that of a system that is this LM alone, else lm1, lm2, ..."""
        alone = {paths[0]: name for name, paths in reversed(self.systems) if len(paths) == 1}
        names = {name for name, _ in self.systems}
        free = (name for name in (f"lm{n}" for n in range(1, 1 << 30)) if name not in names)
        found: dict[str, str] = {}
        for path in dict.fromkeys(path for _, paths in self.systems for path in paths):
            found[alone.get(path) or next(free)] = path
        return found

    @property
    def text(self) -> tuple[str, ...]:
        """What the verbs that score are told of the text that an LM sees."""
        form = () if self.normalise is None else ("--normalise", self.normalise)
        spoken = () if self.language is None else ("--language", self.language)
        words = [f"{word}={what}" for word, what in self.special]
        special = ("--special", *words) if words else ()
        return (*form, *spoken, *special, *(("--accept-unknown",) if self.accept_unknown else ()))

    @property
    def over_long_too(self) -> tuple[str, ...]:
        """What the verbs that score with checkpoints are told of hypotheses beyond positions."""
        return () if self.over_long == "error" else ("--over-long", self.over_long)

    @property
    def counted(self) -> tuple[str, ...]:
        """What the verbs that count errors are told of their unit."""
        return () if self.unit == WORD else ("--unit", self.unit)

    def scores(self, path: str, which: str) -> str:
        """The scores file of the LM at ``path`` for the lists ``which``, dev or test."""
        (name,) = (name for name, lm in self.lms.items() if lm == path)
        return self.path("lms", name, f"{which}.scores.gz")

    @property
    def sentences(self) -> str:
        """The references of test without ids."""
        return self.path("lms", "sentences.txt")


def scoring_steps(sweep: Sweep) -> Iterator[Step]:
    """Scores and perplexity of each LM."""
    for name, path in sweep.lms.items():
        how: tuple[str, ...] = ()
        if not _is_ngram(path):
            how = ("--engine", sweep.engine, "--threads", str(sweep.threads), *sweep.over_long_too)
        for which, lists in (("dev", sweep.dev), ("test", sweep.test)):
            out = sweep.scores(path, which)
            argv = ("lmscore", "--lm", path, "--nbest", lists, *how, *sweep.text)
            yield Step((*argv, "--out", out), (path, lists), (out,))
        out = sweep.path("lms", name, "perplexity.json")
        argv = ("perplexity", "--lm", path, "--text", sweep.sentences, *sweep.text)
        if not _is_ngram(path):
            argv = (*argv, *sweep.over_long_too)
        yield Step((*argv, "--json", out), (path, sweep.sentences), (out,))


def tuning_step(sweep: Sweep) -> Step:
    """The weights of all systems, from dev."""
    systems, reads = [], [sweep.dev, sweep.dev_ref]
    for name, paths in sweep.systems:
        scores = [sweep.scores(path, "dev") for path in paths]
        systems.append(f"{name}={','.join(scores)}")
        reads += scores
    argv = ["tune", "--nbest", sweep.dev, "--ref", sweep.dev_ref, "--system", *systems]
    argv += ["--towards", sweep.baseline, "--nj", str(sweep.nj), *sweep.counted]
    if sweep.first_pass is not None:
        argv += ["--first-pass", sweep.first_pass]
        reads.append(sweep.first_pass)
    writes = [sweep.run_path(name, "weights.json") for name, _ in sweep.systems]
    return Step((*argv, "--out", sweep.run_path()), tuple(reads), tuple(writes))


def rescoring_steps(sweep: Sweep) -> Iterator[Step]:
    """The best hypotheses of test under each system."""
    for name, paths in sweep.systems:
        scores = tuple(sweep.scores(path, "test") for path in paths)
        weights, out = sweep.run_path(name, "weights.json"), sweep.run_path(name, "hyp")
        argv = ("rescore", "--nbest", sweep.test, "--scores", *scores, "--weights", weights)
        yield Step((*argv, "--out", out), (sweep.test, weights, *scores), (out,))


def bench_step(sweep: Sweep) -> Step:
    """The speed of all LMs in turns, the baseline's first."""
    first = dict(sweep.systems)[sweep.baseline][0]
    lms = sorted(sweep.lms.items(), key=lambda item: item[1] != first)
    argv = ["bench", "--system", *(f"{name}={path}" for name, path in lms), "--nbest", sweep.test]
    argv += ["--limit", str(sweep.bench_utts), "--repeats", str(sweep.repeats), *sweep.text]
    if not all(_is_ngram(path) for _, path in lms):
        argv += ["--engine", sweep.engine, "--threads", str(sweep.threads), "--no-check"]
        argv += sweep.over_long_too
    if not _is_ngram(first):
        argv += ["--baseline", "padded"]
    writes = tuple(sweep.path("lms", name, "bench.json") for name, _ in lms)
    reads = (sweep.test, *(path for _, path in lms))
    return Step((*argv, "--out", sweep.path("lms")), reads, writes)


def oracle_step(sweep: Sweep) -> Step:
    """What the lists hold."""
    out = sweep.run_path("oracle", "oracle.json")
    argv = ("oracle", "--nbest", sweep.test, "--ref", sweep.test_ref, *sweep.counted, "--json", out)
    return Step(argv, (sweep.test, sweep.test_ref), (out,))


def report_step(sweep: Sweep) -> Step:
    """The table and the page."""
    names = ["first-pass", "oracle", *(name for name, _ in sweep.systems)]
    runs = [sweep.run_path(name) for name in names]
    argv = ["report", "--runs", *runs, "--ref", sweep.test_ref, "--baseline", sweep.baseline]
    reads = [*runs, sweep.test_ref]
    if sweep.first_pass is not None:
        argv += ["--first-pass", sweep.first_pass]
        reads.append(sweep.first_pass)
    if sweep.utt2spk is not None:
        argv += ["--utt2spk", sweep.utt2spk]
        reads.append(sweep.utt2spk)
    lms = [(name, paths[0]) for name, paths in sweep.systems if len(paths) == 1]
    if lms:
        argv += ["--lm", *(f"{name}={path}" for name, path in lms)]
        reads += [path for _, path in lms]
    argv += [*sweep.counted, "--title", sweep.title, "--out", sweep.path("report")]
    writes = tuple(sweep.path("report", name) for name in ("table.md", "table.json", "index.html"))
    return Step(tuple(argv), tuple(reads), writes)


def run_steps(sweep: Sweep) -> None:
    """Every step that is not done.

    Raises what the verbs raise, and InputError for a folder that another verb wrote STEPS in.
    """
    from asrprune.rescore.weights_file import read_first_pass

    done = _Done(sweep.path(STEPS))
    _check_lists(sweep.dev, sweep.dev_ref, sweep.unit, every=False)
    utterances = _check_lists(sweep.test, sweep.test_ref, sweep.unit, every=True)
    _check_speakers(sweep.utt2spk, utterances)
    if sweep.first_pass is not None:
        read_first_pass(sweep.first_pass)
    os.makedirs(os.path.realpath(sweep.out), exist_ok=True)  # it may be a link
    _write_texts(sweep)
    done.run(scoring_steps(sweep), sweep.nj)
    done.run([tuning_step(sweep)], 1)
    done.run(rescoring_steps(sweep), sweep.nj)
    done.run([bench_step(sweep)] if sweep.bench_utts else [], 1)
    done.run([oracle_step(sweep)], 1)
    _hand_out(sweep)
    done.run([report_step(sweep)], 1)


def _check_lists(path: str, ref: str, unit: str, every: bool) -> list[str]:
    """The utterances. Raise InputError now for what a step would find after hours."""
    from asrprune.firstpass.formats.jsonl import read_nbest
    from asrprune.rescore.nbest.check import check_lists
    from asrprune.wer.score import plain_refs

    return check_lists(path, read_nbest(path), ref, plain_refs(ref).texts, unit, every)


def _check_speakers(path: str | None, utterances: Sequence[str]) -> None:
    """As ``_check_lists``."""
    from asrprune.wer.speakers import number_speakers, read_utt2spk

    if path is not None:
        number_speakers(path, read_utt2spk(path), utterances)


def _write_texts(sweep: Sweep) -> None:
    """References without ids, and what the first pass says: the first hypotheses of its lists."""
    from asrprune.firstpass.formats.jsonl import read_nbest
    from asrprune.wer.score import plain_refs

    for path in (sweep.sentences, sweep.run_path("first-pass", "hyp")):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with write_text(sweep.sentences) as stream:
        stream.writelines(f"{words}\n" for words in plain_refs(sweep.test_ref).texts.values())
    with write_text(sweep.run_path("first-pass", "hyp")) as stream:
        for nbest in read_nbest(sweep.test):
            stream.write(f"{nbest.utt} {nbest.hyps[0].text}".rstrip() + "\n")


def _hand_out(sweep: Sweep) -> None:
    """What was measured of an LM, to the systems that it is part of."""
    names = {path: name for name, path in sweep.lms.items()}
    for system, paths in sweep.systems:
        for old in Path(sweep.run_path(system)).glob("bench*.json"):  # of another call
            old.unlink()
        for path in paths if sweep.bench_utts else ():
            name = "bench.json" if len(paths) == 1 else f"bench-{names[path]}.json"
            _copy(sweep.path("lms", names[path], "bench.json"), sweep.run_path(system, name))
        figures = Path(sweep.run_path(system, "perplexity.json"))
        figures.unlink(missing_ok=True)
        if len(paths) == 1:
            _copy(sweep.path("lms", names[paths[0]], "perplexity.json"), figures)


def _copy(source: str, target: PathLike) -> None:
    with write_binary(target) as stream:
        stream.write(Path(source).read_bytes())


class _Done:
    """What was done by which command, with what: in the file STEPS of the folder.

    A file is of the command that wrote it last: before a step begins, the marks of all that wrote
    what it writes are dropped. A mark without its files, of an older version, does not count.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._marks: dict[str, tuple[str, tuple[str, ...]]] = {}  # command -> hash, files
        self._hashes: dict[str, str] = {}
        if os.path.exists(path):
            record = read_record(path).check_format(_FORMAT, _VERSION, "the steps of a sweep")
            for step in record.parts("done"):
                mark, writes = step.get("inputs_sha256", a_string), step.find("writes", _NAMES)
                if writes is not None:
                    self._marks[step.get("command", a_string)] = mark, writes

    def run(self, steps: Iterable[Step], nj: int) -> None:
        """Those of ``steps`` that are not done, ``nj`` at once."""
        left = []
        for step in steps:
            if self._marks.get(step.command) == self._mark(step) and _all_there(step.writes):
                log.info("done before: %s", step.command)
            else:
                left.append(step)
        for path in (path for step in left for path in step.writes):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        if nj == 1 or len(left) < 2:
            for step in left:
                self._begin([step])
                _run(step)
                self._note(step)
            return
        self._begin(left)
        for step in in_processes(_run, left, nj, _start, (), self._path):
            self._note(step)

    def _begin(self, steps: Sequence[Step]) -> None:
        """Drop the marks of all that wrote what ``steps`` write, on disk when this returns: one
        that is killed leaves none."""
        names = {name for step in steps for name in self._names(step)}
        old = [command for command, mark in self._marks.items() if not names.isdisjoint(mark[1])]
        for command in old:
            del self._marks[command]
        if old:
            self._write()

    def _note(self, step: Step) -> None:
        for path in step.writes:
            self._hashes.pop(path, None)
        self._marks[step.command] = self._mark(step)
        self._write()

    def _write(self) -> None:
        done = [
            {"command": command, "inputs_sha256": mark, "writes": names}
            for command, (mark, names) in sorted(self._marks.items())
        ]
        write_json(self._path, {"format": _FORMAT, "version": _VERSION, "done": done})

    def _names(self, step: Step) -> tuple[str, ...]:
        """The files that the step writes, however the path of the folder is spelled."""
        return tuple(os.path.relpath(path, os.path.dirname(self._path)) for path in step.writes)

    def _mark(self, step: Step) -> tuple[str, tuple[str, ...]]:
        """A hash of all that the step reads, and the files that it writes; what is missing is the
        verb's to say."""
        hashes = [self._hash(path) for path in step.reads]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest(), self._names(step)

    def _hash(self, path: str) -> str:
        if path not in self._hashes:
            self._hashes[path] = content_hash(path)
        return self._hashes[path]


def _all_there(paths: Sequence[str]) -> bool:
    return all(os.path.isfile(path) for path in paths)


def _is_ngram(path: str) -> bool:
    from asrprune.lm.open import is_ngram

    return is_ngram(path)


def _start() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def _run(step: Step) -> Step:
    from asrprune.cli.main import call

    log.info("+ %s", step.command)
    call(step.argv)
    return step
