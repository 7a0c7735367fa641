"""Reading and writing n-best lists and lattices of every format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import asrprune
from asrprune.api.example import tiny_lists
from asrprune.core.lattice.lattice import Lattice
from asrprune.core.weights import ScoreWeights
from asrprune.errors import InputError
from asrprune.firstpass.formats.table import FORMATS
from tests.firstpass.formats.test_samples import SAMPLES


def put_sample(name: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """The sample of a format on disk: what to open, and with which options."""
    sample = SAMPLES[name]
    for file, content in sample.files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    options = {
        key: str(folder / value) if isinstance(value, str) else value
        for key, value in sample.options.items()
    }
    return folder / sample.open, options


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_as_lists(name: str, tmp_path: Path) -> None:
    path, options = put_sample(name, tmp_path)
    lists = asrprune.read_nbest(path, name, **options)
    assert [one.utt for one in lists] == [one.utt for one in SAMPLES[name].expected]
    for one, expected in zip(lists, SAMPLES[name].expected):
        assert {hyp.words for hyp in one.hyps} == {hyp.words for hyp in expected.hyps}
    if FORMATS[name].kind == "lattice":
        best = asrprune.read_nbest(path, name, nbest=1, **options)
        assert [one.hyps for one in best] == [one.hyps[:1] for one in lists]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_with_acoustic_scores_is_read_as_lattices(name: str, tmp_path: Path) -> None:
    path, options = put_sample(name, tmp_path)
    expected = SAMPLES[name].expected
    if any(hyp.acoustic is None for one in expected if not one.silent for hyp in one.hyps):
        with pytest.raises(InputError, match="no acoustic score of hypothesis"):
            asrprune.read_lattices(path, name, **options)
        return
    lattices = asrprune.read_lattices(path, name, **options)
    assert all(isinstance(lattice, Lattice) for lattice in lattices)
    assert [lattice.utt for lattice in lattices] == [one.utt for one in expected]


def test_weights_rank_the_paths_of_a_lattice(tmp_path: Path) -> None:
    path, options = put_sample("slf", tmp_path)  # "a b" -3.0 -1.5, "b" -2.5 -4.0
    for weights, best in ((ScoreWeights(1.0, 0.0), "b"), (ScoreWeights(1.0, 1.0), "a b")):
        lists = asrprune.read_nbest(path, "slf", nbest=1, weights=weights, **options)
        assert lists[0].hyps[0].text == best


def test_wrong_calls_are_value_errors(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    asrprune.write_nbest(path, tiny_lists())
    for arguments, found in (
        ({"format": "jsonlines"}, "unknown format 'jsonlines'; did you mean 'jsonl'"),
        ({"words": "w"}, "unknown option 'words' of format jsonl; known: none"),
        ({"format": "k2", "word": "w"}, "unknown option 'word' of format k2; known: words, utts"),
        ({"format": "nemo-tsv"}, "needs the option manifest: NeMo manifest"),
        ({"nbest": 5}, "nbest and weights have no use for format jsonl"),
        ({"weights": ScoreWeights()}, "nbest and weights have no use for format jsonl"),
        ({"format": "slf", "nbest": 0}, "nbest is 0; expected >= 1"),
        ({"format": "slf", "weights": ScoreWeights(lm=(1.0,))}, "1 of rescoring LMs"),
    ):
        with pytest.raises(ValueError, match=found):
            asrprune.read_nbest(path, **arguments)


def test_bad_files_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl: no such file"):
        asrprune.read_nbest(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="none: no such file"):
        asrprune.read_kaldi_text(tmp_path / "none")


def test_only_lists_are_written(tmp_path: Path) -> None:
    (one, _) = tiny_lists()
    for lists, found in (
        (one, r"lists is NBest\(.* \(NBest\); expected a list of asrprune.NBest"),
        ("the cat", r"lists is 'the cat' \(str\); expected a list of asrprune.NBest"),
        (["the cat"], r"lists\[0\] is 'the cat' \(str\); expected asrprune.NBest"),
        ([one, one.hyps], r"lists\[1\] is .* \(tuple\); expected asrprune.NBest"),
    ):
        with pytest.raises(TypeError, match=found):
            asrprune.write_nbest(tmp_path / "x", lists)
    with pytest.raises(ValueError, match="utterance utt1 comes twice"):
        asrprune.write_nbest(tmp_path / "x", [one, one])
    assert not (tmp_path / "x").exists()
