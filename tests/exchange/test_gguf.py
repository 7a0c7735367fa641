"""GGUF files: imported exactly, or refused in one line that says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from asrprune.errors import InputError
from asrprune.exchange.importing import ImportOptions, import_lm
from asrprune.lm.model.checkpoint import Checkpoint, load_checkpoint
from asrprune.lm.model.shapes import ModelShape
from tests.exchange.foreign_folders import byte_level_tokenizer, gpt2_shape, llama_shape
from tests.exchange.foreign_gguf import write_gguf

pytest.importorskip("gguf")
V = 300
WIDE = ModelShape.uniform(
    V, 32, 2, 2, 64, 40, architecture="llama", kv_heads=1, details={"norm_eps": 1e-6}
)
SHAPES: dict[str, tuple[str, Any]] = {
    "gpt2": ("gpt2", gpt2_shape(V)),
    "llama": ("llama", llama_shape(V)),
    "llama, tied": ("llama", llama_shape(V, tied=True, kv_heads=1, details={"rope_theta": 500.0})),
    "qwen2": ("qwen2", llama_shape(V, details={"qkv_bias": True})),
}


def imported(path: Path, **options: Any) -> Checkpoint:
    out = path.parent / "out"
    return load_checkpoint(import_lm("gguf", path, out, ImportOptions(**options)))


def some_logits(model: Any) -> torch.Tensor:
    tokens = torch.randint(0, V, (3, 11), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits: torch.Tensor = model.logits(model(tokens)[0])
    return logits


@pytest.mark.parametrize("case", SHAPES)
def test_the_weights_arrive_exactly(case: str, tmp_path: Path) -> None:
    kind, shape = SHAPES[case]
    ours = write_gguf(tmp_path / "lm.gguf", kind, shape)
    got = imported(tmp_path / "lm.gguf").model
    assert replace(got.shape, details={}) == replace(shape, details={})
    # epsilon and base are stored in single precision
    torch.testing.assert_close(some_logits(got), some_logits(ours), rtol=0, atol=1e-5)
    for name, value in ours.state_dict().items():
        assert torch.equal(got.state_dict()[name], value), name


def test_quantised_weights_are_those_that_gguf_gives(tmp_path: Path) -> None:
    ours = write_gguf(tmp_path / "lm.gguf", "llama", WIDE, quantised=True)
    got = imported(tmp_path / "lm.gguf").model
    for name, value in ours.state_dict().items():
        near = got.state_dict()[name]
        torch.testing.assert_close(near, value, rtol=0, atol=float(value.abs().max()) / 127)
    matrix = ours.blocks[0].attn.q.weight  # type: ignore[union-attr, union-attr]
    assert not torch.equal(got.blocks[0].attn.q.weight, matrix)  # type: ignore[union-attr]


def test_the_tokeniser_is_that_of_the_pieces_and_merges(tmp_path: Path) -> None:
    write_gguf(tmp_path / "lm.gguf")
    tokenizer = imported(tmp_path / "lm.gguf").tokenizer()
    made = byte_level_tokenizer(V, digits=True)
    for line in ("the cat can't sit at 12 caf\u00e9s", "a <|endoftext|>x the", "\u4eca\u5929"):
        made.encode_special_tokens = True
        words = line.split()
        first, later = tokenizer.model.encode_words(words[:1], True), words[1:]
        ids = [*first[0], *(i for one in tokenizer.model.encode_words(later, False) for i in one)]
        assert ids == made.encode(line, add_special_tokens=False).ids
    assert (tokenizer.begin, tokenizer.end) == (0, 0)


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2"])
def test_every_way_of_cutting_words_is_built(pre: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "lm.gguf", changes={"tokenizer.ggml.pre": pre})
    tokenizer = imported(tmp_path / "lm.gguf").tokenizer()
    words = ["the", "cat", "1999", "don't", "e-mail"]
    assert "".join(tokenizer.decode(ids) for ids in tokenizer.encode_words(words)) == " ".join(
        words
    )
    digits = [tokenizer.piece(i) for i in tokenizer.encode_word("19", first=True)]
    assert digits == ["1", "9"]


def harmed(**changes: Any) -> Callable[[Path], None]:
    named = {key.replace("__", "."): value for key, value in changes.items()}
    return lambda path: [write_gguf(path, changes=named)].clear()


def cut_at(share: float) -> Callable[[Path], None]:
    def harm(path: Path) -> None:
        write_gguf(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return harm


def without(name: str) -> Callable[[Path], None]:
    return lambda path: [write_gguf(path, without=name)].clear()


def no_gguf(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 9)


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "architecture": (lambda p: [write_gguf(p, "gpt2"), _renamed(p)].clear(), "architecture"),
    "rope scaling": (harmed(llama__rope__scaling__type="yarn"), "llama.rope.scaling.type"),
    "experts": (harmed(llama__expert_count=8), "llama.expert_count is 8"),
    "window": (harmed(llama__attention__sliding_window=9), "sliding_window is 9"),
    "part of a head turns": (harmed(llama__rope__dimension_count=2), "2 of 4"),
    "more layers": (harmed(llama__block_count=3), "no tensor blk.2"),
    "fewer layers": (harmed(llama__block_count=1), "unexpected tensor blk.1"),
    "endless layers": (harmed(llama__block_count=2**31), "block_count is 2147483648"),
    "other width": (harmed(llama__feed_forward_length=32), r"\[24, 16\].*expected \[32, 16\]"),
    "no heads": (harmed(llama__attention__head_count=0), "head_count is 0"),
    "text for a number": (harmed(llama__block_count="two"), "block_count is"),
    "no sizes": (harmed(llama__embedding_length=None), "no llama.embedding_length"),
    "no end": (harmed(tokenizer__ggml__eos_token_id=None), "no end token"),
    "end outside": (harmed(tokenizer__ggml__eos_token_id=300), "is 300; expected an id"),
    "sentencepiece": (harmed(tokenizer__ggml__model="llama"), "tokenizer.ggml.model is"),
    "other words": (harmed(tokenizer__ggml__pre="tekken"), "tokenizer.ggml.pre"),
    "strange merges": (harmed(tokenizer__ggml__merges=["q q"]), "do not load"),
    "odd merges": (harmed(tokenizer__ggml__merges=["qq"]), "do not load"),
    "a piece twice": (harmed(tokenizer__ggml__tokens=["a"] * V), "a piece twice"),
    "too many pieces": (
        harmed(tokenizer__ggml__tokens=[chr(33 + i) for i in range(400)]),
        "types of 400 pieces",
    ),
    "missing tensor": (without("blk.1.ffn_norm.weight"), "no tensor blk.1.ffn_norm"),
    "no embedding": (without("token_embd.weight"), "no embedding"),
    "cut in the weights": (cut_at(0.9), "does not load"),
    "cut in the pieces": (cut_at(0.1), "does not load"),
    "cut in the head": (lambda p: [write_gguf(p), p.write_bytes(b"GGUF\3")].clear(), "not load"),
    "empty": (lambda p: [p.write_bytes(b"")].clear(), "does not load"),
    "no gguf": (no_gguf, "does not load"),
    "a folder": (lambda p: p.mkdir(), "a folder"),
    "nothing": (lambda p: None, "no such file"),
}


def _renamed(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"gpt2", b"bert"))


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    harm, message = HOSTILE[case]
    path = tmp_path / "lm.gguf"
    harm(path)
    with pytest.raises(InputError, match=message) as caught:
        imported(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "out").exists()
