"""flashlight-text, the decoder of torchaudio: our LM as its ``LM``, over tokens or over words.

The decoder asks for one token of one state at a time, so the row of a state is computed once and
kept for the utterance. ``decode_frames`` asks for the rows of a whole beam at once before each
frame, with the same result; ``decoder.decode`` and torchaudio's ``ctc_decoder`` cannot.

Weights: ``lm_weight`` of the decoder's options multiplies ln P of every token (or word) and of the
end. With ``over_long="minus-inf"`` it must not be 0, as 0 times -inf is no number.

Source: flashlight-text 0.0.7 (``LM``: ``start``, ``score``, ``finish``); torchaudio 2.11.0 hands
such an object on to it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asrprune.exchange.adapters.incremental import IncrementalLM, State
from asrprune.exchange.adapters.partner import partner

INSTALL = "flashlight-text==0.0.7"
_ROW_BYTES = 256 * 2**20  # of the rows that are kept for an utterance

Row = NDArray[np.float32]


def token_lm(
    lm: IncrementalLM, tokens: Sequence[str], without: Collection[str] = ("<blk>", "<blank>", "-")
) -> Any:
    """A flashlight ``LM`` for decoders whose tokens are pieces of ``lm``, by their names: the
    lexicon-free one, and the one with a lexicon and ``is_token_lm=True``.

    ``tokens`` are the decoder's, in its order; those ``without`` (the blank) are never scored.
    Raises ValueError that names the first of the others that is no piece, ImportError without
    flashlight-text.
    """
    ids = lm.ids_by_name(tokens, [one for one in tokens if one in without])
    return _classes()["tokens"](lm, ids)


def word_lm(lm: IncrementalLM, words: Sequence[str]) -> Any:
    """A flashlight ``LM`` for the decoder with a lexicon and ``is_token_lm=False``: index i is
    ``words[i]``, spelled in the LM's own pieces and scored when the search leaves the word."""
    return _classes()["words"](lm, words)


def decode_frames(decoder: Any, lm: Any, emissions: Any, n_best: int | None = None) -> list[Any]:
    """What ``decoder.decode`` finds in ``emissions`` [T, N] (float32, C order), best first, at most
    ``n_best``; the LM's rows for all hypotheses of a frame are computed together.

    ``decoder`` is a LexiconFreeDecoder made with ``lm`` (of ``token_lm``), without a silence: its
    ``sil_token_idx`` is -1 or the blank. Raises ValueError for another.
    """
    blank, silence = decoder.get_blank_idx(), decoder.get_sil_idx()
    if silence not in (-1, blank):
        expected = f"expected -1 or the blank {blank} (or decoder.decode)"
        raise ValueError(f"sil_token_idx is {silence}; {expected}")
    frames = np.ascontiguousarray(emissions, np.float32)
    decoder.decode_begin()
    for frame in frames:
        lm.prepare(_prefixes(decoder.get_all_final_hypothesis(), blank))
        decoder.decode_step(frame.ctypes.data, 1, frames.shape[1])
    lm.prepare(_prefixes(decoder.get_all_final_hypothesis(), blank))
    decoder.decode_end()
    found: list[Any] = decoder.get_all_final_hypothesis()
    return found[:n_best]


def tokens_of(frames: Sequence[int], blank: int) -> list[int]:
    """The tokens that a CTC path says: repeats are one, blanks none. Negative ones are no frames.

    >>> tokens_of([-1, 0, 3, 3, 0, 3, 4, 0, -1], blank=0)
    [3, 3, 4]
    """
    path = np.asarray(frames, np.int64)
    path = path[path >= 0]
    if not len(path):
        return []
    kept = np.concatenate(([True], path[1:] != path[:-1])) & (path != blank)
    tokens: list[int] = path[kept].tolist()
    return tokens


def _prefixes(results: Iterable[Any], blank: int) -> set[tuple[int, ...]]:
    return {tuple(tokens_of(result.tokens, blank)) for result in results}


