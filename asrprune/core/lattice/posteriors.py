"""Forward-backward in the log domain, of which a lattice's posteriors are made."""

from __future__ import annotations

import numpy as np

from asrprune.core.lattice.lattice import Floats, Lattice, topological_order


def forward_backward(lattice: Lattice, totals: Floats) -> tuple[Floats, Floats, Floats]:
    """ln of the sum of exp(total) over the paths to and from each state, [S] both, and ``totals``.

    Raises ValueError when no path has a finite total, and on a cycle.
    """
    position = np.empty(lattice.n_states, dtype=np.int64)
    position[topological_order(lattice)] = np.arange(lattice.n_states)
    forward = np.full(lattice.n_states, -np.inf)
    backward = forward.copy()
    forward[lattice.start] = 0.0
    backward[lattice.final] = 0.0
    sources, targets = lattice.src.tolist(), lattice.dst.tolist()
    for arc in np.argsort(position[lattice.src], kind="stable").tolist():
        source, target = sources[arc], targets[arc]
        forward[target] = np.logaddexp(forward[target], forward[source] + totals[arc])
    for arc in np.argsort(-position[lattice.dst], kind="stable").tolist():
        source, target = sources[arc], targets[arc]
        backward[source] = np.logaddexp(backward[source], backward[target] + totals[arc])
    if not np.isfinite(forward[lattice.final]):
        raise ValueError(f"lattice {lattice.utt}: no path with a finite total")
    return forward, backward, totals
