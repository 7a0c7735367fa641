"""How much of the work that low rank removes is time saved, on this processor, by width."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional, TypeVar

import torch

from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.engines.table import open_engine
from asrprune.lm.fastest import drawn_lists
from asrprune.lm.model.shapes import LinearShape, ModelShape
from asrprune.lm.model.transformer import TransformerLM
from asrprune.lm.scoring.forests import ForestScorer

WIDTHS = (256, 512, 1024)
ENOUGH = 0.9
"""Share from which low rank is said to pay: structured and width pruning save about that."""

ENGINES = ("torch", "bf16", "int8")
"""Those that open at once."""

_BLOCKS, _VOCABULARY, _TURNS = 2, 512, 4


Name = TypeVar("Name")


@dataclass(frozen=True)
class LowRankSpeed:
    """Blocks of ``width`` of which low rank leaves half the weights are ``speed_up`` times as fast
    as dense ones, each on the fastest of ENGINES (``engine`` is theirs); ``work`` is what the dense
    model multiplies over what is left."""

    width: int
    engine: str
    speed_up: float
    work: float

    @property
    def share(self) -> float:
        """Of the work that is removed, what is saved in time."""
        return self.speed_up / self.work


def low_rank_speeds(
    widths: Sequence[int] = WIDTHS, threads: Optional[int] = None
) -> list[LowRankSpeed]:
    """One for each of ``widths``, measured in some seconds on random blocks and a drawn 50-best
    list."""
    options = EngineOptions(threads, "cpu")
    marks: Any = _Marks()
    found = []
    for width in widths:
        torch.manual_seed(0)
        shape = ModelShape.uniform(_VOCABULARY, width, _BLOCKS, max(1, width // 64))
        models = [TransformerLM(one).eval() for one in (shape, _halved(shape))]
        scorers = {
            (number, engine): ForestScorer(
                open_engine(engine, one, options), marks, one.max_positions
            )
            for number, one in enumerate(models)
            for engine in ENGINES
        }
        seconds = least_seconds(scorers, drawn_lists(models[0])[:1])
        best = [
            min(ENGINES, key=lambda engine: seconds[number, engine])
            for number in range(len(models))
        ]
        dense_s, thin_s = (seconds[number, engine] for number, engine in enumerate(best))
        dense, thin = map(_weights, models)
        found.append(LowRankSpeed(width, best[1], dense_s / thin_s, dense / thin))
    return found


def summary(speeds: Sequence[LowRankSpeed]) -> str:
    """In a sentence for the user.

    >>> wide = LowRankSpeed(512, "bf16", 1.75, 1.9)
    >>> print(summary([wide]))
    with half the weights, low rank is 1.75 times as fast here at width 512 (bf16; 1.90 times less \
work): it pays from width 512
    """
    parts = [f"{one.speed_up:.2f} at {one.width} ({one.engine})" for one in speeds]
    first = speeds[0]
    parts[0] = (
        f"{first.speed_up:.2f} times as fast here at width {first.width} ({first.engine}; "
        f"{first.work:.2f} times less work)"
    )
    paying = [one.width for one in speeds if one.share >= ENOUGH]
    end = f"it pays from width {paying[0]}" if paying else "it is for size, not for speed"
    return f"with half the weights, low rank is {', '.join(parts)}: {end}"


def _halved(shape: ModelShape) -> ModelShape:
    """The shape with every matrix of a block in factors that hold half its weights."""
    forms = {}
    for place, linear in TransformerLM(replace(shape, blocks=shape.blocks[:1])).linears():
        size = linear.in_features * linear.out_features
        rank = size / (linear.in_features + linear.out_features) / 2
        forms[place.name] = LinearShape("low_rank", max(8, round(rank / 8) * 8))
    return replace(shape, blocks=tuple(replace(block, linears=forms) for block in shape.blocks))


def _weights(model: TransformerLM) -> int:
    """What a token is multiplied with."""
    blocks = sum(linear.weights for _, linear in model.linears())
    return blocks + model.embedding.output_weight.numel()


def least_seconds(
    scorers: Mapping[Name, ForestScorer],
    lists: Sequence[Sequence[Sequence[int]]],
    clock: Optional[Callable[[], float]] = None,
) -> dict[Name, float]:
    """The least time that each takes for ``lists``, in turns after one for warm-up, by ``clock``;
    None: wall time."""
    clock = clock or time.perf_counter
    least = dict.fromkeys(scorers, float("inf"))
    for turn in range(_TURNS + 1):
        for key, scorer in scorers.items():
            forest = scorer.forest(lists)
            start = clock()
            scorer.run(forest)
            if turn:
                least[key] = min(least[key], clock() - start)
    return least


class _Marks:
    """Of a Tokenizer what tries of token ids need."""

    begin, end, prompt = 1, 2, ()