class _States:
    """The core's states for the decoder's, of one utterance. The decoder knows its own by address
    alone, so they are held until the next utterance begins."""

    def __init__(
        self, lm: IncrementalLM, spell: Callable[[int, bool], Sequence[int]], row_bytes: int
    ) -> None:
        self._lm, self._spell = lm, spell
        self._most_rows = max(1, row_bytes // (4 * lm.vocab_size))
        self.root: Any = None
        self._states: dict[Any, State] = {}
        self._made_of: dict[Any, tuple[Any, int]] = {}
        self._rows: dict[Any, Row] = {}
        self._sums: dict[tuple[Any, int], float] = {}
        self.prepared: set[tuple[int, ...]] = set()

    def begin(self, root: Any) -> Any:
        self.root = root
        self._made_of, self._rows, self._sums, self.prepared = {}, {}, {}, set()
        self._states = {root: self._lm.start()[0]}
        return root

    def child(self, state: Any, index: int) -> Any:
        child = state.child(index)
        self._made_of.setdefault(child, (state, index))
        return child

    def _ids(self, state: State, index: int) -> Sequence[int]:
        """How ``index`` is spelled behind the state: first in the sentence, or not."""
        return self._spell(index, state is self._states[self.root])

    def row(self, state: Any) -> Row:
        if state not in self._rows:
            self.compute([state])
        return self._rows[state]

    def has_row(self, state: Any) -> bool:
        return state in self._rows

    def compute(self, states: Sequence[Any]) -> None:
        """The rows of ``states``, together; the oldest rows go where there are too many."""
        rows = self._lm.next_scores([self.state(one) for one in states]).cpu().numpy()
        for state, row in zip(states, rows):
            self._rows[state] = row
        excess = len(self._rows) - max(self._most_rows, len(states))
        for old in list(itertools.islice(self._rows, max(0, excess))):
            del self._rows[old]

    def sum_of(self, state: Any, index: int) -> float:
        """ln P of all tokens of ``index`` behind the state."""
        key = state, index
        if key not in self._sums:
            before = self.state(state)
            sums, _ = self._lm.score_ids([before], [self._ids(before, index)])
            self._sums[key] = float(sums[0])
        return self._sums[key]

    def state(self, state: Any) -> State:
        """The core's state; those of the way to it are made, too."""
        way = []
        while state not in self._states:
            if state not in self._made_of:
                raise ValueError("a state of an earlier utterance; expected one since the start")
            way.append(state)
            state = self._made_of[state][0]
        found = self._states[state]
        for one in reversed(way):
            for token in self._ids(found, self._made_of[one][1]):
                found = self._lm.extend([found], [token])[0]
            self._states[one] = found
        return found


@functools.cache
def _classes() -> dict[str, type]:
    """The classes, which need the partner's base class to be made."""
    base = partner("flashlight.lib.text.decoder", INSTALL)

    class TokenLM(base.LM):  # type: ignore[misc, name-defined]
        def __init__(self, lm: IncrementalLM, ids: Sequence[int | None]) -> None:
            base.LM.__init__(self)
            self._lm, self._ids = lm, ids
            self._states = _States(lm, lambda index, first: (self._id(index),), _ROW_BYTES)

        def start(self, start_with_nothing: bool) -> Any:
            return self._states.begin(_root(base, start_with_nothing))

        def score(self, state: Any, index: int) -> tuple[Any, float]:
            row = self._states.row(state)
            return self._states.child(state, index), float(row[self._id(index)])

        def finish(self, state: Any) -> tuple[Any, float]:
            return state, float(self._states.row(state)[self._lm.end])

        def prepare(self, prefixes: Iterable[tuple[int, ...]]) -> None:
            """Compute the rows of the states behind ``prefixes``, together."""
            missing = []
            new = set(prefixes) - self._states.prepared
            self._states.prepared |= new
            for prefix in sorted(new):
                state = self._states.root
                for index in prefix:
                    state = self._states.child(state, index)
                if not self._states.has_row(state):
                    missing.append(state)
            if missing:
                self._states.compute(missing)

        def _id(self, index: int) -> int:
            if not 0 <= index < len(self._ids) or self._ids[index] is None:
                found = f"the decoder asks the LM for its token {index}"
                raise ValueError(f"{found}; expected a piece of the LM, and blank={index} if it is")
            return self._ids[index]  # type: ignore[return-value]

    class WordLM(base.LM):  # type: ignore[misc, name-defined]
        def __init__(self, lm: IncrementalLM, words: Sequence[str]) -> None:
            base.LM.__init__(self)
            self._lm, self._words = lm, words
            self._states = _States(lm, self._spell, _ROW_BYTES)

        def start(self, start_with_nothing: bool) -> Any:
            return self._states.begin(_root(base, start_with_nothing))

        def score(self, state: Any, index: int) -> tuple[Any, float]:
            value = self._states.sum_of(state, index)
            return self._states.child(state, index), value

        def finish(self, state: Any) -> tuple[Any, float]:
            return state, float(self._lm.end_scores([self._states.state(state)])[0])

        def _spell(self, index: int, first: bool) -> Sequence[int]:
            if not 0 <= index < len(self._words):
                found = f"the decoder asks the LM for its word {index}"
                raise ValueError(f"{found}; expected below {len(self._words)}")
            return self._lm.tokenizer.encode_word(self._words[index], first)

    return {"tokens": TokenLM, "words": WordLM}


def _root(base: Any, start_with_nothing: bool) -> Any:
    if start_with_nothing:
        raise ValueError("start_with_nothing is True; expected False, our LMs start behind <s>")
    return base.LMState()
