"""GGUF: a file of llama.cpp and what is built on it.

llama.cpp has dense blocks that are all alike: other shapes are refused by name. The rows of q and k
of a ``llama`` are put into the order in which llama.cpp turns pairs of neighbours; the reader of
these files (``read_gguf``) puts them back. A file is checked three times: its weights are read back
and compared, llama.cpp scores sentences, and it cuts some text, as the LM does; for GPT-2, whose
activations it rounds, as far as such rounding goes. In a number format that llama.cpp computes with
(it rounds the inputs of a product as well), it is a file of the same values in float32 that must
score as they do, and the output says how far the scores of the real one move.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor

from asrprune.errors import InputError, MissingPackage
from asrprune.exchange.exporters.check import Difference, sentences_for
from asrprune.exchange.exporters.exporter import Exporter, Request, Written
from asrprune.exchange.exporters.gguf_vocabulary import (
    NoVocabularyError,
    Vocabulary,
    ids_alone,
    vocabulary_of,
)
from asrprune.exchange.exporters.llama_cpp import LlamaCpp, as_llama_cpp, compare, moved, version
from asrprune.exchange.exporters.numbers import FLOAT32
from asrprune.exchange.exporters.onnx_file import facts_of, marks_of
from asrprune.exchange.exporters.standard import obstacle, without_empty_blocks
from asrprune.exchange.read_gguf import read_gguf_tensors
from asrprune.files import passing_folder, write_binary
from asrprune.files.reading import PathLike
from asrprune.lm.engines.onnx_runtime.writer import Floats, to_numpy
from asrprune.lm.model.architecture import details_of
from asrprune.lm.model.shapes import ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.text.marked import MarkedTokenizer

TYPES: Mapping[str, tuple[str, str]] = {
    FLOAT32: ("F32", "ALL_F32"),
    "float16": ("F16", "MOSTLY_F16"),
    "bfloat16": ("BF16", "MOSTLY_BF16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
    "q4_0": ("Q4_0", "MOSTLY_Q4_0"),
}
"""``--dtype`` -> gguf's name for the type of a matrix, and of a file."""

_BLOCK = 32
"""Inputs of a matrix that are quantised together."""

_TEXTS = 12
"""That are cut for a comparison at most."""

_POSITIONS = 260
"""Of a context that sentences are checked in."""


def pairs_together(weight: Tensor, heads: int) -> Tensor:
    """The rows [H * K, in] of our order, pair i being the rows i and i + K/2 of a head, in
    llama.cpp's, in which a pair stands side by side.

    >>> pairs_together(torch.arange(4.0)[:, None], heads=1).flatten().tolist()
    [0.0, 2.0, 1.0, 3.0]
    """
    halves = weight.view(heads, 2, -1, weight.shape[1])  # [H, 2, K/2, in]
    return halves.transpose(1, 2).reshape(weight.shape)


def kind_of(shape: ModelShape) -> str:
    """llama.cpp's name of the architecture."""
    if shape.architecture == "gpt2":
        return "gpt2"
    return "qwen2" if details_of(shape).qkv_bias else "llama"


def values_of(shape: ModelShape) -> dict[str, Any]:
    """The keys that state the shape."""
    block, details = shape.blocks[0], details_of(shape)
    found: dict[str, Any] = {
        "vocab_size": shape.vocab_size,
        "context_length": shape.max_positions,
        "embedding_length": shape.d_model,
        "block_count": len(shape.blocks),
        "feed_forward_length": block.ffn,
        "attention.head_count": block.heads,
    }
    if shape.architecture == "gpt2":
        found["attention.layer_norm_epsilon"] = float(details.norm_eps)
    else:
        found |= {
            "attention.head_count_kv": block.kv_heads,
            "attention.key_length": shape.head_dim,
            "attention.value_length": shape.head_dim,
            "attention.layer_norm_rms_epsilon": float(details.norm_eps),
            "rope.freq_base": float(details.rope_theta),
            "rope.dimension_count": shape.head_dim,
        }
    kind = kind_of(shape)
    return {f"{kind}.{name}": value for name, value in found.items()}


