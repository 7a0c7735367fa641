"""torch.export: a program that torch runs without asrprune, for its compilers and C++ runtimes.

``torch.export.load(FILE).module()(tokens)``: tokens [N, T] int64, ``<s>`` first, to logits
[N, T, V]; N and T are free. What the file says of itself stands in it as ``asrprune.json``.
"""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asrprune.errors import InputError
from asrprune.exchange.exporters.check import Difference, log_probs, sentences_for
from asrprune.exchange.exporters.exporter import Exporter, Request, Written
from asrprune.exchange.exporters.numbers import FLOAT32
from asrprune.exchange.exporters.onnx_file import facts_of, marks_of
from asrprune.files import PathLike, write_binary
from asrprune.lm.model.transformer import TransformerLM

FACTS = "asrprune.json"
_EXAMPLE = (3, 7)  # more than one each, or the tracer takes the size for a constant


class _Logits(nn.Module):
    """Tokens to logits."""

    def __init__(self, lm: TransformerLM) -> None:
        super().__init__()
        self.lm = lm

    def forward(self, tokens: Tensor) -> Tensor:
        return self.lm.logits(self.lm(tokens)[0])


def _write(request: Request, out: PathLike) -> Written:
    model = request.model.float()
    longest = model.max_positions
    if longest < 2:
        found = "an LM with a position for <s> alone"
        raise InputError(request.lm, None, found, "positions for a token too")
    rows, length = _EXAMPLE
    example = torch.zeros(rows, min(length, longest), dtype=torch.long)
    dims = {0: torch.export.Dim("N"), 1: torch.export.Dim("T", max=longest)}
    program = torch.export.export(
        _Logits(model).eval(), (example,), dynamic_shapes={"tokens": dims}
    )
    data = io.BytesIO()
    torch.export.save(program, data, extra_files={FACTS: json.dumps(facts_of(request))})
    written = Written(len(data.getvalue()), "")
    if request.verify:
        written = _verified(request, data)
    with write_binary(out) as stream:
        stream.write(data.getvalue())
    return written


def _verified(request: Request, data: io.BytesIO) -> Written:
    """What the loaded program computes. Raises InputError where the scores differ."""
    data.seek(0)
    loaded: Any = torch.export.load(data).module()
    marks, found = marks_of(request), Difference()
    with torch.inference_mode():
        for sentence in sentences_for(request.model, marks):
            logits = loaded(torch.tensor([[marks.begin, *sentence]]))[0]
            expected = log_probs(request.model, sentence, marks.begin)
            found += Difference.of(np.asarray(logits.log_softmax(-1)), expected)
    if found.worst_share > 1:
        problem = f"an LM whose scores are {found.largest:.3g} nats off in the exported file"
        raise InputError(request.lm, None, problem, "the same scores (a defect of the exporter)")
    runtime = f"torch {torch.__version__}"
    verified = f"{runtime}: {found.scores} scores, largest difference {found.largest:.2g} nats"
    return Written(len(data.getvalue()), verified, found.largest)


TORCH_EXPORT = Exporter(
    "a program of torch.export, which torch runs without asrprune",
    {"logits": "tokens [N, T] -> logits [N, T, V]"},
    (FLOAT32,),
    _write,
)
