"""``asrprune sweep``: every step once, and again only where something has changed."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from asrprune.cli import sweep_steps
from asrprune.cli.main import main
from asrprune.cli.sweep_steps import Step, Sweep, bench_step, scoring_steps, tuning_step
from asrprune.files import sha256
from tests.small_inputs import save_small_inputs

pytest.importorskip("kenlm")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_small_inputs(tmp_path_factory.mktemp("sweep"))


def argv(inputs: dict[str, Path], out: Path, *systems: str) -> list[str]:
    made = ["sweep", "--out", str(out), "--engine", "torch", "--repeats", "1", "--accept-unknown"]
    for name in ("dev", "test"):
        made += [f"--{name}", str(inputs["nbest"]), f"--{name}-ref", str(inputs["ref"])]
    return [*made, "--bench-utts", "2", "--system", *systems]


def commands(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The verbs that were called."""
    found = [one.getMessage() for one in caplog.records if "sweep_steps" in one.name]
    caplog.clear()
    return [one.split()[2] for one in found if one.startswith("+ ")]


SCORING = ["lmscore", "lmscore", "perplexity"]


@pytest.mark.slow
def test_a_sweep_ends_in_the_report_and_does_nothing_twice(
    inputs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    lm = tmp_path / "lm"
    shutil.copytree(inputs["lm"], lm)
    call = argv(inputs, tmp_path / "out", f"one={lm}", f"two={inputs['imported']}")
    call.append(f"both={lm},{inputs['arpa']}")
    assert main(call) == 0
    middle = ["tune", "rescore", "rescore", "rescore", "bench", "oracle", "report"]
    assert commands(caplog) == SCORING * 3 + middle
    table = json.loads((tmp_path / "out/report/table.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}
    assert set(rows) == {"first-pass", "oracle", "one", "two", "both"}
    benches = sorted(path.name for path in (tmp_path / "out/runs/both").glob("bench*"))
    assert benches == ["bench-lm1.json", "bench-one.json"]
    page = sha256(tmp_path / "out/report/table.md")

    assert main(call) == 0
    assert commands(caplog) == []
    (tmp_path / "out/runs/two/hyp").unlink()
    assert main(call) == 0
    assert commands(caplog) == ["rescore"]
    assert sha256(tmp_path / "out/report/table.md") == page

    repeats, utts = call.index("--repeats"), call.index("--bench-utts")
    shorter = [*call[:repeats], *call[repeats + 2 : utts + 1], "0", *call[utts + 2 :]]
    assert main(shorter) == 0
    assert commands(caplog) == ["report"]
    assert list((tmp_path / "out/runs").glob("*/bench*")) == []

    config = json.loads((lm / "config.json").read_text())
    config["provenance"]["note"] = "another"  # of the same weights, but it is not the same file
    config.pop("crc32", None)
    (lm / "config.json").write_text(json.dumps(config))
    assert main(call) == 0
    again = commands(caplog)
    assert again[:4] == [*SCORING, "tune"]  # the other LMs' scores stay
    assert again[-2:] == ["bench", "report"]


def untimed(inputs: dict[str, Path], out: Path, *systems: str) -> list[str]:
    call = argv(inputs, out, *systems)
    call[call.index("--bench-utts") + 1] = "0"
    del call[call.index("--repeats") : call.index("--repeats") + 2]
    return call


def made(out: Path) -> dict[str, object]:
    """What a sweep of system x says."""
    weights = json.loads((out / "runs/x/weights.json").read_text())["weights"]
    table = json.loads((out / "report/table.json").read_text())["rows"]
    with gzip.open(out / "lms/x/test.scores.gz", "rt") as stream:
        header, *scores = stream.read().splitlines()
    return {"lm": json.loads(header)["lm_hash"], "scores": scores, "w": weights, "rows": table}


@pytest.mark.parametrize(("other", "nj"), [("lm", "1"), ("lm", "2"), ("unit", "1"), ("./", "1")])
def test_a_command_that_is_given_again_after_another_does_not_take_its_results(
    inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    other: str,
    nj: str,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.chdir(tmp_path)
    first = [*untimed(inputs, Path("out"), f"x={inputs['lm']}"), "--nj", nj]
    second = list(first)
    if other == "unit":
        second += ["--unit", "char"]
    else:
        second[second.index("--system") + 1] = f"x={inputs['imported']}"
    if other == "./":
        second[second.index("out")] = "./out"
    found = []
    for call in (first, second, first):
        assert main(call) == 0
        found.append(made(Path("out")))
        caplog.clear()
    assert found[0] != found[1]
    assert found[0] == found[2]
    assert main(first) == 0
    assert commands(caplog) == []


@pytest.mark.parametrize("verb", ["lmscore", "tune", "report"])
def test_a_step_of_another_command_that_is_killed_leaves_no_mark_of_what_it_was_writing(
    inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    verb: str,
) -> None:
    caplog.set_level(logging.INFO)
    call, run = untimed(inputs, tmp_path, f"x={inputs['lm']}"), sweep_steps._run

    def killed(step: Step) -> Step:
        if step.argv[0] != verb:
            return run(step)
        for path in step.writes:
            Path(path).write_text("other\n")
        raise KeyboardInterrupt

    assert main(call) == 0
    found = made(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(sweep_steps, "_run", killed)
        with contextlib.suppress(KeyboardInterrupt):
            main([*call, "--normalise", "upper", "--unit", "char"])
    caplog.clear()
    assert main(call) == 0
    assert verb in commands(caplog)
    assert made(tmp_path) == found


def test_marks_that_do_not_tell_their_files_do_not_count(
    inputs: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    call = untimed(inputs, tmp_path, f"x={inputs['lm']}")
    assert main(call) == 0
    ran = commands(caplog)
    there = json.loads((tmp_path / "steps.json").read_text())
    there.pop("crc32", None)
    for step in there["done"]:
        del step["writes"]
    (tmp_path / "steps.json").write_text(json.dumps(there))
    assert main(call) == 0
    assert commands(caplog) == ran


def test_a_system_of_two_lms_does_not_keep_the_perplexity_of_one(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    lms = [str(inputs[name]) for name in ("lm", "arpa")]
    for system, count in ((f"x={lms[0]}", 1), (f"x={','.join(lms)}", 0)):
        assert main(untimed(inputs, out, f"base={lms[0]}", system)) == 0
        assert len(list((out / "runs/x").glob("perplexity.json"))) == count
        assert (out / "runs/base/perplexity.json").is_file()


def test_lms_are_scored_once_whatever_systems_they_are_in() -> None:
    both, alone, ngram = ("both", ("exp/a", "b.arpa")), ("a", ("exp/a",)), ("lm1", ("c.arpa",))
    files = ("dev", "dev.text", "test", "test.text")
    sweep = Sweep(
        (both, alone, ngram), *files, None, "a", "auto", 2, 1, 5, 3, "", True, None, "out"
    )
    assert sweep.lms == {"a": "exp/a", "lm2": "b.arpa", "lm1": "c.arpa"}
    calls = [step.command for step in scoring_steps(sweep)]
    assert len(calls) == 9
    assert calls[0] == (
        "asrprune lmscore --lm exp/a --nbest dev --engine auto --threads 2 --accept-unknown"
        " --out out/lms/a/dev.scores.gz"
    )
    assert calls[3] == (
        "asrprune lmscore --lm b.arpa --nbest dev --accept-unknown --out out/lms/lm2/dev.scores.gz"
    )
    command = tuning_step(sweep).command
    assert " both=out/lms/a/dev.scores.gz,out/lms/lm2/dev.scores.gz " in command
    assert command.endswith(" --towards a --nj 1 --out out/runs")


def test_errors_are_counted_in_the_unit_and_lms_see_the_text_that_was_asked_for(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    call = argv(inputs, out, f"one={inputs['lm']}")
    call += [
        "--unit",
        "char",
        "--normalise",
        "upper",
        "--language",
        "tr",
        "--special",
        "[noise]=keep",
        "<um>=drop",
    ]
    assert main(call) == 0
    done = json.loads((out / "steps.json").read_text())["done"]
    commands = {step["command"].split()[1]: f"{step['command']} " for step in done}
    text = " --normalise upper --language tr --special '[noise]=keep' '<um>=drop' --accept-unknown "
    told = {verb for verb, command in commands.items() if text in command}
    assert told == {"lmscore", "perplexity", "bench"}
    told = {verb for verb, command in commands.items() if " --unit char " in command}
    assert told == {"tune", "oracle", "report"}
    assert json.loads((out / "runs/one/weights.json").read_text())["weights"]["unit"] == "char"
    assert "CER % [95 %]" in (out / "report/table.md").read_text()


def test_over_long_hypotheses_are_for_the_verbs_that_score_with_checkpoints() -> None:
    files = ("dev", "dev.text", "test", "test.text")
    systems = (("a", ("exp/a",)), ("b", ("b.arpa",)))
    sweep = Sweep(systems, *files, None, "a", "auto", 1, 1, 5, 3, "", False, None, "out")
    windows = replace(sweep, over_long="window")
    told = [
        step.command.split()[1:4:2]
        for step in (*scoring_steps(windows), bench_step(windows), tuning_step(windows))
        if "--over-long" in step.argv
    ]
    assert told == [["lmscore", "exp/a"]] * 2 + [["perplexity", "exp/a"], ["bench", "a=exp/a"]]
    for step in (*scoring_steps(sweep), bench_step(sweep)):  # a folder of an older version goes on
        assert "--over-long" not in step.argv


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (("one={lm}", "one={lm}"), "--system: one name twice in one, one"),
        (("oracle={lm}",), "--system: the name oracle is taken; expected another"),
        (("one={lm}", "--baseline", "two"), "--baseline: two; expected one of one"),
    ],
)
def test_wrong_calls(
    inputs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    line: str,
) -> None:
    systems = [one.format(lm=inputs["lm"]) for one in more]
    assert main(argv(inputs, tmp_path / "out", *systems)) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"asrprune sweep: {line}"


def test_a_trn_will_do_and_speakers_reach_the_report_and_are_checked_before_all_else(
    inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speakers, out = tmp_path / "utt2spk", tmp_path / "out"
    utts = [line.split()[0] for line in inputs["ref"].read_text().splitlines()]
    call = [*argv(inputs, out, f"one={inputs['lm']}"), "--utt2spk", str(speakers)]
    trn = tmp_path / "ref.trn"
    lines = [line.partition(" ") for line in inputs["ref"].read_text().splitlines()]
    trn.write_text("".join(f"{words} ({utt})\n" for utt, _, words in lines))
    for name in ("--dev-ref", "--test-ref"):
        call[call.index(name) + 1] = str(trn)
    speakers.write_text(f"{utts[0]} anna\n")
    assert main(call) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    missing = f"no speaker of utterance {utts[1]}; expected one of every utterance"
    assert line == f"asrprune sweep: {speakers}: {missing}"
    assert not out.exists()
    speakers.write_text("".join(f"{utt} {'ab'[n % 2]}\n" for n, utt in enumerate(utts)))
    call[call.index("--bench-utts") + 1] = "0"
    del call[call.index("--repeats") : call.index("--repeats") + 2]
    assert main(call) == 0
    sentences = (out / "lms/sentences.txt").read_text().splitlines()
    assert sentences == [words for _, _, words in lines]
    kinds = [
        (row["name"], row["kind"])
        for row in json.loads((out / "report/table.json").read_text())["rows"]
    ]
    assert kinds == [("first-pass", "first pass"), ("oracle", "oracle"), ("one", "rescored")]
    facts = json.loads((out / "report/table.json").read_text())["facts"]
    assert "over speakers" in facts.values()
    (step,) = [
        step
        for step in json.loads((out / "steps.json").read_text())["done"]
        if step["command"].startswith("asrprune report ")
    ]
    assert f" --utt2spk {speakers} " in step["command"]


def test_lists_are_checked_before_anything_is_done(
    inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ref, out = tmp_path / "ref", tmp_path / "out"
    ref.write_text(inputs["ref"].read_text() + "u3 a mat\n")
    call = argv(inputs, out, f"one={inputs['lm']}")
    call[call.index("--test-ref") + 1] = str(ref)
    assert main(call) == 1
    found = f"{inputs['nbest']}: no list of u3; expected one for each reference of {ref}"
    assert capsys.readouterr().err.splitlines()[-1] == f"asrprune sweep: {found}"
    ref.write_text(inputs["ref"].read_text().upper().replace("U", "u"))
    assert main(call) == 1
    assert "references are upper case, hypotheses lower case" in capsys.readouterr().err
    assert not out.exists()


def test_the_first_step_that_fails_says_why(
    inputs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv(inputs, tmp_path / "out", f"one={tmp_path / 'none'}")) == 1
    assert "no such path; expected a checkpoint folder" in capsys.readouterr().err
    (tmp_path / "out/steps.json").write_text('{"format": "another"}')
    assert main(argv(inputs, tmp_path / "out", f"one={inputs['lm']}")) == 1
    assert "steps.json: not the steps of a sweep" in capsys.readouterr().err
