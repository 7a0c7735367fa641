"""GGUF files through the package ``gguf``: dequantised, exactly what llama.cpp computes with.

llama.cpp turns neighbours (2 i, 2 i + 1) where ``transformers`` and we turn (i, i + K/2), so its
converter reorders the rows of q and k of ``llama``; they are put back. The tokeniser is built from
the pieces and merges in the file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from asrprune.core.config import shown
from asrprune.errors import InputError, MissingPackage
from asrprune.exchange.foreign import ForeignLM, Load, Taking
from asrprune.exchange.gguf_pieces import pieces_of
from asrprune.files import PathLike
from asrprune.lm.model.shapes import ModelShape

_ARCHITECTURES = ("gpt2", "llama", "qwen2")
_PARSING = (ValueError, KeyError, IndexError, OverflowError, TypeError, AttributeError, EOFError)
"""What ``gguf`` raises for a damaged file."""
_MOST_PARTS = 4096


class _File:
    """A GGUF file, mapped into memory; tensors are dequantised one by one."""

    def __init__(self, path: PathLike) -> None:
        self.path = path
        if not Path(path).is_file():
            found = "a folder" if Path(path).is_dir() else "no such file"
            raise InputError(path, None, found, "a GGUF file")
        gguf = _package()
        try:
            reader = gguf.GGUFReader(path)
            self.values = {
                name: field.contents()
                for name, field in reader.fields.items()
                if not name.startswith("GGUF.")
            }
            self._tensors = {one.name: one for one in reader.tensors}
            self.sizes: dict[str, tuple[int, ...]] = {
                name: tuple(int(size) for size in reversed(one.shape))
                for name, one in self._tensors.items()
            }
        except _PARSING as problem:
            found = f"a GGUF file that does not load ({problem})"
            raise InputError(path, None, found, "a whole GGUF file") from None
        if len(self._tensors) != len(reader.tensors):
            raise InputError(path, None, "a tensor twice", "each tensor once")

    def load(self, name: str) -> Tensor:
        """The tensor in float32."""
        one = self._tensors[name]
        try:
            values = _package().quants.dequantize(one.data, one.tensor_type)
        except (NotImplementedError, *_PARSING) as problem:
            found = f"{name} as {one.tensor_type.name} ({problem})"
            raise InputError(self.path, None, found, "a type that gguf dequantises") from None
        return torch.from_numpy(np.array(values, np.float32)).reshape(self.sizes[name])

    def value(self, key: str, kind: type, otherwise: Any = None) -> Any:
        """The value of ``key``. Raises InputError where it is missing (without ``otherwise``) or
        of another kind."""
        found = self.values.get(key, otherwise)
        if found is None:
            raise InputError(self.path, None, f"no {key}", "a GGUF file of an LM")
        whole = kind is float and type(found) is int
        if type(found) is not kind and not whole:
            raise InputError(self.path, None, f"{key} is {shown(found)}", f"a {kind.__name__}")
        return found

    def count(self, key: str, most: int = 1 << 31, otherwise: Optional[int] = None) -> int:
        """A size from 1 to ``most``."""
        found: int = self.value(key, int, otherwise)
        if not 1 <= found <= most:
            raise InputError(self.path, None, f"{key} is {found}", f"from 1 to {most}")
        return found


def _package() -> Any:
    try:
        import gguf
    except ImportError:
        raise MissingPackage("gguf", "exchange") from None
    return gguf


def read_gguf(path: PathLike) -> ForeignLM:
    """The LM in a GGUF file.

    Raises InputError for a file that is cut short or does not fit itself, and for an architecture,
    option or tokeniser that is not computed exactly, by name; MissingPackage without ``gguf``.
    """
    file = _File(path)
    shape, tensors = _model(file)
    marks = (file.values.get(f"tokenizer.ggml.{name}_token_id") for name in _MARKS)
    begin, end, unknown = (one if type(one) is int else None for one in marks)
    return ForeignLM(shape, tensors, pieces_of(file), begin, end, unknown)


def read_gguf_tensors(path: PathLike) -> tuple[ModelShape, Mapping[str, Load]]:
    """The shape and weights in a GGUF file, whatever its tokeniser. Raises as ``read_gguf``."""
    return _model(_File(path))


def _model(file: _File) -> tuple[ModelShape, Mapping[str, Load]]:
    kind = file.value("general.architecture", str)
    if kind not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise InputError(file.path, None, f"architecture {shown(kind)}", f"one of {known}")
    _check_keys(file, kind)
    try:
        shape = _shape(file, kind)
    except ValueError as problem:
        raise InputError(file.path, None, str(problem), "a model that fits") from None
    taking = Taking(file)
    return shape, _take_gpt2(taking, shape) if kind == "gpt2" else _take_llama(taking, shape, kind)


_MARKS = ("bos", "eos", "unknown")
_NEUTRAL = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "rope.freq_base",
    "rope.dimension_count",
]
"""Keys that are read here."""


def _check_keys(file: _File, kind: str) -> None:
    """Refuse what may change the logits and is not read."""
    for key, value in file.values.items():
        name = key.removeprefix(f"{kind}.")
        if name == key or name in _NEUTRAL:
            continue
        if name == "rope.scaling.type" and value == "none":
            continue
        found = f"{key} is {shown(value)}"
        raise InputError(file.path, None, found, "an LM without it, as it is not computed here")


def _shape(file: _File, kind: str) -> ModelShape:
    width = file.count(f"{kind}.embedding_length")
    heads = file.count(f"{kind}.attention.head_count", _MOST_PARTS)
    if width % heads:
        raise ValueError(f"{heads} heads for a width of {width}")
    head_dim = file.count(f"{kind}.attention.key_length", otherwise=width // heads)
    if file.count(f"{kind}.attention.value_length", otherwise=head_dim) != head_dim:
        raise ValueError("keys and values of different widths")
    details: dict[str, Any] = {}
    if kind == "gpt2":
        epsilon = "attention.layer_norm_epsilon"
    else:
        epsilon = "attention.layer_norm_rms_epsilon"
        turned = file.count(f"{kind}.rope.dimension_count", otherwise=head_dim)
        if turned != head_dim:
            raise ValueError(f"rope.dimension_count is {turned} of {head_dim} (partial rotation)")
        details["rope_theta"] = float(file.value(f"{kind}.rope.freq_base", float, 10000.0))
    details["norm_eps"] = float(file.value(f"{kind}.{epsilon}", float))
    if kind == "qwen2":
        details["qkv_bias"] = True
    rows = file.sizes.get("token_embd.weight")
    if rows is None or len(rows) != 2:
        raise ValueError("no embedding (token_embd.weight)")
    return ModelShape.uniform(
        rows[0],
        width,
        file.count(f"{kind}.block_count", _MOST_PARTS),
        heads,
        file.count(f"{kind}.feed_forward_length"),
        file.count(f"{kind}.context_length"),
        architecture="gpt2" if kind == "gpt2" else "llama",
        kv_heads=file.count(f"{kind}.attention.head_count_kv", heads, otherwise=heads),
        head_dim=head_dim,
        tied="output.weight" not in file.sizes,
        details=details,
    )


def _take_gpt2(taking: Taking, shape: ModelShape) -> Mapping[str, Load]:
    width = shape.d_model
    _take_ends(taking, shape)
    taking.take("positions", "position_embd.weight", (shape.max_positions, width))
    taking.take("norm.bias", "output_norm.bias", (width,))
    for number, block in enumerate(shape.blocks):
        into, of = f"blocks.{number}", f"blk.{number}"
        for norm in ("attn", "ffn"):
            for name in ("weight", "bias"):
                taking.take(f"{into}.norm_{norm}.{name}", f"{of}.{norm}_norm.{name}", (width,))
        for part, name in enumerate("qkv"):
            rows = functools.partial(_rows, rows=slice(part * width, (part + 1) * width))
            ours, theirs = f"{into}.attn.{name}", f"{of}.attn_qkv"
            taking.take(f"{ours}.weight", f"{theirs}.weight", (3 * width, width), rows)
            taking.take(f"{ours}.bias", f"{theirs}.bias", (3 * width,), rows)
        for ours, theirs, outputs, inputs in (
            ("attn.o", "attn_output", width, width),
            ("ffn.up", "ffn_up", block.ffn, width),
            ("ffn.down", "ffn_down", width, block.ffn),
        ):
            taking.take(f"{into}.{ours}.weight", f"{of}.{theirs}.weight", (outputs, inputs))
            taking.take(f"{into}.{ours}.bias", f"{of}.{theirs}.bias", (outputs,))
    return taking.finish()


def _take_llama(taking: Taking, shape: ModelShape, kind: str) -> Mapping[str, Load]:
    width = shape.d_model
    _take_ends(taking, shape)
    for number, block in enumerate(shape.blocks):
        into, of = f"blocks.{number}", f"blk.{number}"
        taking.take(f"{into}.norm_attn.weight", f"{of}.attn_norm.weight", (width,))
        taking.take(f"{into}.norm_ffn.weight", f"{of}.ffn_norm.weight", (width,))
        queries, kept = block.heads * shape.head_dim, block.kv_heads * shape.head_dim
        for ours, theirs, outputs, inputs in (
            ("attn.q", "attn_q", queries, width),
            ("attn.k", "attn_k", kept, width),
            ("attn.v", "attn_v", kept, width),
            ("attn.o", "attn_output", width, queries),
            ("ffn.gate", "ffn_gate", block.ffn, width),
            ("ffn.up", "ffn_up", block.ffn, width),
            ("ffn.down", "ffn_down", width, block.ffn),
        ):
            change: Optional[Callable[[Tensor], Tensor]] = None
            if kind == "llama" and ours in ("attn.q", "attn.k"):
                change = functools.partial(halves_apart, heads=outputs // shape.head_dim)
            size = (outputs, inputs)
            taking.take(f"{into}.{ours}.weight", f"{of}.{theirs}.weight", size, change)
            if kind == "qwen2" and ours in ("attn.q", "attn.k", "attn.v"):
                taking.take(f"{into}.{ours}.bias", f"{of}.{theirs}.bias", (outputs,))
    return taking.finish()


def _take_ends(taking: Taking, shape: ModelShape) -> None:
    size = (shape.vocab_size, shape.d_model)
    taking.take("embedding.weight", "token_embd.weight", size)
    taking.take("norm.weight", "output_norm.weight", (shape.d_model,))
    if not shape.tied:
        taking.take("embedding.output", "output.weight", size)


def halves_apart(weight: Tensor, heads: int) -> Tensor:
    """The rows [H * K, in] of llama.cpp's order, in which the pair that turns together stands side
    by side, in ours: pair i is the rows i and i + K/2 of a head.

    >>> halves_apart(torch.arange(4.0)[:, None], heads=1).flatten().tolist()
    [0.0, 2.0, 1.0, 3.0]
    """
    pairs = weight.view(heads, -1, 2, weight.shape[1])  # [H, K/2, 2, in]
    return pairs.transpose(1, 2).reshape(weight.shape)


def _rows(tensor: Tensor, rows: slice) -> Tensor:
    return tensor[rows].clone()
