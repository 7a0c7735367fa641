"""The engine that ``auto``, ``fastest-bf16`` and ``fastest`` stand for: measured on this LM, these
lists and this processor, once for each such shape. Accuracy is one of the weights: where it was
measured on another LM of the shape, the scores of this one are compared before its engine is taken.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import log2
from statistics import fmean
from typing import Any, Optional, Union

import numpy as np
import torch

from asrprune import __version__
from asrprune.core.tables import lookup
from asrprune.errors import MissingPackage
from asrprune.lm.device import default_threads, resolve_device
from asrprune.lm.engines.choice import (
    Choice,
    Floats,
    Run,
    exact_enough,
    pick,
    remember,
    remembered,
    take_turns,
)
from asrprune.lm.engines.engine import GPU_TOKEN_BUDGET, EngineOptions
from asrprune.lm.engines.native import cpp_compiler, processor
from asrprune.lm.engines.sparse.matrices import block_density
from asrprune.lm.engines.table import ACCURACIES, CHOICES, ENGINES, open_engine
from asrprune.lm.model.matrices import DenseLinear
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.scoring.forests import ForestScorer, ScoringOptions
from asrprune.lm.trie import Forest, build_forest
from asrprune.text.tokenizer import Tokenizer

REFERENCE = "torch"
SAMPLE_NODES = 1024
"""Trie nodes a thread of the sample: half a forward pass, which is as fast as a whole one."""
SAMPLE_S = (0.15, 0.6)
"""Seconds that the reference takes for the sample, at least and at most."""
LISTS = 64
"""Lists, from the first on, that the sample is made of."""
_PILOT = 20  # hypotheses that tell the reference's speed
_KEY = 2  # version of what choices are remembered by
_LIKE_TORCH = ("no kernel", "0 of ")  # how the notes of engines begin that are torch here
_FAILS = (MissingPackage, ImportError, OSError, RuntimeError, ValueError, MemoryError)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """Sentences as they will be scored: ``lists[utt][hyp]``. ``where``: how logs call them."""

    lists: Sequence[Sequence[str]]
    where: str


def candidates(asked: str, device: str) -> tuple[list[str], dict[str, str]]:
    """The engines that ``asked``, one of CHOICES, may stand for, the most accurate first; and of
    the others of these accuracy classes, why not."""
    classes = list(ACCURACIES)
    allowed = classes[: classes.index(lookup(CHOICES, asked, "choice of engine")) + 1]
    gpu = resolve_device(device).type != "cpu"
    found, others = [], {}
    for name, row in sorted(ENGINES.items(), key=lambda item: classes.index(item[1].accuracy)):
        if row.accuracy not in allowed:
            continue
        missing = [one for one in row.packages if importlib.util.find_spec(one) is None]
        if gpu and not row.gpu:
            others[name] = "CPU only"
        elif row.slow_start:
            others[name] = "starts slowly: ask for it by name"
        elif missing:
            others[name] = f"{' and '.join(missing)} not installed"
        else:
            found.append(name)
    return found, others


def choose(
    asked: str,
    model: TransformerLM,
    tokenizer: Tokenizer,
    options: EngineOptions,
    scoring: ScoringOptions,
    sample: Optional[Sample] = None,
) -> Choice:
    """The fastest engine for the model in float32 among ``candidates``, on ``sample``, or on drawn
    tries of 50-best lists where there is none. It is said in the log and remembered, for these
    weights, and for others of the shape whose scores the engine keeps too.

    Raises ValueError for a calibration text, which no candidate reads.
    """
    if options.calibration is not None:
        raise ValueError(f"calibration text is given, but engine {asked} calibrates nothing")
    names, others = candidates(asked, options.device)
    if names == [REFERENCE]:
        return _said(Choice(asked, REFERENCE, {REFERENCE: 1.0}, {}, others, "nothing"))
    lists = drawn_lists(model) if sample is None else _encoded(sample, model, tokenizer)
    where = "drawn tries of 50-best lists" if sample is None else sample.where
    key = {
        "version": _KEY,
        "asked": asked,
        "candidates": names,
        "lm": {**asdict(model.shape), "kept": _kept(model) if "sparse" in names else {}},
        "lists": _shape(lists, tokenizer),
        "processor": processor(),
        "device": device_name(options),
        "threads": thread_count(options),
        "token_budget": scoring.token_budget,
        "compiler": cpp_compiler(),
        "versions": _versions(names),
    }
    weights = _weights_hash(model)
    own = {**key, "weights": weights}
    shared = remembered(key, Choice)
    if shared is not None and shared.weights_sha256 == weights:
        return _said(shared)
    found = remembered(own, Choice)
    if found is not None:
        return _said(found)
    scorer = partial(_scorer, model, tokenizer, options, scoring)
    if shared is not None:
        found = _checked(shared, _Compared(scorer, [lists[0][:_PILOT]]), weights)
    if found is None:
        lists = first_lists(
            scorer(REFERENCE), lists, SAMPLE_S, SAMPLE_NODES * thread_count(options)
        )
        compared = _Compared(scorer, lists)
        found = _measured(asked, names, others, compared, clock_for(options), where, weights)
        if not compared.refused:
            there = remember(key, found)
            if there.weights_sha256 == weights:
                return _said(there)
    return _said(remember(own, found))


def _said(choice: Choice) -> Choice:
    log.info("%s", choice)
    for name, reason in choice.not_measured.items():
        log.info("engine %s is not measured: %s", name, reason)
    return choice


Lists = Sequence[Sequence[Sequence[int]]]


@dataclass(frozen=True)
class _Tried:
    """An engine's ``run`` of the sample, and its mean |``difference``| of ln P from the
    reference."""

    run: Run
    difference: float


class _Compared:
    """Engines beside the reference, on ``lists``. ``refused``: whether the scores of one were too
    far from it, which is so for these weights alone."""

    def __init__(self, scorer: Callable[[str], ForestScorer], lists: Lists) -> None:
        self._scorer = scorer
        self._reference = scorer(REFERENCE)
        self._forest = self._reference.forest(lists)
        self._exact = _scores(self._reference, self._forest)
        self.hypotheses = sum(map(len, lists))
        self.refused = False

    def engine(self, name: str) -> Union[_Tried, str]:
        """What it does; a reason where it is not to be measured."""
        if name == REFERENCE:
            return _Tried(partial(_scores, self._reference, self._forest), 0.0)
        try:
            made = self._scorer(name)
            if made.engine.note.startswith(_LIKE_TORCH):
                return made.engine.note
            apart = np.abs(_scores(made, self._forest) - self._exact)
        except _FAILS as problem:
            return " ".join(str(problem).split())[:200]
        largest = float(apart.max(initial=0.0))
        if not exact_enough(name, ENGINES[name].accuracy, largest):
            self.refused = True
            return f"up to {largest:.2g} nats from torch in float32"
        difference = float(apart.mean()) if len(apart) else 0.0
        return _Tried(partial(_scores, made, self._forest), difference)


def _checked(found: Choice, compared: _Compared, weights: str) -> Optional[Choice]:
    """What was measured on another LM of the shape, for the LM of ``weights``; None where its
    engine does not keep the scores of this one."""
    tried = compared.engine(found.engine)
    if isinstance(tried, str):
        return None
    return replace(found, differences={found.engine: tried.difference}, weights_sha256=weights)


def _measured(
    asked: str,
    names: Sequence[str],
    others: Mapping[str, str],
    compared: _Compared,
    clock: Callable[[], float],
    where: str,
    weights: str,
) -> Choice:
    not_measured = dict(others)
    runs: dict[str, Run] = {}
    differences: dict[str, float] = {}
    for name in names:
        tried = compared.engine(name)
        if isinstance(tried, str):
            not_measured[name] = tried
        else:
            runs[name], differences[name] = tried.run, tried.difference
    seconds = take_turns(runs, clock)
    speeds = {name: seconds[REFERENCE] / value for name, value in seconds.items()}
    sample = f"{compared.hypotheses} hypotheses of {where}"
    return Choice(
        asked, pick(seconds), speeds, differences, not_measured, sample, weights_sha256=weights
    )


def _scorer(
    model: TransformerLM,
    tokenizer: Tokenizer,
    options: EngineOptions,
    scoring: ScoringOptions,
    name: str,
) -> ForestScorer:
    made = open_engine(name, model, options, tokenizer)
    return ForestScorer(made, tokenizer, model.max_positions, scoring)


def _scores(scorer: ForestScorer, forest: Forest) -> Floats:
    return scorer.run(forest).sentence_scores()


def first_lists(
    reference: ForestScorer, lists: Lists, seconds: tuple[float, float], nodes: int
) -> Lists:
    """The first of ``lists``, at least one, with so many trie ``nodes``; more or fewer if the
    reference takes less than the first, or more than the second number of ``seconds`` for them. On
    a GPU, where a few nodes take as long as many, half of a whole pass."""
    if reference.engine.device == "cpu":
        pilot = reference.forest([lists[0][:_PILOT]])
        _scores(reference, pilot)  # warm-up
        (pilot_s,) = take_turns({REFERENCE: partial(_scores, reference, pilot)}).values()
        least, most = (round(limit * len(pilot) / pilot_s) for limit in seconds)
        left = min(max(nodes, least), most)
    else:
        left = GPU_TOKEN_BUDGET // 2
    kept: list[Sequence[Sequence[int]]] = []
    for hyps in lists:
        kept.append(hyps)
        left -= len(reference.forest([hyps]))
        if left <= 0:
            break
    return kept


def _encoded(sample: Sample, model: TransformerLM, tokenizer: Tokenizer) -> Lists:
    """Token ids; of hypotheses that are too long, their begin. Drawn ones where there are none."""
    limit = model.max_positions - 1 - len(tokenizer.prompt)
    lists = [hyps for hyps in sample.lists[:LISTS] if hyps]
    ids = iter(tokenizer.encode_batch([text for hyps in lists for text in hyps]) if lists else ())
    return [[next(ids)[:limit] for _ in hyps] for hyps in lists] or drawn_lists(model)


def drawn_lists(model: TransformerLM) -> Lists:
    """50-best lists of 20 tokens a hypothesis, each with a few that differ from the best one's."""
    draw = np.random.default_rng(0)
    length, pieces = min(20, model.max_positions - 1), model.embedding.vocab_size
    lists = []
    for _ in range(LISTS):
        best = draw.integers(pieces, size=length)
        hyps = np.repeat(best[None], 50, axis=0)  # [H, T]
        for hyp in hyps[1:]:
            hyp[draw.integers(length, size=2)] = draw.integers(pieces, size=2)
        lists.append(hyps.tolist())
    return lists


