"""An elastic LM on the command line: ``--size`` in every verb that has it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import asrprune
from asrprune.cli.main import main
from asrprune.rescore.scores_file import read_scores
from tests.small_inputs import save_small_elastic


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_small_elastic(tmp_path_factory.mktemp("elastic"))


def call(place: dict[str, Path], line: str, out: Path) -> int:
    return main([word.format(**place, out=out) for word in line.split()])


def test_perplexity_is_that_of_the_cut_lm(place: dict[str, Path], tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    asrprune.save_checkpoint(plain, asrprune.load_checkpoint(place["elastic"], size=0.5))
    found = {}
    for name, flags in (("whole", ""), ("cut", " --size 0.5"), ("smallest", " --size 0.6")):
        out = tmp_path / f"{name}.json"
        assert call(place, "perplexity --lm {elastic} --text {text} --json {out}" + flags, out) == 0
        found[name] = json.loads(out.read_text())["nll"]
    out = tmp_path / "plain.json"
    line = ["--lm", str(plain), "--text", str(place["text"]), "--json", str(out)]
    assert main(["perplexity", *line]) == 0
    assert json.loads(out.read_text())["nll"] == found["cut"]
    assert len(set(found.values())) == 3


def test_scores_of_two_sizes_do_not_mix(
    place: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "lmscore --lm {elastic} --nbest {nbest} --out {out} --threads 1"
    headers = {}
    for size in ("0.3", "0.5"):
        out = tmp_path / size
        assert call(place, f"{line} --size {size}", out) == 0
        headers[size] = read_scores(out).header
    assert headers["0.3"]["lm"] == "elastic@0.3"
    assert headers["0.3"]["lm_hash"] != headers["0.5"]["lm_hash"]
    assert call(place, line, tmp_path / "whole") == 0
    assert read_scores(tmp_path / "whole").header["lm_hash"] == headers["0.3"]["lm_hash"]

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr("asrprune.rescore.lmscore.write_scores", dies)
        assert call(place, f"{line} --size 0.5", out) == 130
    assert (tmp_path / "killed.partial").is_file()
    assert call(place, f"{line} --size 0.3", out) == 0  # what 0.5 had done is not taken over
    assert scores(out) == scores(tmp_path / "0.3") != scores(tmp_path / "0.5")


def scores(path: Path) -> list[list[float]]:
    return [one.scores.tolist() for one in read_scores(path).utterances.values()]


@pytest.mark.parametrize(
    ("line", "status", "expected"),
    [
        ("perplexity --lm {elastic} --text {text} --size 0.9", 2, "a sparsity from 0.3 to 0.6, or"),
        ("export --to onnx --lm {lm} --out {out} --size 0.5", 1, "an LM of one size; expected an"),
    ],
)
def test_a_size_that_is_not_there_is_one_line(
    place: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    line: str,
    status: int,
    expected: str,
) -> None:
    capsys.readouterr()
    assert call(place, line, tmp_path / "out") == status
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_bench_measures_the_cut_lm(place: dict[str, Path], tmp_path: Path) -> None:
    line = "bench --lm {elastic} --nbest {nbest} --json {out} --repeats 1 --warmup 0 --size 0.6"
    line += " --baseline padded --threads 1"
    assert call(place, line, tmp_path / "figures") == 0
    figures = json.loads((tmp_path / "figures").read_text())
    cut = asrprune.load_checkpoint(place["elastic"], size=0.6)
    assert figures["lm"] == "elastic@0.6"
    assert figures["size_bytes"] == cut.size_bytes()
    assert figures["parameters"] == sum(one.numel() for one in cut.model.parameters())
    assert figures["agreement"]["max_difference"] < 1e-4


def test_lattices_are_rescored_by_the_cut_lm(place: dict[str, Path], tmp_path: Path) -> None:
    line = "rescore --lattice {slf} --format slf --weights {w1} --lm {elastic} --write-nbest {out}"
    for name, size in (("cut", " --size 0.6"), ("whole", "")):
        given = f"{line}/{name}.nbest --out {{out}}/{name}{size}"
        assert call(place, given, tmp_path) == 0
    assert (tmp_path / "cut.nbest").read_text() != (tmp_path / "whole.nbest").read_text()


def test_weights_are_tuned_with_the_cut_lm(place: dict[str, Path], tmp_path: Path) -> None:
    line = "tune --lattice {slf} --format slf --lm {elastic} --ref {ref} --resamples 2 --threads 1"
    assert call(place, line + " --size 0.6 --out {out}", tmp_path / "weights") == 0
    assert json.loads((tmp_path / "weights").read_text())["lms"] == ["elastic@0.6"]


def test_an_export_is_of_the_cut_lm(place: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    for name, size in (("cut", " --size 0.6"), ("whole", "")):
        assert (
            call(place, "export --to onnx --lm {elastic} --out {out}" + size, tmp_path / name) == 0
        )
    small, large = (tmp_path / name for name in ("cut", "whole"))
    assert small.stat().st_size < large.stat().st_size