def tensors_of(model: TransformerLM) -> Iterator[tuple[str, Floats]]:
    """llama.cpp's name -> values, in float32."""
    for name, value in _tensors(model):
        yield name, np.ascontiguousarray(to_numpy(value))


def _tensors(model: TransformerLM) -> Iterator[tuple[str, Tensor]]:
    kind = kind_of(model.shape)
    yield "token_embd.weight", model.embedding.weight
    if model.embedding.output is not None:
        yield "output.weight", model.embedding.output
    if model.positions is not None:
        yield "position_embd.weight", model.positions
    for part, value in model.norm.named_parameters():
        yield f"output_norm.{part}", value
    for index, block in enumerate(model.layers()):
        into = f"blk.{index}"
        for norm in ("attn", "ffn"):
            for part, value in block.get_submodule(f"norm_{norm}").named_parameters():
                yield f"{into}.{norm}_norm.{part}", value
        names = list(block.anatomy.matrices)
        if kind == "gpt2":
            three = [block.linear(names.pop(0)) for _ in "qkv"]
            yield f"{into}.attn_qkv.weight", torch.cat([one.product() for one in three])
            biases: list[Tensor] = [one.bias for one in three if one.bias is not None]
            yield f"{into}.attn_qkv.bias", torch.cat(biases)
        for name in names:
            matrix = block.linear(name)
            weight = matrix.product()
            if kind == "llama" and name in ("attn.q", "attn.k"):
                heads = block.attn.heads if name == "attn.q" else block.attn.kv_heads
                weight = pairs_together(weight, heads)
            theirs = "attn_output" if name == "attn.o" else name.replace(".", "_")
            yield f"{into}.{theirs}.weight", weight
            if matrix.bias is not None:
                yield f"{into}.{theirs}.bias", matrix.bias


def _gguf() -> Any:
    try:
        import gguf
    except ImportError:
        raise MissingPackage("gguf", "exchange") from None
    logging.getLogger("gguf").setLevel(logging.WARNING)  # it says each file's name
    return gguf


def _type_name(name: str, value: Floats, numbers: str) -> str:
    """The type of a tensor: vectors and positions stay as they are, and rows that cannot be cut
    into blocks are half precision."""
    if value.ndim == 1 or name == "position_embd.weight":
        return "F32"
    wanted = TYPES[numbers][0]
    return "F16" if wanted.startswith("Q") and value.shape[1] % _BLOCK else wanted


def write_file(
    request: Request, model: TransformerLM, numbers: str, vocabulary: Vocabulary, path: Path
) -> list[str]:
    """Write the file; the names of the matrices that are stored in half precision for their size.

    Raises InputError for weights that are no numbers in the format.
    """
    gguf = _gguf()
    shape = model.shape
    writer = gguf.GGUFWriter(path, kind_of(shape))
    writer.add_file_type(getattr(gguf.LlamaFileType, TYPES[numbers][1]))
    if TYPES[numbers][0].startswith("Q"):
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, value in facts_of(request).items():
        writer.add_string(f"asrprune.{name}", str(value))
    tokens = {f"tokenizer.ggml.{name}": value for name, value in vocabulary.values.items()}
    for key, value in {**values_of(shape), **tokens}.items():
        _add(writer, key, value)
    in_half = []
    for name, array in tensors_of(model):
        kind = _type_name(name, array, numbers)
        type_ = getattr(gguf.GGMLQuantizationType, kind)
        if kind == "F32":
            writer.add_tensor(name, array)
            continue
        with np.errstate(over="ignore"):
            stored = gguf.quants.quantize(array, type_)
        if not np.isfinite(gguf.quants.dequantize(stored, type_)).all():
            expected = "weights that are numbers in it (--dtype float32)"
            raise InputError(request.lm, None, f"{name} beyond {kind}", expected)
        writer.add_tensor(name, stored, raw_dtype=type_)
        if kind != TYPES[numbers][0]:
            in_half.append(name)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return in_half


