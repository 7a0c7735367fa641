"""Pruning in memory: exact, without side effects, and from folder or sentences alike."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import asrprune
from asrprune.api.example import SENTENCES, tiny_lists, tiny_lm
from asrprune.errors import InputError
from asrprune.lm.model.checkpoint import Checkpoint
from asrprune.text.pack import pack_corpus
from asrprune.text.sentencepiece import TokenizerConfig

ONE = {"method": "structured", "schedule": "one-shot"}


def states(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in checkpoint.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_family_in_memory() -> None:
    before = states(tiny_lm())
    family = asrprune.prune_lm(
        tiny_lm(),
        SENTENCES,
        "magnitude",
        "unstructured",
        "linear",
        (0.5, 0.0),
        steps=3,
        seed=2,
        fine_tune_tokens=0,
    )
    assert same(states(tiny_lm()), before), "the parent was changed"
    assert tiny_lm().history == ()
    whole, half = family
    assert [one.history[-1]["asked"] for one in family] == [0.0, 0.5]
    assert half.history[-1]["measured"] == pytest.approx(0.5, abs=1e-4)
    assert len(half.history) > len(whole.history)
    assert same(states(whole), before), "sparsity 0 changed something"
    weight = half.model.layers()[0].linear("ffn.up").weight
    assert int((weight == 0).sum()) > 0.3 * weight.numel()
    assert not half.model.training
    assert half.path is None
    plan = half.provenance["plan"]
    assert (plan["criterion"], plan["method"]) == ("magnitude", "unstructured")
    assert (plan["schedule"], plan["steps"], plan["seed"]) == ("linear", 3, 2)


def test_pruned_lms_are_scored_saved_and_pruned_again(tmp_path: Path) -> None:
    (small,) = asrprune.prune_lm(tiny_lm(), SENTENCES, sparsities=(0.3,), **ONE)
    scores = asrprune.score_nbest(small, tiny_lists())
    loaded = asrprune.load_checkpoint(asrprune.save_checkpoint(tmp_path / "small", small))
    assert loaded.model.shape == small.model.shape != tiny_lm().model.shape
    assert [dict(step) for step in loaded.history] == [dict(step) for step in small.history]
    assert loaded.provenance["command"] == "asrprune.prune_lm"
    for utt, values in asrprune.score_nbest(loaded, tiny_lists()).items():
        np.testing.assert_array_equal(values, scores[utt])
    (smaller,) = asrprune.prune_lm(loaded, SENTENCES, sparsities=(0.5,), **ONE)
    assert [step["asked"] for step in smaller.history] == [0.3, 0.5]
    assert smaller.provenance["parent"] == str(tmp_path / "small")
    with pytest.raises(ValueError, match=r"sparsity 0\.1 is asked of a model that has 0\.29"):
        asrprune.prune_lm(loaded, SENTENCES, sparsities=(0.1,), **ONE)


@pytest.mark.slow
def test_a_folder_and_its_sentences_are_the_same_data(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("".join(f"{sentence}\n" for sentence in SENTENCES))
    config = TokenizerConfig(vocab_size=24)
    pack_corpus([text], None, config, tmp_path / "data", tokenizer=tiny_lm().tokenizer_path)
    made = [
        asrprune.prune_lm(tiny_lm(), data, fine_tune_tokens=100, **ONE)[0]
        for data in (tmp_path / "data", str(tmp_path / "data"), iter(SENTENCES))
    ]
    assert same(states(made[0]), states(made[1]))
    assert same(states(made[0]), states(made[2]))
    assert made[0].history[-1]["fine_tune_tokens"] >= 100
    pack_corpus([text], None, TokenizerConfig(vocab_size=22), tmp_path / "other")
    with pytest.raises(InputError, match=r"other: tokenizer hash .*, that of the LM"):
        asrprune.prune_lm(tiny_lm(), tmp_path / "other")


@pytest.mark.parametrize(
    ("arguments", "error", "found"),
    [
        ({"criterion": "tailor"}, ValueError, "unknown criterion 'tailor'; did you mean 'taylor'"),
        ({"method": "depht"}, ValueError, "unknown method 'depht'; did you mean 'depth'"),
        ({"schedule": "cube"}, ValueError, "unknown schedule 'cube'"),
        (
            {"schedule": "elastic"},
            ValueError,
            r"method is structured; expected low-rank or low-rank\+structured with",
        ),
        ({"sparsities": (1.5,)}, ValueError, "sparsity is 1.5; expected 0 <= sparsity <= 1"),
        ({"sparsities": ()}, ValueError, "sparsities"),
        ({"sparsities": 0.5}, TypeError, r"sparsities is 0.5 \(float\); expected numbers such as"),
        ({"stepps": 3}, ValueError, "'stepps'; did you mean 'steps'"),
        ({"options": {"scoop": "layer"}}, ValueError, r"scoop'; did you mean '(options\.)?scope'"),
        ({"schedule": "one-shot", "steps": 3}, ValueError, "steps has no use for schedule"),
        ({"data": []}, ValueError, "data holds no sentence"),
        ({"data": [["the", "cat"]]}, TypeError, r"data\[0\] is \['the', 'cat'\] \(list\); expecte"),
        ({"data": "nowhere"}, InputError, "nowhere: no such folder"),
    ],
)
def test_wrong_calls(arguments: dict[str, Any], error: type[Exception], found: str) -> None:
    with pytest.raises(error, match=found):
        asrprune.prune_lm(tiny_lm(), **{"data": SENTENCES, **arguments})


def test_an_elastic_lm_in_memory(tmp_path: Path) -> None:
    (elastic,) = asrprune.prune_lm(
        tiny_lm(),
        SENTENCES,
        method="low-rank",
        schedule="elastic",
        sparsities=(0.4, 0.8),
        fine_tune_tokens=0,
        options={"multiple_of": 2, "min_rank": 2},
    )
    small = elastic.cut(0.6)
    assert small.elastic is None
    assert small.history[-1]["measured"] == pytest.approx(0.6, abs=0.01)
    lists = [["the cat sat", "sat cat the"]]
    found = [asrprune.open_lm(elastic, size=size).score_lists(lists) for size in (0.6, "0.6", 0.8)]
    assert found[0][0].tolist() == asrprune.open_lm(small).score_lists(lists)[0].tolist()
    assert found[0][0].tolist() == found[1][0].tolist() != found[2][0].tolist()
    saved = asrprune.save_checkpoint(tmp_path / "lm", elastic)
    assert asrprune.load_checkpoint(saved).elastic == elastic.elastic
    assert same(states(asrprune.load_checkpoint(saved, size=0.6)), states(small))
    (again,) = asrprune.prune_lm(
        elastic, SENTENCES, method="structured", schedule="one-shot", sparsities=(0.6,)
    )
    assert again.elastic is None, "it was pruned to one size"


def _pruned(lm: Checkpoint) -> dict[str, torch.Tensor]:
    made = asrprune.prune_lm(lm, SENTENCES, sparsities=(0.3, 0.5), fine_tune_tokens=200)
    return dict(made[-1].model.state_dict())


@pytest.mark.parametrize(
    "around",
    [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", dtype=torch.bfloat16)],
)
def test_what_is_set_around_a_call_has_no_part_in_it(around: Any) -> None:
    expected = _pruned(tiny_lm())
    torch.manual_seed(5)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    with around():
        lm = tiny_lm()
        found = _pruned(replace(lm, model=copy.deepcopy(lm.model)))  # inside inference_mode
    assert torch.equal(torch.rand(3), drawn)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
