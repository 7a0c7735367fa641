"""The LM as ONNX graphs over rows of tokens: logits, with and without a cache, sentence scores,
and one token of a stream at a time.

Standard operators of opset 20 alone (ONNX Runtime 1.17 and later). A tied table is stored once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from asrprune.exchange.exporters.rows import RowsWriter
from asrprune.lm.model.attention import Attention
from asrprune.lm.model.transformer import TransformerLM

if TYPE_CHECKING:
    import onnx

_END = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Marks:
    """Ids of ``<s>`` and ``</s>``."""

    begin: int
    end: int


class CacheNames(NamedTuple):
    """A block's keys and values, before a call and after it, each [N, G, S, K]."""

    past_key: str
    past_value: str
    key: str
    value: str


def cache_names(model: TransformerLM) -> dict[int, CacheNames]:
    """Number of a block -> names of its inputs and outputs; one without heads keeps nothing."""
    return {
        index: CacheNames(*(f"{part}.{index}" for part in CacheNames._fields))
        for index, block in enumerate(model.layers())
        if block.attn.heads
    }


def state_width(model: TransformerLM) -> int:
    """Width of the keys, or values, of all blocks together: what a token adds to a state."""
    return sum(block.attn.kv_heads * block.attn.head_dim for block in model.layers())


def logits_graph(model: TransformerLM, numbers: str) -> onnx.ModelProto:
    """``tokens`` [N, T] int64 to ``logits`` [N, T, V]. Token 0 of a row is ``<s>``."""
    with torch.no_grad():
        writer = RowsWriter(model, numbers)
        shape = writer.op("Shape", "tokens")  # [2]
        columns = writer.counting(writer.item(shape, 1))  # [T]
        writer.causal(columns)
        positions = writer.op("Expand", columns, shape)
        _put_logits(writer, shape, positions)
        return writer.made({"tokens": ("N", "T")}, {"logits": ("N", "T", writer.vocab_size)})


def _put_logits(writer: RowsWriter, shape: str, positions: str) -> None:
    """The output ``logits`` of the input ``tokens`` of this shape at these positions [N, T]."""
    logits = writer.logits(writer.hidden("tokens", shape, positions))  # [N*T, V]
    size = writer.op("Concat", shape, writer.ints(writer.vocab_size), axis=0)
    writer.op("Reshape", logits, size, name="logits")


def cache_graph(model: TransformerLM, numbers: str) -> onnx.ModelProto:
    """``logits_graph`` with keys and values: of the tokens before (in), of all (out).

    ``past_lens`` [N] int64: how many of the S tokens before count, the last ones of each row: rows
    of different lengths are padded on the left.
    """
    names = cache_names(model)
    with torch.no_grad():
        writer = RowsWriter(model, numbers)
        shape = writer.op("Shape", "tokens")
        columns = writer.counting(writer.item(shape, 1))  # [T]
        lengths = writer.op("Unsqueeze", "past_lens", writer.ints(1))  # [N, 1]
        positions = writer.op("Add", columns, lengths)  # [N, T]
        inputs: dict[str, tuple[Any, ...]] = {"tokens": ("N", "T"), "past_lens": ("N",)}
        outputs: dict[str, tuple[Any, ...]] = {"logits": ("N", "T", writer.vocab_size)}
        if names:
            first = next(iter(names.values()))
            before = writer.item(writer.op("Shape", first.past_key), 2)
            writer.causal(columns, before, lengths)

        def joined(name: str, attn: Attention, key: str, value: str) -> tuple[str, str]:
            kept = names[int(name.rpartition(".")[2])]
            made = []
            for part, past, present in (
                (key, kept.past_key, kept.key),
                (value, kept.past_value, kept.value),
            ):
                inputs[past] = ("N", attn.kv_heads, "S", attn.head_dim)
                outputs[present] = ("N", attn.kv_heads, "S+T", attn.head_dim)
                part = writer.by_head(part, attn.kv_heads, attn)  # [N, G, T, K]
                made.append(writer.op("Concat", past, part, axis=2, name=present))
            return made[0], made[1]

        writer.joined = joined
        _put_logits(writer, shape, positions)
        return writer.made(inputs, outputs)


