"""ARCHITECTURES: the kinds of Transformer that can be trained, pruned and scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asrprune.core.config import from_values
from asrprune.core.tables import lookup
from asrprune.lm.model.anatomy import Architecture
from asrprune.lm.model.gpt2 import GPT2
from asrprune.lm.model.llama import LLAMA
from asrprune.lm.model.shapes import ModelShape

ARCHITECTURES: Mapping[str, Architecture] = {
    "gpt2": GPT2,
    "llama": LLAMA,
}
"""Name, as in ``config.json`` -> architecture; one file each."""

ALL_MATRICES = tuple(
    dict.fromkeys(name for one in ARCHITECTURES.values() for name in one.anatomy.matrices)
)
"""Names of the blocks' matrices of all architectures."""


def architecture_of(shape: ModelShape) -> Architecture:
    """The row that ``shape`` names. Raises ValueError for an unknown one."""
    return lookup(ARCHITECTURES, shape.architecture, "architecture")


def details_of(shape: ModelShape) -> Any:
    """The architecture's own settings. Raises ValueError for an unknown one or a bad value."""
    return from_values(architecture_of(shape).details, shape.details)


def check_shape(shape: ModelShape) -> None:
    """Raises ValueError for matrices or settings that the architecture does not have."""
    matrices = architecture_of(shape).anatomy.matrices
    for block in shape.blocks:
        for name in block.linears:
            if name not in matrices:
                raise ValueError(f"matrix {name!r}; known: {', '.join(matrices)}")
    details_of(shape)
