"""The shell library of the recipes: options, marks, environments."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "recipes/shared/stages.sh"

RECIPE = """#!/usr/bin/env bash
set -euo pipefail
stage=0
stop_stage=9
nj=1
quick=false
size=10
plans=none
exp=$EXP
help_message="usage: the help"
. "{library}"
parse_options "stage stop_stage nj quick
  size plans" "$@"
lock_folder "$exp"
note() {{ echo "$1" >>"$exp/ran"; }}
first() {{ note first; }}
second() {{ note "second $size"; {second} }}
third() {{ note third; }}
run_stage 0 one first 30
run_stage 1 two second
run_stage 2 three third
finish 2 all
"""


class Recipe:
    """A recipe of three stages in its own folder; ``second`` is added to the second stage."""

    def __init__(self, folder: Path) -> None:
        self.exp = folder / "exp"
        self.script = folder / "run.sh"

    def write(self, second: str = "") -> None:
        self.script.write_text(RECIPE.format(library=LIBRARY, second=second))

    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", str(self.script), *options],
            env={**os.environ, "EXP": str(self.exp)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *options: str) -> tuple[int, str, list[str]]:
        """Exit status, everything printed, and what the stages noted in this run."""
        (self.exp / "ran").unlink(missing_ok=True)
        process = self.start(*options)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err, self.ran()

    def ran(self) -> list[str]:
        ran = self.exp / "ran"
        return ran.read_text().splitlines() if ran.exists() else []

    def marks(self) -> set[str]:
        return {path.name for path in (self.exp / ".done").glob("[0-9]*")}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    recipe = Recipe(tmp_path)
    recipe.write()
    return recipe


def test_finished_stages_are_skipped(recipe: Recipe) -> None:
    recipe.run()
    status, log, ran = recipe.run()
    assert (status, ran) == (0, [])
    assert log.count("done before") == 3


def test_first_run_runs_every_stage_in_order(recipe: Recipe) -> None:
    status, _, ran = recipe.run()
    assert (status, ran) == (0, ["first", "second 10", "third"])
    assert recipe.marks() == {"0", "1", "2"}


def test_the_log_says_what_share_of_the_time_a_stage_takes(recipe: Recipe) -> None:
    recipe.run()
    recipe.write(second="true;")  # stages 1 and 2 run again: one line each all the same
    assert recipe.run()[2] == ["second 10", "third"]
    recipe.write(second=":;")
    (recipe.exp / ".done/0").unlink()
    log = recipe.run()[1]
    assert "stage 0 (one), usually 30 % of the time\n" in log
    assert "stage 1 (two)\n" in log
    times = (recipe.exp / "times.tsv").read_text().splitlines()
    assert times.pop(0) == "stage\tname\tseconds"
    assert [line.split("\t")[:2] for line in times] == [["0", "one"], ["1", "two"], ["2", "three"]]
    assert all(0 <= int(line.split("\t")[2]) < 60 for line in times)


def test_a_folder_with_a_blank_is_refused_before_any_work(recipe: Recipe, tmp_path: Path) -> None:
    recipe.exp = tmp_path / "my exp"
    status, log, ran = recipe.run()
    assert (status, ran) == (2, [])
    assert "my exp'; expected a path without blanks" in log
    assert not recipe.exp.exists()


ITEMS = 'items() { printf "a 1\\nb 2\\nc 3\\nd 4\\n"; };'


@pytest.mark.parametrize("nj", ["1", "3", "9"])
def test_each_calls_a_function_for_every_line(recipe: Recipe, nj: str) -> None:
    recipe.write(second=f'{ITEMS} job() {{ note "$1=$2 $OMP_NUM_THREADS"; }}; each job items;')
    status, _, ran = recipe.run("--nj", nj)
    assert status == 0
    assert sorted(ran[2:6]) == ["a=1 1", "b=2 1", "c=3 1", "d=4 1"]
    assert ran[6:] == ["third"]


def test_each_runs_no_more_at_once_than_jobs(recipe: Recipe) -> None:
    job = 'job() { note "in"; sleep 0.3; note "out"; };'
    recipe.write(second=f"{ITEMS} {job} each job items;")
    ran = recipe.run("--nj", "2")[2][2:-1]
    running = [ran[:place].count("in") - ran[:place].count("out") for place in range(len(ran) + 1)]
    assert max(running) == 2
    assert running[-1] == 0


def test_one_that_fails_stops_the_others_and_what_they_run(recipe: Recipe, tmp_path: Path) -> None:
    """Commands of a job are processes of their own: they must not outlive it, and keep the lock."""
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    command = f"bash -c 'touch {begun}; sleep 4; touch {ended}'"
    fails = f'if [ "$1" = b ]; then until [ -e {begun} ]; do sleep 0.1; done; (exit 7); fi'
    recipe.write(second=f'{ITEMS} job() {{ {fails}; {command}; note "end $1"; }}; each job items;')
    started = time.monotonic()
    status, log, ran = recipe.run("--nj", "2")
    assert status == 7
    assert "stage 1 (two): failed with status 7" in log
    assert ran == ["first", "second 10"]
    again = recipe.run("--stop-stage", "0")
    assert again[0] == 0, again[1]  # nobody holds the lock
    time.sleep(max(0.0, 5.0 - (time.monotonic() - started)))
    assert begun.exists()
    assert not ended.exists()


def test_a_change_to_what_a_stage_calls_in_turn_runs_it(recipe: Recipe) -> None:
    for text in ("one", "two"):
        recipe.write(second=f"z_outer; }}; a_inner() {{ true {text}; }}; z_outer() {{ a_inner;")
        assert recipe.run()[0] == 0
    assert recipe.run()[2] == []
    recipe.write(second="z_outer; }; a_inner() { true three; }; z_outer() { a_inner;")
    assert recipe.run()[2] == ["second 10", "third"]


def test_changed_knob_runs_its_stage_and_all_later_ones(recipe: Recipe) -> None:
    recipe.run()
    assert recipe.run("--size", "11")[2] == ["second 11", "third"]
    assert recipe.run("--size", "11")[2] == []


@pytest.mark.parametrize(
    "knob", ["option", "name", "marks", "status", "start", "line", "word", "text"]
)
def test_a_knob_may_have_the_name_of_a_variable_of_the_library(recipe: Recipe, knob: str) -> None:
    recipe.write(second=f'{ITEMS} job() {{ note "$1 $plans"; }}; note "$plans"; each job items;')
    recipe.script.write_text(recipe.script.read_text().replace("plans", knob))
    for value in ("one", "two"):
        ran = recipe.run(f"--{knob}", value, "--nj", "1", "--stage", "1")[2]
        jobs = [f"{letter} {value}" for letter in "abcd"]
        assert ran == ["second 10", value, *jobs, "third"]


@pytest.mark.parametrize("knob", ["{}", "one:two {}:0.5:3\n  three:four", "one {}", "a={},b"])
def test_a_changed_file_that_a_knob_names_runs_its_stage(recipe: Recipe, knob: str) -> None:
    plan = recipe.script.with_name("plan.json")
    plan.write_text("{}")
    recipe.write(second='echo "$plans";')
    options = ("--plans", knob.format(plan))
    assert recipe.run(*options)[2] == ["first", "second 10", "third"]
    assert recipe.run(*options)[2] == []
    plan.write_text('{"steps": 3}')
    assert recipe.run(*options)[2] == ["second 10", "third"]


def test_changed_command_drops_later_marks_before_it_runs(recipe: Recipe) -> None:
    recipe.run()
    recipe.write(second="false;")
    status, log, ran = recipe.run()
    assert (status, ran) == (1, ["second 10"])
    assert "stage 1 (two): failed with status 1" in log
    assert recipe.marks() == {"0"}


def test_number_of_jobs_is_no_change(recipe: Recipe) -> None:
    recipe.write(second='echo "$nj";')
    recipe.run("--nj", "1")
    assert recipe.run("--nj", "2")[2] == []


def test_failure_inside_a_stage_stops_it_at_once(recipe: Recipe) -> None:
    recipe.write(second="false; note never;")
    status, _, ran = recipe.run()
    assert (status, ran) == (1, ["first", "second 10"])


FILL = 'fresh "$exp/made"; mkdir -p "$exp/made"; touch "$exp/made/$size"; [ ! -e "$exp/stop" ];'


def test_what_another_command_made_is_dropped_once(recipe: Recipe) -> None:
    made, stop = recipe.exp / "made", recipe.exp / "stop"
    recipe.write(second=FILL)
    recipe.run()
    assert recipe.run("--size", "11")[0] == 0
    assert {path.name for path in made.iterdir()} == {"11"}  # not 10's
    stop.touch()
    assert recipe.run("--size", "12")[0] == 1  # dropped what 11 made, then failed
    stop.unlink()
    (made / "half").touch()
    assert recipe.run("--size", "12")[0] == 0  # what a stopped run made stays
    assert {path.name for path in made.iterdir()} == {"12", "half"}


@pytest.mark.parametrize("change", ["size", "an earlier stage", "size, and back"])
def test_what_a_stopped_run_made_by_another_command_is_dropped(recipe: Recipe, change: str) -> None:
    recipe.write(second=FILL)
    recipe.exp.mkdir()
    stop = recipe.exp / "stop"
    stop.touch()
    assert recipe.run()[0] == 1  # never finished
    (recipe.exp / "made/half").touch()
    size = "10" if change == "an earlier stage" else "11"
    if change == "an earlier stage":
        recipe.script.write_text(recipe.script.read_text().replace("note first", "note  first x"))
        assert recipe.run("--stop-stage", "0")[2] == ["first"]
    elif change == "size, and back":
        assert recipe.run("--size", "11")[0] == 1
        (recipe.exp / "made/half").touch()
        size = "10"
    stop.unlink()
    status, log, _ = recipe.run("--size", size)
    assert (status, log.count("dropping what an earlier command made")) == (0, 1)
    assert os.listdir(recipe.exp / "made") == [size]
    assert recipe.run("--size", size)[2] == []


def test_killed_stage_runs_again(recipe: Recipe) -> None:
    recipe.write(second='[ -e "$exp/go" ] || sleep 60;')
    process = recipe.start()
    deadline = time.monotonic() + 30
    while "second 10" not in recipe.ran() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert recipe.marks() == {"0"}
    (recipe.exp / "go").touch()
    status, _, ran = recipe.run()
    assert (status, ran) == (0, ["second 10", "third"])


def test_two_runs_in_one_folder_are_refused(recipe: Recipe) -> None:
    recipe.write(second="sleep 60;")
    process = recipe.start()
    deadline = time.monotonic() + 30
    while "second 10" not in recipe.ran() and time.monotonic() < deadline:
        time.sleep(0.02)
    status, log, _ = recipe.run()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert status == 1
    assert "another run is at work" in log


def test_stage_and_stop_stage_bound_what_runs(recipe: Recipe) -> None:
    assert recipe.run("--stop-stage", "1")[2] == ["first", "second 10"]
    status, log, ran = recipe.run("--stage", "2")
    assert (status, ran) == (0, ["third"])
    assert log.endswith(" done: all\n")


def test_what_is_done_is_said_where_the_last_stage_is(recipe: Recipe) -> None:
    status, log, ran = recipe.run("--stop-stage", "-1")
    assert (status, ran) == (0, [])
    assert log.endswith(" stopped after stage -1 of 2\n")
    assert recipe.run("--stop-stage", "1")[1].endswith(" stopped after stage 1 of 2\n")
    assert recipe.run()[1].endswith(" done: all\n")
    assert recipe.run("--stop-stage", "0")[1].endswith(" done: all\n")  # it was before, and is
    log = recipe.run("--stop-stage", "1", "--size", "11")[1]  # the last stage is to run again
    assert log.endswith(" stopped after stage 1 of 2\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sizes", "3"], "unknown option --sizes"),
        (["--path", "x"], "unknown option --path"),
        (["--size=3"], "expected --size 3"),
        (["--size"], "without a value"),
        (["--size", "many"], "expected a whole number"),
        (["size"], "unexpected argument size"),
        (["--stage", "2", "--stop-stage", "1"], "--stage 2 --stop-stage 1 run nothing"),
        (["--stage", "10"], "--stage 10 --stop-stage 9 run nothing"),
    ],
)
def test_wrong_options_are_rejected(recipe: Recipe, options: list[str], message: str) -> None:
    status, log, ran = recipe.run(*options)
    assert (status, ran) == (2, [])
    assert message in log
    assert len(log.splitlines()) == 1


def test_help(recipe: Recipe) -> None:
    assert recipe.run("--help")[:2] == (0, "usage: the help\n")


@pytest.mark.parametrize(
    ("options", "value"), [([], "false"), (["--quick"], "true"), (["--quick", "false"], "false")]
)
def test_boolean_option(recipe: Recipe, options: list[str], value: str) -> None:
    recipe.write(second='note "quick $quick";')
    assert f"quick {value}" in recipe.run(*options)[2]


def shell(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script after the library was sourced, with the library's root moved to ``folder``."""
    shared = folder / "recipes/shared"
    shared.mkdir(parents=True, exist_ok=True)
    (shared / "stages.sh").write_text(LIBRARY.read_text())
    return subprocess.run(
        ["bash", "-c", f"set -euo pipefail; . {shared}/stages.sh; {script}"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_own_environment_is_used_as_it_is(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "bin").mkdir(parents=True)
    (own / "bin/python").symlink_to(sys.executable)
    run = shell("ensure_venv .venv dev; command -v python", tmp_path, ASRPRUNE_VENV=str(own))
    assert run.stdout.strip() == str(own / "bin/python")
    assert not (tmp_path / ".venv").exists()


def test_missing_own_environment_is_refused(tmp_path: Path) -> None:
    run = shell("ensure_venv .venv dev", tmp_path, ASRPRUNE_VENV=str(tmp_path / "none"))
    assert run.returncode == 1
    assert "has no bin/python" in run.stderr


def test_folder_that_is_no_environment_is_not_deleted(tmp_path: Path) -> None:
    for name in ("setup.py", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/thesis.tex").touch()
    run = shell("ensure_venv .venv dev", tmp_path)
    assert run.returncode == 1
    assert "is not a Python environment" in run.stderr
    assert (tmp_path / ".venv/thesis.tex").exists()


FAKE_PYTHON = """#!/usr/bin/env bash
# stands for every python3*: makes an environment whose pip and checks always succeed
case "$*" in
  "-m venv "*)
    mkdir -p "$3/bin"
    touch "$3/pyvenv.cfg"
    cp "$0" "$3/bin/python"
    echo made >>"$LOG"
    ;;
  "-m pip "*)
    echo "Collecting one (from asrprune==0.1.0)"
    echo "Installing collected packages: one, two, three"
    [ -z "${FAIL_PIP:-}" ] || { echo "ERROR: no space left"; exit 1; }
    echo pip >>"$LOG"
    ;;
  "- "*) [ ! -e "${0%/bin/python}/damaged" ] ;;
esac
"""


class Checkout:
    """A folder with what the environment is made from, and a fake Python 3.11 in PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log"
        for name in ("setup.py", "pyproject.toml", "constraints.txt"):
            (folder / name).touch()
        tools = folder / "tools"
        tools.mkdir()
        (tools / "python3.11").write_text(FAKE_PYTHON)
        (tools / "python3.11").chmod(0o755)
        self.settings = {"PATH": f"{tools}:{os.environ['PATH']}", "LOG": str(self.log)}

    def ensure(self, **more: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        return shell("ensure_venv .venv dev", self.folder, **self.settings, **more)


def test_environment_is_made_once_and_again_when_damaged_or_changed(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    assert checkout.ensure(FAIL_PIP="1").returncode == 1
    assert checkout.ensure().returncode == 0  # a half-made environment is made anew
    assert checkout.log.read_text().split() == ["made", "pip"]
    assert checkout.ensure().returncode == 0
    assert checkout.log.read_text() == ""
    (tmp_path / ".venv/damaged").touch()
    assert checkout.ensure().returncode == 0
    assert checkout.log.read_text().split() == ["made", "pip"]
    (tmp_path / "constraints.txt").write_text("torch==1\n")
    assert checkout.ensure().returncode == 0
    assert checkout.log.read_text().split() == ["made", "pip"]


def test_a_line_a_step_is_shown_of_a_new_environment_and_none_of_pip(tmp_path: Path) -> None:
    run = Checkout(tmp_path).ensure()
    assert run.stdout == ""
    lines = [line.split(" ", 2)[2] for line in run.stderr.splitlines()]
    assert lines[:3] == [
        ".venv: making it with python3.11 (a few minutes, once)",
        ".venv: fetching what asrprune[dev] needs",
        ".venv: installing 3 packages",
    ]
    assert re.fullmatch(r"\.venv: done in \d+ s", lines[3])
    assert len(lines) == 4
    assert "Collecting one" in (tmp_path / ".venv/pip.log").read_text()


def test_the_end_of_what_pip_said_is_shown_when_it_fails(tmp_path: Path) -> None:
    run = Checkout(tmp_path).ensure(FAIL_PIP="1")
    assert run.returncode == 1
    assert "ERROR: no space left\n" in run.stderr
    assert "all that it said is in .venv/pip.log" in run.stderr.splitlines()[-1]
    assert "done in" not in run.stderr


def test_what_pip_does_is_told_while_it_takes_long(tmp_path: Path) -> None:
    said = "Collecting one\\nCollecting two\\n  Downloading two-2.1-cp311-x86.whl (1.5 MB)\\n"
    pip = f"{{ printf '{said}'; sleep 2.5; }}"
    run = shell(f"mkdir v; pip_progress_s=1; {pip} | _pip_progress v", tmp_path)
    assert "v: fetching package 2, two 2.1 (1.5 MB)" in run.stderr
