"""LMs pruned by asrprune for transformers: blocks that differ, heads shared unevenly, low rank.

transformers loads this file with the weights beside it, on request (``trust_remote_code=True``). It
needs torch and transformers alone. The config's ``shape`` states every block and matrix.
"""

from __future__ import annotations

from typing import Any, Optional, Union

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast


class AsrpruneConfig(PretrainedConfig):  # type: ignore[misc, no-any-unimported]
    """``shape``: sizes of the model, of each block and matrix, and its architecture's settings."""

    model_type = "asrprune"

    def __init__(
        self, shape: Optional[dict[str, Any]] = None, use_cache: bool = True, **others: Any
    ) -> None:
        super().__init__(**others)
        self.shape = shape or {}
        self.use_cache = use_cache


class Dense(nn.Module):
    """``x W^T + b``."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


class LowRank(nn.Module):
    """``x (A B)^T + b``."""

    def __init__(self, inputs: int, outputs: int, rank: int, bias: bool) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.empty(outputs, rank))
        self.B = nn.Parameter(torch.empty(rank, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(functional.linear(x, self.B), self.A, self.bias)


class Pivoted(nn.Module):
    """``rank`` rows B of the matrix; the others are combinations C of them."""

    order: Tensor

    def __init__(self, inputs: int, outputs: int, rank: int, bias: bool) -> None:
        super().__init__()
        self.B = nn.Parameter(torch.empty(rank, inputs))
        self.C = nn.Parameter(torch.empty(outputs - rank, rank))
        self.register_buffer("order", torch.arange(outputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.linear(x, self.B)
        made = torch.cat([inner, functional.linear(inner, self.C)], dim=-1)[..., self.order]
        return made if self.bias is None else made + self.bias


def matrix(block: dict[str, Any], name: str, inputs: int, outputs: int, bias: bool) -> nn.Module:
    """The matrix in the form that the block's shape states, dense where it states none."""
    form = block["linears"].get(name)
    if form is None or form["kind"] == "dense":
        return Dense(inputs, outputs, bias)
    made = {"low_rank": LowRank, "pivoted": Pivoted}[form["kind"]]
    return made(inputs, outputs, form["rank"], bias)


