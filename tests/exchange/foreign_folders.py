"""Small LMs as other toolkits store them: Hugging Face folders with drawn weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from tests.small_lm import drawn_model

TEXT = (
    "The cat sat on the mat.",
    "Don't the cats sit at 12 o'clock?\n",
    "a hat, the caf\u00e9, and I'll say: it's 3.5 -- or 1990s e-mail",
    "the mat the cat sat the hat on a mat said the cat",
)
END = "<|endoftext|>"


def byte_level_tokenizer(size: int = 300, digits: bool = False) -> Any:
    """Byte-level BPE as GPT-2's, or with digits one by one as SmolLM2's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alone = pre_tokenizers.Digits(individual_digits=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([alone, byte_level]) if digits else byte_level
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(TEXT, trainer)
    return made


def unigram_tokenizer(size: int = 60) -> Any:
    """Unigram pieces with U+2581 before words, as those of SentencePiece."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size,
        special_tokens=["<unk>", "<s>", "</s>"],
        unk_token="<unk>",
        show_progress=False,
    )
    made.train_from_iterator(TEXT, trainer)
    return made


def fallback_tokenizer() -> Any:
    """BPE without cutting into words first, bytes for what has no piece: as Llama 2's."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["\u2581", *"abcdefghilmnorstuvwxyTADIM.,'0123459?:-"]
    merges = [("t", "h"), ("th", "e"), ("\u2581", "the"), ("a", "t"), ("c", "at"), ("\u2581", "c")]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    for one, other in merges:
        vocab.setdefault(one + other, len(vocab))
    made = Tokenizer(
        models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("\u2581", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1),
        ]
    )
    made.add_special_tokens([AddedToken(one, normalized=False) for one in ("<unk>", "<s>", "</s>")])
    return made


def llama_shape(vocab_size: int, **changes: Any) -> ModelShape:
    """Two layers, two key and value heads for four."""
    details = {"norm_eps": 1e-6, **changes.pop("details", {})}
    settings = {"architecture": "llama", "kv_heads": 2, "tied": False, **changes}
    return ModelShape.uniform(vocab_size, 16, 2, 4, 24, 40, details=details, **settings)


def gpt2_shape(vocab_size: int, **changes: Any) -> ModelShape:
    """Two layers of four heads."""
    return ModelShape.uniform(vocab_size, 16, 2, 4, 24, 40, **changes)


def hugging_face_config(shape: ModelShape, kind: str) -> dict[str, Any]:
    """The config.json of a model of that shape."""
    block = shape.blocks[0]
    if kind == "gpt2":
        return {
            "model_type": "gpt2",
            "vocab_size": shape.vocab_size,
            "n_embd": shape.d_model,
            "n_head": block.heads,
            "n_layer": len(shape.blocks),
            "n_inner": block.ffn,
            "n_positions": shape.max_positions,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": shape.details.get("norm_eps", 1e-5),
            "tie_word_embeddings": shape.tied,
        }
    config = {
        "model_type": kind,
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.d_model,
        "num_attention_heads": block.heads,
        "num_key_value_heads": block.kv_heads,
        "head_dim": shape.head_dim,
        "num_hidden_layers": len(shape.blocks),
        "intermediate_size": block.ffn,
        "max_position_embeddings": shape.max_positions,
        "hidden_act": "silu",
        "rms_norm_eps": shape.details.get("norm_eps", 1e-5),
        "rope_theta": shape.details.get("rope_theta", 10000.0),
        "tie_word_embeddings": shape.tied,
    }
    return config | ({"sliding_window": None} if kind == "mistral" else {})


def hugging_face_state(ours: TransformerLM, kind: str) -> dict[str, Tensor]:
    """Our weights under the names, and in the layout, of ``transformers``."""
    state: dict[str, Tensor] = {}
    if kind == "gpt2":
        assert ours.positions is not None
        state["transformer.wte.weight"] = ours.embedding.weight
        state["transformer.wpe.weight"] = ours.positions
        for name, value in ours.norm.state_dict().items():
            state[f"transformer.ln_f.{name}"] = value
    else:
        state["model.embed_tokens.weight"] = ours.embedding.weight
        state["model.norm.weight"] = ours.norm.weight  # type: ignore[assignment]
    if ours.embedding.output is not None:
        state["lm_head.weight"] = ours.embedding.output
    for number, block in enumerate(ours.layers()):
        if kind == "gpt2":
            _gpt2_block(state, f"transformer.h.{number}.", block)
        else:
            _llama_block(state, f"model.layers.{number}.", block)
    return {name: value.detach().clone().contiguous() for name, value in state.items()}


def _gpt2_block(state: dict[str, Tensor], into: str, block: Any) -> None:
    qkv = [block.linear(f"attn.{name}") for name in "qkv"]
    state[into + "attn.c_attn.weight"] = torch.cat([one.weight for one in qkv]).T
    state[into + "attn.c_attn.bias"] = torch.cat([one.bias for one in qkv])
    names = {"attn.c_proj": "attn.o", "mlp.c_fc": "ffn.up", "mlp.c_proj": "ffn.down"}
    for theirs, mine in names.items():
        state[f"{into}{theirs}.weight"] = block.linear(mine).weight.T
        state[f"{into}{theirs}.bias"] = block.linear(mine).bias
    for theirs, mine in {"ln_1": "norm_attn", "ln_2": "norm_ffn"}.items():
        for key, value in block.get_submodule(mine).state_dict().items():
            state[f"{into}{theirs}.{key}"] = value


def _llama_block(state: dict[str, Tensor], into: str, block: Any) -> None:
    names = {f"self_attn.{one}_proj": f"attn.{one}" for one in "qkvo"}
    names |= {f"mlp.{one}_proj": f"ffn.{one}" for one in ("gate", "up", "down")}
    for theirs, mine in names.items():
        state[f"{into}{theirs}.weight"] = block.linear(mine).weight
        if block.linear(mine).bias is not None:
            state[f"{into}{theirs}.bias"] = block.linear(mine).bias
    state[f"{into}input_layernorm.weight"] = block.norm_attn.weight
    state[f"{into}post_attention_layernorm.weight"] = block.norm_ffn.weight


def save_small_foreign(folder: Path) -> Path:
    """A Hugging Face folder, the same in every run (nothing is trained)."""
    tokenizer = fallback_tokenizer()
    write_hugging_face(folder, "llama", llama_shape(tokenizer.get_vocab_size()), tokenizer)
    return folder


def write_hugging_face(
    folder: Path,
    kind: str = "llama",
    shape: ModelShape | None = None,
    tokenizer: Any = None,
    shards: int = 0,
) -> TransformerLM:
    """Write the folder; the model whose weights it holds. ``shards``: files beside an index."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_level_tokenizer() if tokenizer is None else tokenizer
    if shape is None:
        size = tokenizer.get_vocab_size()
        shape = gpt2_shape(size) if kind == "gpt2" else llama_shape(size)
    ours = drawn_model(shape)
    state = hugging_face_state(ours, kind)
    if shards:
        places: dict[str, str] = {}
        for number in range(shards):
            name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
            part = {key: state[key] for key in sorted(state)[number::shards]}
            save_file(part, folder / name)
            places |= dict.fromkeys(part, name)
        index = {"metadata": {}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(hugging_face_config(shape, kind)))
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    end = END if tokenizer.token_to_id(END) is not None else "</s>"
    begin = END if end == END else "<s>"
    stated = {"bos_token": begin, "eos_token": {"content": end}}
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))
    return ours
