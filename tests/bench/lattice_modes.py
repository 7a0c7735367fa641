"""Lattice rescoring against n-best rescoring: WER, LM tokens, seconds, on real lattices.

    python tests/bench/lattice_modes.py --lattices slf --ref text --lm exp/lm --out exp/modes

Lattices hold LM scores of the first pass; ``--pocketsphinx`` adds those of its own trigram to
pocketsphinx's lattices, which have none, and keeps them in OUT/lattices. The utterances in the
order of their ids are dealt out in turn to two halves. Weights and posterior scales are tuned on
one half and tested on the other, then the other way round (``--one-fold`` leaves that out): every
utterance of the table is a test utterance. Widths are not tuned; a row shows each. "list" weights
are tuned on the dev half's 100-best lists of the first pass, "pool" weights on those and on
100-best lists out of dev's beam-rescored lattices, merged, in turns (as MERT does). LM tokens are
forward positions of the first LM, prefixes merged: what its computation costs. Seconds are CPU
seconds of the process: with one thread they are the wall time of a quiet machine.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asrprune.core.counts import ErrorCounts
from asrprune.core.hypothesis import NBest
from asrprune.core.lattice.lattice import Lattice
from asrprune.core.lattice.oracle import oracle_words
from asrprune.core.lattice.paths import k_best, prune_lattice
from asrprune.core.weights import ScoreWeights
from asrprune.files import write_json
from asrprune.firstpass.formats.table import read_items
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.open import open_lm, open_prefix_lm
from asrprune.lm.scoring.forests import ScoringOptions
from asrprune.provenance import provenance
from asrprune.rescore.decisions import DECISIONS
from asrprune.rescore.lattices.beam_mode import BeamOptions
from asrprune.rescore.lattices.modes import LATTICE_MODES, rescore_lattices
from asrprune.rescore.lattices.path_modes import CoverOptions, NbestOptions
from asrprune.rescore.lattices.scored_lattice import ScoredLattice
from asrprune.rescore.nbest.scored_list import ScoredList, scored_lists
from asrprune.rescore.scores_file import Scores, UtteranceScores
from asrprune.rescore.tuning.posterior_scale import SCALES
from asrprune.rescore.tuning.tune import TuneOptions, tune
from asrprune.wer.bootstrap import bootstrap_wer, compare_paired
from asrprune.wer.kaldi_text import read_kaldi_text
from asrprune.wer.wer import count_errors

log = logging.getLogger(__name__)
Refs = Mapping[str, str]
_FIRST = "100-best"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lattices", required=True, help="file or folder")
    parser.add_argument("--format", default="slf")
    parser.add_argument("--pocketsphinx", action="store_true", help="add its trigram's scores")
    parser.add_argument("--lattice-beam", type=float, default=100.0, help="of --pocketsphinx")
    parser.add_argument("--ref", required=True, help="Kaldi text")
    parser.add_argument("--lm", required=True, nargs="+", help="checkpoints or n-grams")
    parser.add_argument("--out", required=True, help="folder")
    parser.add_argument("--limit", type=int, help="only so many utterances")
    parser.add_argument("--rounds", type=int, default=2, help="of tuning pool weights")
    parser.add_argument("--tune-beam", type=float, default=40.0, help="of the beam on dev")
    parser.add_argument("--one-fold", action="store_true", help="test the second half only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--beams", default="20,30,40,60", help="of the mode beam")
    parser.add_argument("--cover-beams", default="10,20,30,45")
    parser.add_argument("--paths", default="10,30,100,300,1000", help="of the mode nbest")
    return parser.parse_args()


@dataclass(frozen=True)
class Row:
    """A line of the table: the system, what it read, its test hypotheses and their cost."""

    name: str
    texts: dict[str, str]
    tokens: int
    cpu_s: float

    def __add__(self, other: Row) -> Row:
        """The same system on both folds."""
        assert self.name == other.name
        texts = {**self.texts, **other.texts}
        return Row(self.name, texts, self.tokens + other.tokens, self.cpu_s + other.cpu_s)


class Bench:
    """Lattices of dev and test of one fold, LMs by path, and the modes over them."""

    def __init__(
        self, args: argparse.Namespace, dev: Sequence[Lattice], test: Sequence[Lattice]
    ) -> None:
        self.args, self.dev, self.test = args, dev, test
        self.engine = EngineOptions(threads=args.threads, device="cpu")

    def run(
        self, mode: str, options: Any, weights: ScoreWeights, lattices: Iterable[Lattice]
    ) -> tuple[list[ScoredLattice], int, float]:
        """The rescored lattices, tokens of the first LM, CPU seconds without loading the LMs."""
        entry = LATTICE_MODES[mode]
        lms = [self._open(path, entry.prefixes) for path in self.args.lm]
        start = time.process_time()
        scored = list(rescore_lattices(lattices, entry, lms, weights, options))
        return scored, lms[0].tokens, time.process_time() - start

    def _open(self, path: str, prefixes: bool) -> Any:
        if prefixes:
            return open_prefix_lm(path, "torch", self.engine)
        options = ScoringOptions(over_long="minus-inf")
        return open_lm(path, "torch", self.engine, options).words()

    def scored(self, lists: Sequence[NBest]) -> list[ScoredList]:
        """The lists with the scores of all LMs."""
        scores = []
        for path in self.args.lm:
            lm = open_lm(path, "torch", self.engine, ScoringOptions(over_long="minus-inf"))
            values = lm.score_lists([[hyp.text for hyp in nbest.hyps] for nbest in lists])
            named = {n.utt: UtteranceScores(n.utt, n.digest, v) for n, v in zip(lists, values)}
            scores.append(Scores(path, {"lm": path}, named))
        return list(scored_lists(lists, scores))

    def tune(self, lists: Sequence[NBest], refs: Refs, start: ScoreWeights) -> ScoreWeights:
        """Weights for dev's lists."""
        options = TuneOptions(objective="errors")
        found = tune(self.scored(lists), refs, replace(start, lm=()), options)
        log.info("dev WER of the lists %.2f at %s", found.wer_percent, found.weights)
        return found.weights