def _add(writer: Any, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _write(request: Request, out: PathLike) -> Written:
    request = replace(request, model=without_empty_blocks(request.model))
    shape = request.model.shape
    problem = obstacle(shape) or _obstacle(shape)
    if problem is not None:
        expected = "dense blocks, all alike: llama.cpp has no other (--to onnx takes every shape)"
        raise InputError(request.lm, None, problem, expected)
    if request.verify:
        version()  # before the work
    vocabulary, model = _vocabulary(request), request.model.float()
    with passing_folder() as folder:
        made = folder / "lm.gguf"
        in_half = write_file(request, model, request.numbers, vocabulary, made)
        written = Written(made.stat().st_size, "")
        if request.verify:
            written = _verified(request, model, vocabulary, folder)
        if in_half:
            note = f"{len(in_half)} matrices whose rows are no blocks of {_BLOCK} are in float16"
            written = replace(written, notes=(*written.notes, note))
        with open(made, "rb") as source, write_binary(out) as stream:
            shutil.copyfileobj(source, stream, 1 << 20)
    return written


def _obstacle(shape: ModelShape) -> Optional[str]:
    heads = shape.blocks[0].heads
    if kind_of(shape) == "qwen2" and heads * shape.head_dim != shape.d_model:
        return f"a qwen2 of width {shape.d_model} with {heads} heads of {shape.head_dim}"
    return None


def _vocabulary(request: Request) -> Vocabulary:
    tokenizer = request.tokenizer
    if request.form == "ids":
        return ids_alone(request.model.shape.vocab_size, tokenizer.begin, tokenizer.end)
    try:
        return vocabulary_of(tokenizer)
    except NoVocabularyError as problem:
        expected = "a tokenizer that llama.cpp has (--form ids writes the LM without)"
        raise InputError(request.tokenizer_path, None, str(problem), expected) from None


def _verified(
    request: Request, model: TransformerLM, vocabulary: Vocabulary, folder: Path
) -> Written:
    """What the reader and llama.cpp find. Raises InputError where weights, scores or ids differ."""
    made = folder / "lm.gguf"
    stored = _read_back(request, model, made)
    twin = made
    if request.numbers != FLOAT32:
        twin = folder / "twin.gguf"
        write_file(request, stored, FLOAT32, vocabulary, twin)
    marks = marks_of(request)
    sentences = sentences_for(stored, marks)
    runtime = _opened(request, twin, vocabulary)
    theirs = as_llama_cpp(stored)
    found, apart = compare(runtime, [theirs, stored], sentences, marks)
    slack = 2 * moved(theirs, stored, sentences, marks).largest
    if found.worst_share > 1 and apart.largest > slack:
        problem = f"an LM whose scores are {found.largest:.3g} nats off in the exported file"
        raise InputError(request.lm, None, problem, "the same scores (a defect of the exporter)")
    notes = []
    if request.numbers != FLOAT32:
        (apart,) = compare(_opened(request, made, vocabulary), [model], sentences, marks)
        notes.append(_moves(f"{request.numbers} in llama.cpp", apart))
    elif model.shape.architecture == "gpt2":
        notes.append(_moves("GELU in half precision, as llama.cpp has it,", apart))
    if vocabulary.reads_text:
        _check_texts(request, runtime, sentences, slack)
    else:
        notes.append("no tokenizer for text: a program gives ids")
    name = f"llama.cpp (xllamacpp {version()})"
    verified = f"{name}: {found.scores} scores, largest difference {found.largest:.2g} nats"
    return Written(made.stat().st_size, verified, found.largest, tuple(notes))


def _moves(what: str, apart: Difference) -> str:
    return f"{what} moves a score by {apart.largest:.2g} nats at most of {apart.scores}"


def _opened(request: Request, path: Path, vocabulary: Vocabulary) -> LlamaCpp:
    shape = request.model.shape
    positions = min(shape.max_positions, _POSITIONS)
    return LlamaCpp(request.lm, path, positions, shape.vocab_size, vocabulary.plain)


def _read_back(request: Request, model: TransformerLM, path: Path) -> TransformerLM:
    """The LM in the file. Raises InputError for another shape, and for other weights in float32."""
    shape, tensors = read_gguf_tensors(path)
    expected = model.shape
    if replace(shape, details={}) != replace(expected, details={}, dropout=0.0):
        problem = "an LM of another shape in the exported file"
        raise InputError(request.lm, None, problem, "the same one (a defect of the exporter)")
    with torch.device("meta"):
        stored = TransformerLM(replace(shape, details=expected.details))
    state = {name: load() for name, load in tensors.items()}
    if request.numbers == FLOAT32:
        for name, value in model.state_dict().items():
            if not torch.equal(state[name], value):
                problem = f"other weights in the exported file ({name})"
                raise InputError(request.lm, None, problem, "the same (a defect of the exporter)")
    stored.load_state_dict(state, assign=True)
    return stored.eval()


def _check_texts(
    request: Request, runtime: LlamaCpp, sentences: list[list[int]], slack: float
) -> None:
    """Raise InputError for a text that llama.cpp cuts into other tokens."""
    pieces, longest = request.tokenizer.model, request.model.max_positions - 2
    words = [pieces.decode(one).split() for one in sentences]
    words = [[word for word in one if _is_plain(word)] for one in words]
    first = min((word for one in words for word in one), key=len, default="a")
    unknown = [first, f"{first}\u03a9\u03a9", first]
    cut = _cut(request, words, longest)[:_TEXTS] + _cut(request, [unknown], longest)
    prompts: list[Any] = [prompt for pair in cut for prompt in pair]
    scores, counts = runtime.after(prompts)
    for number, (text, tokens) in enumerate(cut):
        read, given = scores[2 * number], scores[2 * number + 1]
        apart = Difference.of(read, given)
        same = apart.worst_share <= 1 or apart.largest <= slack
        if counts[2 * number] != len(tokens) or not same:
            problem = f"the text {text[:60]!r}, which llama.cpp cuts otherwise"
            expected = f"the same {len(tokens)} tokens (--form ids writes the LM without text)"
            raise InputError(request.tokenizer_path, None, problem, expected)


def _cut(request: Request, texts: Sequence[list[str]], longest: int) -> list[tuple[str, list[int]]]:
    """The texts, each as far as it has ``longest`` tokens, and those: the most tokens first."""
    found = {}
    for words in texts:
        while len(_ids(request, words)) > longest:
            words = words[:-1]
        if words:
            found[" ".join(words)] = _ids(request, words)
    return sorted(found.items(), key=lambda one: -len(one[1]))


def _is_plain(word: str) -> bool:
    """Whether a word has no bytes that are no text, and no name of a mark in it."""
    return word.isprintable() and "\ufffd" not in word and "<" not in word


def _ids(request: Request, words: list[str]) -> list[int]:
    """The begin mark and the pieces of the words as they are."""
    pieces = request.tokenizer.model
    if isinstance(pieces, MarkedTokenizer):
        return [request.tokenizer.begin, *pieces.encode_text(words)]
    ids = [*pieces.encode_words(words[:1], True), *pieces.encode_words(words[1:], False)]
    return [request.tokenizer.begin, *(index for one in ids for index in one)]


GGUF = Exporter(
    "a file of llama.cpp: gpt2, llama or qwen2, dense blocks that are all alike",
    {
        "text": "weights and tokenizer: a program gives text or ids",
        "ids": "weights; the pieces are called [id]: a program gives ids",
    },
    tuple(TYPES),
    _write,
)
