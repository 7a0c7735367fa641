"""WER of mappings, with its interval, alone and against a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import asrprune
from asrprune.cli.main import main
from asrprune.errors import InputError
from asrprune.wer.bootstrap import bootstrap_wer, compare_scorings
from asrprune.wer.wer import score_texts

REFS = {"u1": "a b c", "u2": "d", "u3": "e f"}
HYPS = {"u3": "e f", "u1": "a b x", "u2": ""}
WORSE = {"u1": "x y z", "u2": "", "u3": "e"}


def test_figures_are_those_of_the_verb() -> None:
    result = asrprune.compute_wer(REFS, HYPS, WORSE, replications=500, seed=3)
    scoring = score_texts(REFS, HYPS)
    assert result.scoring == scoring
    assert (result.counts.substitutions, result.counts.deletions, result.counts.words) == (1, 1, 6)
    assert result.wer_percent == pytest.approx(100 * 2 / 6)
    expected = bootstrap_wer([one.counts for one in scoring.utterances], 500, 3)
    assert result.bootstrap == expected
    assert result.interval == expected.percentile
    assert result.comparison == compare_scorings(score_texts(REFS, WORSE), scoring, 500, 3)
    assert result.comparison.difference_percent == pytest.approx(100 * (2 - 5) / 6)


def test_a_line_says_it_all() -> None:
    result = asrprune.compute_wer(REFS, HYPS, WORSE)
    assert str(result).startswith("WER 33.33 % [0.00, ")
    assert "2 errors in 6 words; -50.00 [" in str(result)
    part = asrprune.compute_wer(REFS, {"u1": "a b c"}, mode="present")
    assert str(part).endswith("0 errors in 3 words [PARTIAL] 2 of 3 utterances missing")
    filled = asrprune.compute_wer(REFS, {"u1": "a b c"}, mode="all")
    assert str(filled).endswith("3 errors in 6 words [PARTIAL] 2 of 3 utterances missing")


def test_a_line_names_the_unit_and_the_utterances_of_both() -> None:
    chars = str(asrprune.compute_wer(REFS, HYPS, unit="char"))
    assert chars.startswith("CER ")
    assert chars.endswith("2 errors in 6 characters")
    half = {"u1": "a b c", "u2": "x"}  # of both: u1, in which hyps have one error of three words
    part = asrprune.compute_wer(
        REFS, {"u1": "a b x", "u3": "e f"}, half, mode="present", replications=50
    )
    assert part.wer_percent == 20.0
    ends = "[PARTIAL] on the 1 utterances of both: WER 33.33, baseline 0.00"
    assert str(part).endswith(ends)
    with pytest.raises(InputError, match="baseline: no reference word in the 0 utterances shared"):
        asrprune.compute_wer(REFS, {"u1": "a"}, {"u3": "e"}, mode="present")


def test_few_utterances_are_told() -> None:
    refs = {f"u{number}": "a b" for number in range(20)}
    assert "too few" not in str(asrprune.compute_wer(refs, refs, replications=9))
    few = dict(list(refs.items())[:19])
    said = "[0.00, 0.00] (utterances: 19, too few for intervals), 0 errors"
    assert said in str(asrprune.compute_wer(few, few, replications=9))
    assert "too few" in str(asrprune.compute_wer(refs, refs, few, mode="present", replications=9))
    speakers = {utt: utt[-1] for utt in few}  # who bring a warning of their own
    assert "too few" not in str(asrprune.compute_wer(few, few, speakers=speakers, replications=9))


def test_missing_and_unknown_utterances_are_named() -> None:
    with pytest.raises(InputError, match="hyps: no hypothesis for utterance u3"):
        asrprune.compute_wer(REFS, {"u1": "a", "u2": ""})
    with pytest.raises(InputError, match="refs: no reference for utterance u4"):
        asrprune.compute_wer(REFS, {**HYPS, "u4": "a"})
    with pytest.raises(InputError, match="baseline: no hypothesis for utterance u1"):
        asrprune.compute_wer(REFS, HYPS, {"u2": "", "u3": ""})
    with pytest.raises(ValueError, match="mode is 'some'"):
        asrprune.compute_wer(REFS, HYPS, mode="some")


@pytest.mark.parametrize(
    ("refs", "hyps", "found"),
    [
        (
            list(REFS.values()),
            HYPS,
            r"refs is \['a b c', .* \(list\); expected utterance id",
        ),
        (REFS, "a b c", r"hyps is 'a b c' \(str\); expected utterance id -> words"),
        (
            REFS,
            {**HYPS, "u2": ["d"]},
            r"hyps: utterance u2 has \['d'\] \(list\); expected its",
        ),
        (
            {**REFS, "u2": None},
            HYPS,
            r"refs: utterance u2 has None \(NoneType\); expected its",
        ),
    ],
)
def test_what_is_no_mapping_of_words_is_refused(refs: Any, hyps: Any, found: str) -> None:
    with pytest.raises(TypeError, match=found):
        asrprune.compute_wer(refs, hyps)


def test_half_a_character_is_named_with_its_utterance() -> None:
    with pytest.raises(ValueError, match=r"hyps: utterance u2: 'd\\ud800' has half a surrogate"):
        asrprune.compute_wer(REFS, {**HYPS, "u2": "d\ud800"})


def test_intervals_over_speakers() -> None:
    refs = {f"s{n}-{k}": "a b c d" for n in range(4) for k in range(5)}
    hyps = {utt: "a b c x" if utt < "s2" else "a b c d" for utt in refs}
    speakers = {utt: utt[:2] for utt in refs}
    over_speakers = asrprune.compute_wer(refs, hyps, refs, speakers=speakers)
    over_utterances = asrprune.compute_wer(refs, hyps, refs)
    assert over_speakers.wer_percent == over_utterances.wer_percent == 12.5
    assert over_speakers.interval == (0.0, 25.0)
    assert over_speakers.comparison is not None
    assert over_speakers.comparison.interval == (0.0, 25.0)
    assert over_utterances.interval.high < 20
    with pytest.raises(InputError, match="speakers: no speaker of utterance s3-4"):
        asrprune.compute_wer(refs, hyps, speakers={utt: "x" for utt in refs if utt != "s3-4"})


def test_a_comparison_over_speakers_takes_two_who_are_in_both(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refs = {f"u{number}": "the cat sat on the mat" for number in range(1, 5)}
    hyps = dict.fromkeys(("u1", "u2", "u3"), "the cat sat on the mats")
    other = dict.fromkeys(("u1", "u2", "u4"), "the cat sad on the mats")
    speakers = {"u1": "a", "u2": "a", "u3": "b", "u4": "b"}
    found = "one speaker in the 2 utterances that both systems have; expected at least 2, who can"
    with pytest.raises(InputError, match=f"speakers: {found}"):
        asrprune.compute_wer(refs, hyps, baseline=other, mode="present", speakers=speakers)
    call = ["wer", "--mode", "present"]
    for option, texts in (("ref", refs), ("hyp", hyps), ("compare", other), ("utt2spk", speakers)):
        (tmp_path / option).write_text("".join(f"{utt} {said}\n" for utt, said in texts.items()))
        call += [f"--{option}", str(tmp_path / option)]
    assert main(call) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"asrprune wer: {tmp_path / 'utt2spk'}: {found}")
