"""A graph as a file: checked through ONNX Runtime, with what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from asrprune import __version__
from asrprune.errors import InputError
from asrprune.exchange.exporters.check import Check, sentences_for
from asrprune.exchange.exporters.exporter import Request, Written
from asrprune.exchange.exporters.graphs import Marks
from asrprune.exchange.exporters.numbers import INT8, rounded
from asrprune.files import PathLike, sha256, write_binary
from asrprune.lm.engines.onnx_runtime.session import import_onnxruntime, open_session

if TYPE_CHECKING:
    import onnx

LARGEST = 2**31 - 1
"""Bytes of a protocol buffer."""


def marks_of(request: Request) -> Marks:
    """The sentence marks of the LM."""
    return Marks(request.tokenizer.begin, request.tokenizer.end)


def whole_marks_of(request: Request, tail: bool) -> Marks:
    """The same where the graph puts them around a sentence by itself. Raises InputError for an LM
    whose sentences have more around them: a prompt, or, unless ``tail``, what stands before the
    end (a full stop), which comes with the tokens or not at all."""
    found = "a prompt before" if request.tokenizer.prompt else ""
    if request.tokenizer.tail and not tail:
        found = "a full stop or newline behind"
    if found:
        expected = f"marks alone (import it without, or --form other than {request.form})"
        raise InputError(request.lm, None, f"an LM with {found} every sentence", expected)
    return marks_of(request)


def facts_of(request: Request) -> dict[str, Any]:
    """What every exported file says of itself."""
    tokenizer = request.tokenizer
    return {
        "asrprune": __version__,
        "form": request.form,
        "dtype": request.numbers,
        "lm_digest": request.lm_digest,
        "tokenizer_sha256": sha256(request.tokenizer_path),
        "vocab_size": tokenizer.vocab_size,
        "sos_id": tokenizer.begin,
        "eos_id": tokenizer.end,
        "unk_id": tokenizer.unknown,
        "max_positions": request.model.max_positions,
        "verified": "yes" if request.verify else "no",
    }


def write_graph(
    request: Request,
    graph: onnx.ModelProto,
    check: Check,
    facts: Mapping[str, Any],
    out: PathLike,
) -> Written:
    """Check the graph, then write it; ``facts`` become its metadata.

    Raises InputError where its scores are not those of the LM, and for one too large for a file.
    """
    import onnx

    size = graph.ByteSize()
    if size > LARGEST:
        found = f"weights of {size} bytes in one file"
        raise InputError(request.lm, None, found, f"at most {LARGEST}, as ONNX holds in one")
    onnx.helper.set_model_props(graph, {name: str(value) for name, value in facts.items()})
    data = graph.SerializeToString(deterministic=True)
    written = Written(len(data), "")
    if request.verify:
        written = _verified(request, data, check)
    with write_binary(out) as stream:
        stream.write(data)
    return written


def _verified(request: Request, data: bytes, check: Check) -> Written:
    """What the check found. Raises InputError where the scores differ."""
    marks = marks_of(request)
    model = request.model.float()
    sentences = sentences_for(model, marks)
    exact = rounded(model) if request.numbers == INT8 else model
    found = check(open_session(data, 1, exact=True), exact, sentences, marks)
    if found.worst_share > 1:
        problem = f"an LM whose scores are {found.largest:.3g} nats off in the exported file"
        raise InputError(request.lm, None, problem, "the same scores (a defect of the exporter)")
    runtime = f"onnxruntime {import_onnxruntime().__version__}"
    verified = f"{runtime}: {found.scores} scores, largest difference {found.largest:.2g} nats"
    notes: tuple[str, ...] = ()
    if request.numbers == INT8:
        lost = check(open_session(data, 1), model, sentences, marks)
        notes = (f"int8 moves a score by {lost.largest:.2g} nats at most of {lost.scores}",)
    return Written(len(data), verified, found.largest, notes)
