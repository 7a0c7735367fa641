from __future__ import annotations

import gzip
import io
import json

import pytest

from asrprune.cli.main import main

REF = "u1 the cat sat\nu2 a dog\nu3\nu4 i\n"
HYP = "u4 i\nu3 uh\nu2 dog\nu1 the hat sat\n"
KALDI = (
    "%WER 50.00 [ 3 / 6, 1 ins, 1 del, 1 sub ]\n"
    "%SER 75.00 [ 3 / 4 ]\n"
    "Scored 4 sentences, 0 not present in hyp.\n"
)


@pytest.fixture(name="files")
def _files(tmp_path):
    (tmp_path / "ref").write_text(REF)
    (tmp_path / "hyp").write_text(HYP)
    return tmp_path


def _wer(files, *more, ref="ref", hyp="hyp"):
    return main(["wer", "--ref", str(files / ref), "--hyp", str(files / hyp), *map(str, more)])


def test_kaldi_lines_come_first_and_the_interval_follows(files, capsys):
    assert _wer(files) == 0
    out = capsys.readouterr().out
    assert out.startswith(KALDI + "Set1: %WER ")
    assert len(out.splitlines()) == 5
    assert out.splitlines()[4].startswith(f"{files}/hyp: %WER 50.00 95% percentile interval [ ")


def test_comparison_is_reproducible_and_in_the_json(files, capsys):
    more = ("--compare", files / "ref", "--json", files / "a.json", "--seed", 4)
    assert _wer(files, *more) == 0
    first = capsys.readouterr().out
    assert _wer(files, *more) == 0
    assert capsys.readouterr().out == first
    assert "Probability of Set2 improving Set1: " in first
    hyp, ref = f"{files}/hyp", f"{files}/ref"
    names = [line.split(": %WER")[0] for line in first.splitlines()[3:] if ": %WER" in line]
    assert names == ["Set1", "Set2", hyp, ref, f"{ref} - {hyp}"]  # Kaldi's own lines, then ours
    assert f"{ref} - {hyp}: %WER -50.00 " in first
    figures = json.loads((files / "a.json").read_text())
    assert figures["hyp"]["errors"] == 3
    assert figures["compare"]["wer_percent"] == 0.0
    assert figures["comparison"]["difference_percent"] == -50.0
    assert figures["hyp"]["bootstrap"]["seed"] == 4


def test_json_on_stdout_is_only_json(files, capsys):
    assert _wer(files, "--json", "-") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["hyp"]["words"] == 6
    assert captured.err.startswith(KALDI)


def test_out_holds_all_three_layouts(files, capsys):
    assert _wer(files, "--out", files / "out", "--set-name", "dev", "--settings", "lm_0.5") == 0
    names = {str(path.relative_to(files / "out")) for path in (files / "out").rglob("*.*")}
    assert {"ref.trn", "hyp.trn", "errs-dev-lm_0.5.txt", "recogs-dev-lm_0.5.txt"} <= names
    assert (files / "out" / "wer").read_text() == KALDI
    bootci = (files / "out" / "scoring_kaldi" / "wer_details" / "wer_bootci").read_text()
    assert bootci in capsys.readouterr().out


def test_partial_is_shown(files, capsys):
    (files / "some").write_text("u1 the cat sat\nzz what\n")
    assert _wer(files, "--mode", "present", hyp="some") == 0
    assert "%WER 0.00 [ 0 / 3, 0 ins, 0 del, 0 sub ] [PARTIAL]\n" in capsys.readouterr().out
    assert _wer(files, "--mode", "all", hyp="some") == 0
    assert "%WER 50.00 [ 3 / 6, 0 ins, 3 del, 0 sub ] [PARTIAL]\n" in capsys.readouterr().out


def test_standard_input(files, capsys, monkeypatch):
    class Stdin:
        buffer = io.BytesIO(HYP.encode())

    monkeypatch.setattr("sys.stdin", Stdin)
    assert main(["wer", "--ref", str(files / "ref"), "--hyp", "-"]) == 0
    assert capsys.readouterr().out.startswith(KALDI)
    assert main(["wer", "--ref", "-", "--hyp", "-"]) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"u1 a\n\nu2 b\n", ":2: a blank line"),
        (b"u1 a\nu1 a\n", ":2: utterance u1 again"),
        (b"u4 i\nu3 uh\nu1 the hat sat\n", "no hypothesis for utterance u2"),
        (HYP.encode() + b"u9 more\n", "no reference for utterance u9"),
        (HYP.replace("u2", "u5").encode(), "no hypothesis for utterance u2"),
        (b"u1 \xff\n", ":1: bytes that are not UTF-8"),
        (gzip.compress(HYP.encode(), mtime=0)[:-9], "damaged compressed data"),
        (None, "no such file"),
    ],
)
def test_bad_hypotheses_end_in_status_1_and_one_line(files, capsys, content, message):
    name = "bad.gz" if content is not None and content[:2] == b"\x1f\x8b" else "bad"
    if content is not None:
        (files / name).write_bytes(content)
    assert _wer(files, "--out", files / "out", "--json", files / "a.json", hyp=name) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err
    assert not (files / "out").exists()
    assert not (files / "a.json").exists()


