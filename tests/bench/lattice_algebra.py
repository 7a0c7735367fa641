"""Lattice algebra of this project against OpenFst's (pynini) on the same lattices.

    pip install pynini
    python tests/bench/lattice_algebra.py --lattices exp/modes/lattices [--limit 20]

Prints, over all lattices, the CPU milliseconds a lattice of ours and of OpenFst, OpenFst's over
ours, and the largest difference of what both compute. "in and out" is what a Python program pays to
make an Fst of arrays; it is not in the other rows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pynini

from asrprune.core.hypothesis import NBest
from asrprune.core.lattice.lattice import EPSILON, Floats, Lattice, arc_totals
from asrprune.core.lattice.paths import best_path, k_best, prune_lattice
from asrprune.core.lattice.posteriors import forward_backward
from asrprune.core.weights import ScoreWeights
from asrprune.firstpass.formats.table import read_items
from asrprune.rescore.bench.bench import spread


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lattices", required=True)
    parser.add_argument("--format", default="slf")
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--paths", type=int, default=100)
    parser.add_argument("--beam", type=float, default=30.0)
    return parser.parse_args()


def to_fst(lattice: Lattice, totals: Floats, arc_type: str) -> pynini.Fst:
    """The lattice as an acceptor of words with costs, no-words as epsilons."""
    weight = "tropical" if arc_type == "standard" else arc_type
    fst = pynini.Fst(arc_type=arc_type)
    fst.add_states(lattice.n_states)
    fst.set_start(lattice.start)
    arcs = zip(lattice.src.tolist(), lattice.dst.tolist(), lattice.word.tolist(), totals.tolist())
    for source, target, word, total in arcs:
        label = 0 if word == EPSILON else word
        fst.add_arc(source, pynini.Arc(label, label, pynini.Weight(weight, -total), target))
    fst.set_final(lattice.final)
    return fst


def distances(fst: pynini.Fst, reverse: bool = False) -> Floats:
    return -np.array([float(str(cost)) for cost in pynini.shortestdistance(fst, reverse=reverse)])


def distinct(fst: pynini.Fst, paths: int) -> pynini.Fst:
    return pynini.shortestpath(pynini.rmepsilon(fst), nshortest=paths, unique=True)


def path_totals(fst: pynini.Fst) -> list[float]:
    """Totals of all paths of an Fst of few paths, best first."""
    totals, paths = [], fst.paths()
    while not paths.done():
        totals.append(-float(str(paths.weight())))
        paths.next()
    return sorted(totals, reverse=True)


def operations(lattice: Lattice, args: argparse.Namespace) -> Mapping[str, tuple[Any, Any, Any]]:
    """Name -> ours, OpenFst's, and how to tell the largest difference of both results."""
    weights = lattice.weights or ScoreWeights()
    totals = arc_totals(lattice, weights)
    tropical, log = (to_fst(lattice, totals, kind) for kind in ("standard", "log"))

    def list_totals(hyps: Any) -> list[float]:
        nbest = NBest(lattice.utt, hyps)
        return [
            weights.acoustic * float(hyp.acoustic or 0.0)
            + weights.first_lm * float(hyp.lm or 0.0)
            + weights.word_bonus * len(hyp.words)
            for hyp in nbest.hyps
        ]

    def apart(ours: Any, theirs: Any) -> float:
        return float(np.abs(np.subtract(list_totals(ours), path_totals(theirs))).max())

    return {
        "in and out": (
            lambda: lattice,
            lambda: to_fst(lattice, totals, "standard"),
            lambda ours, theirs: 0.0,
        ),
        "best path": (
            lambda: (best_path(lattice, weights),),
            lambda: pynini.shortestpath(tropical),
            apart,
        ),
        f"{args.paths} best, distinct": (
            lambda: k_best(lattice, args.paths, weights),
            lambda: distinct(tropical, args.paths),
            apart,
        ),
        f"pruning to {args.beam:g}": (
            lambda: prune_lattice(lattice, weights, args.beam),
            lambda: pynini.prune(tropical, weight=args.beam),
            lambda ours, theirs: float(
                abs(ours.n_arcs - sum(theirs.num_arcs(state) for state in theirs.states()))
            ),
        ),
        "forward-backward": (
            lambda: forward_backward(lattice, totals),
            lambda: (distances(log), distances(log, reverse=True)),
            lambda ours, theirs: float(
                max(np.abs(a - b)[np.isfinite(a)].max() for a, b in zip(ours, theirs))
            ),
        ),
    }


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = run()
    return result, 1000 * (time.process_time() - start)


def main() -> None:
    args = parse()
    lattices: list[Any] = spread(list(read_items(args.format, args.lattices, {})), args.limit)
    times: dict[str, list[tuple[float, float, float]]] = {}
    for lattice in lattices:
        for name, (ours, theirs, difference) in operations(lattice, args).items():
            found, our_ms = timed(ours)
            other, their_ms = timed(theirs)
            times.setdefault(name, []).append((our_ms, their_ms, difference(found, other)))
    arcs = sum(lattice.n_arcs for lattice in lattices) / len(lattices)
    print(f"{len(lattices)} lattices, {arcs:.0f} arcs each")
    print(f"{'':22} {'ours ms':>9} {'OpenFst ms':>11} {'ratio':>7} {'difference':>11}")
    for name, rows in times.items():
        ours, theirs, _ = np.mean(rows, axis=0)
        worst = max(row[2] for row in rows)
        print(f"{name:22} {ours:9.2f} {theirs:11.2f} {theirs / max(ours, 1e-9):7.2f} {worst:11.2g}")


if __name__ == "__main__":
    main()
