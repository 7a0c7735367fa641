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
    """A run. ``tokens_per_batch`` counts padding; a step takes ``accumulation`` batches, however
    many processes share them out: whole ones where their number allows it, else the sentences of
    each. Without ``max_steps`` and ``max_tokens`` the budget is one pass over the data.
    ``checkpoint_activations`` makes what stands inside blocks again for the gradient: less memory
    for more time (1.2 times, measured). ``parallel`` says what each of several processes holds:
    all weights and their optimiser state (``replicated``), or a part of them (``sharded``, for
    LMs that do not fit one GPU); it does not change the result.

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
    checkpoint_activations: bool = False
    parallel: str = "replicated"
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
        if self.parallel not in PARALLEL:
            raise ValueError(f"parallel is {self.parallel!r}; known: {', '.join(PARALLEL)}")


PARALLEL = ("replicated", "sharded")

MEANINGS = {
    "model.d_model": "width of the residual stream",
    "model.n_layers": "blocks",
    "model.n_heads": "attention heads of a block",
    "model.ffn": "neurons of a feed-forward layer; null: 4 d_model (gpt2), 8/3 (llama)",
    "model.max_positions": "tokens of the longest sentence, <s> counted",
    "model.dropout": "share of activations dropped in training",
    "model.architecture": "gpt2 or llama (asrprune list architectures)",
    "model.kv_heads": "heads of keys and values, shared by the others; null: n_heads",
    "model.tied": "whether the embedding is the output layer too",
    "model.details": "settings of the architecture, as model.details.rope_theta=10000",
    "optimizer.optimizer": "muon (its matrices; AdamW for the rest) or adamw",
    "optimizer.lr": "peak learning rate of AdamW",
    "optimizer.muon_lr": "peak learning rate of Muon",
    "optimizer.weight_decay": "on matrices only",
    "optimizer.beta1": "AdamW's decay of the mean gradient",
    "optimizer.beta2": "AdamW's decay of the mean squared gradient",
    "optimizer.momentum": "Muon's",
    "optimizer.schedule": "how the rate falls: linear, cosine or constant",
    "optimizer.warmup_steps": "steps in which the rate rises to its peak",
    "optimizer.final_lr": "rate at the end, as a share of the peak",
    "optimizer.clip": "norm that gradients are clipped to; 0: none",
    "tokens_per_batch": "tokens of a batch, padding counted",
    "accumulation": "batches of a step, over all processes",
    "max_steps": "end after so many steps; null: no limit",
    "max_tokens": "end after so many predicted tokens; null: one pass, or max_steps",
    "precision": "auto (bf16 where the GPU or CPU multiplies it in hardware), fp32 or bf16",
    "checkpoint_activations": "compute blocks again for gradients: less memory, more time",
    "parallel": "of several processes: replicated, or sharded (FSDP2) for LMs beyond one GPU",
    "seed": "of weights, batches and dropout",
    "valid_steps": "steps from one validation to the next",
    "save_steps": "steps from one saved state to the next",
    "log_steps": "steps from one line in the log to the next",
}
"""Key of the configuration -> what it is, in a line for a help text."""
