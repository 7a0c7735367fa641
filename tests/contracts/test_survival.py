"""Every verb x what befalls its outputs: another process there, a link, a pipe, a device, a folder
that cannot be written, a full disk, a kill at any moment. Nothing is lost, half-written or left
over, and the same command then gives what it would have given."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import random
import re
import shlex
import shutil
import signal
import stat
import subprocess
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from asrprune.cli.main import COMMANDS
from asrprune.files.locks import LOCK, beside
from tests.contracts.test_flags import CALLS
from tests.small_inputs import save_small_inputs
from tests.verb_server import Ended, VerbServer, verb_server

VERBS: dict[str, dict[str, str]] = {
    "list": {},
    "tokenize": {"tokenize": CALLS["tokenize"]},
    "train": {"train": CALLS["train"]},
    "import": {"import": CALLS["import"]},
    "perplexity": {"perplexity": CALLS["perplexity"]},
    "trim": {"trim": CALLS["trim"]},
    "prune": {"prune": CALLS["prune"]},
    "recommend": {"recommend": CALLS["recommend"]},
    "first-pass": {"first-pass": "first-pass --cuts {cuts} --out {out} --nbest 3"},
    "convert": {
        "convert": CALLS["convert"],
        "convert-lattices": CALLS["convert-lattices"],
        "convert-shard": CALLS["convert-lattices"] + " --shard 1/1",
    },
    "validate": {"validate": CALLS["validate"]},
    "lmscore": {"lmscore": CALLS["lmscore"]},
    "tune": {"tune": CALLS["tune"], "tune-systems": CALLS["tune-systems"]},
    "rescore": {"rescore": CALLS["rescore"], "rescore-beam": CALLS["rescore-beam"]},
    "merge": {"merge": CALLS["merge"]},
    "wer": {"wer": CALLS["wer"], "wer-files": CALLS["wer-files"]},
    "oracle": {"oracle": CALLS["oracle"]},
    "bench": {"bench": CALLS["bench-ngram"]},
    "export": {"export": CALLS["export"] + " --no-verify"},
    "sweep": {"sweep": CALLS["sweep"]},
    "report": {"report": CALLS["report"]},
    "completion": {},
}
"""Verb -> name -> a call that writes to {out}; none for a verb that writes nothing."""
CALL = {name: call for calls in VERBS.values() for name, call in calls.items()}
FOLDERS = {
    "tokenize",
    "train",
    "import",
    "trim",
    "prune",
    "first-pass",
    "convert-lattices",
    "convert-shard",
    "tune-systems",
    "wer-files",
    "sweep",
    "report",
}
"""Calls whose {out} is a folder."""
MIXED = {"wer-files", "sweep", "report", "tune-systems"}
"""Of these, files of others may lie in it: each file is whole or absent, not the folder."""

PARTIAL = ".partial"
"""What a killed lmscore goes on from, which is beside its output."""
PROGRESS = {"out/steps.json"}
"""What says how far a call came: whole, but it grows."""

KILLS = 4
"""So many moments of every call and signal are tried, other ones for each call."""

_CLOCK = re.compile(
    r'"(?:[a-z_]+_s|rtf[a-z_]*|speed_up|peak_rss_bytes|time_utc|crc32|inputs_sha256)": '
    r'(?:-?[\d.e+-]+|"[^"]*"|null|\[[^\[\]]*\])'
    r'|"run": \{[^{}]*\}|<dt>time_utc</dt><dd>[^<]*'
)
"""What the clock says in an output, and how much of it the last call did."""


def settled(path: Path) -> bytes:
    """What a file holds, but for what the clock says."""
    return without_clock(path.read_bytes())


def without_clock(raw: bytes) -> bytes:
    """Text, packed or not, without what the clock says; other bytes as they are."""
    try:
        raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
        return _CLOCK.sub("", raw.decode("utf-8")).encode()
    except (EOFError, UnicodeDecodeError):  # half of a file, no text
        return raw


def tree(folder: Path) -> dict[str, bytes]:
    """Name -> content of everything in ``folder``, b"/" for folders."""
    return {
        str(path.relative_to(folder)): b"/" if path.is_dir() else settled(path)
        for path in sorted(folder.rglob("*"))
    }


@dataclass(frozen=True)
class Stage:
    """A server, the inputs, and a folder for outputs."""

    server: VerbServer
    inputs: dict[str, Path]
    folder: Path
    references: dict[str, tuple[dict[str, bytes], int]] = field(default_factory=dict)
    """Call -> what an undisturbed one made of these inputs, and the number of its events."""

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def argv(self, name: str, out: object = None) -> list[str]:
        """The words of a call."""
        names = {**self.inputs, "out": self.out if out is None else out}
        return [word.format(**names) for word in shlex.split(CALL[name])]

    def run(self, name: str, out: object = None, **harm: object) -> Ended:
        """A call."""
        return self.server.run(self.argv(name, out), self.folder, **harm)

    def clear(self) -> None:
        """Remove every output."""
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextmanager
def stage_in(folder: Path) -> Iterator[Stage]:
    """One server and one set of inputs for all calls."""
    (folder / "inputs").mkdir()
    (folder / "outputs").mkdir()
    inputs = save_small_inputs(folder / "inputs")
    inputs["cuts"] = _save_cuts(folder / "inputs")
    with verb_server() as server:
        yield Stage(server, inputs, folder / "outputs")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """What all tests of this file share."""
    with stage_in(tmp_path_factory.mktemp("survival")) as stage:
        yield stage


@pytest.fixture
def stage(place: Stage, request: pytest.FixtureRequest) -> Stage:
    """The outputs cleared, what the call needs installed."""
    if "arpa" in CALL.get(request.node.callspec.params.get("name", ""), ""):
        pytest.importorskip("kenlm")
    if request.node.callspec.params.get("name") == "export":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnx")
    if request.node.callspec.params.get("name") == "first-pass":
        pytest.importorskip("pocketsphinx")
        pytest.importorskip("lhotse")
    place.clear()
    return place


def _save_cuts(folder: Path) -> Path:
    """Two cuts of noise, a third of a second each."""
    draw = random.Random(0)
    lines = []
    for utt in ("u1", "u2"):
        with wave.open(str(folder / f"{utt}.wav"), "wb") as audio:
            audio.setparams((1, 2, 16000, 5000, "NONE", ""))
            audio.writeframes(draw.randbytes(10000))
        source = {"type": "file", "channels": [0], "source": str(folder / f"{utt}.wav")}
        length = {"sampling_rate": 16000, "num_samples": 5000, "duration": 0.3125}
        recording = {"id": utt, "sources": [source], **length, "channel_ids": [0]}
        segment = {"id": utt, "recording_id": utt, "start": 0.0, "duration": 0.3125, "channel": 0}
        cut = {"id": utt, "start": 0.0, "duration": 0.3125, "channel": 0, "type": "MonoCut"}
        supervisions = [{**segment, "text": "a cat"}]
        lines.append(json.dumps({**cut, "supervisions": supervisions, "recording": recording}))
    (folder / "cuts.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "cuts.jsonl"


def reference(stage: Stage, name: str) -> tuple[dict[str, bytes], int]:
    """The outputs of an undisturbed call and the number of its events; the folder is left empty."""
    if name not in stage.references:
        ended = stage.run(name)
        assert ended.status == 0, ended.err
        stage.references[name] = (tree(stage.folder), ended.events)
        stage.clear()
    return stage.references[name]


def one_line(ended: Ended, name: str) -> str:
    """The message of a call that failed with status 1."""
    assert ended.status == 1, ended
    assert "Traceback" not in ended.err
    last = ended.err.splitlines()[-1]
    assert last.startswith(f"asrprune {CALL[name].split()[0]}: ")
    return last


def test_every_verb_is_in_the_table() -> None:
    assert set(VERBS) == set(COMMANDS)
    assert {CALL[name].split()[0] for name in CALL} == {verb for verb in VERBS if VERBS[verb]}


@pytest.mark.parametrize("name", CALL)
def test_another_process_is_there(stage: Stage, name: str) -> None:
    with open(beside(stage.out, LOCK), "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("process 17 on the-other-machine")
        held.flush()
        line = one_line(stage.run(name), name)
        assert "process 17 on the-other-machine is writing it; expected one process" in line
        assert [path.name for path in stage.folder.iterdir()] == [".out.lock"]


@pytest.mark.parametrize("name", CALL)
def test_two_at_once(stage: Stage, name: str) -> None:
    wanted = reference(stage, name)[0]
    both = stage.server.run_all([stage.argv(name)] * 2, stage.folder)
    assert 0 in {ended.status for ended in both}
    for ended in both:
        if ended.status:  # otherwise one came after the other
            assert re.search("is writing it|not empty", one_line(ended, name))
    assert tree(stage.folder) == wanted


@pytest.mark.parametrize("name", CALL)
def test_through_a_link(stage: Stage, name: str) -> None:
    wanted = reference(stage, name)[0]
    (stage.folder / "far").mkdir()
    link = stage.folder / "link"
    link.symlink_to(stage.folder / "far" / "out")
    assert stage.run(name, link).status == 0
    assert link.is_symlink()
    made = tree(stage.folder / "far")
    assert set(made) == {path for path in wanted if path == "out" or path.startswith("out/")}
    assert not [path for path in os.listdir(stage.folder) if path.startswith(".")]


@pytest.mark.parametrize("name", [name for name in CALL if name not in FOLDERS])
def test_to_a_pipe_and_a_device(stage: Stage, name: str) -> None:
    wanted = reference(stage, name)[0]
    pipe = stage.folder / "out"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    ended = stage.run(name)
    assert ended.status == 0, ended.err
    reader.join(20)
    assert without_clock(read[0]) == wanted["out"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stage.run(name, "/dev/null").status == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert not [path for path in os.listdir(stage.folder) if path.startswith(".")]


@pytest.mark.parametrize("name", CALL)
def test_where_nothing_may_be_written(stage: Stage, name: str) -> None:
    stage.folder.chmod(0o555)
    try:
        ended = stage.run(name, no_override=True)
    finally:
        stage.folder.chmod(0o755)
    assert ended.status == 2
    assert "expected a path that may be written" in ended.err
    assert ended.err.count("\n") == 1
    assert not os.listdir(stage.folder)


@pytest.mark.parametrize("name", CALL)
def test_a_name_that_is_too_long(stage: Stage, name: str) -> None:
    line = one_line(stage.run(name, stage.folder / ("n" * 256)), name)
    assert "ame too long" in line
    assert "n" * 256 in line
    assert not os.listdir(stage.folder)


@pytest.mark.parametrize("name", CALL)
def test_files_at_their_limit(stage: Stage, name: str) -> None:
    wanted = reference(stage, name)[0]
    assert stage.run(name).status == 0
    sizes = sorted(path.stat().st_size for path in stage.folder.rglob("*") if path.is_file())
    stage.clear()
    for size in {0, 1, sizes[0] // 2, sizes[-1] // 2, sizes[-1] - 1}:
        ended = stage.run(name, file_size=size)
        if ended.status:
            line = one_line(ended, name)
            assert str(stage.folder) in line, line
            assert "too large" in line, line
        assert stage.run(name).status == 0
        assert tree(stage.folder) == wanted, size
        stage.clear()


@contextmanager
def disk_of(folder: Path, size: int, files: int) -> Iterator[None]:
    """``folder`` on a file system of its own, of so many bytes and files."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={files}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("only root mounts file systems")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", CALL)