class Attention(nn.Module):
    """Keys and values go into the cache as they are used, turned already."""

    def __init__(self, shape: dict[str, Any], block: dict[str, Any], index: int) -> None:
        super().__init__()
        self.index, self.heads, self.head_dim = index, block["heads"], shape["head_dim"]
        groups = block["groups"]
        self.groups = [1] * self.heads if groups is None else list(groups)
        gpt2, width = shape["architecture"] == "gpt2", shape["d_model"]
        bias = gpt2 or shape["details"]["qkv_bias"]
        queries, kept = self.heads * self.head_dim, len(self.groups) * self.head_dim
        self.q = matrix(block, "attn.q", width, queries, bias)
        self.k = matrix(block, "attn.k", width, kept, bias)
        self.v = matrix(block, "attn.v", width, kept, bias)
        self.o = matrix(block, "attn.o", queries, width, gpt2)

    def forward(
        self, x: Tensor, mask: Tensor, rotation: Optional[tuple[Tensor, Tensor]], cache: Any
    ) -> Tensor:
        if self.heads == 0:
            if cache is not None:  # which counts its tokens by what its blocks hold
                held = x.new_zeros(x.shape[0], 1, x.shape[1], 1)
                cache.update(held, held, self.index)
            alone: Tensor = self.o(x[..., :0])
            return alone
        query = self._split(self.q(x), self.heads)  # [B, H, T, K]
        key = self._split(self.k(x), len(self.groups))  # [B, G, T, K]
        value = self._split(self.v(x), len(self.groups))
        if rotation is not None:
            query, key = turned(query, *rotation), turned(key, *rotation)
        if cache is not None:
            key, value = cache.update(key, value, self.index)  # [B, G, S, K]
        counts = torch.tensor(self.groups, dtype=torch.long, device=x.device)
        key, value = (
            part.repeat_interleave(counts, dim=1, output_size=self.heads) for part in (key, value)
        )
        context = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out: Tensor = self.o(context.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.view(*x.shape[:-1], heads, self.head_dim).transpose(1, 2)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The pairs (i, i + K/2) of ``x`` [B, H, T, K] turned by their positions' angles."""
    first, second = x.chunk(2, dim=-1)
    crossed = torch.cat([-second, first], dim=-1)
    return x * cos[:, None].to(x.dtype) + crossed * sin[:, None].to(x.dtype)


class FeedForward(nn.Module):
    """GPT-2's with GELU, or Llama's with a gate."""

    def __init__(self, shape: dict[str, Any], block: dict[str, Any]) -> None:
        super().__init__()
        gpt2, width, inner = shape["architecture"] == "gpt2", shape["d_model"], block["ffn"]
        self.gate = None if gpt2 else matrix(block, "ffn.gate", width, inner, False)
        self.up = matrix(block, "ffn.up", width, inner, gpt2)
        self.down = matrix(block, "ffn.down", inner, width, gpt2)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            inner = functional.gelu(self.up(x), approximate="tanh")
        else:
            inner = functional.silu(self.gate(x)) * self.up(x)
        out: Tensor = self.down(inner)
        return out


def norm(shape: dict[str, Any]) -> nn.Module:
    """Of the residual stream."""
    width, eps = shape["d_model"], shape["details"]["norm_eps"]
    gpt2 = shape["architecture"] == "gpt2"
    return nn.LayerNorm(width, eps=eps) if gpt2 else nn.RMSNorm(width, eps=eps)


class Block(nn.Module):
    """``x + attn(norm(x))``, then ``x + ffn(norm(x))``."""

    def __init__(self, shape: dict[str, Any], index: int) -> None:
        super().__init__()
        block = shape["blocks"][index]
        self.norm_attn, self.norm_ffn = norm(shape), norm(shape)
        self.attn = Attention(shape, block, index)
        self.ffn = FeedForward(shape, block)

    def forward(
        self, x: Tensor, mask: Tensor, rotation: Optional[tuple[Tensor, Tensor]], cache: Any
    ) -> Tensor:
        x = x + self.attn(self.norm_attn(x), mask, rotation, cache)
        out: Tensor = x + self.ffn(self.norm_ffn(x))
        return out


class Embedding(nn.Module):
    """One table for input and output (tied), whole or of low rank, or one each."""

    def __init__(self, shape: dict[str, Any]) -> None:
        super().__init__()
        size, width, rank = shape["vocab_size"], shape["d_model"], shape["embedding_rank"]
        self.weight = nn.Parameter(torch.empty(size, width if rank is None else rank))
        self.projection = None if rank is None else nn.Parameter(torch.empty(rank, width))
        self.output = None if shape["tied"] else nn.Parameter(torch.empty(size, width))

    def forward(self, tokens: Tensor) -> Tensor:
        vectors = functional.embedding(tokens, self.weight)
        return vectors if self.projection is None else vectors @ self.projection

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] to [..., V]."""
        if self.projection is not None:
            hidden = functional.linear(hidden, self.projection)
        return functional.linear(hidden, self.weight if self.output is None else self.output)


class AsrpruneForCausalLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc, no-any-unimported]
    """The LM: put ``bos_token_id`` before the tokens of a sentence."""

    config_class = AsrpruneConfig
    main_input_name = "input_ids"
    _no_split_modules = ["Block"]  # noqa: RUF012  # as transformers reads it

    def __init__(self, config: AsrpruneConfig) -> None:
        super().__init__(config)
        shape = config.shape
        self.embedding = Embedding(shape)
        self.positions: Optional[nn.Parameter] = None
        if shape["architecture"] == "gpt2":
            size = shape["max_positions"], shape["d_model"]
            self.positions = nn.Parameter(torch.empty(size))
        self.blocks = nn.ModuleList(Block(shape, index) for index in range(len(shape["blocks"])))
        self.norm = norm(shape)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """What turns ids into vectors."""
        return self.embedding

    def _init_weights(self, module: nn.Module) -> None:
        """Every weight is in the file."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Optional[Tensor] = None,
        position_ids: Optional[Tensor] = None,
        past_key_values: Any = None,
        use_cache: Optional[bool] = None,
        labels: Optional[Tensor] = None,
        logits_to_keep: Union[int, Tensor] = 0,
        **others: Any,
    ) -> Any:
        """``input_ids`` [B, T] to logits [B, T, V]; ``attention_mask`` [B, S] is 0 at padding."""
        if self.config.use_cache if use_cache is None else use_cache:
            past_key_values = DynamicCache() if past_key_values is None else past_key_values
        rows, length = input_ids.shape
        before = 0 if past_key_values is None else int(past_key_values.get_seq_length())
        columns = torch.arange(before + length, device=input_ids.device)
        query = columns[before:, None]
        mask = (columns <= query)[None, None]  # [1, 1, T, S]
        if attention_mask is not None:
            real = attention_mask[:, None, None, : before + length].bool()
            mask = (mask & real) | (columns == query)  # padding attends to itself, not to nothing
        if position_ids is None:
            position_ids = columns[before:].expand(rows, length)
            if attention_mask is not None:
                counted = attention_mask.long().cumsum(-1) - 1
                position_ids = counted.clamp(min=0)[:, before : before + length]
        x, rotation = self.embedding(input_ids), None
        if self.positions is not None:
            x = x + functional.embedding(position_ids, self.positions)
        else:
            rotation = self._rotation(position_ids)
        for block in self.blocks:
            x = block(x, mask, rotation, past_key_values)
        hidden = self.norm(x)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.embedding.logits(hidden[:, kept])
        loss = None
        if labels is not None:
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)

    def _rotation(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [B, T, K] of the positions' angles, in float32."""
        shape = self.config.shape
        width, base = shape["head_dim"], shape["details"]["rope_theta"]
        powers = torch.arange(0, width, 2, device=positions.device).float() / width
        angles = positions[..., None].float() * (1.0 / base**powers)
        both = torch.cat([angles, angles], dim=-1)
        return both.cos(), both.sin()
