"""GPT-2: pre-layer-norm, learned positions, GELU (tanh form), biases everywhere.

With all blocks alike it computes what ``transformers.GPT2LMHeadModel`` computes (a test copies the
weights over).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from asrprune.lm.model.anatomy import Anatomy, Architecture, Block, Coupling
from asrprune.lm.model.attention import Attention
from asrprune.lm.model.matrices import fresh_matrix
from asrprune.lm.model.shapes import BlockShape, ModelShape

ANATOMY = Anatomy(
    attention=Coupling(("attn.q", "attn.k", "attn.v"), "attn.o", "attn.v", heads=True),
    ffn=Coupling(("ffn.up",), "ffn.down", "ffn.up", heads=False),
    readers={"norm_attn": ("attn.q", "attn.k", "attn.v"), "norm_ffn": ("ffn.up",)},
    norm="layer",
    positions="learned",
    activation="gelu-tanh",
)


@dataclass(frozen=True)
class Gpt2Details:
    """``norm_eps``: added to the variance in layer norms."""

    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps is {self.norm_eps}; expected > 0")


class FeedForward(nn.Module):
    """``down(gelu(up(x)))``; the width may be 0 (then only the output bias remains)."""

    def __init__(self, d_model: int, shape: BlockShape) -> None:
        super().__init__()
        self.up = fresh_matrix(d_model, shape.ffn, shape.linear("ffn.up"), bias=True)
        self.down = fresh_matrix(shape.ffn, d_model, shape.linear("ffn.down"), bias=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(functional.gelu(self.up(x), approximate="tanh"))
        return out


def block(model: ModelShape, shape: BlockShape, details: Gpt2Details) -> Block:
    """A block with drawn weights."""
    attn = Attention(model.d_model, model.head_dim, shape, model.dropout)
    norms = layer_norm(model.d_model, details), layer_norm(model.d_model, details)
    return Block(ANATOMY, attn, FeedForward(model.d_model, shape), norms, model.dropout)


def layer_norm(width: int, details: Gpt2Details) -> nn.LayerNorm:
    """A layer norm over the residual stream."""
    return nn.LayerNorm(width, eps=details.norm_eps)


GPT2 = Architecture(
    "layer norm, learned positions, GELU, biases",
    ANATOMY,
    Gpt2Details,
    block,
    layer_norm,
    ffn=lambda d_model: 4 * d_model,
)
