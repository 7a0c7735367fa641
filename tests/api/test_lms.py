"""Opening, loading and saving LMs; what is no LM of ours gets one clear error."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import asrprune
from asrprune.api.example import SENTENCES, tiny_lists, tiny_lm
from asrprune.api.lms import public_name
from asrprune.core.lattice.union import union_of_nbest
from asrprune.errors import InputError
from asrprune.lm.protocol import LanguageModel
from tests.small_lm import DrawnTokenizer, save_small_lm, save_small_ngram

TEXTS = [list(SENTENCES), ["", "mat"]]
WEIGHTS = asrprune.ScoreWeights(lm=(1.0,))
TAKERS: dict[str, Callable[[Any], object]] = {
    "open_lm": asrprune.open_lm,
    "score_nbest": lambda lm: asrprune.score_nbest(lm, tiny_lists()),
    "rescore_lattices": lambda lm: asrprune.rescore_lattices(
        [union_of_nbest(tiny_lists()[0])], lm, WEIGHTS
    ),
    "prune_lm": lambda lm: asrprune.prune_lm(lm, SENTENCES),
    "save_checkpoint": lambda lm: asrprune.save_checkpoint("nowhere", lm),
}


class Mine(torch.nn.Module):
    """A module of the user's own, with the method of an LM."""

    name = "mine"

    def score_lists(self, lists: list[list[str]]) -> list[list[float]]:
        raise AssertionError("never asked")


@pytest.mark.parametrize("taker", TAKERS)
def test_a_module_of_others_is_refused(taker: str) -> None:
    expected = r"^expected an asrprune LM: open_lm\(PATH\) or load_checkpoint\(PATH\); got "
    for module, name in (
        (torch.nn.Linear(2, 2), r"torch\.nn\.Linear$"),
        (torch.nn.Sequential(tiny_lm().model), r"torch\.nn\.Sequential$"),
        (Mine(), r".*test_lms\.Mine$"),
        (None, "NoneType$"),
        (3, "int$"),
    ):
        with pytest.raises(TypeError, match=expected + name):
            TAKERS[taker](module)


@pytest.mark.parametrize("taker", [name for name in TAKERS if name != "open_lm"])
def test_a_path_is_to_be_opened_first(taker: str) -> None:
    with pytest.raises(TypeError, match=r"open_lm\(PATH\) or load_checkpoint\(PATH\); got str"):
        TAKERS[taker]("exp/lm")


@pytest.mark.parametrize("taker", TAKERS)
def test_a_model_without_its_tokeniser_is_refused(taker: str) -> None:
    with pytest.raises(TypeError, match=r"an LM with its tokeniser: open_lm\(MODEL, tokenizer="):
        TAKERS[taker](tiny_lm().model)


@pytest.mark.parametrize("taker", ["prune_lm", "save_checkpoint"])
def test_what_only_scores_is_no_checkpoint(taker: str) -> None:
    with pytest.raises(TypeError, match=r"expected a checkpoint: load_checkpoint\(PATH\); got asr"):
        TAKERS[taker](asrprune.open_lm(tiny_lm()))


def test_a_class_is_named_as_it_is_imported() -> None:
    assert public_name(type(tiny_lm())) == "asrprune.lm.model.checkpoint.Checkpoint"
    assert public_name(torch.nn.Linear) == "torch.nn.Linear"
    assert public_name(asrprune.NBest) == "asrprune.NBest"


def test_all_ways_to_an_lm_score_the_same(tmp_path: Path) -> None:
    checkpoint = tiny_lm()
    path = asrprune.save_checkpoint(tmp_path / "lm", checkpoint)
    expected = asrprune.open_lm(checkpoint).score_lists(TEXTS)
    model, tokenizer = checkpoint.model, checkpoint.tokenizer()
    for lm in (
        asrprune.open_lm(path, device="cpu"),
        asrprune.open_lm(str(path), "torch", device="cpu", threads=1),
        asrprune.open_lm(asrprune.load_checkpoint(path)),
        asrprune.open_lm(model, tokenizer=checkpoint.tokenizer_path),
        asrprune.open_lm(model, tokenizer=tokenizer, token_budget=32),
    ):
        assert isinstance(lm, LanguageModel)
        for one, other in zip(lm.score_lists(TEXTS), expected):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


