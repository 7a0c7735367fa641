"""Hugging Face folders: ``config.json``, safetensors, ``tokenizer.json``. No pickles, no code.

What the config says is taken exactly or refused by name: a key that is not known here and is
neither null nor false may change what is computed.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from asrprune.core.config import shown
from asrprune.core.record import (
    Record,
    a_count,
    a_ratio,
    a_string,
    a_truth,
    an_object_of,
    anything,
    read_record,
)
from asrprune.core.tables import lookup
from asrprune.errors import InputError
from asrprune.exchange.foreign import ForeignLM, Load, Taking
from asrprune.exchange.token_marks import stated_marks
from asrprune.files import PathLike
from asrprune.lm.model.shapes import ModelShape

_CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_TOKENIZER, _TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"

_MOST_PARTS = 4096
"""Layers and heads that no model exceeds."""

_NEUTRAL = frozenset(
    [
        "architectures",
        "model_type",
        "torch_dtype",
        "dtype",
        "transformers_version",
        "use_cache",
        "initializer_range",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
        "unk_token_id",
        "sep_token_id",
        "vocab_size",
        "pretraining_tp",
        "attention_dropout",
        "attention_probs_dropout_prob",
        "resid_pdrop",
        "embd_pdrop",
        "attn_pdrop",
        "dropout",
        "hidden_dropout",
        "summary_type",
        "summary_use_proj",
        "summary_activation",
        "summary_proj_to_labels",
        "summary_first_dropout",
        "task_specific_params",
        "max_window_layers",
        "is_llama_config",
        "name_or_path",
        "n_ctx",
        "gradient_checkpointing",
        "reorder_and_upcast_attn",
        "transformers.js_config",
        "chunk_size_feed_forward",
        "id2label",
        "label2id",
        "problem_type",
        "return_dict",
        "finetuning_task",
        "tokenizer_class",
        "generation_config",
        "output_attentions",
        "output_hidden_states",
        "asrprune",  # what our own exporter says
    ]
)
"""Keys that do not change the logits of text in evaluation mode."""


_OUTPUT = "lm_head.weight"
_EMBEDDINGS = (
    "transformer.wte.weight",
    "wte.weight",
    "model.embed_tokens.weight",
    "embed_tokens.weight",
)
"""Names of the embedding in GPT-2 and Llama, of a whole LM or of its body alone."""

log = logging.getLogger(__name__)


class _Folder:
    """The safetensors files of a folder, one or many, opened as they are needed."""

    def __init__(self, folder: Path) -> None:
        self.path: PathLike = folder / _WEIGHTS
        self._files: dict[str, Path] = {}
        self.sizes: dict[str, tuple[int, ...]] = {}
        if (folder / _WEIGHTS).is_file():
            places: dict[Optional[str], Path] = {None: folder / _WEIGHTS}
        elif (folder / _INDEX).is_file():
            self.path = folder / _INDEX
            places = self._shards(folder)
        else:
            pickles = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt*"))
            found = f"pickled weights only ({pickles[0].name})" if pickles else f"no {_WEIGHTS}"
            raise InputError(folder, None, found, f"weights as {_WEIGHTS} or with {_INDEX}")
        self._open: dict[Path, Any] = {}
        for place in dict.fromkeys(places.values()):
            self._add(place)
        for name, place in places.items():
            if name is not None and self._files.get(name) != place:
                found = f"no tensor {name} in {place.name}"
                raise InputError(self.path, None, found, "shards as the index states them")

    def _shards(self, folder: Path) -> dict[Optional[str], Path]:
        index = read_record(folder / _INDEX).get("weight_map", an_object_of(a_string))
        places: dict[Optional[str], Path] = {}
        for name, shard in index.items():
            if os.path.basename(shard) != shard or not shard.endswith(".safetensors"):
                found = f"the shard {shown(shard)}"
                raise InputError(self.path, None, found, "safetensors files of the same folder")
            places[name] = folder / shard
        return places

    def _add(self, place: Path) -> None:
        try:
            file: Any = safe_open(place, framework="pt")
            self._open[place] = file
            names: list[str] = list(file.keys())
            sizes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        except FileNotFoundError:
            raise InputError(place, None, "no such file", "a shard of the index") from None
        except SafetensorError as problem:
            found = f"weights that do not load ({problem})"
            raise InputError(place, None, found, "a whole safetensors file") from None
        twice = sizes.keys() & self.sizes.keys()
        if twice:
            raise InputError(place, None, f"the tensor {min(twice)} twice", "each tensor once")
        self.sizes.update(sizes)
        self._files.update(dict.fromkeys(sizes, place))

    def load(self, name: str) -> Tensor:
        """The tensor, as a view of the file's memory where the format allows it."""
        place = self._files[name]
        tensor: Tensor = self._open[place].get_tensor(name)
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            found = f"{name} as {str(tensor.dtype).removeprefix('torch.')}"
            raise InputError(place, None, found, "floating-point numbers (no quantised weights)")
        return tensor


