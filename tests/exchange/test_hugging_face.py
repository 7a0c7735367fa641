"""Hugging Face folders: imported exactly, or refused in one line that says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from asrprune.errors import InputError
from asrprune.exchange.importing import ImportOptions, import_lm
from asrprune.lm.model.checkpoint import Checkpoint, load_checkpoint
from asrprune.text.form import TextForm
from tests.exchange.foreign_folders import (
    byte_level_tokenizer,
    fallback_tokenizer,
    gpt2_shape,
    llama_shape,
    unigram_tokenizer,
    write_hugging_face,
)

V = 300
SHAPES: dict[str, tuple[str, Any]] = {
    "gpt2": ("gpt2", gpt2_shape(V)),
    "gpt2, eps": ("gpt2", gpt2_shape(V, details={"norm_eps": 1e-3})),
    "llama": ("llama", llama_shape(V)),
    "llama, tied, other base": ("llama", llama_shape(V, tied=True, details={"rope_theta": 500.0})),
    "llama, wide heads": ("llama", llama_shape(V, head_dim=6)),
    "qwen2": ("qwen2", llama_shape(V, kv_heads=1, details={"qkv_bias": True})),
    "mistral": ("mistral", llama_shape(V)),
}


def imported(folder: Path, **options: Any) -> Checkpoint:
    out = folder.parent / f"{folder.name}-out"
    return load_checkpoint(import_lm("hugging-face", folder, out, ImportOptions(**options)))


def some_logits(model: Any, size: int = V) -> torch.Tensor:
    tokens = torch.randint(0, size, (3, 11), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits: torch.Tensor = model.logits(model(tokens)[0])
    return logits


@pytest.mark.parametrize("shards", [0, 3])
@pytest.mark.parametrize("case", SHAPES)
def test_the_weights_arrive_exactly(case: str, shards: int, tmp_path: Path) -> None:
    kind, shape = SHAPES[case]
    ours = write_hugging_face(tmp_path / "in", kind, shape, shards=shards)
    got = imported(tmp_path / "in").model
    assert replace(got.shape, details={}) == replace(shape, details={})
    assert torch.equal(some_logits(got), some_logits(ours))


@pytest.mark.slow
@pytest.mark.parametrize("case", SHAPES)
def test_logits_are_those_of_transformers(case: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    kind, shape = SHAPES[case]
    write_hugging_face(tmp_path / "in", kind, shape)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "in").float().eval()
    theirs.save_pretrained(tmp_path / "saved", max_shard_size="20KB")  # as they write it
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "saved" / name).write_bytes((tmp_path / "in" / name).read_bytes())
    got = imported(tmp_path / "saved")
    tokens = torch.randint(0, V, (3, 11), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = theirs(tokens).logits
    torch.testing.assert_close(some_logits(got.model), expected, rtol=1e-5, atol=2e-5)
    pieces = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "in/tokenizer.json")
    )
    line = "the cat can't sit at 12 caf\u00e9s"
    assert got.tokenizer().encode(line) == pieces(line, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize(
    ("other", "dtype"), [(True, torch.float32), (False, torch.float32), (False, torch.float64)]
)
def test_another_output_layer_than_the_embedding_is_taken_though_the_config_ties_them(
    kind: str, other: bool, dtype: torch.dtype, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shape = gpt2_shape(V) if kind == "gpt2" else llama_shape(V, tied=True)
    ours = write_hugging_face(tmp_path / "in", kind, shape)
    state = load_file(tmp_path / "in/model.safetensors")
    head = ours.embedding.weight.detach().clone()
    if other:
        head[7, 3] += 0.5
    save_file(state | {"lm_head.weight": head.to(dtype)}, tmp_path / "in/model.safetensors")
    got = imported(tmp_path / "in").model
    assert got.shape.tied != other
    told = "tie_word_embeddings is true, but lm_head.weight is not "
    assert (told in caplog.text) == other
    tokens = torch.randint(0, V, (3, 11), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = ours(tokens)[0] @ head.T
    torch.testing.assert_close(some_logits(got), expected)


@pytest.mark.slow
def test_logits_of_another_output_layer_are_those_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", "5.0")
    write_hugging_face(tmp_path / "in", "llama", llama_shape(V, tied=True))
    state = load_file(tmp_path / "in/model.safetensors")
    state["lm_head.weight"] = state["model.embed_tokens.weight"].flip(0)
    save_file(state, tmp_path / "in/model.safetensors", metadata={"format": "pt"})
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "in").float().eval()
    tokens = torch.randint(0, V, (3, 11), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = theirs(tokens).logits
    got = some_logits(imported(tmp_path / "in").model)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("make", [unigram_tokenizer, fallback_tokenizer, byte_level_tokenizer])
def test_words_one_by_one_are_the_sentence(make: Callable[[], Any], tmp_path: Path) -> None:
    made = make()
    write_hugging_face(tmp_path / "in", "llama", llama_shape(made.get_vocab_size()), made)
    tokenizer = imported(tmp_path / "in").tokenizer()
    line = "the cat, don't sit -- a mat at 12 o'clock"
    whole = made.encode(line, add_special_tokens=False).ids
    assert tokenizer.encode(line) == whole
    assert [i for word in tokenizer.encode_words(line.split()) for i in word] == whole
    assert tokenizer.decode(whole).split() == line.split()
    assert tokenizer.vocab_size == made.get_vocab_size()


@pytest.mark.parametrize("make", [unigram_tokenizer, fallback_tokenizer, byte_level_tokenizer])
@pytest.mark.parametrize("stated", [None, "<unk>"])
def test_the_unknown_token_is_that_of_the_tokenizer(
    make: Callable[[], Any], stated: str | None, tmp_path: Path
) -> None:
    """Also where no config names it; the end token where there is none."""
    write_hugging_face(tmp_path / "in", tokenizer=make())
    edited("tokenizer_config.json", unk_token=stated)(tmp_path / "in")
    tokenizer = imported(tmp_path / "in").tokenizer()
    own = make is not byte_level_tokenizer
    assert tokenizer.unknown == (make().token_to_id("<unk>") if own else tokenizer.end)
    if make is unigram_tokenizer:
        assert tokenizer.encode("\u4e2d\u6587") == [tokenizer.unknown]
        assert tokenizer.count_unknown("the \u4e2d\u6587 cat") == 1


def test_unknown_words_are_counted_as_they_are_scored(tmp_path: Path) -> None:
    """The first word has a capital letter, and none of those behind it."""
    write_hugging_face(tmp_path / "in", tokenizer=unigram_tokenizer())
    tokenizer = imported(tmp_path / "in", form=TextForm(case="sentence")).tokenizer()
    for line, count in (("the cat sat on the mat", 0), ("zzz the", 1), ("cat sat on the mat", 1)):
        assert tokenizer.encode(line).count(tokenizer.unknown) == count
        assert tokenizer.count_unknown(line) == count


def test_fewer_pieces_than_rows_are_taken(tmp_path: Path) -> None:
    ours = write_hugging_face(tmp_path / "in", "llama", llama_shape(V + 12))
    got = imported(tmp_path / "in")
    assert got.tokenizer().vocab_size == got.model.shape.vocab_size == V + 12
    assert torch.equal(some_logits(got.model), some_logits(ours))


def test_fewer_positions_change_no_score(tmp_path: Path) -> None:
    ours = write_hugging_face(tmp_path / "in", "gpt2")
    got = imported(tmp_path / "in", positions=12).model
    assert got.max_positions == 12
    assert torch.equal(some_logits(got), some_logits(ours))
    with pytest.raises(ValueError, match="at most 40"):
        imported(tmp_path / "in", positions=41)


def test_bfloat16_is_stored_and_opened_in_float32(tmp_path: Path) -> None:
    ours = write_hugging_face(tmp_path / "in", "llama", llama_shape(V))
    got = imported(tmp_path / "in", dtype="bfloat16")
    assert got.model.dtype == torch.float32
    assert got.path is not None
    assert load_file(got.path / "model.safetensors")["norm.weight"].dtype == torch.bfloat16
    assert load_checkpoint(got.path, dtype=torch.bfloat16).model.dtype == torch.bfloat16
    assert torch.equal(some_logits(got.model), some_logits(ours.bfloat16().float()))


def edited(name: str, **changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        value = json.loads((folder / name).read_text())
        value.update(changes)
        (folder / name).write_text(json.dumps(value))

    return edit


def tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")

    return edit


def cut(folder: Path) -> None:
    place = folder / "model.safetensors"
    place.write_bytes(place.read_bytes()[:-100])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def index_outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "x.safetensors")
    index = {"weight_map": {"lm_head.weight": "../x.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def crossing(folder: Path) -> None:
    value = json.loads((folder / "tokenizer.json").read_text())
    value["pre_tokenizer"]["use_regex"] = False
    value["model"]["vocab"]["the\u0120cat"] = V
    value["model"]["merges"].append(["the", "\u0120cat"])
    (folder / "tokenizer.json").write_text(json.dumps(value))
    edited("config.json", vocab_size=V + 1)(folder)
    tensors(lambda s: s.update({n: torch.cat([s[n], s[n][:1]]) for n in BY_VOCABULARY}))(folder)


BY_VOCABULARY = ("model.embed_tokens.weight", "lm_head.weight")
HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "architecture": (edited("config.json", model_type="gpt_neox"), "unknown architecture"),
    "activation": (edited("config.json", hidden_act="gelu"), "hidden_act is .gelu"),
    "rope scaling": (
        edited("config.json", rope_scaling={"rope_type": "llama3", "factor": 8.0}),
        "rope_scaling is .*llama3",
    ),
    "window": (
        edited("config.json", model_type="mistral", sliding_window=16),
        "sliding_window is 16 of 40",
    ),
    "default window": (
        edited("config.json", model_type="mistral", max_position_embeddings=5000),
        "sliding_window is 4096 of 5000",
    ),
    "default window of qwen2": (
        edited(
            "config.json",
            model_type="qwen2",
            use_sliding_window=True,
            max_position_embeddings=5000,
        ),
        "sliding_window is 4096 of 5000",
    ),
    "experts": (edited("config.json", num_local_experts=8), "num_local_experts is 8"),
    "quantised": (edited("config.json", quantization_config={"bits": 4}), "quantization_config"),
    "biases": (edited("config.json", attention_bias=True), "attention_bias is"),
    "missing size": (edited("config.json", hidden_size=None), "hidden_size"),
    "endless layers": (edited("config.json", num_hidden_layers=10**12), "num_hidden_layers"),
    "no head": (edited("config.json", num_attention_heads=0), "num_attention_heads"),
    "groups": (edited("config.json", num_key_value_heads=3), "kv_heads 3"),
    "more layers": (edited("config.json", num_hidden_layers=3), "no tensor model.layers.2"),
    "fewer layers": (
        edited("config.json", num_hidden_layers=1),
        "unexpected tensor model.layers.1",
    ),
    "other width": (
        edited("config.json", intermediate_size=32),
        r"\[24, 16\].*expected \[32, 16\]",
    ),
    "vocabulary": (edited("config.json", vocab_size=280), r"shape \[300, 16\]"),
    "tokenizer too large": (
        lambda folder: (
            edited("config.json", vocab_size=280)(folder),
            tensors(lambda s: s.update({n: s[n][:280].clone() for n in BY_VOCABULARY}))(folder),
        )[0],
        "the id 299 of the piece",
    ),
    "end outside": (
        lambda folder: (
            (folder / "tokenizer_config.json").unlink(),
            edited("config.json", eos_token_id=300)(folder),
        )[0],
        "is 300; expected an id",
    ),
    "no end": (lambda folder: (folder / "tokenizer_config.json").unlink(), "no end token"),
    "missing tensor": (tensors(lambda s: s.pop("model.norm.weight")), "no tensor model.norm"),
    "extra tensor": (tensors(lambda s: s.update(extra=torch.ones(2))), "unexpected tensor extra"),
    "integers": (
        tensors(lambda s: s.update({"model.norm.weight": torch.ones(16, dtype=torch.int8)})),
        "model.norm.weight as int8",
    ),
    "not a number": (
        tensors(lambda s: s["model.norm.weight"].fill_(float("nan"))),
        "norm.weight holds numbers that are not finite",
    ),
    "cut short": (cut, "weights that do not load"),
    "pickles": (pickled, "pickled weights only"),
    "shard elsewhere": (index_outside, "safetensors files of the same folder"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
    "empty tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}"), "do not load"),
    "odd tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text('{"model": {"type": "Dream"}}'),
        "do not load",
    ),
    "no json": (lambda folder: (folder / "tokenizer.json").write_text("[" * 9), "tokenizer.json"),
    "pieces across words": (crossing, "'the cat' across words"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_folders_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    harm, message = HOSTILE[case]
    write_hugging_face(tmp_path / "in", "llama", llama_shape(V))
    harm(tmp_path / "in")
    with pytest.raises(InputError, match=message) as caught:
        imported(tmp_path / "in")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "in") in str(caught.value)
    assert not (tmp_path / "in-out").exists()


def test_marks_that_are_no_tokens_are_refused(tmp_path: Path) -> None:
    write_hugging_face(tmp_path / "in", "llama", llama_shape(V))
    with pytest.raises(ValueError, match="end is 'no such token'"):
        imported(tmp_path / "in", end="no such token")
    with pytest.raises(ValueError, match="ends with a space"):
        imported(tmp_path / "in", prompt="Text: ")