def nll_graph(
    model: TransformerLM, numbers: str, marks: Marks, inputs: Sequence[str] = ("tokens", "lengths")
) -> onnx.ModelProto:
    """Tokens [N, L] without ``<s>`` and ``</s>``, filled up on the right with any ids, and lengths
    [N] to ``nll`` [N]: -ln P(tokens, </s> | <s>) in float32, summed in float64.

    Infinity for a sentence that is longer than the LM's positions: it never wins. L may be 0.
    """
    tokens, lengths = inputs
    with torch.no_grad():
        writer = RowsWriter(model, numbers)
        n_rows = writer.op("Shape", lengths)  # [1]
        mark = writer.op("Concat", n_rows, writer.ints(1), axis=0)
        begin = writer.op("Expand", writer.whole(marks.begin), mark)  # [N, 1]
        given = writer.op("Concat", begin, tokens, axis=1)  # [N, L+1]
        wanted = writer.op("Concat", tokens, begin, axis=1)
        shape = writer.op("Shape", given)
        columns = writer.counting(writer.item(shape, 1))  # [L+1]
        length = writer.op("Unsqueeze", lengths, writer.ints(1))  # [N, 1]
        before_end = writer.op("Less", columns, length)
        wanted = writer.op("Where", before_end, wanted, writer.whole(marks.end))
        writer.causal(columns)
        limit = writer.whole(model.max_positions - 1)
        positions = writer.op("Expand", writer.op("Min", columns, limit), shape)
        hidden = writer.hidden(given, shape, positions)
        counted = writer.flat(writer.op("LessOrEqual", columns, length))  # [N*(L+1)]
        places = writer.op("Transpose", writer.op("NonZero", counted), perm=[1, 0])  # [P, 1]
        index = writer.op("Squeeze", places, writer.ints(1))
        scores = writer.log_probs(
            writer.op("Gather", hidden, index, axis=0),
            writer.op("Gather", writer.flat(wanted), index, axis=0),
        )  # [P]
        none = writer.op("ConstantOfShape", writer.op("Shape", counted), value=writer.zero_double())
        every = writer.op("ScatterND", none, places, writer.op("Cast", scores, to=11))
        total = writer.op(
            "ReduceSum", writer.op("Reshape", every, shape), writer.ints(1), keepdims=0
        )
        total = writer.op("Cast", writer.op("Neg", total), to=1)  # [N]
        fits = writer.op("LessOrEqual", lengths, limit)
        writer.op("Where", fits, total, writer.number(float("inf")), name="nll")
        return writer.made({tokens: ("N", "L"), lengths: ("N",)}, {"nll": ("N",)})


def streaming_graph(model: TransformerLM, numbers: str) -> onnx.ModelProto:
    """One token of one stream: ``x`` [1, 1], ``h0`` and ``c0`` [1, 1+t, W] to ``log_softmax``
    [1, V], ``next_h0`` and ``next_c0`` [1, 2+t, W].

    h0 holds the keys and c0 the values of the t tokens before, all blocks side by side, so that W
    is what pruning left (``state_width``); their first entry is the zeros that a stream starts
    with, and nothing attends to it. Beyond the LM's positions every token gets -ln V, and the
    states stay.
    """
    widths = [block.attn.kv_heads * block.attn.head_dim for block in model.layers()]
    starts = np.cumsum([0, *widths]).tolist()
    width = starts[-1]
    with torch.no_grad():
        writer = RowsWriter(model, numbers)
        before = writer.op("Sub", writer.item(writer.op("Shape", "h0"), 1), writer.whole(1))
        limit = writer.whole(model.max_positions)
        over = writer.op("GreaterOrEqual", before, limit)
        last = writer.whole(model.max_positions - 1)
        position = writer.op("Reshape", writer.op("Min", before, last), writer.ints(1, 1))
        new: dict[str, list[str]] = {"h0": [], "c0": []}

        def joined(name: str, attn: Attention, key: str, value: str) -> tuple[str, str]:
            start = starts[int(name.rpartition(".")[2])]
            kept = attn.kv_heads * attn.head_dim
            found = []
            for state, part in (("h0", key), ("c0", value)):
                part = writer.op("Reshape", part, writer.ints(1, 1, kept))
                new[state].append(part)
                bounds = writer.ints(1, start), writer.ints(_END, start + kept)
                past = writer.op("Slice", state, *bounds, writer.ints(1, 2))  # [1, t, G*K]
                every = writer.op("Concat", past, part, axis=1)
                split = writer.ints(1, -1, attn.kv_heads, attn.head_dim)
                every = writer.op("Reshape", every, split)  # [1, t+1, G, K]
                found.append(writer.op("Transpose", every, perm=[0, 2, 1, 3]))
            return found[0], found[1]

        writer.joined = joined
        hidden = writer.hidden("x", writer.op("Shape", "x"), position)
        log_probs = writer.op("LogSoftmax", writer.logits(hidden), axis=-1)
        even = writer.number(-float(np.log(writer.vocab_size)))
        writer.op("Where", over, even, log_probs, name="log_softmax")
        for state, parts in new.items():
            grown = writer.op("Concat", state, writer.op("Concat", *parts, axis=2), axis=1)
            most = writer.ints(model.max_positions + 1)
            bounds = writer.ints(0), most, writer.ints(1)
            writer.op("Slice", grown, *bounds, name=f"next_{state}")
        return writer.made(
            {"x": (1, 1), "h0": (1, "S", width), "c0": (1, "S", width)},
            {
                "log_softmax": (1, writer.vocab_size),
                "next_h0": (1, "S+1", width),
                "next_c0": (1, "S+1", width),
            },
        )