def read_hugging_face(path: PathLike) -> ForeignLM:
    """The LM in a Hugging Face folder.

    Raises InputError for a folder that lacks a file, for weights that do not fit the config or are
    cut short, and for an architecture or option that is not computed exactly, by name.
    """
    folder = Path(path)
    if not (folder / _CONFIG).is_file():
        found = f"no {_CONFIG}" if folder.is_dir() else "no such folder"
        raise InputError(folder, None, found, "a folder of Hugging Face transformers")
    config = _Config(read_record(folder / _CONFIG))
    kind = config.record.get("model_type", a_string)
    try:
        shape, take = lookup(_READERS, kind, "architecture")(config)
    except ValueError as problem:
        raise InputError(folder / _CONFIG, None, str(problem), "a model that fits") from None
    config.finish()
    pieces = folder / _TOKENIZER
    if not pieces.is_file():
        raise InputError(
            folder, None, f"no {_TOKENIZER}", "the tokenizer of the library tokenizers"
        )
    marks = stated_marks(pieces, folder / _TOKENIZER_CONFIG, config.record)
    weights = _Folder(folder)
    shape = _as_stored(weights, shape)
    return ForeignLM(shape, take(Taking(weights), shape), pieces.read_text("utf-8"), *marks)


def _as_stored(weights: _Folder, shape: ModelShape) -> ModelShape:
    """The shape, no longer tied where another output layer than the embedding is stored, as the
    merge of an adapter may leave it: transformers 5 computes with that one. Says so in the log."""
    if not shape.tied or _OUTPUT not in weights.sizes:
        return shape
    for name in _EMBEDDINGS:
        if weights.sizes.get(name) == weights.sizes[_OUTPUT]:
            embedding, output = weights.load(name), weights.load(_OUTPUT)
            kind = torch.promote_types(embedding.dtype, output.dtype)
            if torch.equal(embedding.to(kind), output.to(kind)):
                return shape
            told = "%s: tie_word_embeddings is true, but %s is not %s: it is taken as it is stored"
            log.warning(told + ", as transformers 5 does", weights.path, _OUTPUT, name)
            return replace(shape, tied=False)
    return shape


