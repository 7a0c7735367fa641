"""GPT-2: pre-layer-norm, learned positions, GELU (tanh form), biases everywhere.

With all blocks alike it computes what ``transformers.GPT2LMHeadModel`` computes (a test copies the
weights over).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from torch import Tensor, nn
from torch.nn import functional

from asrprune.lm.model.anatomy import Anatomy, Architecture, Block, Coupling, Rotation
from asrprune.lm.model.attention import Attention, KeyValue
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


class Gpt2Block(Block):
    """``x + attn(norm(x))``, then ``x + ffn(norm(x))``."""

    anatomy = ANATOMY

    def __init__(self, model: ModelShape, shape: BlockShape, details: Gpt2Details) -> None:
        super().__init__()
        self.norm_attn = layer_norm(model.d_model, details)
        self.attn = Attention(model.d_model, model.head_dim, shape, model.dropout)
        self.norm_ffn = layer_norm(model.d_model, details)
        self.ffn = FeedForward(model.d_model, shape)
        self.drop = nn.Dropout(model.dropout)

    def forward(
        self,
        x: Tensor,
        mask: Optional[Tensor],
        past: Optional[KeyValue],
        keys: Optional[Tensor],
        rotation: Optional[Rotation],
    ) -> tuple[Tensor, KeyValue]:
        attended, present = self.attn(self.norm_attn(x), mask, past, keys)
        x = x + self.drop(attended)
        return x + self.drop(self.ffn(self.norm_ffn(x))), present


def layer_norm(width: int, details: Gpt2Details) -> nn.LayerNorm:
    """A layer norm over the residual stream."""
    return nn.LayerNorm(width, eps=details.norm_eps)


GPT2 = Architecture(
    "layer norm, learned positions, GELU, biases",
    ANATOMY,
    Gpt2Details,
    Gpt2Block,
    layer_norm,
    ffn=lambda d_model: 4 * d_model,
)
