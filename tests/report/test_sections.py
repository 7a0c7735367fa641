"""Below the tables: each section is made of what the files say, and only where they say it."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

from asrprune.cli.main import main
from asrprune.report.examples import choose
from asrprune.report.family_page import write_family_page
from asrprune.report.groups import by_length
from asrprune.report.lm_files import MOST_POINTS, read_training, thinned
from asrprune.wer.wer import Scoring, score_texts
from tests.report.whole_run import HOSTILE, SECTIONS, WORDS, make_report, write_family


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything, and its report in ``out``."""
    return make_report(tmp_path_factory.mktemp("whole")).parents[1]


@pytest.fixture
def page(base: Path) -> str:
    return (base / "out/index.html").read_text()


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">.*?</section>', page, re.DOTALL)
    assert found is not None, name
    return found.group()


def test_the_verdict_is_data_too(base: Path, page: str) -> None:
    table = json.loads((base / "out/table.json").read_text())
    assert table["verdict"].startswith("At half the size WER +13.64 [")
    assert table["verdict"] in html.unescape(page)
    assert table["recommended"] == {"half the size": "small", "2 times as fast": "small"}


def test_every_section_is_there_and_linked(page: str) -> None:
    assert re.findall(r'<section id="(\w+)">', page) == list(SECTIONS)
    assert re.findall(r'<a href="#(\w+)">', page.split("</nav>")[0]) == list(SECTIONS)


def test_texts_of_others_are_escaped_and_only_our_script_may_run(page: str) -> None:
    assert HOSTILE not in page
    assert html.escape(HOSTILE) in section(page, "origins")
    assert "<img" not in page
    assert page.count("<script") == 1
    assert "default-src 'none'" in page
    assert "script-src 'sha256-" in page


