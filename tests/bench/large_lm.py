"""Scoring with an LM of a hundred million parameters and a large vocabulary, beside transformers.

    asrprune export --to hugging-face --lm exp/smollm2 --out exp/smollm2-hf
    python tests/bench/large_lm.py --lm exp/smollm2 --transformers exp/smollm2-hf \\
        --nbest whisper_tiny_en.20best.json [--limit 6] [--engines torch,bf16] [--threads 1]

Every system scores the same lists in a process of its own, which opens the LM, scores once for
warm-up and then ``--repeats`` times; transformers (``AutoModelForCausalLM``, batches sorted by
length, log-softmax, gather) with each of BUDGETS tokens a batch, of which the fastest counts. With
one thread "s" is CPU time of scoring, else wall time, the least of the repeats. "tokens/s" are
those of all hypotheses, shared or not. "MB" is the process's largest resident set, "over open" what
it grew by after the LM was there. Differences of ln P are against transformers in float32.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import numpy as np
import torch
from peers import in_batches
from subjects import open_subject, read_lists

from asrprune.rescore.bench.machine import peak_rss_bytes

BUDGETS = (128, 512, 2048)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lm", required=True)
    parser.add_argument("--transformers", required=True, help="the same LM, exported")
    parser.add_argument("--nbest", required=True)
    parser.add_argument("--limit", type=int, default=6)
    parser.add_argument("--engines", default="torch,onnx,torch-bf16,bf16")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--system", help="measure this one here and print JSON")
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, object]:
    torch.set_num_threads(args.threads)
    subject = open_subject(args.lm)
    lists = [[hyp.text for hyp in one.hyps] for one in read_lists(args.nbest, args.limit)]
    texts = [text for one in lists for text in one]
    hyps = subject.tokenizer.encode_batch(texts)
    kind, _, name = args.system.partition(":")
    if kind == "transformers":
        from transformers import AutoModelForCausalLM

        tokenizer = subject.tokenizer
        prompt = list(tokenizer.prompt)
        del subject
        dtype = torch.bfloat16 if name == "bf16" else torch.float32
        model = AutoModelForCausalLM.from_pretrained(args.transformers, dtype=dtype)
        scores = [in_batches(model.eval(), tokenizer.begin, tokenizer.end, b) for b in BUDGETS]
        runs = [lambda one=one: one([[*prompt, *ids] for ids in hyps]) for one in scores]
    else:
        lm = subject.scorer(name, args.threads)
        del subject
        runs = [lambda: np.concatenate(lm.score_lists(lists))]
    opened = peak_rss_bytes()
    clock = time.process_time if args.threads == 1 else time.perf_counter
    best, found = float("inf"), np.zeros(0)
    for run in runs:
        for turn in range(args.repeats + 1):
            start = clock()
            found = run()
            if turn:
                best = min(best, clock() - start)
    return {
        "seconds": best,
        "tokens": sum(len(ids) + 1 for ids in hyps),
        "peak": peak_rss_bytes(),
        "opened": opened,
        "scores": found.tolist(),
    }


def main() -> None:
    args = parse()
    if args.system:
        print(json.dumps(measure(args)))
        return
    systems = ["transformers:fp32", "transformers:bf16"]
    systems += [f"asrprune:{name}" for name in args.engines.split(",")]
    print(f"{'':24} {'s':>7} {'tokens/s':>9} {'x':>6} {'MB':>7} {'over open':>9} {'max diff':>9}")
    first: dict[str, object] = {}
    for system in systems:
        command = [sys.executable, __file__, *sys.argv[1:], "--system", system]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        found = json.loads(done.stdout)
        first = first or found
        away = np.abs(np.array(found["scores"]) - np.array(first["scores"]))
        print(
            f"{system:24} {found['seconds']:7.2f} {found['tokens'] / found['seconds']:9.0f} "
            f"{first['seconds'] / found['seconds']:6.2f} {found['peak'] / 1e6:7.0f} "
            f"{(found['peak'] - found['opened']) / 1e6:9.0f} {away.max():9.2g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
