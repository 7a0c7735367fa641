"""sherpa-onnx: the LM of its transducers, which rescores (offline) or is fused (streaming).

Offline, ``modified_beam_search`` asks once, at the end, for -ln P of all hypotheses of all streams:
``x`` [N, L], ``x_lens`` [N] -> ``nll`` [N] float32. Streaming it asks for a token of a hypothesis
at a time and carries two float32 states along, of which it knows nothing but the shape of the first
ones, [num_layers, 1, hidden_size] of zeros: there the keys and values go. They are copied for every
hypothesis and token, so what attention lost to pruning is time won.

The LM's pieces are the transducer's tokens, id by id.

Source: sherpa-onnx/csrc/offline-rnn-lm.cc, online-rnn-lm.cc (1.13.4); tests run 2.0.1.
"""

from __future__ import annotations

from asrprune.errors import InputError
from asrprune.exchange.exporters import graphs
from asrprune.exchange.exporters.check import check_nll, check_streaming
from asrprune.exchange.exporters.exporter import Exporter, Request, Written
from asrprune.exchange.exporters.numbers import FLOAT32, INT8
from asrprune.exchange.exporters.onnx_file import facts_of, whole_marks_of, write_graph
from asrprune.files import PathLike
from asrprune.text.tokens_file import check_tokens


def _write(request: Request, out: PathLike) -> Written:
    model, numbers = request.model, request.numbers
    assert request.tokens is not None  # needs_tokens
    marks = whole_marks_of(request, False)
    check_tokens(request.tokens, request.tokenizer.model)
    facts = {
        **facts_of(request),
        "model_type": model.shape.architecture,
        "version": 1,
        "model_author": "asrprune",
    }
    if request.form == "offline":
        graph = graphs.nll_graph(model, numbers, marks, ("x", "x_lens"))
        return write_graph(request, graph, check_nll, facts, out)
    width = graphs.state_width(model)
    if width == 0:
        found = "an LM without a single attention head"
        raise InputError(request.lm, None, found, "one whose state is not empty (form offline)")
    facts |= {"num_layers": 1, "hidden_size": width}
    graph = graphs.streaming_graph(model, numbers)
    return write_graph(request, graph, check_streaming, facts, out)


SHERPA_ONNX = Exporter(
    "LM of sherpa-onnx's transducers: offline (rescoring) or streaming (fusion)",
    {
        "offline": "x [N, L], x_lens [N] -> nll [N]",
        "streaming": "a token and its states -> ln P of all tokens, and the states after it",
    },
    (FLOAT32, INT8),
    _write,
    needs_tokens=True,
)
