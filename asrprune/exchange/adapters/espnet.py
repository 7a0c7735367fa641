"""ESPnet: the LM as a scorer of its beam searches.

    asr = Speech2Text(...)                  # without an LM of its own
    fuse(asr.beam_search, open_incremental("exp/lm"), weight=0.3)
    asr(speech)

Run in ``BeamSearch``, ``BatchBeamSearch`` and ``BeamSearchTimeSync`` of espnet 202511 (where the
interfaces are ``espnet.nets``); those of 202611 (``espnet2.legacy.nets``) are looked for first. Not
tried in the transducer search, which calls LMs in ways of its own.

Source: espnet/nets/{scorer_interface,beam_search,batch_beam_search}.py of espnet 202511.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asrprune.exchange.adapters.incremental import IncrementalLM, State
from asrprune.exchange.adapters.partner import partner

INSTALL = "--no-deps espnet==202511 typeguard==4.6.1"

BLANK, UNKNOWN, MARK = "<blank>", "<unk>", "<sos/eos>"
"""Tokens of ESPnet's lists that are no pieces; MARK stands before and behind a sentence."""

_INTERFACES = ("espnet2.legacy.nets.scorer_interface", "espnet.nets.scorer_interface")


@dataclass(frozen=True)
class Seen:
    """The ``state`` behind the first ``length`` tokens of a hypothesis, the mark counted. None: it
    holds a token that no sentence of the LM has, and nothing behind it has a score. (No tuple:
    ESPnet takes those apart.)"""

    state: State | None
    length: int


class _Scorer:
    """What ``espnet_scorer`` gives, without its base class."""

    def __init__(self, lm: IncrementalLM, token_list: Sequence[str]) -> None:
        self.lm = lm
        self.ids = _ids(lm, token_list)
        self.mark = list(token_list).index(MARK)
        self._order = torch.tensor([one or 0 for one in self.ids], device=lm.device)
        self._without = [place for place, one in enumerate(self.ids) if one is None]

    def init_state(self, x: Tensor | None) -> Seen:
        """The state of a hypothesis without tokens, of a new utterance."""
        return Seen(self.lm.start()[0], 0)

    def batch_init_state(self, x: Tensor | None) -> Seen:
        return self.init_state(x)

    def select_state(self, state: Sequence[Seen], i: int, new_id: int | None = None) -> Seen:
        """The state of hypothesis ``i``."""
        return state[i]

    def score(self, y: Tensor, state: Seen | None, x: Tensor | None) -> tuple[Tensor, Seen]:
        """ln P of every token behind ``y`` [L], [tokens]; and the state there. ``state`` is that of
        any start of ``y``."""
        rows, states = self.batch_score(y[None], [state], x)
        return rows[0], states[0]

    def batch_score(
        self, ys: Tensor, states: Sequence[Seen | None], xs: Tensor | None
    ) -> tuple[Tensor, list[Seen]]:
        """The same for hypotheses of one length, [N, L] to [N, tokens] on the device of ``ys``.

        -inf for the blank, and for all tokens behind one. Raises ValueError for a hypothesis that
        does not start with the mark or is shorter than its state.
        """
        fresh = self.init_state(xs) if None in states else None
        after = [
            self._follow(y, state or fresh) for y, state in zip(ys.tolist(), states, strict=True)
        ]
        rows = torch.full((len(after), len(self.ids)), -torch.inf, device=self.lm.device)
        alive = [place for place, one in enumerate(after) if one.state is not None]
        if alive:
            scores = self.lm.next_scores([one.state for one in after if one.state is not None])
            scores = scores.index_select(1, self._order)
            scores[:, self._without] = -torch.inf
            rows[alive] = scores
        return rows.to(ys.device), after

    def final_score(self, state: Seen) -> float:
        """0: what ends a sentence is scored with the mark, as a token."""
        return 0.0

    def _follow(self, y: Sequence[int], seen: Seen | None) -> Seen:
        assert seen is not None  # batch_score puts a fresh one for None
        state, length = seen.state, seen.length
        if y[0] != self.mark or len(y) <= length:
            found = f"a hypothesis of {len(y)} tokens that starts with {y[0]}"
            expected = f"more than {length} that start with {self.mark} ({MARK})"
            raise ValueError(f"{found}; expected {expected}")
        for token in y[max(length, 1) :]:
            index = self.ids[token]
            if state is None or index is None or token == self.mark:
                return Seen(None, len(y))
            state = self.lm.extend([state], [index])[0]
        return Seen(state, len(y))


def espnet_scorer(lm: IncrementalLM, token_list: Sequence[str]) -> Any:
    """The LM as a ``BatchScorerInterface`` of the installed ESPnet, for hypotheses over the tokens
    ``token_list`` of its decoder (``asr.asr_model.token_list``).

    The tokens must have the names of the LM's pieces; ids may differ, as they do when an LM was
    trained on the ``bpe.model`` of a recipe, whose list has the pieces in another order.
    ``<sos/eos>`` is ``<s>`` where a hypothesis starts and ``</s>`` where it ends, ``<unk>`` is the
    LM's unknown piece, and ``<blank>`` has -inf.

    Raises ValueError for a token without a piece, and a list without ``<sos/eos>``;
    ImportError where ESPnet is not installed.
    """
    return _scorer_class()(lm, token_list)


def fuse(search: Any, lm: IncrementalLM, weight: float, name: str = "lm") -> Any:
    """Put the LM into ``search``, a ``BeamSearch`` of ESPnet (``Speech2Text(...).beam_search``)
    that knows its token list, in the place of the scorer ``name`` if it has one. Returns it.

    ``weight`` multiplies its ln P; it is tuned on dev. Raises ValueError for one that is not above
    0 (-inf would win or be no number), marks that are not the search's, and ``espnet_scorer``'s.
    """
    if not 0 < weight < math.inf:
        raise ValueError(f"weight is {weight}; expected a number above 0 (leave the LM out for 0)")
    if search.token_list is None:
        raise ValueError("a search without token_list; expected one that knows its tokens")
    scorer = espnet_scorer(lm, search.token_list)
    if not search.sos == search.eos == scorer.mark:
        found = f"a search with sos {search.sos} and eos {search.eos}"
        raise ValueError(f"{found}; expected both {scorer.mark}, the id of {MARK}")
    if name in search.nn_dict:
        del search.nn_dict[name]
    search.scorers[name] = search.full_scorers[name] = scorer
    search.weights[name] = weight
    return scorer


def _ids(lm: IncrementalLM, token_list: Sequence[str]) -> list[int | None]:
    """The LM's id of each token; None for the blank."""
    special = {UNKNOWN: lm.tokenizer.unknown, MARK: lm.end}
    if list(token_list).count(MARK) != 1:
        raise ValueError(f"a token list of {len(token_list)}; expected one {MARK} in it")
    known = lm.ids_by_name(token_list, without=(BLANK, *special))
    return [special.get(token, index) for token, index in zip(token_list, known, strict=True)]


@functools.cache
def _scorer_class() -> Any:
    """A subclass of the interface of the ESPnet that is installed: ``Speech2Text`` searches in
    batches only if all scorers are instances of it."""
    return type("PrunedLM", (_Scorer, _interface()), {"__doc__": _Scorer.__doc__})


def _interface() -> Any:
    new, old = _INTERFACES
    try:
        return importlib.import_module(new).BatchScorerInterface
    except ModuleNotFoundError as problem:
        if not f"{new}.".startswith(f"{problem.name}."):
            raise
    return partner(old, INSTALL).BatchScorerInterface
