"""The local stand-in for Kaldi's run.pl, and other queues in its place."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import asrprune
from tests.small_inputs import save_small_inputs

RUN_JOBS = Path(__file__).parents[2] / "recipes/shared/run_jobs.py"
OTHER_QUEUE = """\
#!/usr/bin/env bash
# a queue with the interface of slurm.pl and queue.pl: every option has a value
while [[ $1 == -* ]]; do shift 2; done
range=${1#JOB=}; log=$2; shift 2
mkdir -p "$(dirname "$log")"
for job in $(seq "${range%:*}" "${range#*:}"); do
  bash -c "${*//JOB/$job}" > "${log//JOB/$job}" 2>&1 || { echo "$job failed" >&2; exit 1; }
done
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which calls run in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    """The status of a call and what it says."""
    done = subprocess.run([RUN_JOBS, *words], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_every_job_has_its_number_and_its_log(place: Path) -> None:
    options = ("--mem", "4G", "--gpu", "1", "-V", "--config", "conf/queue.conf")
    assert run(*options, "JOB=2:3", "log/a.JOB.log", "echo", "x JOB", "|", "tr", "x", "y") == (
        0,
        "",
    )
    for job in (2, 3):
        head, *lines = Path(f"log/a.{job}.log").read_text().splitlines()
        assert head == f'# echo "x {job}" | tr x y'
        assert lines[0].startswith("# Started at ")
        assert lines[2] == f"y {job}"
        assert re.fullmatch(r"# Ended \(code 0\) at .+, elapsed time \d+ seconds", lines[3])
    assert run("one.log", "echo", 'a "b"') == (0, "")
    assert Path("one.log").read_text().splitlines()[3] == 'a "b"'


def test_so_many_at_once(place: Path) -> None:
    meet = "touch JOB; until [ -e 1 ] && [ -e 2 ]; do sleep 0.02; done"
    assert run("--max-jobs-run", "2", "JOB=1:2", "JOB.log", "eval", meet)[0] == 0
    alone = "mkdir here && sleep 0.05 && rmdir here"  # fails where another is there
    assert run("--max-jobs-run", "1", "JOB=1:3", "JOB.log", "eval", alone)[0] == 0


def test_a_failed_job_is_named_when_all_have_ended(place: Path) -> None:
    status, said = run("JOB=1:4", "log/JOB.log", "touch", "JOB;", "test", "JOB", "-lt", "3")
    assert (status, said) == (1, "run_jobs.py: 2 / 4 failed, log is in log/3.log\n")
    assert all(Path(str(job)).exists() for job in (1, 2, 3, 4))
    assert "# Ended (code 1)" in Path("log/4.log").read_text()
    assert run("x.log", "kill", "-9", "$$") == (1, "run_jobs.py: job failed, log is in x.log\n")
    assert "# Ended (code 0; signal 9)" in Path("x.log").read_text()


def test_a_log_that_cannot_be_is_a_failed_job(place: Path) -> None:
    (place / "file").touch()
    status, said = run("JOB=1:2", "file/x.JOB.log", "true")
    assert status == 1
    assert "Traceback" not in said
    assert "run_jobs.py: file/x.1.log: " in said


def test_a_signal_ends_all_jobs(place: Path) -> None:
    words = ["JOB=1:3", "JOB.log", "eval", "echo \\$\\$ > JOB.pid; sleep 99 & wait"]
    process = subprocess.Popen([RUN_JOBS, "--max-jobs-run", "2", *words], stderr=subprocess.PIPE)
    pids = [Path(f"{job}.pid") for job in (1, 2)]
    while not all(path.exists() and path.read_text().endswith("\n") for path in pids):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 143
    assert said == b"run_jobs.py: ended by signal 15\n"
    for path in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)
    assert not Path("3.pid").exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--mem"],
        ["x.log"],
        ["JOB=1:2", "x.log", "true"],
        ["JOB=2:1", "x.JOB.log", "true"],
        ["JOB=0:1", "x.JOB.log", "true"],
        ["--max-jobs-run", "0", "x.log", "true"],
    ],
)
def test_a_wrong_call_runs_nothing(place: Path, words: list[str]) -> None:
    status, said = run(*words)
    assert status == 2
    assert said.count("\n") == 1
    assert list(place.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("queue", ["run_jobs.py", "slurm.pl --partition x"])
def test_shards_through_a_queue_after_a_kill(
    place: Path, queue: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    inputs = save_small_inputs(tmp_path_factory.mktemp("inputs"))
    Path("slurm.pl").write_text(OTHER_QUEUE)
    Path("slurm.pl").chmod(0o755)
    Path("run_jobs.py").symlink_to(RUN_JOBS)
    start = f"{sys.executable} -m asrprune convert --from jsonl --to slf {inputs['nbest']}"
    Path("job.sh").write_text(
        'if [ "$1" = 2 ] && mkdir killed 2> /dev/null; then kill -9 $$; fi\n'
        f"{start} --shard $1/2 --out out.$1\n"
    )
    # cmd.sh exports the first words
    script = f"./{queue} --mem 8G JOB=1:2 log/convert.JOB.log bash job.sh JOB"
    environment = {**os.environ, "PYTHONPATH": str(Path(asrprune.__file__).parents[1])}

    def shell(text: str) -> int:
        return subprocess.run(["bash", "-c", text], env=environment, check=False).returncode

    assert shell(script) == 1
    assert Path("out.1").is_dir()
    assert not Path("out.2").exists()
    assert shell(script) == 0
    assert "finished already" in Path("log/convert.1.log").read_text()
    assert shell(f"{start} --out whole") == 0
    assert shell(f"{sys.executable} -m asrprune merge out.1 out.2 --out merged") == 0
    wanted = {path.name: path.read_bytes() for path in Path("whole").iterdir()}
    assert {path.name: path.read_bytes() for path in Path("merged").iterdir()} == wanted
