"""The work of ``tune``: dev data read once, the weights of every system tuned and written."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Optional

from asrprune.cli.text_flags import check_known
from asrprune.core.hypothesis import NBest
from asrprune.core.lattice.lattice import Lattice
from asrprune.core.processes import in_processes
from asrprune.core.progress import tracked
from asrprune.core.spool import SortedLines, Spool, SpooledDict
from asrprune.core.units import in_units
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.rescore.nbest.scored_list import ScoredList, scored_lists
from asrprune.rescore.tuning.report import described, warning
from asrprune.rescore.tuning.round_options import RoundOptions
from asrprune.rescore.tuning.tune import Tuned, TuneOptions, tune
from asrprune.rescore.weights_file import (
    WeightsFile,
    read_any_weights,
    read_first_pass,
    reference_hash,
    set_hashes,
    utterances_hash,
    write_weights,
)
from asrprune.text.form import TextOptions

if TYPE_CHECKING:
    from asrprune.lm.model.elastic import Size
    from asrprune.lm.protocol import LanguageModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class System:
    """Scores files (of lists) or LMs (for lattices), and where the weights go. ``name`` is "" where
    there is one system only."""

    name: str
    paths: tuple[str, ...]
    out: str


@dataclass(frozen=True)
class Settings:
    """What the command line says of all systems."""

    nbest: Optional[str]
    lattice: Optional[str]
    format: Optional[str]
    format_options: Mapping[str, Any]
    ref: Optional[str]
    first_pass: Optional[str]
    towards: Optional[str]
    mbr: bool
    unit: str
    nj: int
    engine: str
    threads: Optional[int]
    device: str
    command_line: Sequence[str]
    options: TuneOptions = field(default_factory=TuneOptions)
    rounds: RoundOptions = field(default_factory=RoundOptions)
    on_bad: str = "error"
    text: TextOptions = field(default_factory=TextOptions)
    accept_unknown: bool = False
    size: Optional[Size] = None

    @property
    def dev(self) -> str:
        """The path of the dev set."""
        return str(self.nbest if self.lattice is None else self.lattice)


@dataclass(frozen=True)
class Dev:
    """The dev set as it was read: lists or lattices, references, the weights to start from. Lists
    and references are on disk."""

    lists: Collection[NBest]
    lattices: tuple[Lattice, ...]
    refs: Mapping[str, str]
    start: ScoreWeights


def tune_systems(systems: Sequence[System], settings: Settings) -> None:
    """Tune and write every system; the one that the others are drawn to comes first.

    Raises as ``tune`` and ``tune_on_lattices`` do.
    """
    dev = read_dev(settings)
    towards: Optional[ScoreWeights] = None
    waiting = list(systems)
    if settings.towards is not None and not systems[0].name:
        towards = read_any_weights(settings.towards).weights
    elif settings.towards is not None:
        first = next(one for one in systems if one.name == settings.towards)
        waiting.remove(first)
        towards = _tune_one(first, settings, dev, None)
        if not any(towards.lm):
            log.info("%s has no LM weight: the others are drawn to the best mixture", first.name)
            towards = None
    work = partial(_tune_one, settings=settings, dev=dev, towards=towards)
    if settings.nj == 1 or len(waiting) < 2:
        for system in tracked(waiting, "tuned", "systems") if len(waiting) > 1 else waiting:
            work(system)
        return
    tuned = in_processes(
        _tune_in_worker, waiting, settings.nj, _start_worker, (settings, towards), settings.dev
    )
    for _ in tracked(tuned, "tuned", "systems", len(waiting)):
        pass


_worker: dict[str, Any] = {}
"""What this process tunes on; a pool gives its workers no better place."""


def _start_worker(settings: Settings, towards: Optional[ScoreWeights]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    _worker.update(settings=settings, dev=read_dev(settings), towards=towards)


def _tune_in_worker(system: System) -> None:
    _tune_one(system, **_worker)


def read_dev(settings: Settings) -> Dev:
    """The dev set of the command line. Raises InputError for a bad or empty one."""
    from asrprune.firstpass.formats.jsonl import read_nbest
    from asrprune.firstpass.formats.table import read_items
    from asrprune.firstpass.on_bad import OnBad

    bad = OnBad(settings.on_bad)
    lists: Collection[NBest] = ()
    lattices: tuple[Lattice, ...] = ()
    if settings.nbest is not None:
        lists = Spool(read_nbest(settings.nbest, bad))
    else:
        items = read_items(str(settings.format), settings.dev, settings.format_options, bad)
        lattices = tuple(one for one in items if isinstance(one, Lattice))
        names = [one.utt for one in lattices]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(settings.dev, None, f"utterance {twice} again", "each utterance once")
    bad.warn(settings.dev)
    start = lattices[0].weights if lattices else None
    if settings.first_pass is not None:
        start = read_first_pass(settings.first_pass)
    refs = SpooledDict(
        (utt, in_units(ref, settings.unit)) for utt, ref in _references(settings, lists)
    )
    _warn_of_form(settings, refs, lists)
    return Dev(lists, lattices, refs, replace(start or ScoreWeights(), unit=settings.unit))


def _warn_of_form(settings: Settings, refs: Mapping[str, str], lists: Collection[NBest]) -> None:
    """Say where references and first hypotheses are of different forms."""
    from asrprune.wer.score import sample, warn_of_form

    first = {
        one.utt: in_units(one.hyps[0].text, settings.unit) for one in sample(lists) if one.hyps
    }
    warn_of_form(refs, first, settings.unit, settings.dev, scorer=False)


def _references(settings: Settings, lists: Iterable[NBest]) -> Iterator[tuple[str, str]]:
    """Utterance ids and references, of --ref or of the lists."""
    from asrprune.wer.score import plain_refs

    if settings.ref is not None:
        yield from plain_refs(settings.ref).texts.items()
        return
    for nbest in lists:
        if nbest.ref is None:
            found = f"utterance {nbest.utt} without ref"
            raise InputError(settings.dev, None, found, "a reference for each, or --ref FILE")
        yield nbest.utt, nbest.ref


def _tune_one(
    system: System, settings: Settings, dev: Dev, towards: Optional[ScoreWeights]
) -> ScoreWeights:
    """Tune one system, write its weights, and give them back."""
    from asrprune.provenance import provenance
    from asrprune.rescore.scores_file import ScoresReader
    from asrprune.rescore.tuning.posterior_scale import tune_posterior_scale

    facts: dict[str, Any] = {}
    if towards is not None and len(towards.lm) != len(system.paths):
        if not system.name:
            found = f"{len(towards.lm)} LM weights"
            raise InputError(str(settings.towards), None, found, f"{len(system.paths)}, one an LM")
        log.info(
            "%s: %d LMs, %s has %d: drawn to the best mixture",
            system.name,
            len(system.paths),
            settings.towards,
            len(towards.lm),
        )
        towards = None
    if settings.lattice is None:
        scores = [ScoresReader(path) for path in system.paths]
        names = tuple(one.lm for one in scores)
        lists: Iterable[ScoredList] = scored_lists(dev.lists, scores, settings.unit)
        if settings.mbr:  # goes through them again
            lists = Spool(lists)
        found_weights = tune(lists, dev.refs, dev.start, settings.options, settings.dev, towards)
        utts = (nbest.utt for nbest in dev.lists)
        facts |= set_hashes(dev.lists)
    else:
        lms = [_open(path, settings) for path in system.paths]
        names = tuple(lm.name for lm in lms)
        words = Counter(word for lattice in dev.lattices for word in lattice.words if word)
        for lm in lms:
            check_known(lm, words, settings.dev, settings.accept_unknown)
        lists, found_weights, facts = _on_lattices(lms, settings, dev, towards)
        utts = (scored.nbest.utt for scored in lists)
    scale = None
    facts |= _facts(found_weights, dev, utts)
    if settings.mbr:
        weights = replace(found_weights.weights, unit=settings.unit)
        scale, errors = tune_posterior_scale(lists, dev.refs, weights, settings.dev)
        facts["mbr_errors"] = errors
        log.info("posterior scale %g: %d errors, %d without", scale, errors, found_weights.errors)
    origin = provenance(settings.command_line, seed=settings.options.seed)
    stated = replace(found_weights.weights, unit=settings.unit)
    value = WeightsFile(stated, names, facts, origin, scale)
    write_weights(system.out, value)
    prefix = f"{system.name}: " if system.name else ""
    for line in described(found_weights, names, settings.unit):
        log.info("%s%s", prefix, line)
    doubtful = warning(found_weights, settings.unit)
    if doubtful is not None:
        log.warning("%s%s", prefix, doubtful)
    return found_weights.weights


def _on_lattices(
    lms: Sequence[LanguageModel],
    settings: Settings,
    dev: Dev,
    towards: Optional[ScoreWeights],
) -> tuple[Sequence[ScoredList], Tuned, dict[str, Any]]:
    from asrprune.rescore.tuning.lattice_rounds import tune_on_lattices

    if not dev.lattices:
        raise InputError(settings.dev, None, "no lattices", "those of a dev set")
    found = tune_on_lattices(
        dev.lattices,
        lms,
        dev.refs,
        dev.start,
        settings.options,
        settings.rounds,
        towards,
        settings.dev,
    )
    if not found.rest:
        log.warning("the weights have not come to rest in %d rounds (--rounds)", found.rounds)
    facts = {
        "utterances_hash": utterances_hash(SortedLines(one.nbest.utt for one in found.lists)),
        "rounds": found.rounds,
        "at_rest": found.rest,
        "hypotheses": found.hypotheses,
    }
    return found.lists, found.tuned, facts


def _open(path: str, settings: Settings) -> LanguageModel:
    from asrprune.lm.engines.engine import EngineOptions
    from asrprune.lm.open import open_lm

    engine = EngineOptions(settings.threads, settings.device)
    return open_lm(path, settings.engine, engine, text=settings.text, size=settings.size)


def _facts(found: Tuned, dev: Dev, utts: Iterable[str]) -> dict[str, Any]:
    """What the weights file says of the dev set (its utterances are ``utts``) and of the search."""
    facts: dict[str, Any] = {
        "ref_hash": reference_hash((utt, dev.refs[utt]) for utt in utts),
        "utterances": found.utterances,
        "words": found.words,
        "errors": found.errors,
        "wer_percent": found.wer_percent,
        "wer_percent_lm_weight_0": found.start_wer_percent,
    }
    if found.centre is not None:
        facts["centre"] = _plain(found.centre)
        facts["strength"] = found.strength
        facts["held_out_wer_percent"] = {
            name: 100.0 * errors / found.words for name, errors in found.held_out_errors.items()
        }
    if found.parts:
        facts["parts"] = [asdict(part) for part in found.parts]
        facts["taken"] = found.taken
    if found.intervals is not None:
        low, high = _plain(found.intervals.low), _plain(found.intervals.high)
        facts["intervals"] = {
            key: list(zip(low[key], high[key])) if key == "lm" else [low[key], high[key]]
            for key in low
        }
    return facts


def _plain(weights: ScoreWeights) -> dict[str, Any]:
    return {
        "acoustic": weights.acoustic,
        "first_lm": weights.first_lm,
        "lm": list(weights.lm),
        "word_bonus": weights.word_bonus,
    }