def test_bad_second_system_and_wordless_references(files, capsys):
    (files / "few").write_text("u2 a dog\n")
    assert _wer(files, "--compare", files / "few") == 1
    assert "few: no hypothesis for utterances u1, u3, u4" in capsys.readouterr().err
    (files / "other").write_text("u1 the\n")
    args = ("--mode", "present", "--compare", files / "other")
    assert _wer(files, *args, hyp="few") == 1
    assert "no reference word in the 0 utterances shared" in capsys.readouterr().err
    (files / "silent").write_text("u1\nu2\n")
    assert _wer(files, ref="silent", hyp="silent") == 1
    assert "no reference words in the 2 utterances" in capsys.readouterr().err


def test_wrong_calls_end_in_status_2(files, capsys):
    assert _wer(files, "--replications", "1") == 2
    assert "--replications: '1'; expected a whole number >= 2" in capsys.readouterr().err
    assert _wer(files, "--mode", "lenient") == 2
    assert "--mode: invalid choice: 'lenient'" in capsys.readouterr().err
    assert _wer(files, "--set-name", "a/b", "--out", files / "out") == 2
    assert not (files / "out").exists()


def test_characters_are_counted_alike_with_and_without_spaces(files, capsys):
    (files / "zh").write_text("a-1 他把书还给了图书馆\na-2 谢谢\n", encoding="utf-8")
    (files / "plain").write_text("a-1 他把输还给图书馆\na-2 谢谢\n", encoding="utf-8")
    (files / "cut").write_text("a-1 他 把输 还给 图书馆\na-2 谢谢\n", encoding="utf-8")
    for unit, rate in (("char", "CER"), ("mixed", "MER")):
        lines = set()
        for hyp in ("plain", "cut"):
            more = ("--unit", unit, "--out", files / unit, "--compare", files / "zh")
            assert _wer(files, *more, ref="zh", hyp=hyp) == 0
            out = capsys.readouterr().out
            assert f": %{rate} -18.18 95% percentile" in out
            lines.add(out.splitlines()[1])
        assert lines == {f"%{rate} 18.18 [ 2 / 11, 0 ins, 1 del, 1 sub ]"}
        kaldi = (files / unit / rate.lower()).read_text()
        assert kaldi.startswith("%WER 18.18 [ 2 / 11,")  # what best_wer.sh looks for
        assert (files / unit / "scoring_kaldi" / f"{rate.lower()}_details" / "per_utt").is_file()
        assert "他 把 书" in (files / unit / "ref.trn").read_text(encoding="utf-8")


def test_options_change_both_sides_and_are_stated(files, capsys, caplog):
    (files / "upper").write_text("u1 THE T-SHIRT, UH COLOUR\nu2 <noise> OK\n")
    (files / "lower").write_text("u1 the t shirt color\nu2 okay\n")
    (files / "rules").write_text("color => colour\nok => okay\n")
    more = ["--ignore-case", "--remove-tags", "--hyphens", "split", "--ignore-punctuation"]
    more += ["--equivalents", files / "rules", "--remove-words", "uh", "--json", files / "a.json"]
    assert _wer(files, *more, ref="upper", hyp="lower") == 0
    captured = capsys.readouterr()
    header, first = captured.out.splitlines()[:2]
    assert header.startswith("# scored words; --remove-tags; --ignore-case; --hyphens split; --ig")
    assert header.endswith("changed 2 of 2 references, 1 of 2 hypotheses")
    assert first == "%WER 0.00 [ 0 / 5, 0 ins, 0 del, 0 sub ]"
    (few,) = caplog.messages
    assert few.startswith(f"{files / 'lower'}: 2 utterances: intervals over fewer than 20 are too")
    assert json.loads((files / "a.json").read_text())["scoring"]["options"][-1].endswith("uh")


@pytest.mark.parametrize("name", ["asr", "librispeech"])
def test_digits_that_the_normal_form_drops_are_told(files, caplog, capsys, name):
    (files / "ref").write_text("u1 room 101 costs 50 <2>\nu2 the 3rd\n")
    (files / "hyp").write_text("u1 room 202 costs 99\nu2 the\n")
    assert _wer(files, "--normalise", name, "--compare", files / "ref") == 0
    assert "%WER 25.00 [ 1 / 4, " in capsys.readouterr().out
    (told,) = (one.getMessage() for one in caplog.records if "drops digits" in one.getMessage())
    assert told.startswith(f"{files}/hyp: --normalise {name} drops digits, of 3 words of refer")
    assert "references and 5 of hypotheses: wrong numbers are no errors" in told
    assert "(--filter CMD)" in told


