"""A transducer made of constants, offline and streaming, so that only an LM decides what is heard.

Frame t puts out the blank, but for frame ``CHOICES * (i + 1)``, i = 0, 1, ...: there the tokens of
choice i are heard, each with its logit. The files are those of sherpa-onnx's Zipformer (offline)
and LSTM transducers (streaming).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHOICES = 3
"""Frames from one choice to the next."""

CONTEXT, CHUNK = 2, 4
_FLOAT, _INT = TensorProto.FLOAT, TensorProto.INT64
_SILENT, _CERTAIN = -30.0, 30.0


def save_transducer(
    folder: Path, vocab_size: int, choices: Sequence[dict[int, float]], streaming: bool
) -> dict[str, str]:
    """Writes encoder, decoder and joiner; their names as sherpa-onnx's Python takes them."""
    frames = CHOICES * (len(choices) + 2)
    table = np.full((frames, vocab_size), _SILENT, np.float32)
    table[:, 0] = _CERTAIN
    for index, logits in enumerate(choices):
        row = table[CHOICES * (index + 1)]
        row[0] = _SILENT
        for token, logit in logits.items():
            row[token] = logit
    parts = {
        "encoder": _streaming_encoder(table) if streaming else _offline_encoder(table),
        "decoder": _decoder(vocab_size),
        "joiner": _joiner(vocab_size),
    }
    for name, model in parts.items():
        onnx.checker.check_model(model)
        onnx.save(model, str(folder / f"{name}.onnx"))
    return {name: str(folder / f"{name}.onnx") for name in parts}


def _value(name: str, kind: int, *axes: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, list(axes))


def _ints(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _whole(name: str, value: int) -> Any:
    return numpy_helper.from_array(np.array(value, np.int64), name)


def _model(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    weights: Sequence[Any],
    **facts: object,
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "toy", list(inputs), list(outputs), list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    helper.set_model_props(model, {name: str(value) for name, value in facts.items()})
    return model


def _offline_encoder(table: np.ndarray) -> onnx.ModelProto:
    node = helper.make_node
    vocab_size = table.shape[1]
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"]),
        node("Gather", ["shape", "one"], ["t"]),
        node("Range", ["zero", "t", "one"], ["frames"]),
        node("Min", ["frames", "last"], ["inside"]),
        node("Gather", ["table", "inside"], ["rows"]),
        node("Unsqueeze", ["n", "axis"], ["n1"]),
        node("Concat", ["n1", "ones"], ["size"], axis=0),
        node("Unsqueeze", ["rows", "axis"], ["rows1"]),
        node("Expand", ["rows1", "size"], ["encoder_out"]),
        node("Identity", ["x_lens"], ["encoder_out_lens"]),
    ]
    weights = [_whole("zero", 0), _whole("one", 1), _whole("last", len(table) - 1)]
    weights += [_ints("axis", 0), _ints("ones", 1, 1), numpy_helper.from_array(table, "table")]
    inputs = [_value("x", _FLOAT, "N", "T", 80), _value("x_lens", _INT, "N")]
    outputs = [
        _value("encoder_out", _FLOAT, "N", "T", vocab_size),
        _value("encoder_out_lens", _INT, "N"),
    ]
    return _model(nodes, inputs, outputs, weights, model_type="zipformer2", version=1)


def _streaming_encoder(table: np.ndarray) -> onnx.ModelProto:
    """Its state ``h`` counts the frames."""
    node = helper.make_node
    nodes = [
        node("Slice", ["h", "start", "stop", "axes"], ["first"]),
        node("Reshape", ["first", "minus"], ["first1"]),
        node("Cast", ["first1"], ["before"], to=_INT),
        node("Add", ["chunk", "before"], ["frames"]),
        node("Min", ["frames", "last"], ["inside"]),
        node("Gather", ["table", "inside"], ["rows"]),
        node("Unsqueeze", ["rows", "axis"], ["encoder_out"]),
        node("Add", ["h", "step"], ["next_h"]),
        node("Identity", ["c"], ["next_c"]),
    ]
    weights = [_ints("start", 0, 0, 0), _ints("stop", 1, 1, 1), _ints("axes", 0, 1, 2)]
    weights += [_ints("minus", -1), _ints("chunk", *range(CHUNK)), _ints("axis", 0)]
    weights += [_whole("last", len(table) - 1), numpy_helper.from_array(table, "table")]
    weights += [numpy_helper.from_array(np.array(CHUNK, np.float32), "step")]
    states = [_value(name, _FLOAT, 1, 1, 1) for name in ("h", "c")]
    after = [_value(name, _FLOAT, 1, 1, 1) for name in ("next_h", "next_c")]
    return _model(
        nodes,
        [_value("x", _FLOAT, 1, CHUNK, 80), *states],
        [_value("encoder_out", _FLOAT, 1, CHUNK, table.shape[1]), *after],
        weights,
        model_type="lstm",
        version=1,
        model_author="toy",
        num_encoder_layers=1,
        T=CHUNK,
        decode_chunk_len=CHUNK,
        rnn_hidden_size=1,
        d_model=1,
    )


def _decoder(vocab_size: int) -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Shape", ["y"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axis"], ["n1"]),
        node("Concat", ["n1", "width"], ["size"], axis=0),
        node("ConstantOfShape", ["size"], ["decoder_out"]),
    ]
    weights = [_whole("zero", 0), _ints("axis", 0), _ints("width", vocab_size)]
    inputs = [_value("y", _INT, "N", CONTEXT)]
    outputs = [_value("decoder_out", _FLOAT, "N", vocab_size)]
    return _model(
        nodes, inputs, outputs, weights, context_size=CONTEXT, vocab_size=vocab_size, version=1
    )


def _joiner(vocab_size: int) -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["encoder_out", "decoder_out"], ["logit"])]
    inputs = [_value(name, _FLOAT, "N", vocab_size) for name in ("encoder_out", "decoder_out")]
    outputs = [_value("logit", _FLOAT, "N", vocab_size)]
    return _model(nodes, inputs, outputs, [], joiner_dim=vocab_size, version=1)
