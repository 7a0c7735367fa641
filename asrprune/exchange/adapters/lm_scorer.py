"""icefall: an LM as the searches of its transducers call it.

``modified_beam_search_lm_shallow_fusion`` and ``modified_beam_search_LODR`` read ``lm_scale``,
``lm_type`` and ``sos_id`` and call ``score_token``; ``modified_beam_search_lm_rescore`` and
``..._lm_rescore_LODR`` call ``lm(x=, y=, lengths=)``:

    LM = LmScorer(open_incremental("exp/lm"), "data/lang_bpe_500/tokens.txt", lm_scale=0.3)
    modified_beam_search_lm_shallow_fusion(model, encoder_out, encoder_out_lens, LM=LM, beam=4)

A search of this kind carries no states of a Transformer: it writes every hypothesis from its first
token on. So the LM keeps the states of the hypotheses that it was asked for last, and of a
hypothesis that it knows but for the last token only that one is computed.

Source: icefall/lm_wrapper.py and the functions named, in icefall's
egs/librispeech/ASR/pruned_transducer_stateless2/beam_search.py, as a public copy has them: read and
imitated in our tests, not run. ``..._lm_rescore_LODR`` is taken to call the LM as
``..._lm_rescore`` does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from asrprune.exchange.adapters.incremental import IncrementalLM, State
from asrprune.files import PathLike

_MARK = 1
"""The id that icefall's rescoring writes for ``<sos/eos>``."""


class LmScorer(torch.nn.Module):
    """Has no parameters of its own: the LM stays on the device for which it was opened, and scores
    go to the device of the tokens.

    ``lm_scale`` multiplies ln P in the search. ``kept``: most hypotheses whose states are kept; of
    others all tokens are computed again, so it should be some times the number of utterances in a
    batch times the beam. ``lm_type`` tells searches that they are to write whole hypotheses.

    The LM's pieces must be the transducer's tokens, id by id, ``<sos/eos>`` with id 1 as in icefall
    (``asrprune train --tokens``). Raises InputError or ValueError where they are not.
    """

    lm_type = "transformer"

    def __init__(
        self,
        lm: IncrementalLM,
        tokens: PathLike | Sequence[str],
        lm_scale: float = 0.3,
        kept: int = 4096,
    ) -> None:
        super().__init__()
        lm.check_tokens(tokens)
        if not lm.begin == lm.end == _MARK:
            found = f"an LM with the sentence marks {lm.begin} and {lm.end}"
            raise ValueError(f"{found}; expected {_MARK} for both, as icefall has it")
        if kept < 1:
            raise ValueError(f"kept is {kept}; expected 1 or more")
        self.incremental = lm
        self.lm_scale = lm_scale
        self.sos_id = lm.begin
        self.kept = kept
        self._states: OrderedDict[tuple[int, ...], State] = OrderedDict()
        self._starts: dict[tuple[int, ...], State] = {}

    @property
    def lm(self) -> LmScorer:
        """What rescoring calls."""
        return self

    def score_token(self, x: Tensor, x_lens: Tensor, state: object = None) -> tuple[Tensor, None]:
        """ln P of every token behind each row, [N, V] on the device of ``x``; and no state.

        ``x`` [N, L] int64 are whole hypotheses, ``<sos/eos>`` first, padded on the right with
        anything; ``x_lens`` [N] their lengths. ``state`` is not read. Raises ValueError for a row
        without its mark.
        """
        states = []
        for row, length in zip(x.tolist(), x_lens.tolist(), strict=True):
            if length < 1 or row[0] != self.sos_id:
                found = f"a row of {length} tokens that starts with {row[:1]}"
                raise ValueError(f"{found}; expected {self.sos_id} first")
            states.append(self._state(tuple(row[1:length])))
        while len(self._states) > self.kept:
            self._states.popitem(last=False)
        return self.incremental.next_scores(states).to(x.device), None

    def forward(self, x: Tensor, y: Tensor, lengths: Tensor) -> Tensor:
        """-ln P of every token of ``y`` behind those of ``x`` before it, [N, L] float32, 0 where
        there is padding.

        ``x`` [N, L] starts with ``<sos/eos>``, ``y`` [N, L] is the same one place further and ends
        with it; ``lengths`` [N] counts the tokens of ``y``. The sum of a row is -ln P(tokens,
        ``</s>`` | ``<s>``).
        """
        rows: list[int] = []
        columns: list[int] = []
        states: list[State] = []
        targets: list[int] = []
        for number, (row, wanted, length) in enumerate(
            zip(x.tolist(), y.tolist(), lengths.tolist(), strict=True)
        ):
            state = self._start(tuple(row[1:length]))
            for place in range(length):
                if place:
                    state = self.incremental.extend([state], [row[place]])[0]
                rows.append(number)
                columns.append(place)
                states.append(state)
                targets.append(wanted[place])
        ends = [number for number, target in enumerate(targets) if target == self.sos_id]
        inner = [number for number, target in enumerate(targets) if target != self.sos_id]
        scores = torch.zeros(len(states), dtype=torch.float64)
        if inner:
            found, _ = self.incremental.score_ids(
                [states[number] for number in inner], [[targets[number]] for number in inner]
            )
            scores[inner] = torch.from_numpy(found)
        if ends:
            closing = self.incremental.end_scores([states[number] for number in ends])
            scores[ends] = torch.from_numpy(closing)
        result = torch.zeros(x.shape, dtype=torch.float64)
        result[rows, columns] = -scores
        return result.float().to(x.device)

    def clean_cache(self) -> None:
        """Forget all hypotheses."""
        self._states.clear()
        self._starts.clear()

    def _state(self, tokens: tuple[int, ...]) -> State:
        state = self._states.pop(tokens, None)
        if state is None:
            before = self._states.get(tokens[:-1]) if len(tokens) > 1 else None
            if before is not None:
                state = self.incremental.extend([before], tokens[-1:])[0]
            else:
                state = self._start(tokens)
                for token in tokens:
                    state = self.incremental.extend([state], [token])[0]
        self._states[tokens] = state
        return state

    def _start(self, tokens: tuple[int, ...]) -> State:
        """The state behind ``<s>`` for a hypothesis. Those with the same first token are computed
        in one row, in which all see all: others stand in rows of their own."""
        first = tokens[:1]
        if first not in self._starts:
            self._starts[first] = self.incremental.start()[0]
        return self._starts[first]
