"""Oracle WER: the fewest errors that any hypothesis of an n-best list or lattice makes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Optional

from asrprune.core.counts import ErrorCounts, ErrorTable
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import Lattice, from_arcs
from asrprune.core.lattice.oracle import oracle_words
from asrprune.core.spool import Spool, SpooledDict
from asrprune.errors import InputError
from asrprune.wer.form import ScoringForm
from asrprune.wer.marks import Marked
from asrprune.wer.wer import count_errors, match_ids

DEPTHS = (1, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True)
class UtteranceOracle:
    """The best hypothesis of one list.

    ``best[i]`` are its errors among the first ``OracleResult.depths[i]`` hypotheses (all
    reference words deleted for an empty list); ``rank`` counts from 1, the earliest of equals,
    and is None for an empty list.
    """

    utt: str
    hypotheses: int
    best: tuple[ErrorCounts, ...]
    rank: Optional[int]


@dataclass(frozen=True)
class OracleResult:
    """Oracle errors at several depths; the last depth is the longest list, so it sees everything.

    ``missing`` are references without a list, ``unknown`` lists without a reference.
    """

    depths: tuple[int, ...]
    utterances: Collection[UtteranceOracle]
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def counts_at(self, depth: int) -> tuple[ErrorCounts, ...]:
        """The errors of each utterance at one of ``depths``, in the order of ``utterances``."""
        return tuple(self.tables[self.depths.index(depth)])

    @cached_property
    def tables(self) -> tuple[ErrorTable, ...]:
        """The errors of each utterance, one table for each of ``depths``."""
        tables = tuple(ErrorTable() for _ in self.depths)
        for one in self.utterances:
            for table, counts in zip(tables, one.best):
                table.append(counts)
        return tables

    @property
    def mean_hypotheses(self) -> float:
        """How many hypotheses a list holds on average."""
        return sum(one.hypotheses for one in self.utterances) / len(self.utterances)

    @property
    def mean_rank(self) -> Optional[float]:
        """The average rank of the best hypothesis over non-empty lists; None if all are empty."""
        ranks = [one.rank for one in self.utterances if one.rank is not None]
        return sum(ranks) / len(ranks) if ranks else None

    @property
    def empty_lists(self) -> int:
        """How many lists hold no hypothesis."""
        return sum(one.hypotheses == 0 for one in self.utterances)


def oracle_errors(
    lists: Iterable[NBest],
    refs: Optional[Mapping[str, str]] = None,
    mode: str = "strict",
    depths: Sequence[int] = DEPTHS,
    *,
    ref_name: str = "reference",
    nbest_name: str = "n-best",
    marked: Optional[Mapping[str, Marked]] = None,
    on_disk: bool = False,
) -> OracleResult:
    """Oracle errors of ``lists`` against ``refs`` (id -> words), or against ``NBest.ref``.

    ``refs``, where given, is the only reference used; ``marked`` holds those with alternatives.
    The lists are read once and not kept; with ``on_disk`` the utterances of the result are kept in
    a temporary file.
    Modes as in ``score_texts``: ``strict`` wants one list for each reference; ``present`` leaves
    out references without a list; ``all`` scores those as an empty list.
    Raises InputError for an utterance that comes twice, one without a reference (in mode
    ``strict``, or when it has no ``NBest.ref``), and when no reference word is left to score.
    """
    if any(depth < 1 for depth in depths):
        raise ValueError(f"depths are {tuple(depths)}; expected numbers >= 1")
    steps = sorted(set(depths))
    # utterance id -> its reference and oracle; None without a reference
    seen: SpooledDict[Optional[tuple[str, UtteranceOracle]]] = SpooledDict()
    longest = 0
    for nbest in lists:
        if nbest.utt in seen:
            found = f"utterance {nbest.utt} again"
            raise InputError(nbest_name, None, found, "each utterance once")
        ref = nbest.ref if refs is None else refs.get(nbest.utt)
        if refs is None and ref is None:
            found = f"utterance {nbest.utt} without a reference"
            raise InputError(nbest_name, None, found, "one in the list, or a reference file")
        scored = None
        if ref is not None:
            choices = None if marked is None else marked.get(nbest.utt)
            oracle = _oracle_of(nbest.utt, _errors_of(nbest, ref, choices), ref, steps)
            longest = max(longest, oracle.hypotheses)
            scored = ref, oracle
        seen.setdefault(nbest.utt, scored)
    wanted = seen if refs is None else refs
    missing, unknown = match_ids(wanted, seen, mode, ref_name=ref_name, hyp_name=nbest_name)
    useful = [place for place, depth in enumerate(steps) if depth < longest]

    def utterances() -> Iterator[tuple[str, UtteranceOracle]]:
        for utt in wanted:
            scored = seen.get(utt)
            if scored is None and mode == "all" and refs is not None:
                scored = refs[utt], _oracle_of(utt, [], refs[utt], steps)
            if scored is not None:
                yield scored

    has_words = False
    oracles: Spool[UtteranceOracle] = Spool()
    for ref, oracle in utterances():
        has_words = has_words or bool(ref.split())
        best = tuple(oracle.best[place] for place in (*useful, -1))
        oracles.append(replace(oracle, best=best))
    if not has_words:
        found = f"no reference words in the {len(oracles)} utterances to score"
        raise InputError(ref_name, None, found, "at least one word")
    kept = (*(steps[place] for place in useful), max(longest, 1))
    return OracleResult(kept, oracles if on_disk else tuple(oracles), missing, unknown)


def lattice_lists(
    lattices: Iterable[Lattice], refs: Mapping[str, str], path: str = "lattices"
) -> Iterator[NBest]:
    """For every lattice a list with one hypothesis, its oracle path: what ``oracle_errors`` takes.

    Without a reference the path is any; such an utterance counts as without a reference there.
    Raises InputError naming the utterance for a lattice without a path.
    """
    for lattice in lattices:
        try:
            words = oracle_words(lattice, refs.get(lattice.utt, "").split())
        except ValueError as problem:
            raise InputError(path, None, str(problem), "a lattice with a path") from None
        yield NBest(lattice.utt, (Hypothesis(" ".join(words)),), lattice.audio_s)


def filtered_lists(lists: Iterable[NBest], form: ScoringForm) -> Iterable[NBest]:
    """The lists after the filters of ``form``. Raises InputError as a filter does.

    Filters get all hypotheses at once, the utterance's id and the rank as id.
    """
    if form.filter or form.hyp_filter:
        lists = Spool(lists)
        names = SpooledDict(
            (f"{one.utt}-{rank}", hyp.text) for one in lists for rank, hyp in enumerate(one.hyps)
        )
        changed = form.filtered_hyps(names) if names else names
        lists = (
            _with_texts(one, [changed[f"{one.utt}-{rank}"] for rank in range(len(one.hyps))])
            for one in lists
        )
    return lists


def formed_lists(
    lists: Iterable[NBest], form: ScoringForm, refs: Mapping[str, str], given: bool
) -> Iterator[NBest]:
    """The lists with their hypotheses after the steps of ``form``, in its units, and with the
    references of ``refs`` unless they are ``given`` apart."""
    for nbest in lists:
        formed = _with_texts(nbest, [form.text(hyp.text) for hyp in nbest.hyps])
        yield formed if given else replace(formed, ref=refs.get(nbest.utt))


def _with_texts(nbest: NBest, texts: Sequence[str]) -> NBest:
    return replace(nbest, hyps=tuple(map(Hypothesis, texts)))


def formed_lattice(lattice: Lattice, units: Callable[[str], list[str]]) -> Lattice:
    """The lattice with the ``units`` of every word in the place of its arc: a chain of arcs, one
    without a word for none. It has no scores: no oracle asks for them."""
    table = [units(word) for word in lattice.words]
    if table == [[word] if word else [] for word in lattice.words]:
        return lattice
    arcs: list[tuple[int, int, str, float, Optional[float]]] = []
    states = lattice.n_states
    columns = zip(lattice.src.tolist(), lattice.dst.tolist(), lattice.word.tolist())
    for source, target, word in columns:
        chain = table[word] or [""]
        inner = list(range(states, states + len(chain) - 1))
        states += len(inner)
        for begin, end, unit in zip([source, *inner], [*inner, target], chain):
            arcs.append((begin, end, unit, 0.0, None))
    return from_arcs(
        lattice.utt, states, lattice.start, lattice.final, arcs, audio_s=lattice.audio_s
    )


def _errors_of(nbest: NBest, ref: str, marked: Optional[Marked]) -> list[ErrorCounts]:
    known: dict[str, ErrorCounts] = {}  # decoders repeat texts that differ in pronunciation only
    for hyp in nbest.hyps:
        if hyp.text not in known:
            known[hyp.text] = count_errors(ref, hyp.text, marked)
    return [known[hyp.text] for hyp in nbest.hyps]


def _oracle_of(
    utt: str, errors: list[ErrorCounts], ref: str, depths: Sequence[int]
) -> UtteranceOracle:
    """The best at each of the depths, and of all."""
    if not errors:
        deleted = ErrorCounts(deletions=len(ref.split()))
        return UtteranceOracle(utt, 0, (deleted,) * (len(depths) + 1), None)
    best = tuple(min(errors[:depth], key=lambda counts: counts.errors) for depth in (*depths, None))
    rank = 1 + min(range(len(errors)), key=lambda place: errors[place].errors)
    return UtteranceOracle(utt, len(errors), best, rank)