def test_on_a_full_disk(stage: Stage, name: str) -> None:
    wanted = reference(stage, name)[0]
    with disk_of(stage.folder, 1 << 26, 1000):
        assert stage.run(name).status == 0
        state = os.statvfs(stage.folder)
    page, used = state.f_frsize, state.f_blocks - state.f_bfree
    failed = []
    for pages, files in ((1, 1000), (max(used // 2, 1), 1000), (max(used - 1, 1), 1000), (used, 3)):
        with disk_of(stage.folder, pages * page, files):
            ended = stage.run(name)
            if ended.status:
                line = one_line(ended, name)
                assert str(stage.folder) in line, line
                assert "No space" in line, line
                failed.append(pages)
            room = ["mount", "-o", f"remount,size={1 << 26},nr_inodes=1000", str(stage.folder)]
            subprocess.run(room, check=True)
            assert stage.run(name).status == 0
            assert tree(stage.folder) == wanted, (pages, files)
    assert failed or used == 1


def moments(events: int, name: str, kills: int) -> list[int]:
    """Some events of a call, the first and the last among them."""
    if events <= kills:
        return list(range(1, events + 1))
    middle = random.Random(name).sample(range(2, events), kills - 2)
    return [1, *sorted(middle), events]


GOES_ON: tuple[tuple[str, Callable[[bytes], object]], ...] = (
    ("out.training/state.pt", bool),
    ("out.pruning/state.pt", bool),
    ("out.pruning/family.json", bool),
    ("out.decoding/done.txt", bool),
    (f"out{PARTIAL}", lambda raw: raw.partition(b"\n")[2]),
    ("out/steps.json", bool),
)
"""What a killed call goes on from, and when there is anything in it."""


def check_kill(stage: Stage, name: str, event: int, number: int) -> None:
    """Kill a call at an event: its output is whole or absent, and the same call then makes it."""
    wanted = reference(stage, name)[0]
    ended = stage.run(name, kill=[event, number])
    said = ended.err.splitlines()[-1:]
    expected = {
        signal.SIGKILL: (-9, ""),
        signal.SIGTERM: (143, "terminated (SIGTERM)"),
        signal.SIGINT: (130, "interrupted"),
    }[signal.Signals(number)]
    assert ended.status in (0, expected[0]), ended
    if ended.status > 0:
        assert expected[1] in said[0]
        assert "Traceback" not in ended.err
    there = tree(stage.folder)
    if ended.status == 143:
        assert ("is kept" in said[0]) == any(
            path in there and at(there[path]) for path, at in GOES_ON
        )
    shown = {path for path in there if path.split("/")[0] == "out" and "/." not in path}
    if name == "sweep":  # of the scores that it was making
        shown -= {f"{path}{PARTIAL}" for path in wanted}
    for path in shown - PROGRESS:
        assert there[path] == wanted[path], path
    for path in shown & PROGRESS:
        json.loads((stage.folder / path).read_text())
    if "out" in shown and name not in MIXED:
        assert shown == {path for path in wanted if path.split("/")[0] == "out"}
    again = stage.run(name)
    if "not empty" in again.err:  # it was done when it was killed
        assert "out" in shown
    else:
        assert again.status == 0, again.err
    assert tree(stage.folder) == wanted


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", CALL)
def test_killed(stage: Stage, name: str, number: signal.Signals) -> None:
    for event in moments(reference(stage, name)[1], f"{name} {number}", KILLS):
        check_kill(stage, name, event, number)
        stage.clear()
