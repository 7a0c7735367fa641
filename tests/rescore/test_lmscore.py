"""A block that a kill cut short does not count, however much of it is on disk."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.lm.protocol import Runtime, ScoringStats
from asrprune.rescore.lmscore import BLOCK_HYPOTHESES, score_nbest
from asrprune.rescore.scores_file import make_header, read_scores
from tests.damage import flips

LISTS = [NBest(f"u{n}", (Hypothesis("a " * n + "b"), Hypothesis("b")), 1.0) for n in range(7)]


class Counting:
    """An LM whose score is minus the length of the text; it notes what it is asked for."""

    name = "counting"
    stats = ScoringStats()

    def __init__(self, device: str = "cpu") -> None:
        self.runtime = Runtime("torch", device)
        self.asked: list[str] = []
        self.calls = 0

    def score_lists(self, lists):
        self.calls += 1
        self.asked += [text for texts in lists for text in texts]
        return [np.array([-float(len(text)) for text in texts]) for texts in lists]


def score(out: Path, lists) -> list[str]:
    lm = Counting()
    timing = score_nbest("lists", lists, lm, out, make_header("lm"), {"engine": "x"}, 4)
    assert timing.audio_s == len(LISTS)  # of the blocks that were taken over too
    return lm.asked


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 5])
def test_only_whole_blocks_are_taken_over(tmp_path: Path, cut: int) -> None:
    """Blocks of two utterances: settings, then two lines and one of timing each."""
    whole = tmp_path / "whole"
    score(whole, LISTS)

    def dying():
        yield from LISTS[:4]
        raise KeyboardInterrupt

    out, partial = tmp_path / "out", tmp_path / "out.partial"
    with pytest.raises(KeyboardInterrupt):
        score(out, dying())
    lines = partial.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(lines) == 7
    partial.write_text("".join(lines[: len(lines) - cut]), encoding="utf-8")
    done = 2 * ((6 - cut) // 3)
    asked = score(out, LISTS)
    assert asked == [hyp.text for nbest in LISTS[done:] for hyp in nbest.hyps]
    assert out.read_bytes() == whole.read_bytes()
    assert list(read_scores(out).utterances) == [nbest.utt for nbest in LISTS]
    assert not partial.exists()


@pytest.mark.parametrize(("device", "calls"), [("cpu", 4), ("cuda:0 (a GPU)", 1)])
def test_a_gpu_gets_larger_blocks(tmp_path: Path, device: str, calls: int) -> None:
    same = tuple([Hypothesis("a")] * (BLOCK_HYPOTHESES // 2))
    lists = [NBest(f"u{n}", same) for n in range(7)]
    lm = Counting(device)
    score_nbest("lists", lists, lm, tmp_path / "out", make_header("lm"), {})
    assert lm.calls == calls


def test_every_flipped_bit_of_a_partial_file_is_found(tmp_path: Path) -> None:
    """The result is that of a run that nothing happened to."""
    whole, out, partial = tmp_path / "whole", tmp_path / "out", tmp_path / "out.partial"
    score(whole, LISTS)

    def dying():
        yield from LISTS[:6]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(out, dying())
    asked = set()
    for _ in flips(partial, 80, 0):
        asked.add(len(score(out, LISTS)))
        assert out.read_bytes() == whole.read_bytes()
    assert asked <= {14, 10, 6}  # hypotheses: all, or those after one block or two
    assert 2 not in asked


def test_a_partial_file_of_before_is_taken_over(tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"

    def dying():
        yield from LISTS[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(out, dying())
    text = re.sub(', "crc32": "[0-9a-f]{8}"}', "}", partial.read_text(encoding="utf-8"))
    assert "crc32" not in text
    partial.write_text(text, encoding="utf-8")
    assert len(score(out, LISTS)) == 6


@pytest.mark.parametrize("first", [b"", b"[]\n", b"3\n", b'{"settings"', b"{}\n", b"\xff\n"])
def test_a_partial_file_without_its_settings_starts_anew(
    tmp_path: Path, first: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "out.partial").write_bytes(first)
    assert len(score(tmp_path / "out", LISTS)) == 14
    assert "out.partial is damaged" in caplog.text


def test_a_lock_that_a_kill_left_beside_the_partial_file_goes(tmp_path: Path) -> None:
    def dying():
        yield from LISTS[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(tmp_path / "out", dying())
    (tmp_path / ".out.partial.lock").touch()
    score(tmp_path / "out", LISTS)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
