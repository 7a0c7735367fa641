"""Live k2 objects: lattices from and to ``k2.Fsa``, n-best lists from and to ``k2.Nbest``.

Word tables (``words``) are ours (``read_symbols``), the path of a ``words.txt``, or a
``k2.SymbolTable``. Without one, ids belong to a table of our own, the attribute ``word_table``
of what ``*_to_k2`` made; k2's own operations hand it on, as they do ``utts`` of an FsaVec. Pass a
table for single Fsas that ``k2.create_fsa_vec`` shall put together: it asks for equal attributes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Optional, Union

from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.core.lattice.lattice import Lattice, from_arcs
from asrprune.errors import MissingPackage
from asrprune.files import PathLike
from asrprune.firstpass.formats.k2_record import UTTS, WORDS, K2Record, make_record, parse_record
from asrprune.firstpass.reading.symbols import NO_WORDS, SymbolTable, read_symbols

if TYPE_CHECKING:
    import k2

Words = Optional[Union[SymbolTable, PathLike, "k2.SymbolTable"]]


def lattice_from_k2(fsa: k2.Fsa, utt: str, words: Words = None) -> Lattice:
    """The lattice of a ``k2.Fsa`` (or of an FsaVec of one), on any device, with the id ``utt``.

    Word ids are ``aux_labels`` (a tensor, or ragged: several words on an arc become a chain), and
    the labels where there are none. ``lm_scores``, where they are, are the LM score and the rest
    of ``scores`` the acoustic one; else ``lm`` is None. Raises ValueError for several Fsas,
    cycles, word ids without a table or not in it, and an Fsa without a path's end.
    """
    return lattices_from_k2(fsa, [utt], words)[0]


def lattices_from_k2(
    fsa: k2.Fsa, utts: Optional[Sequence[str]] = None, words: Words = None
) -> list[Lattice]:
    """The lattices of an FsaVec (or Fsa) in its order; see ``lattice_from_k2``.

    ``utts`` are their ids, by default those that ``lattices_to_k2`` stored. Raises ValueError for
    no ids, another number of them, one that comes twice, and (naming the utterance) for an Fsa
    that is no lattice.
    """
    record = _record(fsa)
    ids = _ids(utts, record.utts, len(record.n_states))
    word_of = _word_of(words)
    lattices = []
    for index, utt in enumerate(ids):
        try:
            lattices.append(record.lattice(utt, index, word_of))
        except ValueError as problem:
            raise ValueError(f"utterance {utt}: {problem}") from None
    return lattices


def lattice_to_k2(lattice: Lattice, words: Words = None) -> k2.Fsa:
    """The ``k2.Fsa`` of a lattice, on the CPU.

    Labels and ``aux_labels`` are word ids, ``scores`` are acoustic + LM (unscaled) and, where LM
    scores are known, ``lm_scores`` the LM's share, all float32. Raises ValueError for words that
    are not in ``words`` and as ``make_record`` does; MissingPackage without k2.
    """
    return _fsa(make_record([lattice], vector=False, number=_number_of(words)))


def lattices_to_k2(lattices: Sequence[Lattice], words: Words = None) -> k2.Fsa:
    """The FsaVec of the lattices in their order; see ``lattice_to_k2``.

    Also raises ValueError for no lattice, LM scores in only some, and an utterance twice.
    """
    _ids([lattice.utt for lattice in lattices], None, len(lattices))
    return _fsa(make_record(list(lattices), vector=True, number=_number_of(words)))


def nbests_from_k2(
    nbest: k2.Nbest,
    utts: Optional[Sequence[str]] = None,
    words: Words = None,
    *,
    best_first: bool = True,
) -> list[NBest]:
    """The n-best lists of a ``k2.Nbest`` (icefall's too: anything with ``fsa`` and ``shape``).

    Scores are kept apart as by ``lattice_from_k2``. Paths come by falling acoustic + LM, ties in
    k2's order; with ``best_first=False`` in k2's order throughout, so that score i of an utterance
    belongs to its path i. Word sequences that come twice stay twice. Raises ValueError as
    ``lattices_from_k2`` does, and for paths that are not linear.
    """
    splits = nbest.shape.row_splits(1).tolist()
    record = _record(nbest.fsa)
    ids = _ids(utts, record.utts, len(splits) - 1)
    word_of = _word_of(words)
    lists = []
    for utt, first, last in zip(ids, splits, splits[1:]):
        hyps = [_path(utt, record.lattice(utt, index, word_of)) for index in range(first, last)]
        if best_first:
            hyps.sort(key=lambda hyp: -((hyp.acoustic or 0.0) + (hyp.lm or 0.0)))
        lists.append(NBest(utt, tuple(hyps)))
    return lists


def nbests_to_k2(nbests: Sequence[NBest], words: Words = None) -> k2.Nbest:
    """The ``k2.Nbest`` of the lists: linear Fsas in their order, axes [utt][path].

    The scores of a hypothesis stand on the last arc of its path: ``scores`` are acoustic + LM,
    ``lm_scores`` the LM's. Raises ValueError for no hypothesis at all, unknown acoustic scores,
    LM scores of only some, an utterance twice, and as ``lattice_to_k2`` does.
    """
    k2 = _k2()
    ids = _ids([nbest.utt for nbest in nbests], None, len(nbests))
    paths = [_linear(nbest.utt, hyp) for nbest in nbests for hyp in nbest.hyps]
    record = make_record(paths, vector=True, number=_number_of(words))
    fsa = _fsa({**record, UTTS: ids})
    splits = [0, *accumulate(len(nbest.hyps) for nbest in nbests)]
    import torch

    row_splits = torch.tensor(splits, dtype=torch.int32)
    return k2.Nbest(fsa, k2.ragged.create_ragged_shape2(row_splits, None, splits[-1]))


def _k2() -> Any:
    try:
        import k2
    except ImportError:
        raise MissingPackage("k2", "k2") from None
    return k2


def _fsa(record: dict[str, Any]) -> k2.Fsa:
    return _k2().Fsa.from_dict(record)


def _record(fsa: k2.Fsa) -> K2Record:
    """The record of an Fsa or FsaVec; ragged ``aux_labels`` become the first words and ``more``."""
    import torch

    values = dict(fsa.to("cpu").as_dict())
    more: dict[int, list[int]] = {}
    labels = values.get("aux_labels")
    if labels is not None and not isinstance(labels, torch.Tensor):
        first = []
        for arc, ids in enumerate(labels.tolist()):
            first.append(ids[0] if ids else 0)
            if len(ids) > 1:
                more[arc] = [number for number in ids[1:] if number != -1]
        more = {arc: rest for arc, rest in more.items() if rest}
        values["aux_labels"] = torch.tensor(first, dtype=torch.int32)
    for name in (UTTS, WORDS):
        if not isinstance(values.get(name), list):
            values.pop(name, None)  # an attribute of the user's own with our name
    return replace(parse_record(values), more=more)


def _ids(given: Optional[Sequence[str]], stored: Optional[list[str]], count: int) -> list[str]:
    ids = stored if given is None else list(given)
    if ids is None:
        raise ValueError(f"utterance ids of {count} are not known; expected utts")
    if len(ids) != count:
        raise ValueError(f"{len(ids)} utterance ids for {count}")
    for position, utt in enumerate(ids):
        if utt in ids[:position]:
            raise ValueError(f"utterance {utt} comes twice")
    return ids


def _table(words: Words) -> Any:
    if isinstance(words, (str, os.PathLike)):
        return read_symbols(words)
    return words


def _word_of(words: Words) -> Optional[Callable[[int], str]]:
    table = _table(words)
    if table is None or isinstance(table, SymbolTable):
        return None if table is None else table.word

    def word(number: int) -> str:
        if number not in table:
            raise ValueError(f"word id {number} is not in the k2.SymbolTable")
        symbol = str(table[number])
        return "" if symbol in NO_WORDS else symbol

    return word


def _number_of(words: Words) -> Optional[Callable[[str], int]]:
    table = _table(words)
    if table is None or isinstance(table, SymbolTable):
        return None if table is None else table.number

    def number(word: str) -> int:
        if word not in table:
            raise ValueError(f"word {word!r} has no id in the k2.SymbolTable")
        return int(table[word])

    return number


def _path(utt: str, lattice: Lattice) -> Hypothesis:
    """The hypothesis of a linear lattice, its scores added up along the path."""
    arcs = {source: arc for arc, source in enumerate(lattice.src.tolist())}
    if len(arcs) != lattice.n_arcs:
        raise ValueError(f"utterance {utt}: a path of k2.Nbest that is not linear")
    dst, words = lattice.dst.tolist(), lattice.arc_words()
    found, state, count = [], lattice.start, 0
    while state != lattice.final and state in arcs:
        arc = arcs[state]
        count, state = count + 1, dst[arc]
        if words[arc]:
            found.append(words[arc])
    if state != lattice.final or count != lattice.n_arcs:
        raise ValueError(f"utterance {utt}: a path of k2.Nbest that is not linear")
    lm = None if lattice.lm is None else float(lattice.lm.sum())
    return Hypothesis(" ".join(found), float(lattice.acoustic.sum()), lm)


def _linear(utt: str, hyp: Hypothesis) -> Lattice:
    if hyp.acoustic is None:
        raise ValueError(f"utterance {utt}: no acoustic score, and k2 has no way to say that")
    known = None if hyp.lm is None else 0.0
    words = hyp.words
    arcs = [(state, state + 1, word, 0.0, known) for state, word in enumerate(words)]
    arcs.append((len(words), len(words) + 1, "", hyp.acoustic, hyp.lm))
    return from_arcs(utt, len(words) + 2, 0, len(words) + 1, arcs)
