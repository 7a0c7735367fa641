"""torch.export: a program that torch runs without asrprune, for its compilers and C++ runtimes.

``torch.export.load(FILE).module()(tokens)``: tokens [N, T] int64, ``<s>`` first, to logits
[N, T, V]; N and T are free. What the file says of itself stands in it as ``asrprune.json``.

In the form ``compiled`` it holds that program as AOTInductor compiles it for the processor of this
machine: ``torch._inductor.aoti_load_package(FILE)(tokens)`` in Python, ``AOTIModelPackageLoader``
in C++. What it says of itself are its ``get_metadata()``.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asrprune.errors import InputError
from asrprune.exchange.exporters.check import Difference, log_probs, sentences_for
from asrprune.exchange.exporters.exporter import Exporter, Request, Written
from asrprune.exchange.exporters.numbers import FLOAT32
from asrprune.exchange.exporters.onnx_file import facts_of, marks_of
from asrprune.files import PathLike, passing_folder, write_binary
from asrprune.lm.model.transformer import TransformerLM

FACTS = "asrprune.json"
COMPILED = "compiled"
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
    with passing_folder() as folder, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about its own parts
        program = torch.export.export(
            _Logits(model).eval(), (example,), dynamic_shapes={"tokens": dims}
        )
        made = folder / "lm.pt2"
        if request.form == COMPILED:
            _compile(request, program, made)
        else:
            torch.export.save(program, made, extra_files={FACTS: json.dumps(facts_of(request))})
        written = Written(made.stat().st_size, "")
        if request.verify:
            written = _verified(request, made)
        with open(made, "rb") as source, write_binary(out) as stream:
            shutil.copyfileobj(source, stream, 1 << 20)
    return written


def _compile(request: Request, program: Any, path: Path) -> None:
    """Raises InputError where there is no compiler, or none that works."""
    from torch import _inductor as inductor  # imports for seconds

    if not hasattr(inductor, "aoti_compile_and_package"):
        found = f"torch {torch.__version__} has no AOTInductor packages"
        raise InputError(request.lm, None, found, "torch 2.6 or newer, or --form logits")
    facts = {name: str(value) for name, value in facts_of(request).items()}
    configs = {"aot_inductor.metadata": facts}
    try:
        inductor.aoti_compile_and_package(program, package_path=str(path), inductor_configs=configs)
    except RuntimeError as problem:  # CppCompileError, InvalidCxxCompiler
        found = f"the C++ compiler that torch takes does not work ({problem})"
        raise InputError(
            request.lm, None, found, "one that does ($CXX), or --form logits"
        ) from None


def _loaded(path: Path, form: str) -> Any:
    if form == COMPILED:
        from torch import _inductor as inductor

        return inductor.aoti_load_package(str(path))
    return torch.export.load(path).module()


def _verified(request: Request, path: Path) -> Written:
    """What the loaded program computes. Raises InputError where the scores differ."""
    loaded = _loaded(path, request.form)
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
    notes = ("compiled for the processor of this machine",) if request.form == COMPILED else ()
    return Written(path.stat().st_size, verified, found.largest, notes)


TORCH_EXPORT = Exporter(
    "a program of torch.export, which torch runs without asrprune",
    {
        "logits": "tokens [N, T] -> logits [N, T, V]",
        COMPILED: "the same, compiled by AOTInductor for this processor (needs a C++ compiler)",
    },
    (FLOAT32,),
    _write,
)
