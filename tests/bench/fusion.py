"""Shallow fusion against rescoring: the same logits, the same decoder, the same LMs.

    python tests/bench/fusion.py [--out exp/fusion] [--utterances 80] [--beam 8]
    python tests/bench/fusion.py --sentences TEXT --pieces 500 --width 192 --steps 2000 --margin 3.2
    python tests/bench/fusion.py --lm exp/lm --lm exp/half --logits FOLDER --text TEXT

flashlight-text's lexicon-free CTC beam decodes every utterance without an LM (a beam as wide as the
list is long), and the list is rescored; then with the LM in a beam (fusion), once as the decoder's
own interface asks, state by state, and once with all states of a frame in one batch
(``decode_frames``, which finds the same). The LM's weight is one of the same grid for both, with
the fewest errors on the first half; the second half is reported: WER with its interval, CPU seconds
for a second of audio (one thread; variants take turns, utterance by utterance), and tokens that the
LM computed.

Without ``--lm`` a language is drawn (words with few likely successors), or with ``--sentences`` the
lines of a text are taken; an LM is trained on them and pruned to half, and CTC logits are made of
other sentences and noise: each token's frames hold it and a rival that wins at times (with the
default ``--margin`` about every twelfth), so an LM can mend what a frame cannot tell. FOLDER holds
ln P as ID.npy, float32 [frames, pieces of the LM], the blank 0; TEXT is Kaldi's. Packages:
``pip install --no-deps flashlight-text==0.0.7``.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flashlight.lib.text import decoder as flashlight
from numpy.typing import NDArray

from asrprune.api.pruning import prune_lm
from asrprune.cli.main import main as asrprune
from asrprune.exchange.adapters.flashlight import decode_frames, token_lm, tokens_of
from asrprune.exchange.adapters.incremental import IncrementalLM, open_incremental
from asrprune.firstpass.references import read_references
from asrprune.lm.engines.engine import EngineOptions
from asrprune.lm.model.checkpoint import load_checkpoint, save_checkpoint
from asrprune.lm.open import open_lm, short_name
from asrprune.lm.protocol import LanguageModel
from asrprune.wer.bootstrap import bootstrap_wer
from asrprune.wer.wer import count_errors

Logits = NDArray[np.float32]

GRID = (0.0, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0)
FRAME_S = 0.04
BLANK = 0
SYLLABLES = [a + b for a in "bdfgklmnprst" for b in "aeiou"]


@dataclass
class Utterance:
    """A reference, and ln P of the frames."""

    words: str
    logits: Logits


@dataclass
class Way:
    """What a way to decode did on the second half."""

    name: str
    lm: str
    weight: float
    texts: dict[str, str] = field(default_factory=dict)
    cpu_s: float = 0.0
    tokens: int = 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", help="where the drawn language's LM stays (default: nowhere)")
    parser.add_argument("--utterances", type=int, default=80)
    parser.add_argument("--beam", type=int, default=8)
    parser.add_argument("--n-best", type=int, default=50, help="also the beam without LM")
    parser.add_argument("--steps", type=int, default=200, help="of training the drawn LM")
    parser.add_argument("--sentences", help="text whose language it is, instead of a drawn one")
    parser.add_argument("--pieces", type=int, default=120)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--margin", type=float, default=2.4, help="of a token over its rival, nats")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lm", action="append", default=[], help="checkpoint; may be repeated")
    parser.add_argument("--logits", help="folder of ID.npy, with --lm")
    parser.add_argument("--text", help="references of --logits")
    return parser.parse_args()


class Language:
    """Words of two or three syllables; each is followed by one of six, the first often."""

    def __init__(self, seed: int, words: int = 150) -> None:
        self.draw = np.random.default_rng(seed)
        sizes = self.draw.integers(2, 4, words)
        made = ["".join(self.draw.choice(SYLLABLES, size)) for size in sizes]
        self.words = sorted(set(made))
        count = len(self.words)
        self.next = [self.draw.choice(count, 6, replace=False) for _ in range(count)]

    def sentence(self) -> str:
        word = int(self.draw.integers(len(self.words)))
        chosen = [word]
        for _ in range(int(self.draw.integers(4, 10))):
            word = int(self.draw.choice(self.next[word], p=(0.4, 0.25, 0.15, 0.1, 0.06, 0.04)))
            chosen.append(word)
        return " ".join(self.words[one] for one in chosen)


def frames(ids: Sequence[int], pieces: int, draw: np.random.Generator, clearness: float) -> Logits:
    """ln P [T, pieces]: one to three frames a token, one or two of blank between; with noise."""
    made = []
    for token in ids:
        rival = int(draw.integers(3, pieces))
        margin = draw.normal(clearness, 1.7)  # below 0: the rival wins
        for _ in range(int(draw.integers(1, 4))):
            row = draw.normal(0.0, 1.0, pieces)
            row[token] += 6.0 + margin / 2
            row[rival] += 6.0 - margin / 2
            made.append(row)
        for _ in range(int(draw.integers(1, 3))):
            row = draw.normal(0.0, 1.0, pieces)
            row[BLANK] += 7.0
            made.append(row)
    rows = np.array(made)
    rows[:, 1:3] = -20.0  # <s> and </s> are never heard
    return torch.tensor(rows).log_softmax(-1).float().numpy()


def drawn_case(args: argparse.Namespace, out: Path) -> tuple[list[Path], dict[str, Utterance]]:
    """The paths of an LM and of its half, and utterances of its language."""
    draw, said = np.random.default_rng(args.seed), list[str]()
    if args.sentences:
        lines = Path(args.sentences).read_text(encoding="utf-8").splitlines()
        lines = [line for line in lines if 4 <= len(line.split()) <= 14]
        draw.shuffle(lines)
        said, text = lines[: args.utterances], lines[args.utterances :]
    else:
        language = Language(args.seed)
        text = [language.sentence() for _ in range(6000)]
        said = [language.sentence() for _ in range(args.utterances)]
    (out / "lm-text.txt").write_text("".join(f"{line}\n" for line in text))
    dense, half = out / "dense", out / "half"
    if not dense.exists():
        train_dense(out, args)
    checkpoint = load_checkpoint(dense)
    if not half.exists():
        (made,) = prune_lm(
            checkpoint, text[:20_000], "taylor-squared", "structured", "one-shot", (0.5,),
            fine_tune_tokens=60_000,
        )  # fmt: skip
        save_checkpoint(half, made.model, made.tokenizer_path, {"command": "none"}, made.history)
    tokenizer = checkpoint.tokenizer()
    found = {}
    for number, words in enumerate(said):
        logits = frames(tokenizer.encode(words), tokenizer.vocab_size, draw, args.margin)
        found[f"{number:04d}"] = Utterance(words, logits)
    return [dense, half], found


def train_dense(out: Path, args: argparse.Namespace) -> None:
    settings = {
        "model.d_model": args.width, "model.n_layers": 3, "model.n_heads": 4,
        "model.max_positions": 128, "max_steps": args.steps,
        "tokens_per_batch": 2048, "optimizer.warmup_steps": 20,
    }  # fmt: skip
    text, data = str(out / "lm-text.txt"), str(out / "data")
    asrprune(["tokenize", "--text", text, "--vocab-size", str(args.pieces), "--out", data])
    given = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    asrprune(["train", "--data", data, "--out", str(out / "run"), *given])
    (out / "run").rename(out / "dense")


def given_case(args: argparse.Namespace) -> tuple[list[Path], dict[str, Utterance]]:
    texts = {one.utt: one.text for one in read_references("kaldi", args.text)}
    files = sorted(Path(args.logits).glob("*.npy"))
    return [Path(one) for one in args.lm], {
        one.stem: Utterance(texts[one.stem], np.load(one).astype(np.float32)) for one in files
    }


def beam(lm: Any, weight: float, beam_size: int, pieces: int) -> Any:
    options = flashlight.LexiconFreeDecoderOptions(
        beam_size, min(40, pieces), 50.0, weight, 0.0, False, flashlight.CriterionType.CTC
    )
    return flashlight.LexiconFreeDecoder(options, lm, -1, BLANK, [])


def text_of(core: IncrementalLM, result: Any) -> str:
    return core.tokenizer.decode(tokens_of(result.tokens, BLANK))


def n_best(core: IncrementalLM, decoder: Any, logits: Logits, most: int) -> dict[str, float]:
    """Text -> the score of its best path, best first."""
    found: dict[str, float] = {}
    for result in decoder.decode(logits.ctypes.data, *logits.shape):
        text = text_of(core, result)
        found[text] = max(found.get(text, -np.inf), result.score)
    ordered = sorted(found.items(), key=lambda one: -one[1])
    return dict(ordered[:most])


def rescored(lists: Mapping[str, float], scores: NDArray[np.float64], weight: float) -> str:
    totals = np.array(list(lists.values())) + weight * scores
    return list(lists)[int(np.argmax(totals))]


def errors(utts: Mapping[str, Utterance], texts: Mapping[str, str]) -> int:
    counts = (count_errors(utts[utt].words, text) for utt, text in texts.items())
    return sum(one.errors for one in counts)


class Case:
    """All ways to decode with one LM."""

    def __init__(self, args: argparse.Namespace, path: Path) -> None:
        self.args, self.name = args, short_name(path)
        self.core = open_incremental(path, "cpu", threads=1)
        self.lm = token_lm(self.core, ["<blank>", *self.core.pieces()[1:]], ["<blank>"])
        self.scorer: LanguageModel = open_lm(path, engine_options=EngineOptions(1, "cpu"))
        self.pieces = self.core.vocab_size
        self.first_pass = beam(flashlight.ZeroLM(), 0.0, args.n_best, self.pieces)

    def lists(self, logits: Logits) -> dict[str, float]:
        return n_best(self.core, self.first_pass, logits, self.args.n_best)

    def tuned(self, utts: Mapping[str, Utterance]) -> tuple[float, float]:
        """The weights of rescoring and of fusion with the fewest errors, the smaller of equals."""
        lists = {utt: self.lists(one.logits) for utt, one in utts.items()}
        scores = dict(zip(lists, self.scorer.score_lists([list(one) for one in lists.values()])))
        best = []
        for fused in (False, True):
            found = {}
            for weight in GRID:
                if fused and weight == 0:
                    texts = {utt: next(iter(some)) for utt, some in lists.items()}
                elif fused:
                    decoder = beam(self.lm, weight, self.args.beam, self.pieces)
                    texts = {utt: self.fused(decoder, one.logits) for utt, one in utts.items()}
                else:
                    texts = {u: rescored(lists[u], scores[u], weight) for u in utts}
                found[weight] = errors(utts, texts)
                how = "fusion" if fused else "rescoring"
                logging.info("%s, %s, weight %g: %d errors", self.name, how, weight, found[weight])
            best.append(min(found, key=lambda weight: (found[weight], weight)))
        return best[0], best[1]

    def fused(self, decoder: Any, logits: Logits, batched: bool = True) -> str:
        if batched:
            results = decode_frames(decoder, self.lm, logits, 1)
        else:
            results = decoder.decode(logits.ctypes.data, *logits.shape)
        return text_of(self.core, results[0])

    def measured(self, utts: Mapping[str, Utterance], weights: tuple[float, float]) -> list[Way]:
        ways = [
            Way("no LM", "", 0.0),
            Way("rescoring", self.name, weights[0]),
            Way("fusion, state by state", self.name, weights[1]),
            Way("fusion, a batch a frame", self.name, weights[1]),
        ]
        decoder = beam(self.lm, weights[1], self.args.beam, self.pieces)
        for utt, one in utts.items():
            start = time.process_time()
            lists = self.lists(one.logits)
            listed = time.process_time() - start
            before = self.scorer.stats.unique_tokens
            (scores,) = self.scorer.score_lists([list(lists)])
            ways[0].texts[utt] = next(iter(lists))
            ways[1].texts[utt] = rescored(lists, scores, weights[0])
            ways[0].cpu_s += listed
            ways[1].cpu_s += time.process_time() - start
            ways[1].tokens += self.scorer.stats.unique_tokens - before
            for way, batched in ((ways[2], False), (ways[3], True)):
                before, start = self.core.tokens, time.process_time()
                way.texts[utt] = self.fused(decoder, one.logits, batched)
                way.cpu_s += time.process_time() - start
                way.tokens += self.core.tokens - before
        return ways

    def oracle(self, utts: Mapping[str, Utterance]) -> float:
        """WER in percent of the best of each list."""
        wrong = 0
        for one in utts.values():
            lists = self.lists(one.logits)
            wrong += min(count_errors(one.words, text).errors for text in lists)
        return 100.0 * wrong / sum(len(one.words.split()) for one in utts.values())


def report(utts: Mapping[str, Utterance], ways: Sequence[Way]) -> None:
    audio_s = sum(len(one.logits) for one in utts.values()) * FRAME_S
    for way in ways:
        pairs = ((utts[utt].words, text) for utt, text in way.texts.items())
        found = bootstrap_wer([count_errors(*pair) for pair in pairs])
        low, high = found.percentile
        print(
            f"| {way.lm or '-'} | {way.name} | {way.weight:g} | {found.wer_percent:.1f} "
            f"[{low:.1f}, {high:.1f}] | {way.cpu_s / audio_s:.3f} | {way.tokens} |",
            flush=True,
        )


def main() -> None:
    args = parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(args.out or scratch)
        out.mkdir(parents=True, exist_ok=True)
        paths, utts = given_case(args) if args.logits else drawn_case(args, out)
        names = list(utts)
        dev = {utt: utts[utt] for utt in names[: len(names) // 2]}
        test = {utt: utts[utt] for utt in names[len(names) // 2 :]}
        print("| LM | way | weight | WER % | CPU s / audio s | LM tokens |")
        print("|---|---|---:|---:|---:|---:|")
        for number, path in enumerate(paths):
            case = Case(args, path)
            ways = case.measured(test, case.tuned(dev))
            if number == 0:
                print(f"| - | best of each list | | {case.oracle(test):.1f} | | |")
            report(test, ways if number == 0 else ways[1:])


if __name__ == "__main__":
    main()
