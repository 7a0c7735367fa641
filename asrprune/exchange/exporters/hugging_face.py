"""Hugging Face: a folder that ``transformers`` loads with ``AutoModelForCausalLM.from_pretrained``.

Its architectures have blocks that are all alike and dense: an LM is written where its shape is one
that a standard ``config.json`` can say, and refused by name where it is not, unless a modelling
file (``modeling_asrprune``) is asked for, which takes every shape. The folder has the checkpoint's
own SentencePiece model, or the ``tokenizer.json`` that an import brought; ids are those of its
pieces. A prompt and what ends a sentence are up to the program that loads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from asrprune.errors import InputError, MissingPackage
from asrprune.exchange.exporters.check import Difference, log_probs, sentences_for
from asrprune.exchange.exporters.exporter import Exporter, Request, Written
from asrprune.exchange.exporters.numbers import FLOAT32
from asrprune.exchange.exporters.onnx_file import facts_of, marks_of
from asrprune.exchange.exporters.standard import obstacle, without_empty_blocks
from asrprune.files import PathLike, write_folder
from asrprune.lm.model.architecture import details_of
from asrprune.lm.model.transformer import TransformerLM
from asrprune.text.marked import MarkedTokenizer

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODELLING = "modeling_asrprune"
OWN_CODE = "own-code"

_OWN_NOTE = "transformers loads it with trust_remote_code=True; tools without its code do not"


def config_of(request: Request) -> dict[str, Any]:
    """The content of ``config.json``."""
    shape, marks = request.model.shape, marks_of(request)
    block, details = shape.blocks[0], details_of(shape)
    common = {
        "vocab_size": shape.vocab_size,
        "bos_token_id": marks.begin,
        "eos_token_id": marks.end,
        "tie_word_embeddings": shape.tied,
        "torch_dtype": "float32",
        "asrprune": facts_of(request),
    }
    if shape.architecture == "gpt2":
        return {
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "n_positions": shape.max_positions,
            "n_embd": shape.d_model,
            "n_layer": len(shape.blocks),
            "n_head": block.heads,
            "n_inner": block.ffn,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": details.norm_eps,
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
            **common,
        }
    kind = "Qwen2" if details.qkv_bias else "Llama"
    return {
        "model_type": kind.lower(),
        "architectures": [f"{kind}ForCausalLM"],
        "hidden_size": shape.d_model,
        "intermediate_size": block.ffn,
        "num_hidden_layers": len(shape.blocks),
        "num_attention_heads": block.heads,
        "num_key_value_heads": block.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.max_positions,
        "rms_norm_eps": details.norm_eps,
        "rope_theta": details.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": details.rope_theta},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "use_sliding_window": False,
        **common,
    }


def tensors_of(model: TransformerLM) -> dict[str, Tensor]:
    """The weights under the names of transformers; a tied output layer is left out."""
    embedding = model.embedding
    made = dict((_gpt2 if model.shape.architecture == "gpt2" else _llama)(model))
    if embedding.output is not None:
        made["lm_head.weight"] = embedding.output
    return {name: value.detach().float().contiguous().clone() for name, value in made.items()}


def _gpt2(model: TransformerLM) -> Iterable[tuple[str, Tensor]]:
    """Its matrices are stored [in, out], those of query, key and value as one."""
    assert model.positions is not None  # gpt2 has them
    yield "transformer.wte.weight", model.embedding.weight
    yield "transformer.wpe.weight", model.positions
    yield from _of(model.norm, "transformer.ln_f")
    for index, block in enumerate(model.layers()):
        into = f"transformer.h.{index}"
        yield from _of(block.norm_attn, f"{into}.ln_1")
        yield from _of(block.norm_ffn, f"{into}.ln_2")
        groups = {
            "attn.c_attn": ("attn.q", "attn.k", "attn.v"),
            "attn.c_proj": ("attn.o",),
            "mlp.c_fc": ("ffn.up",),
            "mlp.c_proj": ("ffn.down",),
        }
        for name, parts in groups.items():
            linears = [block.linear(part) for part in parts]
            yield f"{into}.{name}.weight", torch.cat([one.product() for one in linears]).T
            biases: list[Tensor] = [one.bias for one in linears if one.bias is not None]
            yield f"{into}.{name}.bias", torch.cat(biases)


def _llama(model: TransformerLM) -> Iterable[tuple[str, Tensor]]:
    yield "model.embed_tokens.weight", model.embedding.weight
    yield from _of(model.norm, "model.norm")
    for index, block in enumerate(model.layers()):
        into = f"model.layers.{index}"
        yield from _of(block.norm_attn, f"{into}.input_layernorm")
        yield from _of(block.norm_ffn, f"{into}.post_attention_layernorm")
        for name in block.anatomy.matrices:
            part, one = name.split(".")
            place = f"{into}.{'self_attn' if part == 'attn' else 'mlp'}.{one}_proj"
            yield f"{place}.weight", block.linear(name).product()
            bias = block.linear(name).bias
            if bias is not None:
                yield f"{place}.bias", bias


def _of(norm: torch.nn.Module, name: str) -> Iterable[tuple[str, Tensor]]:
    for part, value in norm.named_parameters():
        yield f"{name}.{part}", value


def own_config_of(request: Request) -> dict[str, Any]:
    """The content of ``config.json`` beside our own modelling file."""
    shape, marks = request.model.shape, marks_of(request)
    stated = {**shape.to_dict(), "details": asdict(details_of(shape))}
    return {
        "model_type": "asrprune",
        "architectures": ["AsrpruneForCausalLM"],
        "auto_map": {
            "AutoConfig": f"{MODELLING}.AsrpruneConfig",
            "AutoModelForCausalLM": f"{MODELLING}.AsrpruneForCausalLM",
        },
        "shape": stated,
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.d_model,
        "num_hidden_layers": len(shape.blocks),
        "max_position_embeddings": shape.max_positions,
        "bos_token_id": marks.begin,
        "eos_token_id": marks.end,
        "use_cache": True,
        "tie_word_embeddings": False,  # the file itself uses one table twice where shape says tied
        "torch_dtype": "float32",
        "asrprune": facts_of(request),
    }


def _write(request: Request, out: PathLike) -> Written:
    own = request.form == OWN_CODE
    standard = replace(request, model=without_empty_blocks(request.model))
    problem = obstacle(standard.model.shape)
    if problem is not None and not own:
        expected = (
            "dense blocks, all alike: transformers has no other (--form own-code writes it with a "
            "modelling file, --to onnx takes every shape)"
        )
        raise InputError(request.lm, None, problem, expected)
    with write_folder(out) as folder:
        config = json.dumps(own_config_of(request) if own else config_of(standard), indent=2)
        (folder / CONFIG).write_text(config + "\n", encoding="utf-8")
        tensors = _own_tensors(request.model) if own else tensors_of(standard.model)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
        if own:
            code = Path(__file__).with_name(f"{MODELLING}.py").read_bytes()
            (folder / f"{MODELLING}.py").write_bytes(code)
        _write_tokenizer(request, folder)
        written = Written((folder / WEIGHTS).stat().st_size, "")
        if request.verify:
            written = _verified(request, folder, written.size_bytes)
    if own:
        reason = problem or "a shape that --form standard can say too"
        written = replace(written, notes=(*written.notes, f"{_OWN_NOTE} ({reason})"))
    return written


def _own_tensors(model: TransformerLM) -> dict[str, Tensor]:
    """The weights under our own names, which the modelling file has too."""
    return {
        name: (value.float() if value.is_floating_point() else value).contiguous().clone()
        for name, value in model.state_dict().items()
    }


def _write_tokenizer(request: Request, folder: Path) -> None:
    pieces = request.tokenizer.model
    if not isinstance(pieces, MarkedTokenizer):
        path = Path(request.tokenizer_path)
        (folder / path.name).write_bytes(path.read_bytes())
        return
    (folder / "tokenizer.json").write_text(pieces.pieces_json, encoding="utf-8")
    named = {"bos_token": pieces.piece(pieces.begin), "eos_token": pieces.piece(pieces.end)}
    config = json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **named}, indent=2)
    (folder / "tokenizer_config.json").write_text(config + "\n", encoding="utf-8")


def _verified(request: Request, folder: Path, size_bytes: int) -> Written:
    """What transformers computes of the folder. Raises InputError where the scores differ."""
    try:
        import transformers
    except ImportError:
        raise MissingPackage("transformers", "hugging-face") from None
    loader: Any = transformers.AutoModelForCausalLM
    if request.form == OWN_CODE:  # the same file, without a copy in the user's cache of such code
        from asrprune.exchange.exporters.modeling_asrprune import AsrpruneForCausalLM

        loader = AsrpruneForCausalLM
    loaded: Any = loader.from_pretrained(folder, dtype=torch.float32).eval()
    marks, model = marks_of(request), request.model.float()
    found = Difference()
    with torch.inference_mode():
        for sentence in sentences_for(model, marks):
            logits = loaded(torch.tensor([[marks.begin, *sentence]])).logits[0]
            values = np.asarray(logits.float().log_softmax(-1))
            found += Difference.of(values, log_probs(model, sentence, marks.begin))
    if found.worst_share > 1:
        problem = f"an LM whose scores are {found.largest:.3g} nats off in the exported folder"
        raise InputError(request.lm, None, problem, "the same scores (a defect of the exporter)")
    runtime = f"transformers {transformers.__version__}"
    verified = f"{runtime}: {found.scores} scores, largest difference {found.largest:.2g} nats"
    return Written(size_bytes, verified, found.largest)


_FORMS: Mapping[str, str] = {
    "standard": "config.json and model.safetensors of transformers' own",
    OWN_CODE: "any shape, with a modelling file that is loaded with trust_remote_code=True",
}

HUGGING_FACE = Exporter(
    "a folder for transformers: GPT-2, Llama or Qwen2; other shapes with a modelling file",
    _FORMS,
    (FLOAT32,),
    _write,
    is_folder=True,
)
