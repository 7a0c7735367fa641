"""Intervals over speakers instead of utterances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

import numpy as np
import pytest

from asrprune.api.first_pass import write_nbest
from asrprune.cli.main import main
from asrprune.core.counts import ErrorCounts
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.errors import InputError
from asrprune.wer.bootstrap import bootstrap_wer
from asrprune.wer.speakers import number_speakers, read_utt2spk


def _counts(rates: list[float], per_speaker: int, words: int = 20) -> list[ErrorCounts]:
    """Utterances of speakers with these error rates."""
    generator = np.random.default_rng(0)
    errors = [int(generator.binomial(words, rate)) for rate in rates for _ in range(per_speaker)]
    return [ErrorCounts(words - wrong, wrong, 0, 0) for wrong in errors]


def test_speakers_that_differ_widen_the_interval_as_much_as_they_differ() -> None:
    rates = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
    counts = _counts(rates, 200)
    speakers = np.repeat(np.arange(6), 200)
    by_utterance, by_speaker = bootstrap_wer(counts), bootstrap_wer(counts, speakers=speakers)
    assert by_speaker.wer_percent == by_utterance.wer_percent
    assert (by_utterance.speakers, by_speaker.speakers) == (None, 6)
    assert by_speaker.utterances == by_utterance.utterances == 1200
    wers = [
        100.0 * sum(c.errors for c in counts[at : at + 200]) / 4000 for at in range(0, 1200, 200)
    ]
    spread = (by_speaker.normal.high - by_speaker.normal.low) / 2 / 1.96
    assert spread == pytest.approx(float(np.std(wers)) / np.sqrt(6), rel=0.03)
    assert (by_utterance.normal.high - by_utterance.normal.low) < spread


def test_a_speaker_for_each_utterance_is_the_bootstrap_of_utterances() -> None:
    counts = _counts([0.2], 50)
    speakers = np.arange(50)
    assert bootstrap_wer(counts, speakers=speakers).percentile == bootstrap_wer(counts).percentile


def test_one_speaker_has_no_interval() -> None:
    with pytest.raises(ValueError, match="utterances of 1 speaker; expected at least 2"):
        bootstrap_wer(_counts([0.2], 5), speakers=np.zeros(5, np.int64))


def test_the_verb_draws_speakers_for_one_system_and_for_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"s{speaker}-{n}" for speaker in range(3) for n in range(8)]
    for name, wrong in (("ref", ""), ("one", "0"), ("two", "01")):
        lines = [f"{utt} a b {'x' if utt[1] in wrong else 'c'}\n" for utt in names]
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")
    utt2spk = "".join(f"{utt} {utt[:2]}\n" for utt in [*names, "s9-1"])
    (tmp_path / "utt2spk").write_text(utt2spk, encoding="utf-8")
    call = ["wer", "--ref", str(tmp_path / "ref"), "--hyp", str(tmp_path / "one")]
    assert main([*call, "--utt2spk", str(tmp_path / "utt2spk")]) == 0
    assert capsys.readouterr().out.endswith("[ 0.00, 33.33 ] over 3 speakers\n")
    call += ["--compare", str(tmp_path / "two"), "--json", str(tmp_path / "json")]
    assert main([*call, "--utt2spk", str(tmp_path / "utt2spk")]) == 0
    with_speakers = capsys.readouterr().out
    assert with_speakers.count(" over 3 speakers\n") == 2
    # one of three speakers is worse: none, one, two or all of those drawn
    assert "%WER +11.11 95% percentile interval [ +0.00, +33.33 ]" in with_speakers
    assert _speakers_stated(tmp_path / "json") == [3, 3]
    assert main(call) == 0
    assert " speakers\n" not in capsys.readouterr().out
    assert _speakers_stated(tmp_path / "json") == [None, None]


def _speakers_stated(path: Path) -> list[Optional[int]]:
    """How many speakers the JSON says that were drawn, by system."""
    figures = json.loads(path.read_text(encoding="utf-8"))
    return [figures[side]["bootstrap"]["speakers"] for side in ("hyp", "compare")]


def test_the_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "utt2spk"
    path.write_text("u1 a\nu2 b c\n", encoding="utf-8")
    with pytest.raises(InputError, match=r":2: utterance u2: 'b c'; expected 'utt speaker'"):
        read_utt2spk(path)
    path.write_text("u1 a\nu2 a\n", encoding="utf-8")
    utt2spk = read_utt2spk(path)
    with pytest.raises(InputError, match=r"no speaker of utterance u3; expected one of every"):
        number_speakers(path, utt2spk, ["u1", "u3"])
    with pytest.raises(InputError, match=r"one speaker \(a\); expected at least 2"):
        number_speakers(path, utt2spk, ["u1", "u2"])


def test_few_speakers_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    many = {f"u{number}": f"s{number}" for number in range(20)}
    number_speakers("utt2spk", many, many)
    assert not caplog.messages
    number_speakers("utt2spk", many, list(many)[:19])
    (said,) = caplog.messages
    assert said.startswith("utt2spk: 19 speakers: intervals over fewer than 20 are too narrow")


@pytest.mark.parametrize("count", [20, 19, 1])
def test_few_utterances_are_warned_of(
    count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = {f"u{number:02}": "a b c" for number in range(count)}
    for name in ("ref", "hyp"):
        (tmp_path / name).write_text("".join(f"{utt} {text}\n" for utt, text in texts.items()))
    lists = [NBest(utt, (Hypothesis(text),)) for utt, text in texts.items()]
    write_nbest(tmp_path / "nbest", lists)
    ref, hyp, nbest = (str(tmp_path / name) for name in ("ref", "hyp", "nbest"))
    expected = {20: [], 19: ["19 utterances: intervals over f"], 1: ["one utterance: its interval"]}
    for name, call in (
        (hyp, ["wer", "--ref", ref, "--hyp", hyp]),
        (hyp, ["wer", "--ref", ref, "--hyp", hyp, "--compare", ref]),
        (nbest, ["oracle", "--nbest", nbest, "--ref", ref]),
    ):
        caplog.clear()
        assert main(call) == 0
        starts = [f"{name}: {told}" for told in expected[count]]
        assert [line[: len(start)] for line, start in zip(caplog.messages, starts)] == starts
        assert len(caplog.messages) == len(starts)
