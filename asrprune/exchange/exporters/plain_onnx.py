"""ONNX for any program: token ids to logits, with or without a cache, or to sentence scores."""

from __future__ import annotations

from asrprune.exchange.exporters import graphs
from asrprune.exchange.exporters.check import check_cache, check_logits, check_nll
from asrprune.exchange.exporters.exporter import Exporter, Request, Written
from asrprune.exchange.exporters.numbers import FLOAT32, INT8
from asrprune.exchange.exporters.onnx_file import facts_of, whole_marks_of, write_graph
from asrprune.files import PathLike


def _write(request: Request, out: PathLike) -> Written:
    model, numbers = request.model, request.numbers
    if request.form == "nll":
        graph, check = graphs.nll_graph(model, numbers, whole_marks_of(request, True)), check_nll
    elif request.form == "cache":
        graph, check = graphs.cache_graph(model, numbers), check_cache
    else:
        graph, check = graphs.logits_graph(model, numbers), check_logits
    return write_graph(request, graph, check, facts_of(request), out)


PLAIN_ONNX = Exporter(
    "ONNX of standard operators: logits, logits with a cache, or sentence scores",
    {
        "logits": "tokens [N, T] -> logits [N, T, V]",
        "cache": "the same with keys and values in and out",
        "nll": "tokens [N, L], lengths [N] -> -ln P of the sentences [N]",
    },
    (FLOAT32, INT8),
    _write,
)
