"""What a report takes of a run folder is of the test set that it is on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import pytest

from asrprune.cli.main import main

REF = "u1 a b c\nu2 d\nu3 e f\n"
ORACLE: dict[str, Any] = {
    "utterances": 3,
    "depths": [{"depth": 1, "wer_percent": 1.5, "interval_percent": [1.0, 2.0], "words": 6}],
    "scoring": {"unit": "word", "options": []},
}


def _report(base: Path, *more: str) -> Optional[dict[str, Any]]:
    """The rows of a report on the folders of ``base``, by name; None where it was refused."""
    folders = sorted(str(path) for path in (base / "runs").iterdir())
    argv = ["report", "--runs", *folders, "--ref", str(base / "ref"), "--out", str(base / "out")]
    if main([*argv, *more]):
        return None
    rows = json.loads((base / "out/table.json").read_text())["rows"]
    return {row["name"]: row for row in rows}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A dense LM, two others, an oracle of lattices and one of lists."""
    (tmp_path / "ref").write_text(REF)
    for name in ("a", "dense", "z"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "hyp").write_text(REF)
    (tmp_path / "runs/oracle").mkdir()
    for name in ("oracle.json", "oracle-lists.json"):
        (tmp_path / "runs/oracle" / name).write_text(json.dumps(ORACLE))
    return tmp_path


@pytest.mark.parametrize("name", ["oracle.json", "oracle-lists.json"])
@pytest.mark.parametrize(
    ("change", "more", "found"),
    [
        ({"utterances": 2}, (), "an oracle of 2 utterances; expected 3, as in {ref}"),
        ({"words": 7}, (), "an oracle of 7 words; expected 6, as in {ref}"),
        (
            {"words": 9, "scoring": {"unit": "char", "options": ["--unit char"]}},
            ("--unit", "char"),
            "an oracle of 9 characters; expected 6, as in {ref}",
        ),
        ({}, ("--unit", "char"), "errors of words; expected characters, as in this report"),
    ],
)
def test_an_oracle_of_another_set_is_refused(
    name: str,
    change: dict[str, Any],
    more: tuple[str, ...],
    found: str,
    base: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    depth = {**ORACLE["depths"][0], "words": change.get("words", 6)}
    path = base / "runs/oracle" / name
    path.write_text(json.dumps({**ORACLE, **change, "depths": [depth]}))
    if name == "oracle-lists.json" and more:
        same = {**ORACLE, "scoring": {"unit": "char", "options": ["--unit char"]}}
        (base / "runs/oracle/oracle.json").write_text(json.dumps(same))
    assert _report(base, *more) is None
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f"asrprune report: {path}: {found.format(ref=base / 'ref')}"


def test_an_oracle_of_this_set_is_taken(base: Path) -> None:
    rows = _report(base)
    assert rows is not None
    assert (rows["oracle"]["wer_percent"], rows["oracle"]["wer_lists_percent"]) == (1.5, 1.5)
    left_out = {**ORACLE["depths"][0], "words": 4}
    other = {"unit": "word", "options": ["--remove-fillers"]}
    older = {"depths": [{"wer_percent": 2.5, "interval_percent": [1.0, 3.0]}]}
    for value in ({**ORACLE, "depths": [left_out], "scoring": other}, older):
        (base / "runs/oracle/oracle.json").write_text(json.dumps(value))
        assert _report(base) is not None


TEXT = {"sentences": 2, "empty_lines": 1, "words": 5, "oov_left_out": 1, "text_hash": "ab"}


@pytest.mark.parametrize(
    ("dense", "a", "kept"),
    [
        (TEXT, TEXT, True),
        (TEXT, {**TEXT, "sentences": 3, "empty_lines": 0, "words": 7}, True),  # other forms
        (TEXT, {**TEXT, "text_hash": "cd"}, False),
        ({**TEXT, "text_hash": None}, {**TEXT, "words": 6, "oov_left_out": 0}, True),
        ({**TEXT, "text_hash": None}, {**TEXT, "words": 6}, False),
        ({**TEXT, "text_hash": None}, {**TEXT, "sentences": 3}, False),
        ({}, TEXT, True),
    ],
)
def test_perplexities_are_of_one_text(
    dense: dict[str, Any],
    a: dict[str, Any],
    kept: bool,
    base: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, counts in (("dense", dense), ("a", a), ("z", dense)):
        value = json.dumps({"ppl_word": 7.5, **counts})
        (base / "runs" / name / "perplexity.json").write_text(value)
    rows = _report(base, "--baseline", "dense")
    assert rows is not None
    found = [rows[name]["ppl_word"] for name in ("a", "dense", "z")]
    assert found == [7.5 if kept else None, 7.5, 7.5]
    said = [one.getMessage() for one in caplog.records]
    lines = [line for line in said if line.startswith("perplexities")]
    assert len(lines) == (not kept)
    if not kept:
        told = "perplexities of another text than that of dense (3 lines, 6 words) are left out: a"
        assert lines[0].startswith(f"{told} (")


def test_the_verb_tells_texts_apart(tmp_path: Path) -> None:
    pytest.importorskip("kenlm")
    (tmp_path / "tiny.arpa").write_text(
        "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-0.5\t<unk>\n-0.5\t<s>\t-0.1\n"
        "-0.5\t</s>\n-0.5\ta\t-0.1\n\n\\2-grams:\n-0.2\t<s> a\n\n\\end\\\n"
    )
    hashes = []
    for text in ("a a\na\n", "a  a \n\na\n", "a\na a\n"):
        (tmp_path / "text").write_text(text)
        argv = ["perplexity", "--lm", str(tmp_path / "tiny.arpa"), "--text", str(tmp_path / "text")]
        assert main([*argv, "--json", str(tmp_path / "out.json")]) == 0
        hashes.append(json.loads((tmp_path / "out.json").read_text())["text_hash"])
    assert hashes[0] == hashes[1] != hashes[2]
