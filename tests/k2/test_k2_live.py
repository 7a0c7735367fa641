"""Our lattices and k2's own: same totals, same best paths, files and objects either way."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any

import pytest

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import Lattice, from_arcs
from asrprune.core.lattice.paths import best_path, k_best
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.k2_lattice import read_k2_lattices, write_k2_lattices
from asrprune.firstpass.formats.k2_live import (
    lattice_from_k2,
    lattice_to_k2,
    lattices_from_k2,
    lattices_to_k2,
    nbests_from_k2,
    nbests_to_k2,
)
from asrprune.firstpass.formats.table import FORMATS

k2 = pytest.importorskip(
    "k2", reason="k2 is not installed here; tests/run.sh --with-k2 runs this file against k2 1.23.4"
)
torch = pytest.importorskip("torch")

WORDS = ("", "a", "b", "c")
UNIT = ScoreWeights()
SYMBOLS = "<eps> 0\na 7\nb 5\nc 6\n"


def _random_lattice(utt: str, seed: int, with_lm: bool = True) -> Lattice:
    """A lattice of up to seven states with epsilons; every state is on a path."""
    draw = random.Random(seed)
    n_states = draw.randint(2, 7)
    pairs = [(state, state + 1) for state in range(n_states - 1)]
    pairs += [
        (source, target)
        for source, target in itertools.combinations(range(n_states), 2)
        for _ in range(draw.randint(0, 2))
    ]
    arcs = [
        (source, target, draw.choice(WORDS), -9 * draw.random(), -4 * draw.random())
        for source, target in pairs
    ]
    if not with_lm:
        return from_arcs(utt, n_states, 0, n_states - 1, [(*arc[:4], None) for arc in arcs])
    return from_arcs(utt, n_states, 0, n_states - 1, list(arcs))


LATTICES = [_random_lattice(f"u-{seed}", seed) for seed in range(25)]
# a path without any word, and one word in one arc
LATTICES[0] = from_arcs("u-0", 2, 0, 1, [(0, 1, "", -1.0, -0.5)])
LATTICES[1] = from_arcs("u-1", 2, 0, 1, [(0, 1, "b", -1.0, -0.5)])


def _path_totals(lattice: Lattice) -> list[float]:
    """The total of every path, by enumeration."""
    lm = [0.0] * lattice.n_arcs if lattice.lm is None else lattice.lm.tolist()
    arcs = list(zip(lattice.src.tolist(), lattice.dst.tolist(), lattice.acoustic.tolist(), lm))
    totals = []
    waiting = [(lattice.start, 0.0)]
    while waiting:
        state, total = waiting.pop()
        if state == lattice.final:
            totals.append(total)
        waiting += [(arc[1], total + arc[2] + arc[3]) for arc in arcs if arc[0] == state]
    return totals


def _log_sum(values: list[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def _check_totals(fsas: Any, lattices: list[Lattice]) -> None:
    for log_semiring, add in ((True, _log_sum), (False, max)):
        totals = fsas.get_tot_scores(use_double_scores=True, log_semiring=log_semiring)
        assert totals.tolist() == pytest.approx(
            [add(_path_totals(lattice)) for lattice in lattices], rel=1e-5, abs=1e-5
        )


def _check_same_paths(new: Lattice, old: Lattice) -> None:
    assert new.utt == old.utt
    theirs, ours = k_best(new, 9, UNIT), k_best(old, 9, UNIT)
    assert [hyp.text for hyp in theirs] == [hyp.text for hyp in ours]
    for name in ("acoustic", "lm"):
        assert [getattr(hyp, name) for hyp in theirs] == pytest.approx(
            [getattr(hyp, name) for hyp in ours], abs=1e-4
        )


def test_one_fsa_has_our_totals_and_best_path() -> None:
    for lattice in LATTICES:
        fsa = lattice_to_k2(lattice)
        _check_totals(k2.create_fsa_vec([fsa]), [lattice])
        _check_same_paths(lattice_from_k2(fsa, lattice.utt), lattice)
        best = lattice_from_k2(k2.shortest_path(k2.create_fsa_vec([fsa]), True), lattice.utt)
        ours = best_path(lattice, UNIT)
        (theirs,) = k_best(best, 2, UNIT)
        assert ours is not None
        assert theirs.text == ours.text
        assert theirs.acoustic == pytest.approx(ours.acoustic, abs=1e-4)
        assert theirs.lm == pytest.approx(ours.lm, abs=1e-4)


def test_a_vector_of_fsas_has_our_totals() -> None:
    fsas = lattices_to_k2(LATTICES)
    assert fsas.shape[0] == len(LATTICES)
    _check_totals(fsas, LATTICES)
    for new, old in zip(lattices_from_k2(fsas), LATTICES):
        _check_same_paths(new, old)
    # k2 hands our attributes on: what it made of a vector keeps ids and words
    best = lattices_from_k2(k2.shortest_path(fsas, use_double_scores=True))
    assert [lattice.utt for lattice in best] == [lattice.utt for lattice in LATTICES]
    for new, old in zip(best, LATTICES):
        ours = best_path(old, UNIT)
        assert ours is not None
        assert [hyp.text for hyp in k_best(new, 2, UNIT)] == [ours.text]
    with pytest.raises(ValueError, match="1 utterance ids for 25"):
        lattice_from_k2(fsas, "u")
    with pytest.raises(ValueError, match="2 utterance ids for 25"):
        lattices_from_k2(fsas, ["a", "b"])
    with pytest.raises(ValueError, match="u-3 comes twice"):
        lattices_to_k2([LATTICES[3], LATTICES[3]])


def test_without_lm_scores_there_is_no_attribute() -> None:
    lattice = _random_lattice("u", 3, with_lm=False)
    fsa = lattice_to_k2(lattice)
    assert not hasattr(fsa, "lm_scores")
    _check_totals(k2.create_fsa_vec([fsa]), [lattice])
    again = lattice_from_k2(fsa, "u")
    assert again.lm is None
    weights = ScoreWeights(first_lm=0.0)
    assert [h.text for h in k_best(again, 9, weights)] == [
        h.text for h in k_best(lattice, 9, weights)
    ]


def test_our_files_load_in_k2_and_its_files_in_ours(tmp_path: Path) -> None:
    write_k2_lattices(tmp_path / "all.pt", LATTICES)
    fsas = k2.Fsa.from_dict(torch.load(tmp_path / "all.pt"))
    _check_totals(fsas, LATTICES)
    assert torch.allclose(fsas.lm_scores, lattices_to_k2(LATTICES).lm_scores)
    write_k2_lattices(tmp_path / "folder", LATTICES[:3])
    fsa = k2.Fsa.from_dict(torch.load(tmp_path / "folder" / "u-2.pt"))
    _check_totals(k2.create_fsa_vec([fsa]), [LATTICES[2]])
    # theirs, without anything of ours in it: ids of a table make Fsas that k2 puts together
    words = tmp_words(tmp_path)
    write_k2_lattices(tmp_path / "ids", LATTICES, words)
    folder = [torch.load(tmp_path / "ids" / f"{one.utt}.pt") for one in LATTICES]
    plain = k2.create_fsa_vec([k2.Fsa.from_dict(one) for one in folder])
    _check_totals(plain, LATTICES)
    torch.save(plain.as_dict(), tmp_path / "theirs.pt")
    (tmp_path / "list").write_text("".join(f"{one.utt}\n" for one in LATTICES), encoding="utf-8")
    read = read_k2_lattices(tmp_path / "theirs.pt", words, tmp_path / "list")
    for new, old in zip(read, LATTICES):
        _check_same_paths(new, old)


def tmp_words(folder: Path) -> Path:
    """A word table in the folder."""
    (folder / "words.txt").write_text(SYMBOLS, encoding="utf-8")
    return folder / "words.txt"


def test_tables_of_words(tmp_path: Path) -> None:
    path = tmp_words(tmp_path)
    table = k2.SymbolTable.from_file(str(path))
    lattice = from_arcs("u", 3, 0, 2, [(0, 1, "a", -1.0, -2.0), (1, 2, "c", -1.0, 0.0)])
    for words in (path, str(path), table):
        fsa = lattice_to_k2(lattice, words)
        assert fsa.aux_labels.tolist() == fsa.labels.tolist() == [7, 6, -1]
        assert lattice_from_k2(fsa, "u", words).words == ("", "c", "a")
        with pytest.raises(ValueError, match="utterance u: word id 6 without a table"):
            lattice_from_k2(fsa, "u")
        with pytest.raises(ValueError, match="word 'x' has no id"):
            lattice_to_k2(from_arcs("u", 2, 0, 1, [(0, 1, "x", 0.0, 0.0)]), words)
    with pytest.raises(ValueError, match="ids of 1 are not known"):
        lattices_from_k2(fsa, words=table)


def test_ragged_labels_become_chains_of_words() -> None:
    text = "0 1 1 0.5\n0 1 2 -0.25\n1 2 3 -1\n2 3 -1 0\n3\n"
    fsa = k2.Fsa.from_str(text, acceptor=True)
    fsa.aux_labels = k2.RaggedTensor([[7, 5, 6], [], [5], [-1]])
    fsa.lm_scores = torch.tensor([0.25, -0.25, -0.5, 0.0])
    table = k2.SymbolTable.from_str("<eps> 0\na 7\nb 5\nc 6\n")
    lattice = lattice_from_k2(fsa, "u", table)
    found = [(hyp.text, hyp.acoustic, hyp.lm) for hyp in k_best(lattice, 9, UNIT)]
    assert found == [("a b c b", -0.25, -0.25), ("b", -0.5, -0.75)]
    both = k2.create_fsa_vec([fsa, fsa])
    first, second = lattices_from_k2(both, ["u", "v"], table)
    assert k_best(first, 9, UNIT) == k_best(second, 9, UNIT) == k_best(lattice, 9, UNIT)


def test_what_is_no_lattice_is_named() -> None:
    loop = k2.Fsa.from_str("0 0 1 0\n0 1 -1 0\n1\n", acceptor=True)
    with pytest.raises(ValueError, match="utterance u: lattice u: state 0 is on a cycle"):
        lattice_from_k2(loop, "u", k2.SymbolTable.from_str("<eps> 0\na 1\n"))
    none = k2.Fsa.from_str("", acceptor=True)
    with pytest.raises(ValueError, match="utterance u: an Fsa without arcs"):
        lattice_from_k2(k2.create_fsa_vec([none]), "u")


def test_nbest_lists_there_and_back() -> None:
    lists = [
        NBest("u-1", (Hypothesis("a b", -1.5, -2.0), Hypothesis("", -4.0, -0.25))),
        NBest("u-2", ()),
        NBest("u-3", (Hypothesis("c", -0.5, -1.0),)),
    ]
    nbest = nbests_to_k2(lists)
    assert nbest.shape.row_splits(1).tolist() == [0, 2, 2, 3]
    assert nbest.total_scores().tolist() == [[-3.5, -4.25], [], [-1.5]]
    assert nbest.fsa.lm_scores.sum().item() == -3.25
    assert nbests_from_k2(nbest) == lists
    without = [NBest("u", (Hypothesis("a", -1.0), Hypothesis("b c", -2.0)))]
    assert nbests_from_k2(nbests_to_k2(without)) == without
    for hyps, found in (
        ((Hypothesis("a"),), "no acoustic score"),
        ((Hypothesis("a", -1.0), Hypothesis("b", -1.0, -1.0)), "only some"),
        ((), "no lattice"),
    ):
        with pytest.raises(ValueError, match=found):
            nbests_to_k2([NBest("u", hyps)])


def test_paths_that_k2_sampled_carry_our_scores(tmp_path: Path) -> None:
    lattices = LATTICES[:8]
    words = tmp_words(tmp_path)
    fsas = lattices_to_k2(lattices, words)
    sampled = k2.Nbest.from_lattice(fsas, num_paths=40, nbest_scale=0.3)
    lists = nbests_from_k2(sampled, [one.utt for one in lattices], words)
    totals = sampled.total_scores().tolist()
    in_order = nbests_from_k2(sampled, [one.utt for one in lattices], words, best_first=False)
    for lattice, nbest, raw, theirs in zip(lattices, lists, in_order, totals):
        assert [hyp.acoustic for hyp in raw.hyps] == pytest.approx(theirs, abs=1e-4)
        assert sorted(theirs, reverse=True) == pytest.approx(
            [hyp.acoustic for hyp in nbest.hyps], abs=1e-4
        )
        # each is a path of the lattice: no better than the best one of its words
        ours = {
            hyp.text: UNIT.total(hyp.acoustic, hyp.lm, (), 0) for hyp in k_best(lattice, 9999, UNIT)
        }
        for hyp in nbest.hyps:
            assert hyp.acoustic is not None
            assert hyp.acoustic <= ours[hyp.text] + 1e-4


def test_intersecting_with_a_word_sequence_gives_its_total() -> None:
    for lattice in LATTICES[:10]:
        fsa = lattice_to_k2(lattice)
        for hyp in k_best(lattice, 4, UNIT):
            if not hyp.words:
                continue  # k2's arc_sort fails on an Fsa of one arc
            numbers = [fsa.word_table.index(word) for word in hyp.words]
            found = k2.intersect(k2.arc_sort(fsa), k2.arc_sort(k2.linear_fsa([numbers])))
            found = k2.top_sort(k2.connect(found))
            (total,) = found.get_tot_scores(use_double_scores=True, log_semiring=False).tolist()
            assert total == pytest.approx(UNIT.total(hyp.acoustic, hyp.lm, (), 0), abs=1e-4)


@pytest.mark.parametrize("name", ["slf", "kaldi-lat", "kaldi-lat-binary"])
def test_lattices_of_other_formats_have_the_same_totals_in_k2(tmp_path: Path, name: str) -> None:
    entry = FORMATS[name]
    assert entry.write is not None
    entry.write(str(tmp_path / "out"), LATTICES)
    read = {one.utt: one for one in entry.read(str(tmp_path / "out")) if isinstance(one, Lattice)}
    _check_totals(lattices_to_k2([read[one.utt] for one in LATTICES]), LATTICES)
