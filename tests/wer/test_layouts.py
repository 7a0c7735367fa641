from __future__ import annotations

import ast

import pytest

from asrprune.wer.icefall_layout import errs_lines, marked, write_icefall_layout
from asrprune.wer.kaldi_layout import ops_lines, per_utt_lines, write_kaldi_layout
from asrprune.wer.trn import write_trn_pair
from asrprune.wer.wer import UtteranceErrors, score_texts

REFS = {"s1-u1": "a dog sat here", "s1-u2": "", "s2-u1": "i"}
HYPS = {"s1-u1": "a hog sat", "s1-u2": "uh", "s2-u1": ""}


@pytest.fixture(name="scoring")
def _scoring():
    return score_texts(REFS, HYPS)


def test_kaldi_per_utt_columns_are_centred(scoring):
    assert "".join(per_utt_lines(scoring.utterances[0])) == (
        "s1-u1 ref  a  dog  sat  here\n"
        "s1-u1 hyp  a  hog  sat   ***\n"
        "s1-u1 op   C   S    C     D \n"
        "s1-u1 #csid 2 1 0 1\n"
    )
    assert "".join(per_utt_lines(scoring.utterances[1])) == (
        "s1-u2 ref  ***\ns1-u2 hyp   uh\ns1-u2 op    I \ns1-u2 #csid 0 0 1 0\n"
    )


def test_kaldi_per_utt_of_nothing_at_all():
    nothing = UtteranceErrors("u", "", "", ())
    assert "".join(per_utt_lines(nothing)) == "u ref  \nu hyp  \nu op   \nu #csid 0 0 0 0\n"


def test_kaldi_ops_by_operation_then_count():
    scoring = score_texts({"u1": "b a b", "u2": "c"}, {"u1": "b a b", "u2": "x"})
    assert "".join(ops_lines(scoring)) == (
        "correct       b    b    2\ncorrect       a    a    1\nsubstitution  c    x    1\n"
    )
    long = score_texts({"u1": "abcdefghijklmnopqrst"}, {"u1": ""})
    assert "".join(ops_lines(long)) == (
        "deletion      abcdefghijklmnopqrst                 ***    1\n"
    )


def test_kaldi_files(tmp_path, scoring):
    write_kaldi_layout(tmp_path, scoring, "Set1: ...\n")
    assert (tmp_path / "wer").read_text() == scoring.kaldi_lines()
    details = tmp_path / "scoring_kaldi"
    assert (details / "best_wer").read_text() == (
        f"%WER 80.00 [ 4 / 5, 1 ins, 2 del, 1 sub ] {tmp_path / 'wer'}\n"
    )
    assert (details / "test_filt.txt").read_text() == "s1-u1 a dog sat here\ns1-u2\ns2-u1 i\n"
    assert (details / "wer_details" / "wer_bootci").read_text() == "Set1: ...\n"
    assert len((details / "wer_details" / "per_utt").read_text().splitlines()) == 12


def test_other_files_in_the_folder_stay(tmp_path, scoring):
    (tmp_path / "lat.1.gz").write_bytes(b"precious")
    write_kaldi_layout(tmp_path, scoring, "")
    write_icefall_layout(tmp_path, {"a": scoring})
    assert (tmp_path / "lat.1.gz").read_bytes() == b"precious"


def test_icefall_errs(scoring):
    text = "".join(errs_lines(scoring))
    assert text == (
        "%WER = 80.00\n"
        "Errors: 1 insertions, 2 deletions, 1 substitutions, over 5 reference words (2 correct)\n"
        "Search below for sections starting with PER-UTT DETAILS:, SUBSTITUTIONS:, DELETIONS:, "
        "INSERTIONS:, PER-WORD STATS:\n"
        "\n"
        "PER-UTT DETAILS: corr or (ref->hyp)  \n"
        "s1-u1:\ta (dog->hog) sat (here->*)\n"
        "s1-u2:\t(*->uh)\n"
        "s2-u1:\t(i->*)\n"
        "\n"
        "SUBSTITUTIONS: count ref -> hyp\n"
        "1   dog -> hog\n"
        "\n"
        "DELETIONS: count ref\n"
        "1   i\n"
        "1   here\n"
        "\n"
        "INSERTIONS: count hyp\n"
        "1   uh\n"
        "\n"
        "PER-WORD STATS: word  corr tot_errs count_in_ref count_in_hyp\n"
        "uh   0 1 0 1\n"
        "i   0 1 1 0\n"
        "hog   0 1 0 1\n"
        "here   0 1 1 0\n"
        "dog   0 1 1 0\n"
        "sat   1 0 1 1\n"
        "a   1 0 1 1\n"
    )


def test_neighbouring_errors_are_merged():
    assert marked((("a", None), ("b", "x"), ("c", "c"), (None, "d"))) == "(a b->x) c (*->d)"
    assert marked(()) == ""


def test_icefall_files_carry_the_setting_and_rank_by_wer(tmp_path, scoring):
    perfect = score_texts(REFS, REFS)
    write_icefall_layout(tmp_path, {"scale_0": scoring, "scale_0.4": perfect}, "dev")
    assert (tmp_path / "wer-summary-dev.txt").read_text() == (
        "settings\tWER\nscale_0.4\t0.00\nscale_0\t80.00\n"
    )
    assert (tmp_path / "errs-dev-scale_0.txt").read_text() == "".join(errs_lines(scoring))
    lines = (tmp_path / "recogs-dev-scale_0.txt").read_text().splitlines()
    utt, hyp = lines[1].split(":\thyp=")
    assert (utt, ast.literal_eval(hyp)) == ("s1-u1", ["a", "hog", "sat"])
    with pytest.raises(ValueError, match="holds a slash"):
        write_icefall_layout(tmp_path, {"a/b": scoring})


def test_trn_pair(tmp_path, scoring):
    write_trn_pair(tmp_path, scoring)
    assert (tmp_path / "ref.trn").read_text() == "a dog sat here (s1-u1)\n(s1-u2)\ni (s2-u1)\n"
    assert (tmp_path / "hyp.trn").read_text() == "a hog sat (s1-u1)\nuh (s1-u2)\n(s2-u1)\n"
