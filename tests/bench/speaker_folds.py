"""LibriSpeech n-best lists with ranks and no scores, rescored with an LM in folds of speakers.

    python tests/bench/speaker_folds.py --lm exp/smollm2 \\
        --lists ../shared/data/librispeech/test_other.whisper_large.5best.part_a.json

A file is ``{utt: {"ref", "nbest": [texts, best first]}}``. Speakers are dealt to two folds, and
what one is rescored with comes from the other: the first pass's score of a rank, ln of how often
(plus one) the best hypothesis has it, and the weights of that, of the LM and of the word bonus.
Prints the WER of both folds together: first hypotheses, oracle, with the LM, with intervals over
speakers and over utterances, and what each weight of the LM would have given, chosen by nothing.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import asrprune
from asrprune.core.hypothesis import Hypothesis, NBest
from asrprune.wer.wer import count_errors

LM_WEIGHTS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)


def read_lists(path: Path) -> list[NBest]:
    """The lists; texts that come again keep their first place."""
    lists = []
    for utt, one in json.loads(path.read_text(encoding="utf-8")).items():
        texts = dict.fromkeys(" ".join(text.split()) for text in one["nbest"])
        lists.append(NBest(utt, tuple(map(Hypothesis, texts)), None, one["ref"]))
    return lists


def best_rank(nbest: NBest) -> int:
    """Of the first hypothesis with the fewest errors, from 0."""
    errors = [count_errors(nbest.ref or "", hyp.text).errors for hyp in nbest.hyps]
    return errors.index(min(errors))


def with_rank_scores(lists: Sequence[NBest], others: Sequence[NBest]) -> list[NBest]:
    """``lists`` with ln of how often ``others`` have their best hypothesis at a rank."""
    counts = [1] * max(len(one.hyps) for one in (*lists, *others))
    for one in others:
        counts[best_rank(one)] += 1
    scores = [math.log(count / sum(counts)) for count in counts]
    return [
        replace(one, hyps=tuple(replace(h, acoustic=s) for h, s in zip(one.hyps, scores)))
        for one in lists
    ]


class Folds:
    """The lists of the two halves of the speakers, each with rank scores of the other."""

    def __init__(self, lists: Sequence[NBest]) -> None:
        self.speakers = {one.utt: one.utt.partition("-")[0] for one in lists}
        order = sorted(set(self.speakers.values()))
        halves = [
            [one for one in lists if order.index(self.speakers[one.utt]) % 2 == fold]
            for fold in (0, 1)
        ]
        self.halves = [with_rank_scores(halves[n], halves[1 - n]) for n in (0, 1)]
        self.refs = {one.utt: one.ref or "" for one in lists}

    def tuned(self, scores: Mapping[str, Any]) -> dict[str, str]:
        """The words of each half at weights of the other."""
        hyps: dict[str, str] = {}
        for half, other in (self.halves, self.halves[::-1]):
            own = {one.utt: scores[one.utt] for one in other}
            weights = asrprune.tune_weights(other, own, self.refs).weights
            print(f"    weights: LM {weights.lm[0]:.3g}, word bonus {weights.word_bonus:.3g}")
            own = {one.utt: scores[one.utt] for one in half}
            hyps |= asrprune.rescore_nbest(half, own, weights)
        return hyps

    def at(self, scores: Mapping[str, Any], lm_weight: float) -> float:
        """The WER with this weight of the LM everywhere."""
        weights = asrprune.ScoreWeights(1.0, 0.0, (lm_weight,))
        hyps: dict[str, str] = {}
        for half in self.halves:
            own = {one.utt: scores[one.utt] for one in half}
            hyps |= asrprune.rescore_nbest(half, own, weights)
        return asrprune.compute_wer(self.refs, hyps, replications=2).wer_percent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lists", type=Path, nargs="+", required=True)
    parser.add_argument("--lm", nargs="+", required=True, help="checkpoints or n-grams")
    parser.add_argument("--engine", default="auto")
    args = parser.parse_args()
    for path in args.lists:
        lists = read_lists(path)
        folds = Folds(lists)
        print(f"{path.name}: {len(lists)} utterances, {len(set(folds.speakers.values()))} speakers")
        first = {one.utt: one.hyps[0].text for one in lists}
        oracle = {one.utt: one.hyps[best_rank(one)].text for one in lists}
        for name, hyps in (("first hypotheses", first), ("oracle", oracle)):
            print(f"  {name}:", asrprune.compute_wer(folds.refs, hyps, speakers=folds.speakers))
        for lm in args.lm:
            how = {} if lm.endswith((".arpa", ".gz", ".bin")) else {"engine": args.engine}
            scores = asrprune.score_nbest(asrprune.open_lm(lm, **how), lists)
            print(f"  {Path(lm).name}:")
            hyps = folds.tuned(scores)
            for name, drawn in (("speakers", folds.speakers), ("utterances", None)):
                result = asrprune.compute_wer(folds.refs, hyps, first, speakers=drawn)
                print(f"    {name} drawn: {result}")
            grid = (f"{weight:g}: {folds.at(scores, weight):.2f}" for weight in LM_WEIGHTS)
            print(f"    WER % at LM weights {', '.join(grid)}", flush=True)


if __name__ == "__main__":
    main()
