"""Llama: RMS norm, rotary positions, SwiGLU, grouped-query attention, no biases.

With all blocks alike it computes what ``transformers.LlamaForCausalLM`` computes, with
``qkv_bias`` what ``transformers.Qwen2ForCausalLM`` does (a test copies the weights over).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from asrprune.lm.model.anatomy import Anatomy, Architecture, Block, Coupling, Rotation
from asrprune.lm.model.attention import Attention, KeyValue
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


class LlamaBlock(Block):
    """``x + attn(norm(x))``, then ``x + ffn(norm(x))``."""

    anatomy = ANATOMY

    def __init__(self, model: ModelShape, shape: BlockShape, details: LlamaDetails) -> None:
        super().__init__()
        if model.head_dim % 2:
            raise ValueError(f"head_dim is {model.head_dim}; rotary positions need an even one")
        self.norm_attn = rms_norm(model.d_model, details)
        biases = details.qkv_bias, False
        self.attn = Attention(model.d_model, model.head_dim, shape, model.dropout, biases)
        self.norm_ffn = rms_norm(model.d_model, details)
        self.ffn = SwiGLU(model.d_model, shape)
        self.drop = nn.Dropout(model.dropout)

    def forward(
        self,
        x: Tensor,
        mask: Optional[Tensor],
        past: Optional[KeyValue],
        keys: Optional[Tensor],
        rotation: Optional[Rotation],
    ) -> tuple[Tensor, KeyValue]:
        attended, present = self.attn(self.norm_attn(x), mask, past, keys, rotation)
        x = x + self.drop(attended)
        return x + self.drop(self.ffn(self.norm_ffn(x))), present


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
    LlamaBlock,
    rms_norm,
    _ffn,
    rotation,
)
