"""Every architecture against the model of the ``transformers`` package, with copied weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM

V, D, LAYERS, HEADS, FFN, POSITIONS = 29, 16, 3, 4, 24, 12


def drawn(shape: ModelShape) -> TransformerLM:
    torch.manual_seed(0)
    lm = TransformerLM(shape).eval()
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            parameter.normal_(std=0.3)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1.0)
    return lm


def gpt2(transformers: Any, ours: TransformerLM) -> tuple[Any, dict[str, Tensor]]:
    config = transformers.GPT2Config(
        vocab_size=V,
        n_positions=POSITIONS,
        n_embd=D,
        n_layer=LAYERS,
        n_head=HEADS,
        n_inner=FFN,
        activation_function="gelu_new",
        attn_implementation="eager",
    )
    state: dict[str, Any] = {
        "transformer.wte.weight": ours.embedding.weight,
        "transformer.wpe.weight": ours.positions,
        "transformer.ln_f.weight": ours.norm.weight,
        "transformer.ln_f.bias": ours.norm.bias,
        "lm_head.weight": ours.embedding.output_weight,
    }
    for index, block in enumerate(ours.layers()):
        into = f"transformer.h.{index}."
        qkv = [block.linear(f"attn.{name}") for name in "qkv"]
        state[into + "attn.c_attn.weight"] = torch.cat([linear.product() for linear in qkv]).T
        state[into + "attn.c_attn.bias"] = torch.cat([linear.bias for linear in qkv])
        names = {"attn.c_proj": "attn.o", "mlp.c_fc": "ffn.up", "mlp.c_proj": "ffn.down"}
        for theirs, mine in names.items():
            state[f"{into}{theirs}.weight"] = block.linear(mine).product().T
            state[f"{into}{theirs}.bias"] = block.linear(mine).bias
        for theirs, mine in {"ln_1": "norm_attn", "ln_2": "norm_ffn"}.items():
            for key, value in block.get_submodule(mine).state_dict().items():
                state[f"{into}{theirs}.{key}"] = value
    return transformers.GPT2LMHeadModel(config), state


def llama(transformers: Any, ours: TransformerLM) -> tuple[Any, dict[str, Tensor]]:
    shape = ours.shape
    qwen2 = bool(shape.details.get("qkv_bias"))
    kind = "Qwen2" if qwen2 else "Llama"
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=FFN,
        num_hidden_layers=LAYERS,
        num_attention_heads=shape.blocks[0].heads,
        num_key_value_heads=shape.blocks[0].kv_heads,
        max_position_embeddings=POSITIONS,
        rms_norm_eps=shape.details.get("norm_eps", 1e-5),
        rope_parameters={
            "rope_type": "default",
            "rope_theta": shape.details.get("rope_theta", 10000.0),
        },
        tie_word_embeddings=shape.tied,
        attn_implementation="eager",
    )
    state: dict[str, Any] = {
        "model.embed_tokens.weight": ours.embedding.weight,
        "model.norm.weight": ours.norm.weight,
        "lm_head.weight": ours.embedding.output_weight,
    }
    names = {f"self_attn.{one}_proj": f"attn.{one}" for one in "qkvo"}
    names |= {f"mlp.{one}_proj": f"ffn.{one}" for one in ("gate", "up", "down")}
    norms = {"input_layernorm": "norm_attn", "post_attention_layernorm": "norm_ffn"}
    for index, block in enumerate(ours.layers()):
        into = f"model.layers.{index}."
        for theirs, mine in names.items():
            linear = block.linear(mine)
            state[f"{into}{theirs}.weight"] = linear.product()
            if linear.bias is not None:
                state[f"{into}{theirs}.bias"] = linear.bias
        for theirs, mine in norms.items():
            state[f"{into}{theirs}.weight"] = block.get_submodule(mine).weight
    return getattr(transformers, f"{kind}ForCausalLM")(config), state


SIZES = (V, D, LAYERS, HEADS, FFN, POSITIONS)
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "gpt2": (gpt2, {}),
    "llama": (llama, {"architecture": "llama"}),
    "llama, 2 key and value heads": (llama, {"architecture": "llama", "kv_heads": 2}),
    "llama, one key and value head, not tied": (
        llama,
        {"architecture": "llama", "kv_heads": 1, "tied": False, "details": {"rope_theta": 500.0}},
    ),
    "qwen2": (
        llama,
        {"architecture": "llama", "kv_heads": 2, "details": {"qkv_bias": True, "norm_eps": 1e-6}},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_same_logits_as_transformers(case: str) -> None:
    transformers = pytest.importorskip("transformers")
    make, settings = CASES[case]
    ours = drawn(ModelShape.uniform(*SIZES, **settings))
    theirs, state = make(transformers, ours)
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert not unexpected
    assert [key for key in missing if not key.endswith((".attn.bias", "masked_bias"))] == []
    theirs = theirs.eval()
    tokens = torch.randint(0, V, (3, POSITIONS), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = ours.logits(ours(tokens)[0])
        torch.testing.assert_close(logits, theirs(tokens).logits, rtol=1e-5, atol=1e-5)
    assert logits.std() > 0.2  # the comparison is not of zeros
