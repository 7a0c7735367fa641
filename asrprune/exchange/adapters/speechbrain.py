"""SpeechBrain: the LM as a rescorer of n-best lists, and as a scorer of its beam search.

    rescorer = RescorerBuilder(rescorers=[speechbrain_rescorer(open_lm("exp/lm"))],
                               weights={"transformerlm": 0.5})
    texts, scores = rescorer.rescore(topk_texts, topk_scores)

    scorer = speechbrain_scorer(open_incremental("exp/lm"), pieces, bos_index=1, eos_index=2)
    ScorerBuilder(full_scorers=[scorer], weights={"transformerlm": 0.3})

Both builders know a rescorer or scorer by the name of its class, and no names but their own, so the
classes here are called as SpeechBrain's are.

Source: speechbrain/decoders/{scorer,seq2seq}.py of speechbrain 1.1.2.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from asrprune.exchange.adapters.incremental import IncrementalLM, State
from asrprune.exchange.adapters.partner import partner
from asrprune.files import PathLike
from asrprune.lm.protocol import LanguageModel

INSTALL = "--no-deps speechbrain==1.1.2 hyperpyyaml ruamel.yaml scipy torchaudio==2.11.0"

NEVER = -1e20
"""SpeechBrain's score of what cannot be (``minus_inf``): times a weight of 0 it is a number."""


class _Rescorer:
    """What ``speechbrain_rescorer`` gives, without its base class."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm

    def normalize_text(self, text: str) -> str:
        """The text itself: the LM states the form that it wants, and puts text into it."""
        return text

    def preprocess_func(self, hyps: Sequence[Sequence[str]]) -> list[list[str]]:
        return [[self.normalize_text(text) for text in texts] for texts in hyps]

    def rescore_hyps(self, hyps: Sequence[Sequence[str]]) -> Tensor:
        """ln P(words, ``</s>`` | ``<s>``) of all hypotheses of all lists in order, [N] float64."""
        scores = self.lm.score_lists(self.preprocess_func(hyps))
        return torch.tensor([score for some in scores for score in some], dtype=torch.float64)

    def to_device(self, device: Any = None) -> None:
        """Nothing: the LM computes on the device for which it was opened."""


@dataclass(frozen=True)
class Memory:
    """States of hypotheses, None where one has ended; ``begun``: the mark at the start was read."""

    states: list[State | None]
    begun: bool


class _Scorer:
    """What ``speechbrain_scorer`` gives, without its base class."""

    def __init__(self, lm: IncrementalLM, bos_index: int, eos_index: int) -> None:
        self.lm = lm
        self.bos_index, self.eos_index = bos_index, eos_index

    def reset_mem(self, x: Tensor, enc_lens: Tensor | None) -> Memory:
        """States for the utterances of ``x`` [B, ...]."""
        return Memory([*self.lm.start(len(x))], False)

    def score(
        self, inp_tokens: Tensor, memory: Memory, candidates: Tensor | None, attn: Any
    ) -> tuple[Tensor, Memory]:
        """ln P of every token behind each hypothesis, [B * beam, V], and the states there;
        ``inp_tokens`` [B * beam] are the last tokens. NEVER stands for -inf, and behind an end."""
        tokens = inp_tokens.tolist()
        if memory.begun:
            states = [self._follow(*one) for one in zip(memory.states, tokens, strict=True)]
        else:
            beam = len(tokens) // len(memory.states)
            states = [state for state in memory.states for _ in range(beam)]
            if set(tokens) != {self.bos_index} or len(states) != len(tokens):
                found = f"{len(tokens)} hypotheses that start with {sorted(set(tokens))}"
                expected = f"{len(memory.states)} utterances that start with {self.bos_index}"
                raise ValueError(f"{found}; expected {expected} (bos_index)")
        rows = torch.full((len(states), self.lm.vocab_size), NEVER, device=self.lm.device)
        alive = [place for place, state in enumerate(states) if state is not None]
        if alive:
            scores = self.lm.next_scores([state for state in states if state is not None])
            closing = scores[:, self.lm.end].clamp(min=NEVER)
            scores[:, [self.lm.begin, self.lm.end]] = NEVER  # the searcher has ids of its own
            scores[:, self.eos_index] = closing
            rows[alive] = scores.clamp_(min=NEVER)
        return rows.to(inp_tokens.device), Memory(states, True)

    def permute_mem(self, memory: Memory, index: Tensor) -> Memory:
        """The states of the hypotheses ``index`` [B * beam], of all utterances."""
        return Memory([memory.states[row] for row in index.reshape(-1).tolist()], memory.begun)

    def _follow(self, state: State | None, token: int) -> State | None:
        marks = (self.bos_index, self.eos_index, self.lm.begin, self.lm.end)
        if state is None or token in marks:
            return None
        return self.lm.extend([state], [token])[0]


def speechbrain_rescorer(lm: LanguageModel) -> Any:
    """The LM (what ``asrprune.open_lm`` gives: pruned, quantised or n-gram, on any engine) as a
    rescorer for ``RescorerBuilder``, whose ``weights`` call it ``transformerlm``.

    Texts go to the LM as they come: SpeechBrain's own rescorers write them in capitals, this one
    leaves the form to the LM. ``rescore`` adds to the lists of scores that it is given, in place.
    Raises ImportError where SpeechBrain is not installed.
    """
    return _classes()[0](lm)


def speechbrain_scorer(
    lm: IncrementalLM, tokens: PathLike | Sequence[str], bos_index: int, eos_index: int
) -> Any:
    """The LM as a full scorer for ``ScorerBuilder``, whose ``weights`` call it ``transformerlm``.

    ``tokens``: the tokens of the decoder, which must be the LM's pieces id by id (the names, or a
    ``tokens.txt``); ``bos_index`` and ``eos_index`` are those of the searcher and may be any ids,
    the same one too. An end that the searcher puts to a hypothesis at its last step has no score.

    Raises ValueError or InputError for tokens that are not the LM's, ImportError where
    SpeechBrain is not installed.
    """
    lm.check_tokens(tokens)
    for name, index in (("bos_index", bos_index), ("eos_index", eos_index)):
        if not 0 <= index < lm.vocab_size:
            raise ValueError(f"{name} is {index}; expected an id below {lm.vocab_size}")
    return _classes()[1](lm, bos_index, eos_index)


@functools.cache
def _classes() -> tuple[Any, Any]:
    """Rescorer and scorer, with the names that SpeechBrain takes."""
    scorer = partner("speechbrain.decoders.scorer", INSTALL)
    return (
        type("TransformerLMRescorer", (_Rescorer, scorer.BaseRescorerInterface), {}),
        type("TransformerLMScorer", (_Scorer, scorer.BaseScorerInterface), {}),
    )
