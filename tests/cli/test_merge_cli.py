"""Shards of a command and ``merge``: the bytes of the command without shards, whatever befalls."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import asrprune.firstpass.decoders.decode as decode_module
from asrprune.cli.main import main
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import from_arcs
from asrprune.core.shards import read_shard
from asrprune.core.weights import ScoreWeights
from asrprune.files import write_json
from asrprune.firstpass.decoders.pocketsphinx import PocketSphinxConfig
from asrprune.firstpass.formats.jsonl import read_nbest, write_nbest
from asrprune.firstpass.formats.slf import write_slf_files
from asrprune.lm import open as opening
from asrprune.lm.engines.choice import Choice
from asrprune.rescore import lmscore
from asrprune.rescore.scores_file import read_scores
from tests.firstpass.decoders.test_decode import Decoder
from tests.small_lm import save_small_lm

WORDS = ["the", "a", "cat", "hat", "sat", "sits", "mat", "on"]
LISTS = "--nbest {nbest} --weights {weights} --out hyp.JOB --json r.JOB.json"
LATTICES = "--lattice {slf} --format slf --lm {lm} --weights {weights} --threads 1 --out hyp.JOB"
LM = "lmscore --lm {lm} --nbest {nbest} --threads 1 --out scores.JOB.gz"
CALLS = {
    "lmscore": (LM, "scores.JOB.gz"),
    "first-pass": ("first-pass --cuts {cuts} --out first.JOB --nbest 3", "first.JOB"),
    "rescore": (
        f"rescore {LISTS} --scores {{scores}} --write-nbest lists.JOB.gz",
        "hyp.JOB --write-nbest lists.JOB.gz --json r.JOB.json",
    ),
    "rescore-early": (f"rescore {LISTS} --early-lm {{lm}}", "hyp.JOB --json r.JOB.json"),
    "rescore-beam": (
        f"rescore {LATTICES} --mode beam --write-lattice out.JOB --to slf --json r.JOB.json",
        "hyp.JOB --write-lattice out.JOB --json r.JOB.json",
    ),
    "rescore-nbest": (
        f"rescore {LATTICES} --mode nbest --write-lattice out.JOB --to kaldi-lat"
        " --write-nbest lists.JOB.gz",
        "hyp.JOB --write-lattice out.JOB --write-nbest lists.JOB.gz",
    ),
    "convert-lattices": (
        "convert --from slf --to jsonl {slf} --nbest 3 --out JOB.jsonl.gz",
        "JOB.jsonl.gz",
    ),
}
"""Name -> a call with JOB in the names of its outputs, and the words of merge after ``merge``, the
first of which stands for all shards."""
FORMATS = {
    **dict.fromkeys(("slf", "kaldi-lat", "kaldi-lat-plain", "kaldi-lat-binary"), "out.JOB"),
    **dict.fromkeys(("kaldi-nbest", "srilm-nbest", "k2"), "out.JOB"),
    "jsonl": "JOB.jsonl",
}
CALLS |= {
    f"convert-{name}": (f"convert --from jsonl --to {name} {{few}} --out {out}", out)
    for name, out in FORMATS.items()
}
CALLS["convert-archive"] = ("convert --from jsonl --to kaldi-lat {few} --out JOB.gz", "JOB.gz")

_TIME = re.compile(
    r'"(?:\w+_s|rtf\w*|peak_rss_bytes|time_utc|crc32)": (?:-?[\d.e+-]+|"[^"]*"|null)'
    r'|"run": \{[^{}]*\}'
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> path of what the calls read: lists that fill some blocks, lattices, and few lists."""
    folder = tmp_path_factory.mktemp("inputs")
    names = ("nbest", "few", "weights", "slf", "scores", "cuts")
    files = {name: folder / name for name in names} | {"lm": save_small_lm(folder)}
    draw = random.Random(0)

    def hypotheses() -> tuple[Hypothesis, ...]:
        texts = {" ".join(draw.choices(WORDS, k=draw.randint(1, 6))) for _ in range(33)}
        return tuple(Hypothesis(text, -draw.random(), -draw.random()) for text in sorted(texts))

    utts = draw.sample([f"u{number}" for number in range(500)], 170)
    write_nbest(files["nbest"], [NBest(utt, hypotheses(), draw.random()) for utt in utts])
    write_nbest(files["few"], [NBest(utt, hypotheses()[:4], 1.0) for utt in utts[:3]])
    lattices = []
    for utt in utts[:40]:
        arcs = [
            (state, state + 1, word, -draw.random(), -draw.random())
            for state in range(3)
            for word in draw.sample(WORDS, 3)
        ]
        lattices.append(from_arcs(utt, 4, 0, 3, arcs, weights=ScoreWeights(1.0, 0.5)))
    write_slf_files(files["slf"], lattices)
    weights = {"acoustic": 1.0, "first_lm": 0.5, "word_bonus": 0.0, "lm": [1.0]}
    head = {"format": "asrprune-weights", "version": 1, "lms": ["lm"]}
    write_json(files["weights"], {**head, "weights": weights})
    files["cuts"].write_text("".join(json.dumps({"id": utt}) + "\n" for utt in utts))
    scoring = [word.format(**files) for word in LM.split()[:-1]]
    assert main([*scoring, str(files["scores"])]) == 0
    return files


