"""Exact early termination: LM scores of the hypotheses that can win, and of no others.

The total of hypothesis h is ``other_h + weight * ln P_LM(h)``, the weight positive. A partial score
is an upper bound: log-probabilities are at most 0, so after some of its tokens
``other_h + weight * (ln p of those tokens)`` bounds h's total. A hypothesis bounded below the best
complete total is dropped: the best one, ties included, is that of scoring everything.

Tries are scored in waves over many utterances. The first wave completes the hypotheses that look
best, to have a total to beat; every further one goes some tokens deeper along all that can still
win, and completes those that look best by then. Keys and values are kept between waves, so that
no node is computed twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from asrprune.lm.engines.engine import Bools, Ints, NodeModel
from asrprune.lm.protocol import Floats, UnscorableError, checked_sentences
from asrprune.lm.trie import Forest, build_forest
from asrprune.text.coverage import Spelling
from asrprune.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class EarlyOptions:
    """``band``: how many tokens deeper each wave goes. ``complete``: how many hypotheses of an
    utterance each wave scores to their end. ``token_budget``: most nodes in one forward pass,
    padding counted; ``row_width``: most of them in a row. ``cache_bytes``: most memory for keys
    and values; a list whose trie needs more is scored in full by ``fallback``. ``slack``: by how
    many nats of the LM a bound must miss the best total; covers the rounding of log-probs, which
    depends on the batch."""

    band: int = 8
    complete: int = 2
    token_budget: int = 2048
    row_width: int = 256
    cache_bytes: int = 256 * 2**20
    slack: float = 1e-3

    def __post_init__(self) -> None:
        for name in ("band", "complete", "token_budget", "row_width", "cache_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected >= 1")
        if not (math.isfinite(self.slack) and self.slack >= 0):
            raise ValueError(f"slack is {self.slack}; expected a finite number >= 0")


@dataclass(frozen=True)
class PartialScores:
    """LM scores of a list. Where ``complete`` [H] holds, ``lm`` [H] is ln P(sentence, </s>);
    elsewhere it is an upper bound, and the hypothesis is certain not to have the best total."""

    lm: Floats
    complete: Bools


@dataclass
class EarlyStats:
    """What was done; adds up over calls. ``nodes``: tokens to compute without early termination
    (equal prefixes merged); ``computed_nodes``: those that were; ``places``: the latter with
    padding; ``hypotheses`` and how many of them were ``completed``; ``whole_lists``: lists too
    large for the cache. ``wall_s`` counts everything from text to scores."""

    hypotheses: int = 0
    completed: int = 0
    nodes: int = 0
    computed_nodes: int = 0
    places: int = 0
    waves: int = 0
    whole_lists: int = 0
    wall_s: float = 0.0

    @property
    def saved(self) -> float:
        """The share of tokens that was not computed, 0 for no tokens."""
        return 1.0 - self.computed_nodes / self.nodes if self.nodes else 0.0


class EarlyScorer:
    """Scores lists with an LM as far as the best total demands.

    ``fallback`` gives the scores of lists that are too large for the cache.
    """

    def __init__(
        self,
        model: NodeModel,
        tokenizer: Tokenizer,
        max_positions: int,
        fallback: Callable[[Sequence[Sequence[str]]], list[Floats]],
        options: EarlyOptions | None = None,
    ) -> None:
        self.options = options or EarlyOptions()
        self.stats = EarlyStats()
        self._model = model
        self._tokenizer = tokenizer
        self.spelling: Spelling = tokenizer
        self._limit = max_positions - 1 - len(tokenizer.prompt)
        self._fallback = fallback

    def score_lists(
        self,
        lists: Sequence[Sequence[str]],
        others: Sequence[Floats],
        weight: float,
        guesses: Sequence[Floats] | None = None,
    ) -> list[PartialScores]:
        """The scores that decide ``max(other + weight * lm)`` of every list, in order.

        ``others`` [H] a list: all other terms of the totals, -inf allowed. ``guesses`` [H] a list:
        what the totals may be, higher is better (``others`` if None); it decides the work, never
        the result. Raises ValueError unless ``weight`` is positive and others are not NaN or +inf,
        UnscorableError for a hypothesis with more tokens than the model has positions.
        """
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"LM weight is {weight}; early termination needs one > 0")
        for values in others:
            if np.isnan(values).any() or (values == np.inf).any():
                raise ValueError("other scores hold NaN or +inf; expected finite numbers or -inf")
        lists = checked_sentences(lists)
        start = time.perf_counter()
        encoded = self._encode(lists)
        limit = self.options.cache_bytes // max(self._model.node_bytes, 1)
        results: list[PartialScores] = []
        for first, stop in _groups(encoded, limit, len(self._tokenizer.prompt)):
            here = slice(first, stop)
            forest = build_forest(encoded[here], self._tokenizer.begin, self._tokenizer.prompt)
            if len(forest) > limit:
                results += self._whole(lists[here], forest)
                continue
            owners = np.repeat(np.arange(stop - first), [len(hyps) for hyps in encoded[here]])
            flat = _Totals(
                np.concatenate([*others[here], np.zeros(0)]),
                np.concatenate([*(guesses or others)[here], np.zeros(0)]),
                owners,
                weight,
            )
            results += (
                self._search(forest, flat, stop - first)
                if len(forest)
                else [PartialScores(np.zeros(0), np.zeros(0, bool)) for _ in encoded[here]]
            )
        for number, part in enumerate(results):
            bad = np.flatnonzero(np.isnan(part.lm) | (part.lm == np.inf))
            if len(bad):
                index = int(bad[0])
                problem = f"has the score {part.lm[index]}"
                raise UnscorableError((number, index), lists[number][index], problem)
        self.stats.wall_s += time.perf_counter() - start
        return results

    def _encode(self, lists: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        flat = [sentence for sentences in lists for sentence in sentences]
        ids = iter(self._tokenizer.encode_batch(flat) if flat else [])
        encoded = [[next(ids) for _ in sentences] for sentences in lists]
        for number, hyps in enumerate(encoded):
            for index, tokens in enumerate(hyps):
                if len(tokens) > self._limit:
                    problem = f"has {len(tokens)} tokens; the model takes at most {self._limit}"
                    raise UnscorableError((number, index), lists[number][index], problem)
        return encoded

    def _whole(self, lists: Sequence[Sequence[str]], forest: Forest) -> list[PartialScores]:
        self.stats.whole_lists += len(lists)
        self.stats.nodes += len(forest)
        self.stats.computed_nodes += len(forest)
        self.stats.hypotheses += len(forest.ends)
        self.stats.completed += len(forest.ends)
        scores = self._fallback(lists)
        return [PartialScores(values, np.ones(len(values), bool)) for values in scores]

    def _search(self, forest: Forest, totals: _Totals, lists: int) -> list[PartialScores]:
        """Wave after wave until nothing that is not complete can win."""
        state = _State(forest, self._tokenizer.end)
        self._model.start(forest)
        depth = first = forest.context
        while not np.isnan(state.bound).any():  # that is for the caller to report
            live = totals.live(state.bound, state.complete, lists, self.options.slack)
            if not live.any():
                break
            promise = (
                totals.guesses if depth == first else totals.others + totals.weight * state.likely
            )
            wanted = state.above(totals.top(promise, live, lists, self.options.complete))
            wanted |= state.above(live) & (forest.depth < depth)
            depth += self.options.band
            self._run(state, np.flatnonzero(wanted & ~state.computed))
            state.update()
            self.stats.waves += 1
        self.stats.hypotheses += len(state.complete)
        self.stats.completed += int(state.complete.sum())
        self.stats.nodes += len(forest)
        self.stats.computed_nodes += int(state.computed.sum())
        cuts = np.searchsorted(totals.owners, np.arange(1, lists))
        parts = zip(np.split(state.bound, cuts), np.split(state.complete, cuts))
        return [PartialScores(bound, complete) for bound, complete in parts]

    def _run(self, state: _State, nodes: Ints) -> None:
        """Compute nodes whose parents are computed or among them."""
        options = self.options
        width = min(options.row_width, options.token_budget)
        for batch in self._model.batches(nodes, state.computed, options.token_budget, width):
            self.stats.places += batch.places
            pairs, sources, targets = state.pairs(batch.nodes)
            state.put(batch.nodes, pairs, self._model.compute(batch, sources, targets))


@dataclass(frozen=True)
class _Totals:
    """What the hypotheses of a group of lists have beside the LM; ``owners``: number of the list,
    ascending."""

    others: Floats
    guesses: Floats
    owners: Ints
    weight: float

    def live(self, bound: Floats, complete: Bools, lists: int, slack: float) -> Bools:
        """Which hypotheses are not complete and may still be the best of their list.

        A list with one hypothesis has no choice to make, and -inf never wins.
        """
        total = self.others + self.weight * bound
        best = np.full(lists, -np.inf)
        np.maximum.at(best, self.owners[complete], total[complete])
        choices = np.bincount(self.owners, minlength=lists) > 1
        may_win = total >= best[self.owners] - self.weight * slack
        result: Bools = ~complete & may_win & choices[self.owners] & (total > -np.inf)
        return result

    def top(self, promise: Floats, live: Bools, lists: int, count: int) -> Bools:
        """The ``count`` live hypotheses of every list that promise most, equal ones in order."""
        order = np.lexsort((-promise, ~live, self.owners))
        first = np.searchsorted(self.owners, np.arange(lists))
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - first[self.owners[order]]
        result: Bools = live & (rank < count)
        return result


class _State:
    """What is known of a forest. Per node: ``computed``. Per hypothesis, in the forest's order:
    ``bound``, its ln P as far as it is known, 0 for the rest; ``complete``, nothing is missing;
    ``likely``, the bound with the mean ln p for every token that is missing."""

    def __init__(self, forest: Forest, eos: int) -> None:
        self.forest = forest
        children = forest.scored()
        end_nodes = np.unique(forest.ends)
        sources = np.concatenate((forest.parent[children], end_nodes))
        targets = np.concatenate((forest.tokens[children], np.full(len(end_nodes), eos)))
        order = np.argsort(sources, kind="stable")
        self._sources, self._targets = sources[order], targets[order]
        # The place of each pair's value: a node's own ln p, or len(forest) + the node it ends at.
        self._places = np.concatenate((children, len(forest) + end_nodes))[order]
        self._values = np.zeros(2 * len(forest))
        self._by_depth = np.argsort(forest.depth, kind="stable")
        levels = np.arange(1, forest.depth.max(initial=0) + 2)
        self._levels = np.searchsorted(forest.depth[self._by_depth], levels)
        self.computed = np.zeros(len(forest), bool)
        self.update()

    def update(self) -> None:
        """Add up what is known by now."""
        forest = self.forest
        size = len(forest)
        total = self._values[:size].copy()
        known = np.where(forest.parent >= 0, self.computed[forest.parent], False).astype(np.int64)
        tokens, count = total.sum(), known.sum()
        for low, high in zip(self._levels[:-1], self._levels[1:]):
            level = self._by_depth[low:high]
            total[level] += total[forest.parent[level]]
            known[level] += known[forest.parent[level]]
        self.complete: Bools = self.computed[forest.ends]
        self.bound: Floats = total[forest.ends] + self._values[size + forest.ends]
        left = forest.depth[forest.ends] + 1 - known[forest.ends] - self.complete
        self.likely: Floats = self.bound + left * (tokens / max(count, 1))

    def above(self, chosen: Bools) -> Bools:
        """Which nodes are on the paths of the ``chosen`` hypotheses."""
        ends = np.zeros(len(self.forest) + 1, np.int64)
        ends[self.forest.ends[chosen] + 1] = 1
        before = np.cumsum(ends)  # ends in front of each node
        result: Bools = before[self.forest.last + 1] > before[:-1]
        return result

    def pairs(self, nodes: Ints) -> tuple[Ints, Ints, Ints]:
        """All that is wanted of ``nodes``: numbers of pairs, indices into ``nodes``, targets."""
        low = np.searchsorted(self._sources, nodes)
        counts = np.searchsorted(self._sources, nodes, side="right") - low
        sources = np.repeat(np.arange(len(nodes)), counts)
        within = np.arange(len(sources)) - np.repeat(np.cumsum(counts) - counts, counts)
        pairs = np.repeat(low, counts) + within
        return pairs, sources, self._targets[pairs]

    def put(self, nodes: Ints, pairs: Ints, log_probs: Floats) -> None:
        """Keep the results of a forward pass over ``nodes``."""
        self._values[self._places[pairs]] = log_probs
        self.computed[nodes] = True


def _groups(
    lists: Sequence[Sequence[Sequence[int]]], nodes: int, context: int
) -> Iterator[tuple[int, int]]:
    """Consecutive lists (first, stop) with at most ``nodes`` tokens in all, or one list. Each trie
    has ``context`` tokens behind its root."""
    first = size = 0
    for number, hyps in enumerate(lists):
        here = _distinct_prefixes(hyps) + (context if hyps else 0)
        if number > first and size + here > nodes:
            yield first, number
            first, size = number, 0
        size += here
    if first < len(lists):
        yield first, len(lists)


def _distinct_prefixes(hyps: Sequence[Sequence[int]]) -> int:
    """How many nodes the trie of ``hyps`` has."""
    total, before = 1 if hyps else 0, ()  # type: int, Sequence[int]
    for hyp in sorted(map(tuple, hyps)):
        shared = 0
        while shared < min(len(hyp), len(before)) and hyp[shared] == before[shared]:
            shared += 1
        total += len(hyp) - shared
        before = hyp
    return total
