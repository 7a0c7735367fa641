"""The plain way of scoring, for comparison: every hypothesis alone in a padded batch, no trie."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from asrprune.lm.device import cpu_threads, resolve_device
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.model.logprob import pair_log_probs
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.protocol import (
    PrefixLM,
    Runtime,
    ScoringStats,
    UnscorableError,
    WordScorer,
    check_sentences,
)
from asrprune.text.tokenizer import Tokenizer


class PaddedScorer:
    """A LanguageModel in fp32 torch that shares nothing between hypotheses.

    Hypotheses are sorted by length and padded on the right, ``token_budget`` places a batch. It is
    the baseline of ``asrprune bench`` and the oracle of the trie's tests.
    """

    def __init__(
        self,
        model: TransformerLM,
        tokenizer: Tokenizer,
        options: EngineOptions | None = None,
        token_budget: int = 2048,
    ) -> None:
        options = options or EngineOptions()
        self._device = resolve_device(options.device)
        self._model = model.to(self._device).eval()
        self._threads = options.threads
        self._tokenizer = tokenizer
        self._budget = token_budget
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

        Raises UnscorableError for one with more tokens than the model has positions for.
        """
        check_sentences(lists)
        start = time.perf_counter()
        texts = [sentence for sentences in lists for sentence in sentences]
        flat = self._tokenizer.encode_batch(texts) if texts else []
        self._check_lengths(lists, flat)
        order = sorted(range(len(flat)), key=lambda i: -len(flat[i]))
        scores = np.zeros(len(flat))
        computed = 0
        while order:
            longest = len(flat[order[0]]) + 1
            size = max(1, self._budget // longest)
            chosen, order = order[:size], order[size:]
            with cpu_threads(self._threads), torch.inference_mode():
                scores[chosen] = self._score([flat[i] for i in chosen], longest)
            computed += len(chosen) * longest
        tokens = sum(len(ids) + 1 for ids in flat)
        wall_s = time.perf_counter() - start
        self.stats += ScoringStats(len(flat), tokens, tokens, computed, 0, wall_s)
        bounds = np.cumsum([len(sentences) for sentences in lists])
        return np.split(scores, bounds[:-1]) if len(lists) else []

    def _check_lengths(self, lists: Sequence[Sequence[str]], flat: list[list[int]]) -> None:
        limit = self._model.shape.max_positions - 1
        places = ((number, index) for number, one in enumerate(lists) for index in range(len(one)))
        for (number, index), ids in zip(places, flat):
            if len(ids) > limit:
                problem = f"has {len(ids)} tokens; the model takes at most {limit}"
                raise UnscorableError((number, index), lists[number][index], problem)

    def _score(self, batch: list[list[int]], longest: int) -> NDArray[np.float64]:
        tokens = torch.zeros(len(batch), longest, dtype=torch.int64)
        targets = torch.full((len(batch), longest), -1)
        for row, ids in enumerate(batch):
            tokens[row, : len(ids) + 1] = torch.tensor([self._tokenizer.begin, *ids])
            targets[row, : len(ids) + 1] = torch.tensor([*ids, self._tokenizer.end])
        tokens, targets = tokens.to(self._device), targets.to(self._device)
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
