"""tune and rescore in characters: the weights hold the unit, and another one is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import arc_totals, from_arcs
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.jsonl import write_nbest
from asrprune.rescore.scores_file import UtteranceScores, make_header, write_scores

HYPS = ("我们 去了", "我们去", "我 们去 吧", "去")


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Path:
    hyps = tuple(Hypothesis(text, -1.0 - 2 * n, -2.0) for n, text in enumerate(HYPS))
    lists = [NBest(f"a-{number}", hyps, 2.0, "我们去吧") for number in range(6)]
    write_nbest(tmp_path / "n.jsonl", lists)
    scored = [UtteranceScores(one.utt, one.digest, -np.arange(4.0)) for one in lists]
    write_scores(tmp_path / "s", make_header("lm"), scored)
    return tmp_path


def _tune(place: Path, *more: str) -> dict[str, object]:
    inputs = ["--nbest", str(place / "n.jsonl"), "--scores", str(place / "s")]
    assert main(["tune", *inputs, "--out", str(place / "w.json"), "--resamples", "0", *more]) == 0
    value: dict[str, object] = json.loads((place / "w.json").read_text())
    return value


def _rescore(place: Path, *more: str) -> int:
    inputs = ["--nbest", str(place / "n.jsonl"), "--scores", str(place / "s")]
    weights = ["--weights", str(place / "w.json"), "--out", str(place / "hyp")]
    return main(["rescore", *inputs, *weights, *more])


def test_errors_are_counted_in_the_unit_that_the_weights_hold(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    found = _tune(place, "--unit", "char")
    assert "dev CER " in caplog.text
    assert "(6 utterances, 24 characters)" in caplog.text
    assert _rescore(place) == 0
    assert "tuned on this set: its CER is not a test result" in caplog.text
    assert found["weights"]["unit"] == "char"  # type: ignore[index]
    assert found["dev"]["words"] == 24  # type: ignore[index]
    words = _tune(place)
    assert "unit" not in words["weights"]  # type: ignore[operator]
    assert words["dev"]["words"] == 6  # type: ignore[index]


def test_rescore_follows_the_unit_and_refuses_another(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {"acoustic": 1.0, "first_lm": 0.0, "word_bonus": 5.0, "lm": [0.0], "unit": "char"}
    head = {"format": "asrprune-weights", "version": 1, "lms": ["lm"], "weights": weights}
    (place / "w.json").write_text(json.dumps(head))
    assert _rescore(place, "--unit", "char") == 0
    # -1 + 4 x 5 against -5 + 4 x 5; by word -1 + 2 x 5 against -5 + 3 x 5
    assert (place / "hyp").read_text(encoding="utf-8").startswith("a-0 我们 去了\n")
    assert _rescore(place, "--unit", "word") == 1
    assert "w.json: weights tuned by char; expected --unit word" in capsys.readouterr().err
    head["weights"] = {**weights, "unit": "word"}
    (place / "w.json").write_text(json.dumps(head))
    assert _rescore(place) == 0
    assert (place / "hyp").read_text(encoding="utf-8").startswith("a-0 我 们去 吧\n")
    head["weights"] = {**weights, "unit": "syllable"}
    (place / "w.json").write_text(json.dumps(head))
    assert _rescore(place) == 1


def test_mbr_counts_characters(place: Path) -> None:
    _tune(place, "--unit", "char", "--mbr")
    assert _rescore(place, "--decision", "mbr") == 0


def test_the_bonus_of_an_arc_is_that_of_its_units() -> None:
    lattice = from_arcs("a-1", 3, 0, 2, [(0, 1, "我们", 0.0, None), (1, 2, "", 0.0, None)])
    weights = ScoreWeights(1.0, 0.0, (), 0.5, "char")
    assert arc_totals(lattice, weights).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="syllable"):
        ScoreWeights(unit="syllable")


def test_references_of_a_trn_are_read_and_alternatives_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = place / "ref.trn"
    ref.write_text("".join(f"我们去吧 (a-{n})\n" for n in range(6)), encoding="utf-8")
    assert _tune(place, "--unit", "char", "--ref", str(ref))["dev"]["words"] == 24  # type: ignore[index]
    ref.write_text(ref.read_text(encoding="utf-8").replace("吧", " { 吧 / @ }"), encoding="utf-8")
    inputs = ["--nbest", str(place / "n.jsonl"), "--scores", str(place / "s"), "--ref", str(ref)]
    assert main(["tune", *inputs, "--out", str(place / "w2.json")]) == 1
    assert "ref.trn:1: utterance a-0: alternatives; expected plain" in capsys.readouterr().err