@pytest.fixture(autouse=True)
def decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder that hears the utterance's id."""
    monkeypatch.setattr(PocketSphinxConfig, "open", lambda *given: Decoder(*given))
    monkeypatch.setattr(decode_module, "load_audio", lambda *given: None)
    monkeypatch.setattr(decode_module, "version", lambda name: "1")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which calls run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "none"))
    return tmp_path


def call(name: str, inputs: dict[str, Path], job: object, more: str = "") -> int:
    """The status of a call whose outputs have the name of a job."""
    words = shlex.split(CALLS[name][0].replace("JOB", str(job)) + " " + more)
    return main([word.format(**inputs) for word in words])


def shard(name: str, inputs: dict[str, Path], number: int, of: int) -> int:
    """The status of one shard."""
    return call(name, inputs, number, f"--shard {number}/{of}")


def merge(name: str, numbers: list[int]) -> int:
    """The status of merging these shards to the outputs of the job "whole"."""
    out, *more = CALLS[name][1].split()
    shards = [out.replace("JOB", str(number)) for number in numbers]
    words = [word.replace("JOB", "whole") for word in ("--out", out, *more)]
    return main(["merge", *shards, *words])


def whole_outputs(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of what the job "whole" left in ``folder``, without times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and "whole" in name:
            raw = path.read_bytes()
            if name.endswith((".gz", ".json")):
                text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("latin-1")
                raw = _TIME.sub("", text).encode() + raw[:10]  # the head of gzip has no time
            found[name] = raw
    return found


@pytest.mark.parametrize("name", CALLS)
def test_four_shards_give_the_bytes_of_one_command(
    name: str, inputs: dict[str, Path], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "k2" in name:
        pytest.importorskip("torch")
    (place / "one").mkdir()
    monkeypatch.chdir(place / "one")
    assert call(name, inputs, "whole") == 0
    (place / "four").mkdir()
    monkeypatch.chdir(place / "four")
    for number in (1, 2, 3, 4):
        assert shard(name, inputs, number, 4) == 0
    assert merge(name, [3, 1, 4, 2]) == 0
    wanted = whole_outputs(place / "one")
    assert wanted
    assert whole_outputs(place / "four") == wanted
    out = CALLS[name][1].split()[0]
    sizes = [read_shard(out.replace("JOB", str(number))).utterances for number in (1, 2, 3, 4)]
    assert sum(size > 0 for size in sizes) > 1  # there was something to put together
    if "{few}" in CALLS[name][0]:
        assert 0 in sizes  # of three utterances


class Killed(BaseException):
    pass


@contextlib.contextmanager
def killed_after_a_block(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    append, blocks = lmscore._Partial.append, []

    def append_once(*given: object) -> None:
        if blocks:
            raise Killed
        blocks.append(given)
        append(*given)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(lmscore._Partial, "append", append_once)
        with pytest.raises(Killed):
            yield


def test_a_killed_shard_goes_on_and_gives_the_same(
    inputs: dict[str, Path], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        assert shard("lmscore", inputs, number, 2) == 0
    assert merge("lmscore", [1, 2]) == 0
    wanted = whole_outputs(place)
    kept = Path("scores.2.gz").read_bytes()
    for path in place.glob("scores.[1w]*"):
        path.unlink()
    with killed_after_a_block(monkeypatch):
        shard("lmscore", inputs, 1, 2)
    assert not Path("scores.1.gz").exists()
    assert merge("lmscore", [1, 2]) == 1
    for number in (1, 2):
        assert shard("lmscore", inputs, number, 2) == 0
    assert Path("scores.2.gz").read_bytes() == kept  # it was complete
    assert merge("lmscore", [1, 2]) == 0
    assert whole_outputs(place) == wanted


def choose_always(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """Let every measurement end with this engine."""
    choice = Choice("fastest", engine, {engine: 2.0}, {}, {}, "nothing")
    monkeypatch.setattr(opening, "choose", lambda *given: choice)


def scores_of(path: str) -> tuple[str, dict[str, list[float]]]:
    """The engine that is stated, and the scores."""
    there = read_scores(path)
    scores = {utt: one.scores.tolist() for utt, one in there.utterances.items()}
    return str(there.header["engine"]), scores


def test_a_killed_run_keeps_the_engine_that_was_chosen(
    inputs: dict[str, Path], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("lmscore", inputs, "bf16", "--engine torch-bf16") == 0
    choose_always(monkeypatch, "torch-bf16")
    with killed_after_a_block(monkeypatch):
        call("lmscore", inputs, "chosen", "--engine fastest")
    choose_always(monkeypatch, "torch")
    shutil.copy("scores.chosen.gz.partial", "scores.exact.gz.partial")
    assert call("lmscore", inputs, "chosen", "--engine fastest") == 0
    assert scores_of("scores.chosen.gz") == scores_of("scores.bf16.gz")
    assert call("lmscore", inputs, "exact", "--engine auto") == 0  # which may not take bf16
    assert scores_of("scores.exact.gz")[0] == "torch"
    assert call("lmscore", inputs, "again", "--engine fastest") == 0
    assert scores_of("scores.again.gz") == scores_of("scores.exact.gz")


@pytest.mark.parametrize("engines", [("torch", "sparse"), ("torch", "torch-bf16")])
def test_shards_whose_machines_chose_other_engines(
    engines: tuple[str, str],
    inputs: dict[str, Path],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number, engine in enumerate(engines, start=1):
        choose_always(monkeypatch, engine)
        assert call("lmscore", inputs, number, f"--engine fastest --shard {number}/2") == 0
    if "sparse" in engines:  # all differ by rounding only
        assert merge("lmscore", [2, 1]) == 0
        assert scores_of("scores.whole.gz")[0] == "sparse + torch"
        return
    assert merge("lmscore", [2, 1]) == 1
    message = 'scores.2.gz:1: scores of engine "torch-bf16"; expected engine "torch", as in '
    assert f"{message}scores.1.gz" in capsys.readouterr().err
    assert not Path("scores.whole.gz").exists()


@pytest.fixture
def shards(inputs: dict[str, Path], place: Path) -> Path:
    """A folder with both shards of few lists in the canonical form."""
    for number in (1, 2):
        assert shard("convert-jsonl", inputs, number, 2) == 0
    return place


def test_a_complete_shard_is_left_as_it_is(
    inputs: dict[str, Path], shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Path("1.jsonl").stat().st_mtime_ns
    caplog.set_level("INFO")
    assert shard("convert-jsonl", inputs, 1, 2) == 0
    assert "shard 1/2 is finished already" in caplog.text
    assert Path("1.jsonl").stat().st_mtime_ns == made
    whole = Path("1.jsonl").read_bytes()
    Path("1.jsonl").write_bytes(whole[:-9])
    assert shard("convert-jsonl", inputs, 1, 2) == 0
    assert Path("1.jsonl").read_bytes() == whole


def test_another_shard_does_not_replace_one(
    inputs: dict[str, Path], shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("1.jsonl").read_bytes()
    for more in ("--shard 2/2", "--shard 1/3"):
        assert call("convert-jsonl", inputs, 1, more) == 1
        line = capsys.readouterr().err
        assert f"shard is 1/2 there, {more.split()[1]} now; remove it" in line
    assert Path("1.jsonl").read_bytes() == before


def test_another_command_starts_anew_with_a_warning(
    inputs: dict[str, Path], place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert call("convert-lattices", inputs, 1, "--shard 1/2") == 0
    before = Path("1.jsonl.gz").read_bytes()
    assert call("convert-lattices", inputs, 1, "--shard 1/2 --lm-scale 3 --nbest 2") == 0
    assert "--nbest is 3 there, 2 now; starting anew" in caplog.text
    assert Path("1.jsonl.gz").read_bytes() != before
    assert call("convert-lattices", inputs, 2, "--shard 2/2") == 0
    assert main(["merge", "1.jsonl.gz", "2.jsonl.gz", "--out", "whole.jsonl.gz"]) == 1
    assert not Path("whole.jsonl.gz").exists()


def test_what_merge_refuses(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refusal(call: str, status: int = 1) -> str:
        assert main(["merge", *call.split()]) == status
        assert not Path("whole").exists()
        return capsys.readouterr().err

    assert "no shard 2/2 beside it; expected all shards" in refusal("1.jsonl --out whole")
    assert "shard 1/2; expected it once" in refusal("1.jsonl 1.jsonl --out whole")
    assert "records (*.shard) only" in refusal("1.jsonl.shard --out whole", 2)
    both = "1.jsonl 2.jsonl 1.jsonl.shard --out whole"  # as a glob may give them
    assert "--json has no use here" in refusal(f"{both} --json x", 2)
    with open("2.jsonl", "a") as stream:
        stream.write("\n")
    assert "2.jsonl: not the bytes that were written" in refusal(both)
    Path("2.jsonl").unlink()
    assert "2.jsonl: no such file" in refusal(both)
    Path("2.jsonl.shard").unlink()
    assert "no 2.jsonl.shard beside it" in refusal(both)


def test_a_shard_is_written_to_a_place_of_its_own(
    inputs: dict[str, Path], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for call, message in (
        (
            f"rescore {LISTS} --scores {{scores}} --out -",
            "needs a file or folder for --out",
        ),
        ("convert --from jsonl --to k2 {few} --out 1.pt", "cannot be empty, as a shard may be"),
        (
            "convert --from slf --to kaldi-lat {slf} --out x --like {slf}",
            "do not go together",
        ),
    ):
        assert main([*(word.format(**inputs) for word in call.split()), "--shard", "1/2"]) == 2
        assert message in capsys.readouterr().err
    assert list(place.iterdir()) == []


def test_a_shard_replaces_no_folder_of_others(inputs: dict[str, Path], place: Path) -> None:
    Path("out.1").mkdir()
    Path("out.1/other").touch()
    for _ in range(2):
        assert shard("convert-slf", inputs, 1, 1) == 1
        assert [path.name for path in place.rglob("*")] == ["out.1", "other"]
    assert call("convert-slf", inputs, 1, "--shard 1/1 --force") == 0
    assert len(list(Path("out.1").glob("*.slf.gz"))) == len(list(Path("out.1").iterdir())) == 3


def test_merged_lattices_replace_a_folder_by_force_alone(
    inputs: dict[str, Path], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        assert shard("convert-slf", inputs, number, 2) == 0
    Path("whole").mkdir()
    Path("whole/other").touch()
    words = ["merge", "out.1", "out.2", "--out", "whole"]
    assert main(words) == 1
    assert "a folder that is not empty" in capsys.readouterr().err
    assert main([*words, "--force"]) == 0
    assert len(list(Path("whole").glob("*.slf.gz"))) == len(list(Path("whole").iterdir())) == 3


def test_a_merged_first_pass_is_that_of_one_command(inputs: dict[str, Path], place: Path) -> None:
    for number in (1, 2):
        assert shard("first-pass", inputs, number, 2) == 0
    assert merge("first-pass", [1, 2]) == 0
    made = Path("first.whole/first_pass.json").read_bytes()
    assert call("first-pass", inputs, "whole") == 0  # finished already
    assert merge("first-pass", [2, 1]) == 0  # as well
    assert Path("first.whole/first_pass.json").read_bytes() == made
    runs = [json.loads(Path(f"first.{n}/first_pass.json").read_text()) for n in (1, 2)]
    whole = json.loads(made)
    for key in ("decode_wall_s", "search_wall_s", "hypotheses", "utterances"):
        assert whole[key] == pytest.approx(sum(run[key] for run in runs))
    assert whole["run"]["wall_s"] == pytest.approx(sum(run["run"]["wall_s"] for run in runs))


def test_more_shards_than_files_that_may_be_open(inputs: dict[str, Path], place: Path) -> None:
    for number in range(1, 31):
        words = f"convert --from jsonl --to jsonl {inputs['nbest']} --out {number}.jsonl"
        assert main([*words.split(), "--shard", f"{number}/30"]) == 0
    merge = f"{sys.executable} -m asrprune merge *.jsonl --out whole.jsonl"
    subprocess.run(["bash", "-c", f"ulimit -Sn 40 && exec {merge}"], check=True)
    assert list(read_nbest("whole.jsonl")) == list(read_nbest(inputs["nbest"]))
