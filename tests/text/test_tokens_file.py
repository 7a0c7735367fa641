"""A transducer's tokens.txt against the pieces of an LM."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from asrprune.errors import InputError
from asrprune.text.tokens_file import check_tokens

PIECES = ["<blk>", "<sos/eos>", "<unk>", "\u2581a", "b", " "]
MODEL = SimpleNamespace(vocab_size=len(PIECES), piece=lambda index: PIECES[index])
GOOD = ["<blk> 0", "<sos/eos> 1", "<unk> 2", "\u2581a 3", "b 4", " 5"]


@pytest.mark.parametrize(
    "lines",
    [
        GOOD,
        GOOD[::-1],
        ["<eps> 0", *GOOD[1:]],
        [*GOOD[:5], "5"],
        [*GOOD, "#0 6", "#1 7"],
        ["<blk>\t0", *GOOD[1:]],
    ],
)
def test_the_same_tokens_are_taken(tmp_path, lines):
    (tmp_path / "tokens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    check_tokens(tmp_path / "tokens.txt", MODEL)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (GOOD[:5], "5 tokens; expected 6 tokens, as the LM has pieces"),
        ([*GOOD, "c 6"], ":7: token 'c' with the id 6; expected at most 6"),
        (["<unk> 0", *GOOD[1:]], ":1: token '<unk>' with the id 0; expected a blank"),
        ([*GOOD[:3], "a 3", *GOOD[4:]], ":4: token 'a' with the id 3; expected '\u2581a'"),
        ([*GOOD[:3], "\u2581a 4", "b 3", " 5"], ":5: token 'b' with the id 3; expected '\u2581a'"),
        ([*GOOD[:3], *GOOD[4:]], "no token with the id 3; expected each id once"),
        ([*GOOD, "b 4"], ":7: the id 4 again (first in line 5); expected each id once"),
        (["<blk> zero"], ":1: '<blk> zero'; expected a token and its id"),
        (["<blk> -1"], ":1: '<blk> -1'; expected a token and its id"),
        (["<blk> x 0"], ":1: '<blk> x 0'; expected a token and its id"),
        ([""], ":1: ''; expected a token and its id"),
        ([], "0 tokens; expected 6"),
    ],
)
def test_others_are_refused_by_line(tmp_path, lines, problem):
    (tmp_path / "tokens.txt").write_text("".join(f"{x}\n" for x in lines), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        check_tokens(tmp_path / "tokens.txt", MODEL)
    assert problem in str(caught.value)
