from __future__ import annotations

import json

import pytest

from asrprune.cli.main import main
from asrprune.core.lattice.lattice import from_arcs
from asrprune.firstpass.formats.slf import write_slf_files

HEADER = {"format": "asrprune-nbest", "version": 1, "log_base": "e", "sign": "logprob"}


def _line(utt, *texts, ref=None):
    hyps = [{"text": text, "acoustic": None, "lm": None} for text in texts]
    return {"utt": utt, "hyps": hyps} if ref is None else {"utt": utt, "ref": ref, "hyps": hyps}


def _write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in (HEADER, *records)))
    return str(path)


def test_table_and_json(tmp_path, capsys):
    nbest = _write(
        tmp_path / "n.jsonl", _line("u1", "a hat", "a cat", ref="a cat"), _line("u2", "", ref="i")
    )
    assert main(["oracle", "--nbest", nbest, "--json", str(tmp_path / "o.json")]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[1].split()[:2] == ["1", "66.67"]
    assert rows[2].split()[:2] == ["2", "33.33"]
    assert rows[3].startswith("2 utterances, 0 without hypotheses, 1.5 hypotheses each")
    figures = json.loads((tmp_path / "o.json").read_text())
    assert [row["errors"] for row in figures["depths"]] == [2, 1]
    assert figures["mean_oracle_rank"] == 1.5


def test_reference_file_and_modes(tmp_path, capsys):
    nbest = _write(tmp_path / "n.jsonl", _line("u1", "a hat", "a cat"))
    (tmp_path / "ref").write_text("u1 a cat\nu2 a dog\n")
    args = ["oracle", "--nbest", nbest, "--ref", str(tmp_path / "ref")]
    assert main(args) == 1
    error = capsys.readouterr().err
    assert "no hypothesis for utterance u2" in error
    assert len(error.splitlines()) == 1
    assert main([*args, "--mode", "all"]) == 0
    assert "[PARTIAL]" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "not json\n"])
def test_bad_lists_end_in_status_1_and_one_line(tmp_path, capsys, text):
    (tmp_path / "n.jsonl").write_text(text)
    assert main(["oracle", "--nbest", str(tmp_path / "n.jsonl")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1


HEAD = '{"format": "asrprune-nbest", "version": 1, "log_base": "e", "sign": "logprob"}\n'


def _list(path, ref, *texts):
    hyps = [{"text": text, "acoustic": -1.0, "lm": None} for text in texts]
    line = json.dumps({"utt": "a-1", "ref": ref, "hyps": hyps}, ensure_ascii=False)
    path.write_text(HEAD + line + "\n", encoding="utf-8")
    return str(path)


def test_characters_of_lists_in_the_form_asked_for(tmp_path, capsys):
    lists = _list(tmp_path / "n.jsonl", "我们 去 BAR 吧", "我 们取 bar 吧", "我们去bar吧")
    assert main(["oracle", "--nbest", lists, "--unit", "mixed", "--ignore-case"]) == 0
    out = capsys.readouterr().out
    assert "# scored units; --ignore-case; --unit mixed" in out
    assert "    1   20.00 " in out
    assert "    2    0.00 " in out
    assert "%MER" in out


def test_alternatives_filters_and_formats(tmp_path, capsys):
    lists = _list(tmp_path / "n.jsonl", None, "well yes sir", "yes")
    (tmp_path / "ref.trn").write_text("(well) { yes / yeah } mister (a-1)\n")
    argv = ["oracle", "--nbest", lists, "--ref", str(tmp_path / "ref.trn"), "--optional-words"]
    assert main([*argv, "--hyp-filter", "sed s/sir/mister/"]) == 0
    out = capsys.readouterr().out
    assert "    1    0.00 " in out


def test_a_lattice_by_character(tmp_path, capsys):
    arcs = [(0, 1, "我们", 0.0, 0.0), (1, 2, "取", 0.0, 0.0), (1, 2, "去了", 0.0, 0.0)]
    write_slf_files(tmp_path / "lat", [from_arcs("a-1", 3, 0, 2, arcs)])
    (tmp_path / "ref").write_text("a-1 我们去\n", encoding="utf-8")
    argv = ["oracle", "--lattice", str(tmp_path / "lat"), "--format", "slf", "--unit", "char"]
    assert main([*argv, "--ref", str(tmp_path / "ref")]) == 0
    assert "1 / 3, " in capsys.readouterr().out


def test_digits_that_the_normal_form_drops_are_told_of_first_hypotheses(tmp_path, caplog):
    lists = _list(tmp_path / "n.jsonl", "room 101 now", "room 7 8", "room 1 2 3")
    argv = ["oracle", "--nbest", lists, "--normalise", "asr"]
    assert main(argv) == 0
    assert "drops digits, of 1 words of references and 2 of hypotheses: wrong" in caplog.text
    caplog.clear()
    assert main([*argv, "--filter", "sed 's/ [0-9]/ one/g; s/one[0-9]*/one/g'"]) == 0
    assert "drops digits" not in caplog.text


def test_digits_that_the_normal_form_drops_are_told_of_lattices(tmp_path, caplog):
    arcs = [(0, 1, "room", 0.0, 0.0), (1, 2, "8", 0.0, 0.0), (1, 2, "9", 0.0, 0.0)]
    write_slf_files(tmp_path / "lat", [from_arcs("a-1", 3, 0, 2, arcs)])
    (tmp_path / "ref").write_text("a-1 room eight\n", encoding="utf-8")
    argv = ["oracle", "--lattice", str(tmp_path / "lat"), "--format", "slf", "--normalise", "asr"]
    assert main([*argv, "--ref", str(tmp_path / "ref")]) == 0
    assert "of 0 words of references and 2 of hypotheses" in caplog.text
