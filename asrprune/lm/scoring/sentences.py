"""Scores of hypotheses under a Transformer: tokenise, merge into tries, compute, add up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrprune.lm.engines.engine import Engine
from asrprune.lm.protocol import (
    PrefixLM,
    Runtime,
    ScoringStats,
    UnscorableError,
    WordScorer,
    checked_sentences,
)
from asrprune.lm.scoring.forests import ForestScorer, ScoringOptions
from asrprune.lm.scoring.words import ForestWordScorer
from asrprune.lm.trie import BatchPlan, Forest
from asrprune.lm.windows import Window, windows
from asrprune.text.coverage import Spelling
from asrprune.text.tokenizer import Tokenizer

_FOREST_CELLS = 4_000_000  # hypotheses x longest, so that a forest takes some tens of MB


class TransformerScorer:
    """A LanguageModel that scores the hypotheses of an utterance through their prefix trie.

    ``engine_name`` is what ``engine`` is called in ENGINES. ``prefixes`` makes the PrefixLM of the
    same model; None where there is none. ``choice`` as in Runtime.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        max_positions: int,
        options: ScoringOptions | None = None,
        name: str = "transformer",
        engine_name: str = "torch",
        prefixes: Callable[[], PrefixLM] | None = None,
        choice: Mapping[str, Any] | None = None,
    ) -> None:
        self._forests = ForestScorer(engine, tokenizer, max_positions, options)
        self._name = name
        self._engine_name = engine_name
        self._prefixes = prefixes
        self._choice = choice

    @property
    def name(self) -> str:
        return self._name

    @property
    def runtime(self) -> Runtime:
        """The engine, and where it computes."""
        engine = self._forests.engine
        return Runtime(self._engine_name, engine.device, engine.note, self._choice)

    @property
    def spelling(self) -> Spelling:
        """What tells which words the model knows."""
        return self._forests.tokenizer

    @property
    def stats(self) -> ScoringStats:
        """What all calls so far have done."""
        return self._forests.stats

    def words(self) -> WordScorer:
        """The same model, asked for the score of every word."""
        return ForestWordScorer(self._forests, self._name)

    def prefixes(self) -> PrefixLM:
        """The same model, asked word by word in a search.

        Raises ValueError for an engine that keeps no keys and values of prefixes.
        """
        if self._prefixes is None:
            raise ValueError(f"{self._name} was opened for whole sentences only")
        return self._prefixes()

    def score_lists(self, lists: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
        """ln P(sentence, </s> | <s>) of every sentence: one float64 array per list, in order.

        Raises UnscorableError for an over-long hypothesis under the policy "error" and for a score
        that is NaN or +inf; ValueError when the token budget is below the longest hypothesis.
        """
        lists = checked_sentences(lists)
        start = time.perf_counter()
        encoded = self._encode_lists(lists)
        scores: list[NDArray[np.float64]] = []
        for block in _blocks(encoded):
            scores += self._score_block(block)
        for number, (sentences, values) in enumerate(zip(lists, scores)):
            bad = np.flatnonzero(np.isnan(values) | (values == np.inf))
            if len(bad):
                index = int(bad[0])
                problem = f"has the score {values[index]}"
                raise UnscorableError((number, index), sentences[index], problem)
        self._forests.stats += ScoringStats(wall_s=time.perf_counter() - start)
        return scores

    def check_lengths(self, lists: Sequence[Sequence[str]]) -> None:
        """Raise UnscorableError for the first over-long hypothesis under the policy "error", as
        ``score_lists`` does, without a forward pass: only what has as many bytes and words is
        spelled in tokens."""
        forests = self._forests
        if forests.options.over_long != "error":
            return
        for number, sentences in enumerate(lists):
            suspects = [
                index
                for index, text in enumerate(sentences)
                if len(text) + text.count(" ") >= forests.limit // 4  # 4 bytes a character at most
                and len(text.encode()) + text.count(" ") >= forests.limit
            ]
            if suspects:
                spelled = forests.tokenizer.encode_batch([sentences[index] for index in suspects])
                for index, tokens in zip(suspects, spelled):
                    if len(tokens) > forests.limit:
                        raise self._too_long((number, index), sentences[index], len(tokens))

    def _too_long(self, place: tuple[int, int], sentence: str, tokens: int) -> UnscorableError:
        most = f"the model takes at most {self._forests.limit} (see --over-long)"
        return UnscorableError(place, sentence, f"has {tokens} tokens; {most}")

    def _encode_lists(self, lists: Sequence[Sequence[str]]) -> list[list[list[int] | None]]:
        """Token ids of every sentence, over-long ones too under the policy "window"; None where the
        policy gives it -inf."""
        forests = self._forests
        flat = [sentence for sentences in lists for sentence in sentences]
        ids = iter(forests.tokenizer.encode_batch(flat) if flat else [])
        encoded: list[list[list[int] | None]] = []
        for number, sentences in enumerate(lists):
            here: list[list[int] | None] = []
            for index, sentence in enumerate(sentences):
                tokens = next(ids)
                if len(tokens) <= forests.limit or forests.options.over_long == "window":
                    here.append(tokens)
                    continue
                if forests.options.over_long == "error":
                    raise self._too_long((number, index), sentence, len(tokens))
                here.append(None)
            encoded.append(here)
        return encoded

    def _score_block(self, block: list[list[list[int] | None]]) -> list[NDArray[np.float64]]:
        limit = self._forests.limit
        kept = [[ids for ids in hyps if ids is not None] for hyps in block]
        cut = [[windows(len(ids), limit) for ids in hyps] for hyps in kept]
        pieces = [
            [ids[one.start : one.stop] for ids, parts in zip(hyps, some) for one in parts]
            for hyps, some in zip(kept, cut)
        ]
        forest = self._forests.forest(pieces)
        flat = np.zeros(0)
        if len(forest):
            parts = [one for some in cut for parts in some for one in parts]
            flat = window_sums(self._forests.run(forest), forest, parts)
        scores = []
        position = 0
        for hyps, good, some in zip(block, kept, cut):
            values = np.full(len(hyps), -np.inf)
            sizes = [len(parts) for parts in some]
            stop = position + sum(sizes)
            ends = np.cumsum([0, *sizes])[:-1]
            if good:
                values[[ids is not None for ids in hyps]] = np.add.reduceat(
                    flat[position:stop], ends
                )
            position = stop
            scores.append(values)
        sentences = sum(map(len, block))
        self._forests.stats += ScoringStats(
            sentences=sentences,
            tokens=sum(len(ids) + 1 for hyps in kept for ids in hyps),
            over_long=sentences - sum(len(parts) == 1 for some in cut for parts in some),
        )
        return scores


def window_sums(plan: BatchPlan, forest: Forest, parts: Sequence[Window]) -> NDArray[np.float64]:
    """What every window adds to its hypothesis' score, [W]; ``parts`` are the forest's ends."""
    sums = plan.sentence_scores()
    if all(one.last and one.scored == 0 for one in parts):
        return sums
    token, final = plan.token_scores()
    for number, (one, end) in enumerate(zip(parts, forest.ends.tolist())):
        if not one.last or one.scored > 0:
            path = forest.path(end)[one.scored - one.start :]
            sums[number] = token[path].sum() + (final[end] if one.last else 0.0)
    return sums


def _blocks(lists: list[list[list[int] | None]]) -> Iterator[list[list[list[int] | None]]]:
    """Consecutive lists in groups whose matrix of hypotheses x longest stays bounded."""
    group: list[list[list[int] | None]] = []
    rows = longest = 0
    for hyps in lists:
        here = max((len(ids) + 1 for ids in hyps if ids is not None), default=1)
        if group and (rows + len(hyps)) * max(longest, here) > _FOREST_CELLS:
            yield group
            group, rows, longest = [], 0, 0
        group.append(hyps)
        rows += len(hyps)
        longest = max(longest, here)
    if group:
        yield group
