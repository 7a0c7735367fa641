"""The results of recipes/mini in the documents: made of tables, kept where written by hand, and an
edited number is found."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from asrprune.report.rows import SystemRow, Weight

LOCAL = Path(__file__).parents[2] / "local/mini"
sys.path.insert(0, str(LOCAL))

import write_results

PAGE = (
    "# Old\n<!-- by hand: setting -->\nSpeech of four voices.\n<!-- end by hand -->\nold table\n"
    "<!-- by hand: claims -->\nIt holds.\n\n- twice\n<!-- end by hand -->\n"
)
README = (
    "# It\n\n<!-- results: recipes/mini/RESULTS.md -->\n| old |\n<!-- end of results -->\n\nrest\n"
)


def table(wer: float, seed: int, **more: Any) -> dict[str, Any]:
    """What ``asrprune report`` writes: a dense LM, an n-gram, a pruned LM."""
    interval = {"delta_low": -0.5, "delta_high": 1.5, "delta_p": 0.25}
    rows = [
        SystemRow("dense", "dense", size_bytes=8_000_000, ppl_word=100.0, wer_percent=wer),
        SystemRow("tri", "n-gram", wer_percent=wer + 1, delta_percent=1.0, **interval),
        SystemRow(
            "small",
            "pruned",
            sparsity=0.7,
            size_bytes=2_000_000,
            wer_percent=wer + 0.123456789,
            weights=(Weight("acoustic", 1.0),),
            delta_percent=0.123456789,
            **interval,
        ),
    ]
    machine = {"processor": "Some CPU", "flags": ["avx2"], "cores": 2, "memory_bytes": 2**34}
    return {
        "baseline": "dense",
        "front": ["dense", "small"],
        "rows": [asdict(row) for row in rows],
        "facts": {"run": f"seed {seed}", "command": "recipes/mini/run.sh --seed 0"},
        "measured": {"machine": machine, "training_precision": "fp32"},
        "provenance": {
            "command": "asrprune report --runs /home/somebody/runs",
            "commit": "0123456789ab",
            "torch": "2.13.0",
            "python": "3.11.7",
            "time_utc": "2026-01-02T03:04:05+00:00",
        },
        **more,
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two tables, times, and the two documents."""
    for seed, wer in enumerate((20.0, 22.0)):
        (tmp_path / f"{seed}.json").write_text(json.dumps(table(wer, seed)))
    (tmp_path / "times.tsv").write_text("stage\tname\tseconds\n0\tenvironment\t30\n1\ttext\t90.4\n")
    (tmp_path / "RESULTS.md").write_text(PAGE)
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def call(place: Path, *arguments: str) -> int:
    """The script's exit status, on the documents in ``place``."""
    names = {"--results": "results.json", "--page": "RESULTS.md", "--readme": "README.md"}
    paths = [part for flag, name in names.items() for part in (flag, str(place / name))]
    return write_results.main([*arguments, *paths])


def write(place: Path, *more: str) -> int:
    """The status of writing from both tables."""
    tables = [str(place / f"{seed}.json") for seed in (0, 1)]
    return call(place, *tables, "--times", str(place / "times.tsv"), *more)