class _Config:
    """A config.json that knows which of its keys were read."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self._read = set(_NEUTRAL)

    def size(self, key: str) -> int:
        """A size that must be stated; it is compared with the tensors."""
        self._read.add(key)
        return self.record.get(key, a_count)

    def few(self, key: str) -> int:
        """A number of parts, as ``size``; more than there can be are refused unmade."""
        count = self.size(key)
        if count > _MOST_PARTS:
            raise self.refused(key, f"at most {_MOST_PARTS}")
        return count

    def value(self, key: str, take: Any, otherwise: Any) -> Any:
        """What ``key`` says, ``otherwise`` where it is missing or null."""
        self._read.add(key)
        found = self.record.find(key, take)
        return otherwise if found is None else found

    def only(self, key: str, *known: Any) -> None:
        """Refuse the option unless it is missing or has one of these values."""
        self._read.add(key)
        if key in self.record.values and self.record.values[key] not in known:
            raise self.refused(key)

    def refused(
        self, key: str, expected: str = "an LM without it, as it is not computed here"
    ) -> InputError:
        """The error that names an option and its value."""
        found = f"{key} is {shown(self.record.values.get(key))}"
        return InputError(self.record.path, None, found, expected)

    def finish(self) -> None:
        """Refuse keys that nothing read and that say something."""
        for key, value in self.record.values.items():
            said = value is not None and value is not False and value != {} and value != []
            if said and key not in self._read and not key.startswith("_"):
                raise self.refused(key)


def _gpt2(config: _Config) -> tuple[ModelShape, Any]:
    width, heads = config.size("n_embd"), config.few("n_head")
    config.only("activation_function", "gelu_new", "gelu_pytorch_tanh")
    config.only("scale_attn_weights", True)
    config.only("scale_attn_by_inverse_layer_idx", False)
    config.only("add_cross_attention", False)
    shape = ModelShape.uniform(
        config.size("vocab_size"),
        width,
        config.few("n_layer"),
        heads,
        config.value("n_inner", a_count, 4 * width),
        config.size("n_positions"),
        architecture="gpt2",
        tied=config.value("tie_word_embeddings", a_truth, True),
        details={"norm_eps": config.value("layer_norm_epsilon", a_ratio, 1e-5)},
    )
    return shape, _take_gpt2


def _take_gpt2(taking: Taking, shape: ModelShape) -> Mapping[str, Load]:
    width, ffn = shape.d_model, shape.blocks[0].ffn if shape.blocks else 0
    top = "transformer." if taking.has("transformer.wte.weight") else ""
    taking.take("embedding.weight", f"{top}wte.weight", (shape.vocab_size, width))
    taking.take("positions", f"{top}wpe.weight", (shape.max_positions, width))
    _take_norm(taking, "norm", f"{top}ln_f", width)
    _take_output(taking, shape)
    for number in range(len(shape.blocks)):
        into, of = f"blocks.{number}", f"{top}h.{number}"
        _take_norm(taking, f"{into}.norm_attn", f"{of}.ln_1", width)
        _take_norm(taking, f"{into}.norm_ffn", f"{of}.ln_2", width)
        for part, name in enumerate("qkv"):
            rows = slice(part * width, (part + 1) * width)
            whole = f"{of}.attn.c_attn"
            weight = functools.partial(_rows_of_transposed, rows=rows)
            taking.take(f"{into}.attn.{name}.weight", f"{whole}.weight", (width, 3 * width), weight)
            bias = functools.partial(_rows, rows=rows)
            taking.take(f"{into}.attn.{name}.bias", f"{whole}.bias", (3 * width,), bias)
        for ours, theirs, inputs, outputs in (
            ("attn.o", "attn.c_proj", width, width),
            ("ffn.up", "mlp.c_fc", width, ffn),
            ("ffn.down", "mlp.c_proj", ffn, width),
        ):
            taking.take(
                f"{into}.{ours}.weight", f"{of}.{theirs}.weight", (inputs, outputs), _turned
            )
            taking.take(f"{into}.{ours}.bias", f"{of}.{theirs}.bias", (outputs,))
    return taking.finish(lambda name: name.endswith((".attn.bias", ".attn.masked_bias")))


def _llama(config: _Config) -> tuple[ModelShape, Any]:
    config.only("attention_bias", False)
    return _llama_shape(config, False), _take_llama


def _mistral(config: _Config) -> tuple[ModelShape, Any]:
    _check_window(config, config.record.values.get("sliding_window", _WINDOW))
    return _llama_shape(config, False), _take_llama


def _qwen2(config: _Config) -> tuple[ModelShape, Any]:
    config.only("attention_bias", True)
    config.value("sliding_window", a_count, None)
    if config.value("use_sliding_window", a_truth, False):
        _check_window(config, config.record.values.get("sliding_window", _WINDOW))
    return _llama_shape(config, True), _take_llama


_WINDOW = 4096
"""Of a config of Mistral or Qwen2 that does not say (``transformers`` leaves out its defaults)."""


def _check_window(config: _Config, window: Any) -> None:
    """Refuse a window that hides some of the context."""
    config.value("sliding_window", anything, None)
    positions = config.size("max_position_embeddings")
    if window is not None and window < positions:
        found = f"sliding_window is {shown(window)} of {positions} positions"
        expected = "none, as it is not computed here, or max_position_embeddings edited to fit"
        raise InputError(config.record.path, None, found, expected)


def _llama_shape(config: _Config, qkv_bias: bool) -> ModelShape:
    width, heads = config.size("hidden_size"), config.few("num_attention_heads")
    config.only("hidden_act", "silu", "swish")
    config.only("mlp_bias", False)
    config.only("partial_rotary_factor", 1, 1.0)
    config.only("rope_interleaved", False)
    kinds = config.value("layer_types", anything, [])
    if any(kind not in ("full_attention", "sliding_attention") for kind in kinds):
        raise config.refused("layer_types")
    if heads == 0 or width % heads:
        raise config.refused("num_attention_heads", f"a divisor of hidden_size {width}")
    return ModelShape.uniform(
        config.size("vocab_size"),
        width,
        config.few("num_hidden_layers"),
        heads,
        config.size("intermediate_size"),
        config.size("max_position_embeddings"),
        architecture="llama",
        kv_heads=config.value("num_key_value_heads", a_count, heads),
        head_dim=config.value("head_dim", a_count, width // heads),
        tied=config.value("tie_word_embeddings", a_truth, False),
        details={
            "rope_theta": _rope_theta(config),
            "norm_eps": config.value("rms_norm_eps", a_ratio, 1e-6),
            **({"qkv_bias": True} if qkv_bias else {}),
        },
    )


def _rope_theta(config: _Config) -> float:
    """The base of the rotary wavelengths. Raises InputError for a scaling of them, by its kind."""
    theta = config.value("rope_theta", a_ratio, None)
    for key in ("rope_parameters", "rope_scaling"):
        stated = config.value(key, anything, None)
        if stated is None:
            continue
        part = config.record.part(key)
        kind = part.values.get("rope_type", part.values.get("type", "default"))
        known = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
        if kind != "default" or part.values.get("partial_rotary_factor", 1) != 1:
            raise config.refused(key)
        if set(part.values) - known:
            raise config.refused(key)
        theta = part.find("rope_theta", a_ratio) or theta
    return 10000.0 if theta is None else float(theta)


def _take_llama(taking: Taking, shape: ModelShape) -> Mapping[str, Load]:
    width = shape.d_model
    top = "model." if taking.has("model.embed_tokens.weight") else ""
    taking.take("embedding.weight", f"{top}embed_tokens.weight", (shape.vocab_size, width))
    taking.take("norm.weight", f"{top}norm.weight", (width,))
    _take_output(taking, shape)
    for number, block in enumerate(shape.blocks):
        into, of = f"blocks.{number}", f"{top}layers.{number}"
        taking.take(f"{into}.norm_attn.weight", f"{of}.input_layernorm.weight", (width,))
        taking.take(f"{into}.norm_ffn.weight", f"{of}.post_attention_layernorm.weight", (width,))
        queries, kept = block.heads * shape.head_dim, block.kv_heads * shape.head_dim
        for ours, theirs, inputs, outputs in (
            ("attn.q", "self_attn.q_proj", width, queries),
            ("attn.k", "self_attn.k_proj", width, kept),
            ("attn.v", "self_attn.v_proj", width, kept),
            ("attn.o", "self_attn.o_proj", queries, width),
            ("ffn.gate", "mlp.gate_proj", width, block.ffn),
            ("ffn.up", "mlp.up_proj", width, block.ffn),
            ("ffn.down", "mlp.down_proj", block.ffn, width),
        ):
            taking.take(f"{into}.{ours}.weight", f"{of}.{theirs}.weight", (outputs, inputs))
            if shape.details.get("qkv_bias") and ours in ("attn.q", "attn.k", "attn.v"):
                taking.take(f"{into}.{ours}.bias", f"{of}.{theirs}.bias", (outputs,))
    return taking.finish(lambda name: name.endswith("rotary_emb.inv_freq"))


def _take_output(taking: Taking, shape: ModelShape) -> None:
    """The output layer; of a tied one a copy may be stored, which is not taken."""
    size = (shape.vocab_size, shape.d_model)
    if not shape.tied:
        taking.take("embedding.output", _OUTPUT, size)
    elif taking.has(_OUTPUT):
        taking.check(_OUTPUT, size)


def _take_norm(taking: Taking, ours: str, theirs: str, width: int) -> None:
    for name in ("weight", "bias"):
        taking.take(f"{ours}.{name}", f"{theirs}.{name}", (width,))


def _turned(tensor: Tensor) -> Tensor:
    """GPT-2 stores [inputs, outputs]."""
    return tensor.T


def _rows_of_transposed(tensor: Tensor, rows: slice) -> Tensor:
    return tensor.T[rows]


def _rows(tensor: Tensor, rows: slice) -> Tensor:
    return tensor[rows].clone()


_READERS = {"gpt2": _gpt2, "llama": _llama, "mistral": _mistral, "qwen2": _qwen2}
"""``model_type`` -> what reads its config: the shape, and what takes its tensors."""