def errors(texts: Mapping[str, str], refs: Refs) -> dict[str, ErrorCounts]:
    return {utt: count_errors(refs[utt], text) for utt, text in texts.items()}


def total_errors(texts: Mapping[str, str], refs: Refs) -> int:
    return sum(counts.errors for counts in errors(texts, refs).values())


def decided(scored: Sequence[ScoredLattice], decision: str, scale: float) -> dict[str, str]:
    return {one.lattice.utt: DECISIONS[decision](one, scale) for one in scored}


def merged(lists: Sequence[Sequence[NBest]]) -> list[NBest]:
    """Lists of the same utterances joined; a text keeps its first scores."""
    result = []
    for same in zip(*lists):
        hyps = {hyp.text: hyp for nbest in reversed(same) for hyp in nbest.hyps}
        result.append(replace(same[0], hyps=tuple(hyps.values())))
    return result


def prepare(args: argparse.Namespace) -> list[Lattice]:
    """The lattices by utterance id, with LM scores of the first pass."""
    if args.pocketsphinx:
        from asrprune.firstpass.decoders.pocketsphinx import PocketSphinx, PocketSphinxConfig
        from asrprune.firstpass.formats.slf import write_slf

        folder = Path(args.out) / "lattices"
        decoder = PocketSphinx(PocketSphinxConfig())
        for item in read_items(args.format, args.lattices, {}):
            target = folder / f"{item.utt}.slf.gz"
            if not target.exists():
                assert isinstance(item, Lattice)
                full = decoder.add_lm_scores(item)
                write_slf(target, prune_lattice(full, decoder.weights, args.lattice_beam))
        args = argparse.Namespace(**{**vars(args), "format": "slf", "lattices": str(folder)})
    lattices: list[Any] = list(read_items(args.format, args.lattices, {}))
    return sorted(lattices, key=lambda one: str(one.utt))[: args.limit]


def first_pass_rows(bench: Bench, refs: Refs) -> list[Row]:
    """The first pass's best path, the best of 100, the best of the lattice."""
    best, of_list, of_lattice = {}, {}, {}
    start = time.process_time()
    for one in bench.test:
        weights = one.weights or ScoreWeights()
        hyps = k_best(one, 100, weights)
        best[one.utt] = hyps[0].text
        counts = [count_errors(refs[one.utt], hyp.text).errors for hyp in hyps]
        of_list[one.utt] = hyps[int(np.argmin(counts))].text
        of_lattice[one.utt] = " ".join(oracle_words(one, refs[one.utt].split()))
    cpu_s = time.process_time() - start
    return [
        Row("first pass", best, 0, 0.0),
        Row("oracle of 100-best", of_list, 0, 0.0),
        Row("oracle of lattices", of_lattice, 0, cpu_s),
    ]


def tuned(bench: Bench, refs: Refs) -> tuple[ScoreWeights, ScoreWeights]:
    """List weights and pool weights."""
    start = bench.dev[0].weights or ScoreWeights()
    lists = [NBest(one.utt, k_best(one, 100, one.weights or ScoreWeights())) for one in bench.dev]
    for_lists = weights = bench.tune(lists, refs, start)
    pool = lists
    for number in range(bench.args.rounds):
        scored, _, _ = bench.run("beam", BeamOptions(5, bench.args.tune_beam), weights, bench.dev)
        found = total_errors(decided(scored, "map", 1.0), refs)
        log.info("tuning round %d: %d errors of the dev lattices", number + 1, found)
        pool = merged([pool, [one.nbest(100) for one in scored]])
        weights = bench.tune(pool, refs, weights)
    return for_lists, weights