def test_another_engine_leaves_the_model_alone() -> None:
    model = tiny_lm().model
    lm = asrprune.open_lm(tiny_lm(), "torch-bf16")
    assert lm.runtime.engine == "torch-bf16"
    exact = asrprune.open_lm(tiny_lm()).score_lists(TEXTS)
    for one, other in zip(lm.score_lists(TEXTS), exact):
        assert 0 < np.abs(one - other).max() < 0.5
    assert (model.dtype, model.device) == (torch.float32, torch.device("cpu"))
    auto = asrprune.open_lm(tiny_lm(), "auto")
    assert auto.runtime.choice is not None
    assert auto.runtime.engine in auto.runtime.choice["speeds"]
    for one, other in zip(auto.score_lists(TEXTS), exact):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-3)


def test_what_was_done_to_a_model_is_saved(tmp_path: Path) -> None:
    path = asrprune.save_checkpoint(tmp_path / "lm", tiny_lm())
    checkpoint = asrprune.load_checkpoint(path)
    before = asrprune.open_lm(checkpoint).score_lists(TEXTS)[0]
    with torch.no_grad():
        checkpoint.model.embedding.weight.mul_(0.5)
    assert asrprune.save_checkpoint(path, checkpoint) == path  # over itself
    after = asrprune.open_lm(asrprune.load_checkpoint(path)).score_lists(TEXTS)[0]
    np.testing.assert_array_equal(after, asrprune.open_lm(checkpoint).score_lists(TEXTS)[0])
    assert np.abs(after - before).max() > 0.1
    assert asrprune.load_checkpoint(path).provenance == tiny_lm().provenance


@pytest.mark.parametrize("also", ["notes.txt", "sparsity-0.50", "config.json"])
def test_nothing_but_a_checkpoint_is_replaced(
    also: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    if also == "config.json":  # somebody else's
        work.mkdir()
        (work / also).write_text('{"model_type": "gpt2"}')
    else:
        asrprune.save_checkpoint(work, tiny_lm())
        if also == "notes.txt":
            (work / also).write_text("mine")
        else:
            asrprune.save_checkpoint(work / also, tiny_lm())
    (tmp_path / "link").symlink_to(work)
    monkeypatch.chdir(work)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    for place in (work, ".", tmp_path / "link"):
        with pytest.raises(InputError, match="expected"):
            asrprune.save_checkpoint(place, tiny_lm())
    assert before == {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}


def test_a_checkpoint_does_not_take_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "lm").write_text("mine")
    with pytest.raises(OSError, match="lm"):
        asrprune.save_checkpoint(tmp_path / "lm", tiny_lm())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_weights_keep_the_number_format_they_were_stored_in(tmp_path: Path) -> None:
    shared = tiny_lm()
    half = replace(shared, model=copy.deepcopy(shared.model).to(torch.bfloat16))
    asrprune.save_checkpoint(tmp_path / "half", half)
    loaded = asrprune.load_checkpoint(tmp_path / "half")
    assert (loaded.model.dtype, loaded.stored) == (torch.float32, torch.bfloat16)
    asrprune.save_checkpoint(tmp_path / "again", loaded)
    assert asrprune.load_checkpoint(tmp_path / "again").stored == torch.bfloat16


def test_an_ngram_scores_lists_and_lattices(tmp_path: Path) -> None:
    pytest.importorskip("kenlm")
    lm = asrprune.open_lm(save_small_ngram(tmp_path))
    hyps = [asrprune.Hypothesis(text, 0.0, 0.0) for text in ("b a", "a b")]
    nbest = asrprune.NBest("u", tuple(hyps))
    scores = asrprune.score_nbest(lm, [nbest])
    assert scores["u"][1] > scores["u"][0]
    assert asrprune.rescore_nbest([nbest], scores, WEIGHTS) == {"u": "a b"}
    assert asrprune.rescore_lattices([union_of_nbest(nbest)], lm, WEIGHTS) == {"u": "a b"}


def test_options_that_have_no_use_are_refused(tmp_path: Path) -> None:
    arpa = save_small_ngram(tmp_path)
    options: dict[str, Any] = {"engine": "int8", "threads": 2, "device": "cpu", "calibration": "x"}
    options |= {"tokenizer": "x", "token_budget": 5, "over_long": "error"}
    for name, value in options.items():
        with pytest.raises(ValueError, match=rf"{name} has no use for an n-gram LM \(.*lm\.arpa\)"):
            asrprune.open_lm(arpa, **{name: value})


