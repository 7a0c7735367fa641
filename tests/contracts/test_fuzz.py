"""Damaged files of every kind end in one line: the first mutations of tests/bench/fuzz.py."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
from collections.abc import Iterator

import pytest

from asrprune.cli import modes
from asrprune.cli.main import COMMANDS
from asrprune.firstpass.formats.table import FORMATS
from asrprune.firstpass.references import REFERENCES
from asrprune.wer.texts import TEXT_FORMATS
from tests.bench.fuzz import Fuzz, Outcome
from tests.bench.fuzz_kinds import KINDS

MUTATIONS = 12
NO_FILE = {"list", "completion"}
READ = {
    *("IN", "--text", "--valid", "--tokenizer", "--data", "--config", "--init", "--lm", "--plan"),
    *("--teacher", "--cuts", "--like", "--manifest", "--utts", "--words", "--first-lm"),
    *("--references", "--calibration", "--nbest", "--scores", "--system", "--ref", "--first-pass"),
    *("--towards", "--weights", "--lattice", "--early-lm", "--cascade-weights", "--hyp"),
    *("--compare", "--equivalents", "--runs", "PATH", "--tokens", "SHARD"),
    *("--dev", "--dev-ref", "--test", "--test-ref", "--utt2spk", "--table"),
}
"""Options that name what is read."""
NO_FILE_NAMED = frozenset(
    [
        "--accept-unknown",
        "--accept-unscored",
        "--acoustic-scale",
        "--allow-commands",
        "--allow-test",
        "--alternations",
        "--baseline",
        "--beam",
        "--beam-size",
        "--begin",
        "--bench-utts",
        "--budget",
        "--cascade-margin",
        "--case",
        "--character-coverage",
        "--check",
        "--choose-form",
        "--compute-type",
        "--criterion",
        "--decision",
        "--decoder",
        "--device",
        "--distill",
        "--dtype",
        "--early-engine",
        "--early-threads",
        "--edit-costs",
        "--end",
        "--engine",
        "--engines",
        "--fact",
        "--fallback",
        "--filter",
        "--fine-tune-tokens",
        "--force",
        "--form",
        "--format",
        "--from",
        "--front",
        "--frontier",
        "--history",
        "--hyp-filter",
        "--hyp-format",
        "--hyphens",
        "--ignore-case",
        "--ignore-punctuation",
        "--json",
        "--language",
        "--lattice-beam",
        "--limit",
        "--list-size",
        "--lm-base",
        "--lm-scale",
        "--manifest-id",
        "--max-hmms",
        "--max-words",
        "--mbr",
        "--method",
        "--min-count",
        "--mode",
        "--model",  # of Whisper, which CTranslate2 reads
        "--model-type",
        "--negative-lm",
        "--nj",
        "--normalise",
        "--objective",
        "--on-bad",
        "--optional-words",
        "--out",
        "--over-long",
        "--parallel",
        "--paths",
        "--positions",
        "--posterior-scale",
        "--prompt",
        "--ref-format",
        "--references-format",
        "--remove-tags",
        "--remove-words",
        "--repeats",
        "--replications",
        "--resamples",
        "--rounds",
        "--sample-sentences",
        "--schedule",
        "--seed",
        "--sentence-form",
        "--set",
        "--set-name",
        "--settings",
        "--shard",
        "--size",
        "--sparsity",
        "--special",
        "--starts",
        "--state-hypotheses",
        "--statistics-tokens",
        "--steps",
        "--tensorboard",
        "--threads",
        "--timing",
        "--title",
        "--to",
        "--token-budget",
        "--tolerance",
        "--unit",
        "--verify",
        "--vocab-size",
        "--warmup",
        "--word-bonus",
        "--write-lattice",
        "--write-nbest",
    ]
)
"""The others."""


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    torch = pytest.importorskip("torch")
    pytest.importorskip("kenlm")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a forked process cannot use the threads of this one
    yield Fuzz(tmp_path_factory.mktemp("fuzz"))
    torch.set_num_threads(threads)


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    importlib.import_module(COMMANDS[verb][0]).add_arguments(parser)
    return parser


def test_every_verb_and_format_is_fuzzed() -> None:
    calls = [shlex.split(call) for kind in KINDS.values() for call in kind.calls]
    assert {call[0] for call in calls} == set(COMMANDS) - NO_FILE
    assert {f"format {name}" for name in FORMATS} <= set(KINDS)
    assert {f"references {name}" for name in REFERENCES} <= set(KINDS)
    assert {f"text {name}" for name in TEXT_FORMATS} <= set(KINDS)


def test_every_option_that_names_a_file_is_fuzzed() -> None:
    """With a damaged file in its place, in a call of one verb at least: the reader is the same."""
    words = [word for kind in KINDS.values() for call in kind.calls for word in call.split()]
    damaged, option = {"IN", "PATH", "SHARD"}, ""
    for word in words:
        option = word if word.startswith("--") else option
        if "{here}" in word:
            damaged.add(option)
    assert damaged >= READ, READ - damaged
    known = READ | NO_FILE_NAMED
    for verb in set(COMMANDS) - NO_FILE:
        assert set(modes.options(_parser(verb)).values()) <= known, verb


@pytest.mark.parametrize("name", KINDS)
def test_whole_files_are_read(name: str, fuzz: Fuzz) -> None:
    assert fuzz.check_whole(name) == []


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_end_in_one_line(name: str, fuzz: Fuzz) -> None:
    found = {
        index: outcome.failure
        for index, outcome in fuzz.many(name, range(MUTATIONS))
        if outcome.failure
    }
    assert found == {}


def _of_endless_training(fuzz: Fuzz) -> Outcome:
    """What becomes of a training config that asks for 10^9 steps, in a second."""
    name = "training config"
    fuzz.check_whole(name)
    config = json.loads((fuzz.place(name) / "config.json").read_text())
    content = json.dumps({**config, "max_steps": 10**9, "max_tokens": None}).encode()
    fuzz.seconds, kept = 2.0, fuzz.seconds
    try:
        return fuzz.given(name, "config.json", content, 0)
    finally:
        fuzz.seconds = kept


def test_training_as_long_as_a_file_asks_for_is_no_hang(fuzz: Fuzz) -> None:
    outcome = _of_endless_training(fuzz)
    assert (outcome.status, outcome.failure) == (0, "")


def test_a_training_step_that_hangs_is_one(fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    from asrprune.lm.training.loop import TrainingLoop

    def hang(self: TrainingLoop) -> None:
        while True:
            pass

    monkeypatch.setattr(TrainingLoop, "_add_up_gradients", hang)
    assert "more than 2 s" in _of_endless_training(fuzz).failure


def test_what_hangs_between_training_steps_is_one(
    fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asrprune.lm.training.train import _Run

    def hang(self: _Run, *_: object) -> None:
        while self._loop.steps > 20:
            pass

    monkeypatch.setattr(_Run, "after", hang)
    assert "more than 2 s" in _of_endless_training(fuzz).failure
