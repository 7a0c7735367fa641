"""How tuning on lattices goes round."""

from __future__ import annotations

from dataclasses import dataclass, field

from asrprune.rescore.lattices.beam_mode import BeamOptions


@dataclass(frozen=True)
class RoundOptions:
    """``rounds``: most rounds. ``tolerance``: weights that move less, in units in which each score
    varies as much as the acoustic score does, come to rest. ``list_size``: hypotheses drawn from a
    lattice in a round. ``beam``: how the lattices are rescored."""

    rounds: int = 5
    tolerance: float = 0.02
    list_size: int = 50
    beam: BeamOptions = field(default_factory=BeamOptions)

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.list_size < 1 or not self.tolerance >= 0:
            raise ValueError(
                f"rounds {self.rounds}, list size {self.list_size}, tolerance {self.tolerance}; "
                "expected >= 1, >= 1, >= 0"
            )