def test_wrong_calls_are_value_errors(tmp_path: Path) -> None:
    checkpoint = tiny_lm()
    for options, found in (
        ({"engine": "torhc"}, "unknown engine 'torhc'; did you mean 'torch'"),
        ({"device": "mars"}, "unknown device 'mars'"),
        ({"threads": 0}, "threads is 0; expected >= 1"),
        ({"over_long": "nothing"}, "over_long is 'nothing'"),
        ({"calibration": "text"}, "engine torch calibrates nothing"),
        ({"tokenizer": "x"}, "expected none, as a checkpoint has its own"),
    ):
        with pytest.raises(ValueError, match=found):
            asrprune.open_lm(checkpoint, **options)
    with pytest.raises(ValueError, match="token budget is 4; the longest hypothesis needs"):
        asrprune.open_lm(checkpoint, token_budget=4).score_lists(TEXTS)
    with pytest.raises(InputError, match="no such path"):
        asrprune.open_lm(tmp_path / "none")
    with pytest.raises(InputError, match="no such folder"):
        asrprune.load_checkpoint(tmp_path / "none")
    with pytest.raises(ValueError, match="unknown device 'mars'"):
        asrprune.load_checkpoint(tmp_path / "none", "mars")


def test_a_tokeniser_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="the tokenizer has 65536 ids; expected 24, the LM's"):
        asrprune.open_lm(tiny_lm().model, tokenizer=DrawnTokenizer())


@pytest.mark.parametrize("kind", ["lm", "arpa"])
def test_lists_may_be_whatever_is_read_once(kind: str, tmp_path: Path) -> None:
    lm = asrprune.open_lm(save_small_lm(tmp_path) if kind == "lm" else save_small_ngram(tmp_path))
    expected = [scores.tolist() for scores in lm.score_lists(TEXTS)]
    once = lm.score_lists(iter(sentences) for sentences in TEXTS)  # type: ignore[arg-type]
    assert [scores.tolist() for scores in once] == expected
    words = [[sentence.split() for sentence in sentences] for sentences in TEXTS]
    expected_words = [list(map(np.ndarray.tolist, one)) for one in lm.words().score_words(words)]
    of_words = lm.words().score_words(iter(hyps) for hyps in words)  # type: ignore[arg-type]
    assert [list(map(np.ndarray.tolist, one)) for one in of_words] == expected_words


def test_a_checkpoint_is_loaded_whatever_torchs_device_is(tmp_path: Path) -> None:
    path = save_small_lm(tmp_path)
    with torch.device("meta"):
        loaded = asrprune.load_checkpoint(path)
    assert {one.device.type for one in loaded.model.parameters()} == {"cpu"}
    expected = asrprune.open_lm(path).score_lists(TEXTS)
    got = asrprune.open_lm(loaded, device=torch.device("cpu")).score_lists(TEXTS)
    for one, other in zip(got, expected):
        assert one == pytest.approx(other, abs=1e-4)


def test_text_comes_in_the_lms_form_or_in_the_one_asked_for() -> None:
    plain, upper = asrprune.open_lm(tiny_lm()).score_lists([["the cat sat", "The CAT sat"]])[0]
    assert upper == plain
    raw = asrprune.open_lm(tiny_lm(), normalise="none").score_lists([["The CAT sat"]])[0]
    assert raw[0] != plain
    with pytest.raises(ValueError, match="unknown normaliser 'loud'"):
        asrprune.open_lm(tiny_lm(), normalise="loud")
    turkish = asrprune.open_lm(tiny_lm(), language="tr").score_lists([["THE CAT SIT", "THE CAT"]])
    english = asrprune.open_lm(tiny_lm()).score_lists([["THE CAT SIT", "THE CAT"]])
    assert turkish[0][0] != english[0][0]
    assert turkish[0][1] == pytest.approx(english[0][1], abs=1e-4)
    with pytest.raises(ValueError, match="language has no use for a tokenizer in memory"):
        asrprune.open_lm(tiny_lm().model, tokenizer=tiny_lm().tokenizer(), language="tr")
