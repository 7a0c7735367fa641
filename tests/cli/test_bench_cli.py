"""``asrprune bench`` on an n-gram: ``--limit`` takes part of the lists."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.firstpass.formats.jsonl import write_nbest
from tests.quick import slow

ARPA = (
    "\\data\\\nngram 1=4\nngram 2=1\n\n\\1-grams:\n-0.5\t<unk>\n-0.5\t<s>\t-0.1\n-0.5\t</s>\n"
    "-0.5\ta\t-0.1\n\n\\2-grams:\n-0.2\t<s> a\n\n\\end\\\n"
)


@pytest.mark.parametrize(("flags", "audio_s"), [(["--limit", "1"], 1.0), *slow([([], 6.0)])])
def test_limit_measures_fewer_utterances(flags: list[str], audio_s: float, tmp_path: Path) -> None:
    pytest.importorskip("kenlm")
    (tmp_path / "tiny.arpa").write_text(ARPA)
    lists = [NBest(f"u{n}", (Hypothesis("a", -1.0),), audio_s=float(n)) for n in (1, 2, 3)]
    write_nbest(tmp_path / "nbest.jsonl", lists)
    command = ["bench", "--lm", str(tmp_path / "tiny.arpa"), "--json", str(tmp_path / "out.json")]
    assert main([*command, "--nbest", str(tmp_path / "nbest.jsonl"), *flags]) == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["systems"][0]["audio_s"] == audio_s
    assert figures["size_bytes"] == len(ARPA)