def posterior_scale(scored: Sequence[ScoredLattice], decision: str, refs: Refs) -> float:
    """The scale with the fewest errors on dev; of equals the largest."""
    counts = [(total_errors(decided(scored, decision, s), refs), -s) for s in SCALES]
    return -min(counts)[1]


def mode_rows(
    bench: Bench, refs: Refs, for_lists: ScoreWeights, for_pool: ScoreWeights
) -> list[Row]:
    args = bench.args
    rows = []

    def add(
        name: str, mode: str, options: Any, used: ScoreWeights, mbr: Sequence[str] = ()
    ) -> None:
        scored, tokens, cpu_s = bench.run(mode, options, used, bench.test)
        rows.append(Row(name, decided(scored, "map", 1.0), tokens, cpu_s))
        log.info("%s: WER %.2f, %d tokens", name, wer(rows[-1], refs), tokens)
        for decision in mbr:
            dev, _, _ = bench.run(mode, options, used, bench.dev)
            scale = posterior_scale(dev, decision, refs)
            start = time.process_time()
            texts = decided(scored, decision, scale)
            extra = time.process_time() - start
            rows.append(Row(f"{name}, {decision}", texts, tokens, cpu_s + extra))
            log.info("%s: WER %.2f, scale %g", rows[-1].name, wer(rows[-1], refs), scale)

    ranking = bench.test[0].weights
    for paths in map(int, args.paths.split(",")):
        mbr = ("mbr",) if paths == 100 else ()
        add(f"{paths}-best", "nbest", NbestOptions(paths, ranking), for_lists, mbr)
    add("100-best, pool weights", "nbest", NbestOptions(100, ranking), for_pool)
    for kind, weights in (("list", for_lists), ("pool", for_pool)):
        for beam in map(float, args.cover_beams.split(",")):
            name = f"cover {beam:g}, {kind} weights"
            add(name, "cover", CoverOptions(beam, ranking), weights)
        for history in (3, 5, None):
            for beam in map(float, args.beams.split(",")):
                title = "none" if history is None else history
                name = f"beam {beam:g}, history {title}, {kind} weights"
                mbr = ("mbr", "consensus") if history == 5 and beam == args.tune_beam else ()
                add(name, "beam", BeamOptions(history, beam), weights, mbr)
    return rows


def wer(row: Row, refs: Refs) -> float:
    counts = errors(row.texts, refs).values()
    return sum(counts, ErrorCounts()).wer_percent


def table(rows: Sequence[Row], refs: Refs) -> tuple[str, list[dict[str, Any]]]:
    """Markdown, and the same as records."""
    baseline = next((row for row in rows if row.name == _FIRST), rows[0])
    reference = errors(baseline.texts, refs)
    lines = [
        f"| system | WER % [95 %] | vs {baseline.name} | p | LM tokens | CPU s |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    records = []
    for row in rows:
        counts = errors(row.texts, refs)
        found = bootstrap_wer(list(counts.values()))
        pair = compare_paired(reference, counts)
        low, high = found.percentile
        lines.append(
            f"| {row.name} | {found.wer_percent:.2f} [{low:.2f}, {high:.2f}] | "
            f"{pair.difference_percent:+.2f} [{pair.interval.low:+.2f}, {pair.interval.high:+.2f}]"
            f" | {pair.p_value:.3f} | {row.tokens} | {row.cpu_s:.1f} |"
        )
        records.append(
            {
                "system": row.name,
                "wer_percent": found.wer_percent,
                "interval_percent": found.percentile,
                "difference_percent": pair.difference_percent,
                "difference_interval_percent": pair.interval,
                "p_value": pair.p_value,
                "lm_tokens": row.tokens,
                "cpu_s": row.cpu_s,
            }
        )
    return "\n".join(lines) + "\n", records


def main() -> None:
    args = parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    refs = read_kaldi_text(args.ref)
    lattices = prepare(args)
    halves = (lattices[::2], lattices[1::2])
    rows: list[Row] = []
    weights = []
    for dev, test in (halves,) if args.one_fold else (halves, halves[::-1]):
        bench = Bench(args, dev, test)
        log.info("%d dev and %d test utterances", len(dev), len(test))
        for_lists, for_pool = tuned(bench, refs)
        found = first_pass_rows(bench, refs) + mode_rows(bench, refs, for_lists, for_pool)
        rows = [one + other for one, other in zip(rows, found)] if rows else found
        weights.append({"list": asdict(for_lists), "pool": asdict(for_pool)})
    text, records = table(rows, refs)
    sys.stdout.write(text)
    write_json(
        Path(args.out) / "lattice_modes.json",
        {
            "rows": records,
            "weights_of_folds": weights,
            "test_utterances": len(rows[0].texts),
            "provenance": provenance(sys.argv),
        },
    )
    (Path(args.out) / "lattice_modes.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
