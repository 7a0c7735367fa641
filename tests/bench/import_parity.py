"""Logits of an imported LM against those of ``transformers`` on the same files.

    python tests/bench/import_parity.py --from gguf FILE --lm CHECKPOINT
    python tests/bench/import_parity.py --from hugging-face FOLDER --lm CHECKPOINT

CHECKPOINT is what ``asrprune import`` made of it. Tokenises some lines of text with both tokenisers
and prints a table: lines whose tokens are equal, largest difference of logits and of
log-probabilities, and the largest difference of a sentence's ln P. A GGUF needs ``gguf`` and
``accelerate`` beside ``transformers``.
"""

from __future__ import annotations

import argparse
import os
import time

import torch

from asrprune.lm.model.checkpoint import load_checkpoint

LINES = (
    "The cat sat on the mat and looked out of the window.",
    "Don't you know, it's 3.5 o'clock -- 12 of the 1990s' caf\u00e9s were closed!",
    "turnips and carrots and bruised potatoes and fat mutton pieces",
    "a",
    "HE HOPED THERE WOULD BE STEW FOR DINNER",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="partner", choices=("gguf", "hugging-face"), required=True)
    parser.add_argument("path")
    parser.add_argument("--lm", required=True)
    args = parser.parse_args()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    start = time.perf_counter()
    if args.partner == "gguf":
        folder, name = os.path.split(os.path.abspath(args.path))
        theirs = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name)
        pieces = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    else:
        theirs = AutoModelForCausalLM.from_pretrained(args.path)
        pieces = AutoTokenizer.from_pretrained(args.path)
    theirs = theirs.eval()  # a dequantised model is in float32 and refuses .float()
    loaded = time.perf_counter() - start
    ours = load_checkpoint(args.lm)
    tokenizer = ours.tokenizer()
    equal = 0
    logit = log_prob = sentence = 0.0
    for line in LINES:
        ids = pieces(line, add_special_tokens=False)["input_ids"]
        equal += ids == tokenizer.model.encode_words(line.split()[:1], True)[0] + [
            token for one in tokenizer.model.encode_words(line.split()[1:], False) for token in one
        ]
        tokens = torch.tensor([[tokenizer.begin, *ids, tokenizer.end]])
        with torch.no_grad():
            one = ours.model.logits(ours.model(tokens[:, :-1])[0]).float()
            other = theirs(tokens[:, :-1]).logits.float()
        logit = max(logit, float((one - other).abs().max()))
        one, other = one.log_softmax(-1), other.log_softmax(-1)
        log_prob = max(log_prob, float((one - other).abs().max()))
        wanted = tokens[:, 1:, None]
        sums = [float(table.gather(2, wanted).double().sum()) for table in (one, other)]
        sentence = max(sentence, abs(sums[0] - sums[1]))
        print(f"{sums[0]:10.3f} {sums[1]:10.3f}  {line}")
    print(f"transformers loaded in {loaded:.1f} s")
    print(f"| same tokens | logits | log-probabilities | ln P of a sentence |\n|{'---|' * 4}")
    print(f"| {equal} of {len(LINES)} | {logit:.1e} | {log_prob:.1e} | {sentence:.1e} |")


if __name__ == "__main__":
    main()
