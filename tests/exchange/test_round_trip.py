"""In, pruned, out: what leaves is what transformers and another import find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from asrprune.cli.main import main
from asrprune.lm.model.checkpoint import load_checkpoint
from tests.exchange.foreign_folders import save_small_foreign

SENTENCES = ("the cat sat", "a hat on the mat", "don't")


def imported(folder: Path, *more: str) -> Path:
    foreign = save_small_foreign(folder / "foreign")
    argv = ["import", "--from", "hugging-face", str(foreign), "--out", str(folder / "lm"), *more]
    assert main(argv) == 0
    return folder / "lm"


def exported(lm: Path, *more: str) -> tuple[int, Path]:
    out = lm.parent / "out"
    return main(["export", "--lm", str(lm), "--out", str(out), *more]), out


def test_an_exported_folder_is_imported_as_the_same_lm(tmp_path: Path) -> None:
    lm = imported(tmp_path)
    status, out = exported(lm, "--to", "hugging-face", "--no-verify")
    assert status == 0
    whole = json.loads((tmp_path / "foreign" / "tokenizer.json").read_text())
    assert json.loads((out / "tokenizer.json").read_text()) == whole
    again = ["import", "--from", "hugging-face", str(out), "--out", str(tmp_path / "again")]
    assert main(again) == 0
    stated = [json.loads((place / "config.json").read_text()) for place in (lm, tmp_path / "again")]
    for key in ("shape", "weights_sha256", "text"):
        assert stated[0][key] == stated[1][key]
    ours, theirs = (load_checkpoint(place).tokenizer() for place in (lm, tmp_path / "again"))
    assert (ours.begin, ours.end) == (theirs.begin, theirs.end)
    assert [ours.encode(text) for text in SENTENCES] == [theirs.encode(text) for text in SENTENCES]


@pytest.mark.slow
def test_what_is_pruned_in_between_has_the_same_logits_in_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    import asrprune

    lm = imported(tmp_path)
    (made,) = asrprune.prune_lm(
        load_checkpoint(lm),
        SENTENCES,
        "magnitude",
        "width",
        "one-shot",
        (0.3,),
        options={"multiple_of": 4},
    )
    pruned = asrprune.save_checkpoint(tmp_path / "pruned", made)
    status, out = exported(pruned, "--to", "hugging-face")
    assert status == 0
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    pieces = transformers.AutoTokenizer.from_pretrained(out)
    tokenizer = made.tokenizer()
    for text in SENTENCES:
        ids = [tokenizer.begin, *tokenizer.encode(text)]
        assert pieces.encode(text, add_special_tokens=False) == ids[1:]
        with torch.no_grad():
            expected = made.model.logits(made.model(torch.tensor([ids]))[0])
            found = model(torch.tensor([ids])).logits
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("marks", "form", "found"),
    [
        (("--prompt", "the cat"), "nll", "a prompt before every sentence"),
        (("--prompt", "the cat"), "logits", ""),
        (("--sentence-form", "stop"), "nll", ""),  # comes with the tokens
    ],
)
def test_what_a_graph_cannot_add_is_refused(
    marks: tuple[str, ...],
    form: str,
    found: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("onnx")
    lm = imported(tmp_path, *marks)
    status, out = exported(lm, "--to", "onnx", "--form", form, "--no-verify")
    assert (status, out.exists()) == ((1, False) if found else (0, True))
    assert found in capsys.readouterr().err