def test_digits_that_stay_or_are_written_out_before_are_not_told(files, caplog):
    (files / "ref").write_text("u1 room 5 <2>\n")
    (files / "hyp").write_text("u1 room 6\n")
    assert _wer(files, "--normalise", "lower") == 0
    assert _wer(files, "--normalise", "asr", "--filter", "sed 's/ 5/ five/; s/ 6/ six/'") == 0
    assert "drops digits" not in caplog.text


@pytest.mark.parametrize("form", [["--ignore-case"], ["--normalise", "lower"]])
def test_turkish_case_is_that_of_the_language(files, capsys, form):
    (files / "ref").write_text("u1 \u0130STANBUL ISPARTA I\u011eDIR\n", encoding="utf-8")
    small = "u1 istanbul \u0131sparta \u0131\u011fd\u0131r\n"
    (files / "hyp").write_text(small, encoding="utf-8")
    assert _wer(files, *form) == 0
    assert "%WER 66.67 [ 2 / 3, " in capsys.readouterr().out
    assert _wer(files, *form, "--language", "tr") == 0
    out = capsys.readouterr().out
    assert f"# scored words; {' '.join(form)} --language tr; changed 1 of 1 ref" in out
    assert "%WER 0.00 [ 0 / 3, " in out


def test_a_language_without_a_change_of_letters_is_refused(files, capsys):
    for more in ((), ("--normalise", "none")):
        assert _wer(files, *more, "--language", "tr") == 2
        assert "--language has a use only with --ignore-case, or" in capsys.readouterr().err


def test_filters_get_the_files_as_kaldi_gives_them(files, capsys):
    assert _wer(files, "--filter", "sed 's/ sat//'", "--hyp-filter", "sed 's/hat/cat/'") == 0
    assert "[ 2 / 5, 1 ins, 1 del, 0 sub ]" in capsys.readouterr().out


def test_a_difference_of_form_is_told_and_the_numbers_stay(files, capsys, caplog):
    (files / "upper").write_text(HYP.upper().replace("U", "u"))
    assert _wer(files, hyp="upper") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("%WER 116.67 ")
    assert "upper: references are lower case, hypotheses upper case" in caplog.text
    (files / "ids").write_text(HYP.replace("u", "U"))
    assert _wer(files, hyp="ids") == 1
    assert "(ids differ in case, as u1 and U1)" in capsys.readouterr().err


def test_a_trn_with_alternatives_is_read_and_compared(files, capsys, caplog):
    (files / "ref.trn").write_text("a { um / @ } b (s-1)\n{ yes / oh yes } (s-2)\n")
    (files / "hyp.trn").write_text("a b (s-1)\noh yes (s-2)\n")
    (files / "two.trn").write_text("a um b (s-1)\nno (s-2)\n")
    caplog.set_level("INFO")
    more = ("--compare", files / "two.trn", "--out", files / "out")
    assert _wer(files, *more, ref="ref.trn", hyp="hyp.trn") == 0
    captured = capsys.readouterr()
    assert "%WER 0.00 [ 0 / 4, 0 ins, 0 del, 0 sub ]" in captured.out
    assert "2 references with alternatives" in captured.out
    assert ": %WER +25.00 95% percentile" in captured.out  # 1 of 4 words against 0 of 4
    assert caplog.text.count("read as trn") == 3
    text = (files / "out" / "scoring_kaldi" / "test_filt.txt").read_text()
    assert text == "s-1 a b\ns-2 oh yes\n"


def test_what_sclite_would_misread_is_told(files, caplog):
    (files / "odd").write_text("u1 see (me)\nu2-1 a\n")
    assert _wer(files, "--out", files / "out", ref="odd", hyp="odd") == 0
    error = caplog.text
    assert "ref.trn: 1 word holds ( ) { } (utterance u1: (me))" in error
    assert "hyp.trn: 1 id has no - or _ (u1)" in error


def test_costs_of_sclite(files, capsys):
    (files / "one").write_text("u1 a b c p q r s t\n")
    (files / "two").write_text("u1 x y z a b p q r\n")
    assert _wer(files, "--edit-costs", "sclite", ref="one", hyp="two") == 0
    assert "# scored words; --edit-costs sclite" in capsys.readouterr().out


def test_cer_is_unit_char(tmp_path, capsys):
    for name, text in (("ref", "u 今天 好\n"), ("hyp", "u 今天好\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    shown = []
    for flags in (("--cer",), ("--unit", "char"), ()):
        command = ["wer", "--ref", str(tmp_path / "ref"), "--hyp", str(tmp_path / "hyp"), *flags]
        assert main(command) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] != shown[2]
    assert "%CER 0.00 [ 0 / 3, " in shown[0]