def test_the_same_input_gives_the_same_page(
    base: Path, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(base)
    assert main(list(WORDS)) == 0
    cut = re.compile(r"<dt>time_utc</dt><dd>[^<]*")
    assert cut.sub("", (base / "out/index.html").read_text()) == cut.sub("", page)


def test_examples_say_what_changed_word_by_word(page: str) -> None:
    examples = section(page, "examples")
    first, second = examples.split("<details")[1:]
    assert (
        "dense against first: fewer errors in 2 utterances, more in 0, as many in 0, none with"
        in first
    )
    assert (
        "small against dense: fewer errors in 1 utterances, more in 2, as many in 0, none with"
        in second
    )
    assert "a-1: damaged, errors 2, 0, 1, speaker a" in second
    assert '<span class="sub new" title="for: mat">hat</span>' in second
    assert '<del class="del">the</del>' in second
    assert '<span class="fixed">going</span>' in second
    assert '<ins class="ins">now</ins>' in first


def test_chosen_are_the_largest_changes_and_spread_ones() -> None:
    refs = {f"u{number:02}": "a b c d" for number in range(20)}
    worse = {**refs, "u03": "x b c d", "u09": "x x x d", "u10": "x x c d", "u19": "x b c d"}
    before, after = score_texts(refs, refs), score_texts(refs, worse)
    choice = choose(before, after, most=2)
    assert choice.shown == {"corrected": [], "damaged": [9, 10], "unchanged": []}
    assert choice.counts == {"corrected": 0, "damaged": 4, "unchanged": 0, "right": 16}
    assert choose(after, before, most=3).shown["corrected"] == [9, 10, 3]
    wrong = score_texts(refs, dict.fromkeys(refs, "a b c e"))
    assert choose(wrong, wrong, most=4).shown["unchanged"] == [0, 5, 10, 15]
    long = score_texts({"u": "a " * 90}, {"u": "b"})
    assert choose(long, long).counts["unchanged"] == 1
    assert choose(long, long).shown["unchanged"] == []


def _lengths(refs: dict[str, str], hyps: dict[str, str]) -> list[tuple[str, int, float]]:
    scorings: list[Scoring] = [score_texts(refs, refs), score_texts(refs, hyps)]
    return [(one.name, one.utterances, one.change(0, 1)) for one in by_length(scorings)]


def test_groups_add_up_their_utterances(page: str) -> None:
    refs = {"long": "w " * 41, "none": "", "five": "a b c d e", "six": "a b c d e f"}
    found = _lengths(refs, {**refs, "five": "a b c d x", "none": "y"})
    assert found == [("up to 5", 2, 40.0), ("6 to 10", 1, 0.0), ("more than 40", 1, 0.0)]
    speakers = section(page, "speakers")
    assert "small against dense: more errors for 1 of 2 speakers, fewer for 1, as many" in speakers
    assert speakers.index('scope="row">a<') < speakers.index('scope="row">b<')  # loses, gains


def test_maps_show_what_was_removed(page: str) -> None:
    removed = section(page, "removed")
    assert 'title="0.attn.q: 32 of 64 parameters, 8 x 2 x 8">50</td>' in removed
    assert 'class="h8" title="0.ffn.up: 64 of 256 parameters, 8 x 8">75</td>' in removed
    assert 'class="h8" title="0.attn.q: rank 2 of 8">2</td>' in removed
    ranks = removed.split("<h3>Ranks</h3>")[1]
    assert ranks.index(">attn.q<") < ranks.index(">ffn.up<")
    assert ">full</td>" in ranks
    assert 'title="block 0: 1 of 2 heads">1</td>' in removed
    assert 'class="h0" title="block 1: 32 of 32 neurons">32</td>' in removed


def test_curves_are_those_of_the_logs(page: str, tmp_path: Path) -> None:
    curves = section(page, "curves")
    for heading in ("Training loss", "Validation", "Fine-tuning while pruning"):
        assert f"<h3>{heading}</h3>" in curves
    assert curves.count("<title>") == 3
    assert len(re.findall(r'<line class="curve g0 d0"', curves)) == 2  # pruning steps
    log = tmp_path / "train.jsonl"
    log.write_text(
        '{"step": 1, "tokens": 5, "loss": 2.5}\n\n{"step": 1, "valid_ppl_token": 9}\nx\n'
    )
    read = read_training(log)
    assert (read.losses, read.valid) == (((5, 2.5),), ((5, 9.0),))
    many = [(float(number), 0.0) for number in range(5 * MOST_POINTS)]
    assert len(thinned(many)) == MOST_POINTS
    assert thinned(many)[-1] == many[-1]


def test_the_oracle_has_a_curve_with_the_systems_as_lines(page: str) -> None:
    depth = section(page, "depth")
    assert ">first " in depth
    assert ">dense " in depth
    assert "hypotheses of a list" in depth


def test_each_row_says_where_it_comes_from(page: str) -> None:
    origins = section(page, "origins")
    assert "<dt>LM</dt><dd>exp/family/sparsity-0.50</dd>" in origins
    assert "<dt>weights SHA-256</dt><dd>0123456789ab</dd>" in origins
    assert "<dt>speed</dt><dd>int8, cpu, 1 thread, P</dd>" in origins
    assert "<dt>weights: commit</dt><dd>beef</dd>" in origins


def test_without_data_there_is_no_section(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    assert main(["report", "--runs", "runs/first", "--ref", "ref", "--out", "bare"]) == 0
    bare = (base / "bare/index.html").read_text()
    assert re.findall(r'<section id="(\w+)">', bare) == ["systems", "made"]
    assert "verdict" not in bare.split("</style>")[1]
    words = ["report", "--runs", "runs/first", "runs/dense", "--ref", "ref", "--out", "two"]
    assert main(words) == 0
    two = (base / "two/index.html").read_text()
    assert "dense against first" in section(two, "examples")
    assert main([*words, "--runs", "runs/small", "--baseline", "first"]) == 0
    two = (base / "two/index.html").read_text()
    for name in ("dense", "small"):
        assert f"<summary>{name} against first</summary>" in section(two, "examples")


@pytest.mark.parametrize(
    ("words", "status", "found"),
    [
        (["--lm", "nobody=exp/dense"], 2, "--lm nobody=exp/dense: no such run"),
        (["--lm", "dense=ref", "dense=ref"], 2, "dense again"),
        (["--lm", "dense=none"], 1, "none: no such folder; expected a checkpoint folder"),
        (["--lm", "dense=exp"], 1, "exp: no config.json; expected a checkpoint folder"),
        (["--utt2spk", "ref"], 1, "ref:1: utterance a-1: 'the cat sat on the mat'; expected 'u"),
        (["--utt2spk", "part"], 1, "part: no speaker of utterance a-2; expected one of every"),
    ],
)
def test_wrong_lms_and_speakers_are_one_line(
    base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    found: str,
) -> None:
    monkeypatch.chdir(base)
    Path("part").write_text("a-1 a\n")
    call = ["report", "--runs", "runs/dense", "--ref", "ref", "--out", "wrong", *words]
    assert main(call) == status
    assert found in capsys.readouterr().err.splitlines()[-1]
    assert not Path("wrong").exists()


def test_a_family_has_the_same_page_without_wer(tmp_path: Path) -> None:
    write_family(tmp_path / "family")
    write_family_page(tmp_path / "family")
    page = (tmp_path / "family/index.html").read_text()
    sections = ["plots", "systems", "removed", "curves", "made"]
    assert re.findall(r'<section id="(\w+)">', page) == sections
    assert "Perplexity per token 70.0: at half the size 80.5 (+15.0 %, sparsity 0.5)." in page
    assert "<dt>command</dt><dd>asrprune prune --lm exp/dense</dd>" in page
    assert "2026-01-01" not in page
    write_family_page(tmp_path / "family")
    assert (tmp_path / "family/index.html").read_text() == page
    family = json.loads((tmp_path / "family/family.json").read_text())
    del family["parent"]["shape"]  # of an earlier version
    family["parent"]["perplexity"] = family["members"][0]["perplexity"] = None
    (tmp_path / "family/family.json").write_text(json.dumps(family))
    write_family_page(tmp_path / "family")
    page = (tmp_path / "family/index.html").read_text()
    assert re.findall(r'<section id="(\w+)">', page) == sections[1:]
    assert "Heads and neurons" not in page


def test_intervals_over_speakers_are_those_of_wer(
    base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the page says what they are over."""
    monkeypatch.chdir(base)
    utts = [line.split()[0] for line in Path("ref").read_text().splitlines()]
    Path("speakers").write_text("".join(f"{utt} s{n % 3}\n" for n, utt in enumerate(utts)))
    call = ["report", "--runs", "runs/first", "runs/dense", "--ref", "ref", "--baseline", "first"]
    assert main([*call, "--utt2spk", "speakers", "--out", "over"]) == 0
    table = json.loads(Path("over/table.json").read_text())
    (row,) = (row for row in table["rows"] if row["name"] == "dense")
    call = ["wer", "--ref", "ref", "--hyp", "runs/first/hyp", "--compare", "runs/dense/hyp"]
    assert main([*call, "--utt2spk", "speakers", "--json", "wer.json"]) == 0
    wer = json.loads(Path("wer.json").read_text())
    assert [row["delta_low"], row["delta_high"]] == wer["comparison"]["interval_percent"]
    assert [row["wer_low"], row["wer_high"]] == wer["compare"]["bootstrap"]["percentile"]
    assert "bootstrap interval over speakers" in Path("over/index.html").read_text()
