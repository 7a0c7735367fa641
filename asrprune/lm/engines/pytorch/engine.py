"""The reference: the checkpoint's own module in torch."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from asrprune.lm.device import cpu_threads, resolve_device, without_autocast, without_denormals
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.pytorch.memory import token_budget
from asrprune.lm.model.logprob import pair_log_probs
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.trie import TrieBatch


class TorchEngine:
    """The reference: the checkpoint's own module, in the given number format."""

    passes = 1  # torch divides the work of a pass itself

    def __init__(
        self, model: TransformerLM, dtype: torch.dtype, options: EngineOptions, note: str = ""
    ) -> None:
        self.note = note
        self._device = resolve_device(options.device)
        self._threads = options.threads
        if next(model.parameters()).dtype != dtype:
            model = copy.deepcopy(model)
        self._model = model.to(device=self._device, dtype=dtype).eval()

    @property
    def device(self) -> str:
        if self._device.type == "cuda":
            return f"{self._device} ({torch.cuda.get_device_name(self._device)})"
        return str(self._device)

    def token_budget(self, deepest: int) -> int:
        return token_budget(self._model, self._device, deepest)

    @without_denormals()
    @torch.inference_mode()
    @without_autocast()
    def log_probs(self, batch: TrieBatch) -> NDArray[np.float64]:
        with cpu_threads(self._threads):
            keys = self._keys(batch)
            hidden, _ = self._model(
                self._put(batch.tokens),
                self._put(batch.positions),
                self._mask(batch, keys),
                keys=keys,
            )
            needed = hidden.flatten(0, 1)[self._put(batch.nodes)]  # [N, D]
            embedding = self._model.embedding
            values = pair_log_probs(
                embedding.features(needed),
                embedding.output_weight,
                self._put(batch.sources),
                self._put(batch.targets),
            )
            result: NDArray[np.float64] = values.cpu().numpy()
            return result

    def _put(self, values: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(values).to(self._device)

    def _keys(self, batch: TrieBatch) -> torch.Tensor:
        keys = self._put(batch.keys)
        if self._device.type == "cuda":  # a GPU's attention copies a mask of another width
            keys = functional.pad(keys, (-keys.shape[1] % 8, 0), value=-1)
        return keys

    def _mask(self, batch: TrieBatch, keys: torch.Tensor) -> torch.Tensor:
        query = torch.arange(batch.tokens.size, device=self._device)
        query = query.view(*batch.tokens.shape, 1)  # [C, Q, 1]
        last = self._put(batch.last).flatten()[keys][:, None]  # [C, 1, S]
        keys = keys[:, None]
        mask = ((keys >= 0) & (keys <= query) & (query <= last))[:, None]  # [C, 1, Q, S]
        if self._device.type == "cuda":  # once, instead of in every layer
            added = torch.zeros(mask.shape, dtype=self._model.dtype, device=self._device)
            return added.masked_fill_(~mask, -torch.inf)
        return mask