def _shape(lists: Lists, tokenizer: Tokenizer) -> dict[str, int]:
    """Hypotheses a list, their tokens, and tokens a unique token, each in steps of a factor."""
    hypotheses = sum(map(len, lists))
    tokens = sum(len(ids) + 1 for hyps in lists for ids in hyps)
    unique = len(build_forest(lists, tokenizer.begin, tokenizer.prompt))
    return {
        "hypotheses": round(log2(hypotheses / len(lists))),
        "tokens": round(log2(tokens / hypotheses)),
        "shared": round(2 * log2(tokens / unique)),
    }


def clock_for(options: EngineOptions) -> Callable[[], float]:
    """Seconds, as they are to be measured: other processes disturb wall time, but with several
    threads, and on a GPU, only that says how long it takes."""
    alone = thread_count(options) == 1 and resolve_device(options.device).type == "cpu"
    return time.process_time if alone else time.perf_counter


def thread_count(options: EngineOptions) -> int:
    """CPU threads that an engine takes."""
    return options.threads or default_threads()


def _kept(model: TransformerLM) -> dict[str, list[int]]:
    """Kind of matrix -> what share of its weights, and of its blocks of 4 outputs by one input, is
    not all zero, in steps of 1/20: all that engine sparse's speed depends on beside the shape, and
    no other's depends on zeros. Fine-tuning keeps it, since it keeps the zeros."""
    found: dict[str, list[tuple[float, float]]] = {}
    for place, linear in model.linears():
        if isinstance(linear, DenseLinear) and linear.weight.numel():
            share = int(linear.weight.count_nonzero()) / linear.weight.numel()
            blocks = block_density(linear.weight, 4) if share < 1.0 else share
            found.setdefault(place.name, []).append((share, blocks))
    return {
        name: [round(20 * fmean(column)) for column in zip(*shares)]
        for name, shares in found.items()
    }


def _weights_hash(model: TransformerLM) -> str:
    """The SHA-256 of what the model has learned, about as fast as its file is read."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(name.encode())
        digest.update(raw.data)
    return digest.hexdigest()


def _versions(names: Sequence[str]) -> dict[str, Any]:
    packages = sorted({one for name in names for one in ENGINES[name].packages})
    return {"asrprune": __version__, "torch": torch.__version__, **dict(map(_version, packages))}


def _version(package: str) -> tuple[str, str]:
    try:
        return package, importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # from a distribution of another name
        return package, "unknown"


def device_name(options: EngineOptions) -> str:
    """Where an engine computes; of a GPU also what it is."""
    found = resolve_device(options.device)
    return f"{found} {torch.cuda.get_device_name(found)}" if found.type == "cuda" else str(found)
