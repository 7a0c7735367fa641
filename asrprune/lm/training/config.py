"""What a training run is: the kind and size of a new model, and how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from asrprune.core.tables import lookup
from asrprune.lm.model.architecture import ARCHITECTURES, check_shape
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.training.optimizers import OptimizerConfig
from asrprune.lm.training.precision import PRECISIONS


@dataclass(frozen=True)
class ModelConfig:
    """Kind and size of a new model.

    ``architecture`` is one of ARCHITECTURES (``asrprune list architectures``), ``details`` are its
    own settings, such as rope_theta of llama. ``ffn`` null means its usual width: 4 * d_model for
    gpt2, 8/3 of it for llama. ``kv_heads`` key and value heads, each shared by equally many of the
    ``n_heads``; null: one each. ``tied``: the embedding is the output layer too. Sentences of
    ``max_positions`` tokens or more are skipped in training (counted and logged).
    """

    d_model: int = 256
    n_layers: int = 4
    n_heads: int = 4
    ffn: Optional[int] = None
    max_positions: int = 256
    dropout: float = 0.0
    architecture: str = "gpt2"
    kv_heads: Optional[int] = None
    tied: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)

    def shape(self, vocab_size: int) -> ModelShape:
        """The shape of the model. Raises ValueError for sizes or settings that do not fit."""
        architecture = lookup(ARCHITECTURES, self.architecture, "architecture")
        shape = ModelShape.uniform(
            vocab_size,
            self.d_model,
            self.n_layers,
            self.n_heads,
            architecture.ffn(self.d_model) if self.ffn is None else self.ffn,
            self.max_positions,
            self.dropout,
            architecture=self.architecture,
            kv_heads=self.kv_heads,
            tied=self.tied,
            details=self.details,
        )
        check_shape(shape)
        return shape


@dataclass(frozen=True)
class TrainingConfig:
    """A run. ``tokens_per_batch`` counts padding; a step takes ``accumulation`` batches from every
    process. Without ``max_steps`` and ``max_tokens`` the budget is one pass over the data.

    The model is validated every ``valid_steps`` steps and at the end, the state is saved every
    ``save_steps`` steps, a line is logged every ``log_steps`` steps.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    tokens_per_batch: int = 4096
    accumulation: int = 1
    max_steps: Optional[int] = None
    max_tokens: Optional[int] = None
    precision: str = "auto"
    seed: int = 1
    valid_steps: int = 250
    save_steps: int = 250
    log_steps: int = 25

    def __post_init__(self) -> None:
        for name in ("tokens_per_batch", "accumulation", "valid_steps", "save_steps", "log_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        for name in ("max_steps", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; expected 0 <= seed < 2^32")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r}; known: {', '.join(PRECISIONS)}")
