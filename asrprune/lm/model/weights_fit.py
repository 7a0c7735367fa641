"""Whether a file of weights fits the shape that ``config.json`` states, seen from its header.

Nothing of the size that a damaged file states is ever allocated: the model is built without
memory first, and what it would take is compared with what the file holds.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from asrprune.errors import InputError
from asrprune.files import PathLike
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.sparse_tensors import (
    LONGEST,
    MASK,
    SPARSE_SHAPE,
    VALUES,
    is_part,
    sparse_name,
)
from asrprune.lm.model.transformer import TransformerLM

_FEW = 8
"""Dimensions that no tensor exceeds."""

Sizes = dict[str, tuple[tuple[int, ...], bool]]
"""Name of a tensor -> its shape, and whether it holds floats (else int64)."""


def check_fit(path: PathLike, shape: ModelShape) -> None:
    """Raise InputError unless the file holds exactly the tensors of a model of that shape."""
    expected = "tensors of the shape in config.json"
    try:
        stored = _stored(path)
        wanted = _wanted(shape, len(stored))
    except FileNotFoundError:
        raise InputError(path, None, "no such file", "the model's weights") from None
    except (SafetensorError, RuntimeError, OverflowError, TypeError, ValueError) as problem:
        raise InputError(path, None, f"weights that do not load ({problem})", expected) from None
    for name in sorted(wanted.keys() | stored.keys()):
        if name not in stored or name not in wanted:
            found = f"no tensor {name}" if name in wanted else f"a tensor {name}"
            raise InputError(path, None, found, expected)
        if stored[name] != wanted[name]:
            found = f"{name} is {_described(*stored[name])}"
            raise InputError(path, None, found, f"{_described(*wanted[name])}, as in config.json")


def parameters_of(shape: ModelShape) -> int:
    """How many parameters a model of that shape has; nothing is allocated.

    Raises ValueError for a size beyond all numbers.
    """
    try:
        with torch.device("meta"):
            return sum(one.numel() for one in TransformerLM(shape).parameters())
    except (RuntimeError, OverflowError, TypeError) as problem:
        raise ValueError(f"a model of no size ({problem})") from None


def _wanted(shape: ModelShape, tensors: int) -> Sizes:
    """The tensors of a model. Raises ValueError for more blocks than there are ``tensors``."""
    if len(shape.blocks) > tensors:
        raise ValueError(f"{tensors} tensors for {len(shape.blocks)} blocks")
    with torch.device("meta"):
        state = TransformerLM(shape).state_dict()
    return {name: (tuple(one.shape), one.is_floating_point()) for name, one in state.items()}


def _stored(path: PathLike) -> Sizes:
    """The tensors in the file, sparse ones as what they stand for.

    Raises ValueError for a sparse tensor whose parts do not fit each other.
    """
    sizes: Sizes = {}
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        for name in sorted(names):
            base = sparse_name(name)
            if base is not None:
                if base in sizes:
                    raise ValueError(f"{base} stored twice")
                sizes[base] = _sparse(file, names, base, name)
            elif not is_part(name):
                stored = file.get_slice(name)
                sizes[name] = tuple(stored.get_shape()), "F" in str(stored.get_dtype())
    return sizes


def _sparse(file: Any, names: set[str], base: str, bits: str) -> tuple[tuple[int, ...], bool]:
    """What the mask called ``bits`` stands for."""
    if not {base + VALUES, base + SPARSE_SHAPE} <= names:
        raise ValueError(f"{base} without its values or shape")
    mask, values, shape = map(file.get_slice, (bits, base + VALUES, base + SPARSE_SHAPE))
    if mask.get_dtype() != "U8" or shape.get_dtype() != "I64" or len(shape.get_shape()) != 1:
        raise ValueError(f"{base} of a mask or shape of another type")
    if shape.get_shape()[0] > _FEW or len(values.get_shape()) != 1:
        raise ValueError(f"{base} of values or dimensions that none has")
    size = tuple(file.get_tensor(base + SPARSE_SHAPE).tolist())
    count, length = math.prod(size), list(mask.get_shape())
    whole = length == [(count + 7) // 8]
    if not bits.endswith(MASK):
        whole = len(length) == 1 and count <= LONGEST * length[0]
    if min(size, default=0) < 0 or not whole:
        raise ValueError(f"{base} of shape {list(size)} with a mask of {length} bytes")
    return size, "F" in str(values.get_dtype())


def _described(size: tuple[int, ...], floats: bool) -> str:
    return f"{'floats' if floats else 'integers'} of shape {list(size)}"