def lines_of(path: Path) -> list[list[str]]:
    """The cells of all table rows."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_documents_hold_the_numbers(place: Path) -> None:
    assert write(place, "--fact", "beside=other jobs") == 0
    page, readme = (place / "RESULTS.md").read_text(), (place / "README.md").read_text()
    cells = lines_of(place / "RESULTS.md")
    assert ["dense", "8.00", "100.0", "20.00", "", ""] in cells  # first screen
    assert ["small", "0.70", "2.00", "", "20.12", "+0.12 [-0.50, +1.50]", "0.250"] in cells  # all
    assert ["system", "WER %, seed 0", "WER %, seed 1", "mean", "range", "ppl/word"] in cells
    assert ["small", "20.12", "22.12", "21.12", "20.12 to 22.12", ""] in cells
    assert ["dense", "20.00", "22.00", "21.00", "20.00 to 22.00", "100.0 / 100.0"] in cells
    assert ["tri", "seed 1", "+1.00 [-0.50, +1.50]", "0.250"] in cells
    assert ["", "all", "120 (2 min)"] in cells
    said = (
        "- A quarter of the dense LM's bytes (2.00 MB, small): WER +0.12 [-0.50, +1.50], no loss."
    )
    assert said in " ".join(page.split())
    assert said in " ".join(readme.split())
    for fact in (
        "- command: recipes/mini/run.sh --seed 0",
        "- speed measured on: Some CPU, with avx2, 2 cores, 16 GiB",
        "- precision of training: fp32",
        "- versions: python 3.11.7, torch 2.13.0",
        "- commit: 0123456789ab",
        "- beside: other jobs",
    ):
        assert f"{fact}\n" in page
    assert "Speech of four voices.\n" in page
    assert "It holds.\n\n- twice\n" in page
    assert "| old |" not in readme
    assert "old table" not in page
    assert readme.startswith("# It\n\n<!-- results: recipes/mini/RESULTS.md -->\n| system |")
    assert readme.endswith("<!-- end of results -->\n\nrest\n")
    text = (place / "results.json").read_text()
    assert "somebody" not in text
    assert "weights" not in text
    assert '"wer_percent": 20.1235,' in text


def test_once_more_changes_nothing_and_is_whole(place: Path) -> None:
    assert write(place) == 0
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    assert call(place) == 0
    assert call(place, "--check") == 0
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("README.md", "+0.12", "+0.02"),
        ("README.md", "no loss", "a gain"),
        ("RESULTS.md", "21.12", "21.11"),
        ("RESULTS.md", "fp32", "bf16"),
        ("RESULTS.md", "120 (2 min)", "110 (2 min)"),
        ("results.json", "22.1235", "22.2235"),
        ("results.json", '"seconds": 30.0', '"seconds": 31.0'),
    ],
)
def test_an_edited_number_is_found(
    name: str, old: str, new: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(place) == 0
    text = (place / name).read_text()
    assert old in text
    (place / name).write_text(text.replace(old, new, 1))
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    assert call(place, "--check") == 1
    error = capsys.readouterr().err
    document = "RESULTS.md" if name == "results.json" else name
    assert error.startswith(f"write_results: {place / document}:")
    assert "by results.json" in error
    assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_what_is_written_by_hand_may_change(place: Path) -> None:
    assert write(place) == 0
    page = place / "RESULTS.md"
    page.write_text(page.read_text().replace("It holds.", "It does not hold."))
    assert call(place, "--check") == 0


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda place: (place / "RESULTS.md").write_text("# No\n"), "RESULTS.md: no <!-- by hand"),
        (lambda place: (place / "README.md").write_text("# No\n"), "README.md: no <!-- results"),
        (lambda place: (place / "1.json").write_text("{}"), "1.json: rows is missing"),
        (
            lambda place: (place / "1.json").write_text(json.dumps(table(1, 1, baseline="tri"))),
            "1.json: baseline tri; expected dense",
        ),
        (
            lambda place: (place / "0.json").write_text(
                json.dumps(table(1, 1, facts={"made in": "~/exp"}))
            ),
            "fact 'made in' is '~/exp'; expected no path",
        ),
        (
            lambda place: (place / "1.json").write_text(json.dumps(table(1, 0))),
            "1.json: two runs called 'seed 0'; expected another --fact",
        ),
        (lambda place: (place / "times.tsv").write_text("0\ttext\t1\n"), "times.tsv:1: "),
        (
            lambda place: (place / "times.tsv").write_text("stage\tname\tseconds\n0\ttext\t-1\n"),
            "times.tsv:2: ",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    spoil: Any, found: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(place)
    assert write(place) == 1
    error = capsys.readouterr().err
    assert found in error
    assert error.count("\n") == 1
    assert not (place / "results.json").exists()


def test_options_that_do_not_go_together(place: Path) -> None:
    for flags in (("--check", "0.json"), ("--times", "x"), ("--fact", "a=b")):
        with pytest.raises(SystemExit, match="2"):
            call(place, *flags)
