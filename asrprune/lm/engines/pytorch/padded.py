"""The plain way of scoring, for comparison: every hypothesis alone in a padded batch, no trie."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.lm.device import (
    cpu_threads,
    resolve_device,
    without_autocast,
    without_denormals,
)
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.memory import token_budget as best_budget
from asrprune.lm.model.logprob import pair_log_probs
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.protocol import (
    PrefixLM,
    Runtime,
    ScoringStats,
    UnscorableError,
    WordScorer,
    checked_sentences,
)
from asrprune.lm.windows import ALL_SCORED, Window, windows
from asrprune.text.tokenizer import Tokenizer


class PaddedScorer:
    """A LanguageModel in fp32 torch that shares nothing between hypotheses.

    Hypotheses are sorted by length and padded on the right, ``token_budget`` places a batch (None:
    what is fastest, as for tries). It is the baseline of ``asrprune bench`` and the oracle of the
    trie's tests. ``over_long``: "error", or "window", a sliding context as ``TransformerScorer``
    has it; raises ValueError for another.
    """

    def __init__(
        self,
        model: TransformerLM,
        tokenizer: Tokenizer,
        options: EngineOptions | None = None,
        token_budget: int | None = None,
        over_long: str = "error",
    ) -> None:
        if over_long not in ALL_SCORED:
            raise ValueError(f"over_long is {over_long!r}; expected {', '.join(ALL_SCORED)}")
        options = options or EngineOptions()
        self._device = resolve_device(options.device)
        self._model = model.to(self._device).eval()
        self._threads = options.threads
        self._tokenizer = tokenizer
        self._limit = model.max_positions - 1 - len(tokenizer.prompt)
        self._budget = token_budget
        self._over_long = over_long
        self.stats = ScoringStats()

    @property
    def name(self) -> str:
        return "padded"

    @property
    def runtime(self) -> Runtime:
        """torch in float32."""
        return Runtime("torch", str(self._device), "padded batches")

    def words(self) -> WordScorer:
        """Raises ValueError: what is for comparison scores whole sentences only."""
        raise ValueError("the padded baseline scores no single words")

    def prefixes(self) -> PrefixLM:
        """Raises ValueError, as ``words`` does."""
        raise ValueError("the padded baseline scores no single words")

    def score_lists(self, lists: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
        """ln P(sentence, </s> | <s>) of every sentence.

        Raises UnscorableError for one with more tokens than the model has positions for, unless
        they are scored in windows.
        """
        lists = checked_sentences(lists)
        start = time.perf_counter()
        texts = [sentence for sentences in lists for sentence in sentences]
        flat = self._tokenizer.encode_batch(texts) if texts else []
        if self._over_long == "error":
            self._check_lengths(lists, flat)
        limit = self._limit
        cut = [(number, one) for number, ids in enumerate(flat) for one in windows(len(ids), limit)]
        order = sorted(range(len(cut)), key=lambda i: cut[i][1].start - cut[i][1].stop)
        scores = np.zeros(len(flat))
        computed = 0
        while order:
            longest = cut[order[0]][1].stop - cut[order[0]][1].start + 1
            longest += len(self._tokenizer.prompt)
            budget = self._budget or best_budget(self._model, self._device, longest)
            size = max(1, budget // longest)
            chosen, order = order[:size], order[size:]
            pieces = [(flat[number], one) for number, one in map(cut.__getitem__, chosen)]
            with cpu_threads(self._threads):
                np.add.at(scores, [cut[i][0] for i in chosen], self._score(pieces, longest))
            computed += len(chosen) * longest
        tokens = sum(len(ids) + 1 for ids in flat)
        over_long = sum(len(ids) > limit for ids in flat)
        wall_s = time.perf_counter() - start
        self.stats += ScoringStats(len(flat), tokens, tokens, computed, over_long, wall_s)
        bounds = np.cumsum([len(sentences) for sentences in lists])
        return np.split(scores, bounds[:-1]) if len(lists) else []

    def _check_lengths(self, lists: Sequence[Sequence[str]], flat: list[list[int]]) -> None:
        limit = self._limit
        places = ((number, index) for number, one in enumerate(lists) for index in range(len(one)))
        for (number, index), ids in zip(places, flat):
            if len(ids) > limit:
                problem = f"has {len(ids)} tokens; the model takes at most {limit}"
                raise UnscorableError((number, index), lists[number][index], problem)

    @without_denormals()
    @torch.inference_mode()
    @without_autocast()
    def _score(
        self, batch: Sequence[tuple[list[int], Window]], longest: int
    ) -> NDArray[np.float64]:
        """The sum of what each window adds to its sentence, [B]."""
        ids_of = np.zeros((len(batch), longest), np.int64)
        wanted = np.full(ids_of.shape, -1)
        before = [self._tokenizer.begin, *self._tokenizer.prompt]
        for row, (whole, one) in enumerate(batch):
            ids = whole[one.start : one.stop]
            stop = len(before) + len(ids)
            ids_of[row, :stop] = [*before, *ids]
            wanted[row, len(before) - 1 : stop] = [*ids, self._tokenizer.end]
            wanted[row, : len(before) - 1 + one.scored - one.start] = -1  # context
            wanted[row, stop - 1 + one.last :] = -1
        tokens = torch.from_numpy(ids_of).to(self._device)
        targets = torch.from_numpy(wanted).to(self._device)
        valid = targets >= 0  # [B, T]
        hidden, _ = self._model(tokens)
        features = self._model.embedding.features(hidden[valid])  # [N, D]
        weight = self._model.embedding.output_weight
        every = torch.arange(len(features), device=self._device)
        log_probs = pair_log_probs(features, weight, every, targets[valid])
        sums = torch.zeros(tokens.shape, dtype=torch.float64, device=self._device)
        sums[valid] = log_probs
        result: NDArray[np.float64] = sums.sum(dim=1).cpu().numpy()
        return result
