"""The modes of lattice rescoring: from lattices to lattices with rescoring LMs on their arcs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Optional

from asrprune.core.lattice.lattice import Lattice, NoLmScoresError, NoPathError
from asrprune.core.weights import ScoreWeights, UnknownScoreError
from asrprune.errors import InputError
from asrprune.rescore.lattices.beam_mode import BeamOptions, rescore_beam
from asrprune.rescore.lattices.path_modes import (
    CoverOptions,
    ExactOptions,
    NbestOptions,
    rescore_cover,
    rescore_exact,
    rescore_nbest,
)
from asrprune.rescore.lattices.scored_lattice import ScoredLattice

BLOCK_LATTICES = 16
"""As many lattices share forward passes, or as the options call ``parallel`` if that is more."""


@dataclass(frozen=True)
class LatticeMode:
    """``run(lattices, lms, weights, options)`` with ``options`` of the class given; ``prefixes``:
    it takes PrefixLM objects, else WordScorer objects."""

    run: Callable[[Sequence[Lattice], Any, ScoreWeights, Any], list[ScoredLattice]]
    options: type[Any]
    prefixes: bool
    description: str


LATTICE_MODES: Mapping[str, LatticeMode] = {
    "nbest": LatticeMode(
        rescore_nbest, NbestOptions, False, "the best hypotheses, with exact LM scores"
    ),
    "cover": LatticeMode(
        rescore_cover, CoverOptions, False, "hypotheses that cover all arcs; LM scores of arcs"
    ),
    "beam": LatticeMode(
        rescore_beam, BeamOptions, True, "expansion by history, merged after n words"
    ),
    "exact": LatticeMode(
        rescore_exact, ExactOptions, False, "all hypotheses of small lattices, else refused"
    ),
}
"""name -> mode."""


def together(options: Any) -> int:
    """How many consecutive lattices share forward passes."""
    return max(BLOCK_LATTICES, getattr(options, "parallel", 0))


def rescore_lattices(
    lattices: Iterable[Lattice],
    mode: LatticeMode,
    lms: Sequence[Any],
    weights: ScoreWeights,
    options: Any,
    path: str = "lattices",
    lost: Optional[Callable[[Lattice, NoPathError], None]] = None,
) -> Iterator[ScoredLattice]:
    """The rescored lattices in order, streaming; ``together(options)`` of them share forward
    passes.

    ``path`` names the lattices in errors; ``lost`` is called with a lattice in which no path has a
    finite score, which is then left out (None: an error). Raises InputError naming the utterance
    where the mode cannot score a lattice, ValueError for another number of LMs than of LM weights.
    """
    if len(lms) != len(weights.lm):
        raise ValueError(f"{len(lms)} LMs for {len(weights.lm)} LM weights")
    block = together(options)
    stream = iter(lattices)
    waiting: list[list[Lattice]] = []
    while here := waiting.pop(0) if waiting else list(islice(stream, block)):
        try:
            results = mode.run(here, lms, weights, options)
        except (NoLmScoresError, UnknownScoreError):
            utt = next((one.utt for one in here if one.lm is None), here[0].utt)
            found = f"utterance {utt}: no LM scores of the first pass"
            expected = "some (convert --first-lm), or a first_lm weight of 0"
            raise InputError(path, None, found, expected) from None
        except NoPathError as problem:
            if lost is not None and len(here) > 1:  # one by one, to see which it is
                waiting = [[one] for one in here]
                continue
            if lost is not None:
                lost(here[0], problem)
                continue
            raise InputError(path, None, str(problem), "lattices that can be rescored") from None
        except ValueError as problem:
            found = _named(problem, here)
            raise InputError(path, None, found, "lattices that can be rescored") from None
        yield from results


def _named(problem: ValueError, lattices: Sequence[Lattice]) -> str:
    """The text of an error with the utterance, which an LM knows by its number only."""
    from asrprune.lm.protocol import UnscorableError

    if isinstance(problem, UnscorableError):
        return f"utterance {lattices[problem.index[0]].utt}: {problem}"
    return str(problem)
