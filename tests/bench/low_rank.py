"""How much of the work that low rank removes is time saved, by the width of the model.

    python tests/bench/low_rank.py --nbest pocketsphinx.100best.json.gz [--widths 256,512]
        [--engines torch,onnx,onnx-int8,int8] [--sparsity 0.3,0.5,0.7,0.8,0.9]

Random models; every matrix of a block has the rank that leaves ``1 - sparsity`` of it, in multiples
of 8. "work" is the parameters of the dense model over those of the low-rank one, positions apart;
each engine's column is its time for the dense model over that for the low-rank one, in turns, and
behind it that over "work".
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from subjects import Subject, add_subject_arguments, open_subject, read_lists, speed_up, take_turns

from asrprune.lm.model.checkpoint import Checkpoint
from asrprune.lm.model.gpt2 import ANATOMY
from asrprune.lm.model.shapes import LinearShape
from asrprune.lm.model.transformer import TransformerLM, count_parameters


def low_rank(dense: Subject, sparsity: float) -> Subject:
    """A random model of the same shape but for the ranks."""
    shape = dense.model.shape
    block = shape.blocks[0]
    forms = {}
    for name in ANATOMY.matrices:
        outputs, inputs = dense.model.blocks[0].linear(name).weight.shape
        rank = (1.0 - sparsity) * outputs * inputs / (outputs + inputs)
        forms[name] = LinearShape("low_rank", max(8, round(rank / 8) * 8))
    torch.manual_seed(0)
    blocks = (replace(block, linears=forms),) * len(shape.blocks)
    model = TransformerLM(replace(shape, blocks=blocks)).eval()
    return Subject(Checkpoint(model, Path(), ""), dense.tokenizer)


def work(subject: Subject) -> int:
    return count_parameters(subject.model) - subject.model.positions.numel()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add_subject_arguments(parser)
    parser.add_argument("--widths", default="256,512")
    parser.add_argument("--engines", default="torch,onnx,onnx-int8,int8")
    parser.add_argument("--sparsity", default="0.3,0.5,0.7,0.8,0.9")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    lists = read_lists(args.nbest, args.limit)
    texts = [[hyp.text for hyp in nbest.hyps] for nbest in lists]
    sizes = [float(part) for part in args.sparsity.split(",")]
    engines = args.engines.split(",")
    print(f"{len(lists)} utterances, {args.layers} layers, {args.threads} threads")
    print(f"{'width':>6} {'sparsity':>8} {'work':>6}" + "".join(f" {name:>15}" for name in engines))
    for width in map(int, args.widths.split(",")):
        dense = open_subject(None, args.layers, width, args.vocab)
        subjects = {0.0: dense, **{size: low_rank(dense, size) for size in sizes}}
        times = {}
        for engine in engines:
            scorers = {size: one.scorer(engine, args.threads) for size, one in subjects.items()}
            runs = {str(size): lambda lm=lm: lm.score_lists(texts) for size, lm in scorers.items()}
            times[engine] = take_turns(runs, args.repeats, args.threads)
        for size in sizes:
            less = work(dense) / work(subjects[size])
            cells = ""
            for engine in engines:
                faster = speed_up(times[engine]["0.0"], times[engine][str(size)])
                cells += f" {faster:8.2f} ({faster / less:.2f})"
            print(f"{width:>6} {size:>8g} {less:>6.2f}{cells}", flush=True)


if __name__ == "__main__":
    main()
