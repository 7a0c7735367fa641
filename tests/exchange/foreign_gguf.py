"""Small LMs as GGUF files, in llama.cpp's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from tests.exchange.foreign_folders import byte_level_tokenizer, gpt2_shape, llama_shape
from tests.small_lm import drawn_model


def side_by_side(weight: Tensor, heads: int) -> Tensor:
    """The rows of q or k as llama.cpp's converter writes them: pairs that turn together."""
    halves = weight.view(heads, 2, -1, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape)


def gguf_state(ours: TransformerLM, kind: str) -> dict[str, Tensor]:
    """Our weights under llama.cpp's names and in its layout."""
    state: dict[str, Tensor] = {
        "token_embd.weight": ours.embedding.weight,
        "output_norm.weight": ours.norm.weight,  # type: ignore[dict-item]
    }
    if ours.embedding.output is not None:
        state["output.weight"] = ours.embedding.output
    if ours.positions is not None:
        state["position_embd.weight"] = ours.positions
        state["output_norm.bias"] = ours.norm.bias  # type: ignore[assignment]
    names = {"attn.o": "attn_output", "ffn.up": "ffn_up", "ffn.down": "ffn_down"}
    if kind != "gpt2":
        names |= {"ffn.gate": "ffn_gate", **{f"attn.{one}": f"attn_{one}" for one in "qkv"}}
    for number, block in enumerate(ours.layers()):
        into = f"blk.{number}."
        for mine, theirs in names.items():
            matrix: Any = block.linear(mine)
            weight = matrix.weight
            if kind == "llama" and mine in ("attn.q", "attn.k"):
                heads = block.attn.heads if mine == "attn.q" else block.attn.kv_heads
                weight = side_by_side(weight, heads)
            state[f"{into}{theirs}.weight"] = weight
            if matrix.bias is not None:
                state[f"{into}{theirs}.bias"] = matrix.bias
        if kind == "gpt2":
            qkv: list[Any] = [block.linear(f"attn.{one}") for one in "qkv"]
            state[f"{into}attn_qkv.weight"] = torch.cat([one.weight for one in qkv])
            state[f"{into}attn_qkv.bias"] = torch.cat([one.bias for one in qkv])
        for mine, theirs in {"norm_attn": "attn_norm", "norm_ffn": "ffn_norm"}.items():
            for key, value in block.get_submodule(mine).state_dict().items():
                state[f"{into}{theirs}.{key}"] = value
    return {name: value.detach().clone().contiguous() for name, value in state.items()}


def write_gguf(
    path: Path,
    kind: str = "llama",
    shape: ModelShape | None = None,
    changes: dict[str, Any] | None = None,
    quantised: bool = False,
    without: str = "",
) -> TransformerLM:
    """Write the file; the model whose weights it holds. ``changes``: key -> value, None: left out.
    ``quantised``: matrices in Q8_0. ``without`` is a tensor to leave out."""
    import gguf

    tokenizer = json.loads(byte_level_tokenizer(300, digits=True).to_str())
    if shape is None:
        shape = gpt2_shape(300) if kind == "gpt2" else llama_shape(300)
    ours = drawn_model(shape)
    writer = gguf.GGUFWriter(path, kind)
    block = shape.blocks[0]
    pieces = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    values: dict[str, Any] = {
        f"{kind}.block_count": len(shape.blocks),
        f"{kind}.context_length": shape.max_positions,
        f"{kind}.embedding_length": shape.d_model,
        f"{kind}.feed_forward_length": block.ffn,
        f"{kind}.attention.head_count": block.heads,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.token_type": [3, *[1] * (len(pieces) - 1)],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in tokenizer["model"]["merges"]],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
    }
    if kind == "gpt2":
        values[f"{kind}.attention.layer_norm_epsilon"] = 1e-5
    else:
        values[f"{kind}.attention.layer_norm_rms_epsilon"] = shape.details.get("norm_eps", 1e-5)
        values[f"{kind}.rope.freq_base"] = shape.details.get("rope_theta", 10000.0)
        values[f"{kind}.attention.head_count_kv"] = block.kv_heads
        values[f"{kind}.attention.key_length"] = shape.head_dim
        values[f"{kind}.attention.value_length"] = shape.head_dim
    for key, value in {**values, **(changes or {})}.items():
        _add(writer, key, value)
    for name, tensor in gguf_state(ours, kind).items():
        array = tensor.numpy()
        if name == without:
            continue
        if quantised and array.ndim == 2 and array.shape[1] % 32 == 0:
            q8 = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(array, q8), raw_dtype=q8)
        else:
            writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return ours


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif value is not None:
        writer.add_array(key, value)
