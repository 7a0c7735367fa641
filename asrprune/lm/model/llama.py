"""Llama: RMS norm, rotary positions, SwiGLU, grouped-query attention, no biases.

With all blocks alike it computes what ``transformers.LlamaForCausalLM`` computes, with
``qkv_bias`` what ``transformers.Qwen2ForCausalLM`` does (a test copies the weights over).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from asrprune.lm.model.anatomy import Anatomy, Architecture, Block, Coupling, Rotation
from asrprune.lm.model.attention import Attention
from asrprune.lm.model.matrices import fresh_matrix
from asrprune.lm.model.shapes import BlockShape, ModelShape

ANATOMY = Anatomy(
    attention=Coupling(("attn.q", "attn.k", "attn.v"), "attn.o", "attn.v", heads=True),
    ffn=Coupling(("ffn.gate", "ffn.up"), "ffn.down", "ffn.up", heads=False),
    readers={"norm_attn": ("attn.q", "attn.k", "attn.v"), "norm_ffn": ("ffn.gate", "ffn.up")},
    norm="rms",
    positions="rotary",
    activation="silu-gated",
)


@dataclass(frozen=True)
class LlamaDetails:
    """``rope_theta``: base of the wavelengths of rotary positions. ``norm_eps``: added to the mean
    square in RMS norms. ``qkv_bias``: q, k and v have biases, as in Qwen2."""

    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    qkv_bias: bool = False

    def __post_init__(self) -> None:
        for name in ("rope_theta", "norm_eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected > 0")


class SwiGLU(nn.Module):
    """``down(silu(gate(x)) * up(x))``; the width may be 0 (then it puts out zeros)."""

    def __init__(self, d_model: int, shape: BlockShape) -> None:
        super().__init__()
        self.gate = fresh_matrix(d_model, shape.ffn, shape.linear("ffn.gate"), bias=False)
        self.up = fresh_matrix(d_model, shape.ffn, shape.linear("ffn.up"), bias=False)
        self.down = fresh_matrix(shape.ffn, d_model, shape.linear("ffn.down"), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(functional.silu(self.gate(x)) * self.up(x))
        return out


def block(model: ModelShape, shape: BlockShape, details: LlamaDetails) -> Block:
    """A block with drawn weights. Raises ValueError for heads of odd width."""
    if model.head_dim % 2:
        raise ValueError(f"head_dim is {model.head_dim}; rotary positions need an even one")
    biases = details.qkv_bias, False
    attn = Attention(model.d_model, model.head_dim, shape, model.dropout, biases)
    norms = rms_norm(model.d_model, details), rms_norm(model.d_model, details)
    return Block(ANATOMY, attn, SwiGLU(model.d_model, shape), norms, model.dropout)


def rms_norm(width: int, details: LlamaDetails) -> nn.RMSNorm:
    """``x / rms(x) * weight`` over the residual stream."""
    return nn.RMSNorm(width, eps=details.norm_eps)


def rotation(positions: Tensor, head_dim: int, details: LlamaDetails) -> Rotation:
    """The angles of ``positions`` [B, T] in float32: pair i turns by position / theta^(2i/K)."""
    powers = torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim
    speeds = 1.0 / details.rope_theta**powers  # [K/2]
    angles = positions[..., None].float() * speeds  # [B, T, K/2]
    both = torch.cat([angles, angles], dim=-1)  # [B, T, K]
    return Rotation(both.cos(), both.sin())


def _ffn(d_model: int) -> int:
    """8/3 of the width, to a multiple of 8: three matrices then hold what GPT-2's two do."""
    return -(-8 * d_model // 24) * 8


LLAMA = Architecture(
    "RMS norm, rotary positions, SwiGLU, grouped-query attention; Qwen2 with details.qkv_bias",
    ANATOMY,
    LlamaDetails,
    block,
    rms_norm,
    _ffn,
    rotation,
)
