"""Own lists -> tuned weights -> WER -> pruned LM -> WER, all in memory.

python example.py                     a tiny LM, and the lists below
python example.py LM DATA DEV TEST    a checkpoint, a folder of `asrprune tokenize`, and two files
                                      of n-best lists with references (JSON lines)
"""

import sys

import asrprune
from asrprune.api.example import SENTENCES, tiny_lm

# utterance -> words, acoustic score, LM score of the first pass (natural logs), best first
DEV = {
    "dev-1": [("the cat sad on the mat", -10.0, -6.0), ("the cat sat on the mat", -10.5, -6.2)],
    "dev-2": [("a dog saw the cat", -8.0, -5.0), ("a dog sat the cat", -8.2, -5.1)],
}
TEST = {
    "test-1": [("the dog sad on the log", -9.0, -6.0), ("the dog sat on the log", -9.4, -6.3)],
    "test-2": [("a cat saw the dog", -7.0, -5.0), ("a cat sat the dog", -7.1, -5.1)],
    "test-3": [("the cat his sad", -6.0, -4.0), ("the cat is sad", -6.3, -4.1)],
}
DEV_REFS = {"dev-1": "the cat sat on the mat", "dev-2": "a dog saw the cat"}
TEST_REFS = {
    "test-1": "the dog sat on the log",
    "test-2": "a cat saw the dog",
    "test-3": "the cat is sad",
}


def own_lists(decoded):
    """What a decoder gave, as n-best lists."""
    return [
        asrprune.NBest(utt, tuple(asrprune.Hypothesis(*scored) for scored in hyps))
        for utt, hyps in decoded.items()
    ]


if len(sys.argv) == 5:
    lm, text = asrprune.load_checkpoint(sys.argv[1]), sys.argv[2]
    dev, test = asrprune.read_nbest(sys.argv[3]), asrprune.read_nbest(sys.argv[4])
    dev_refs, test_refs = ({one.utt: one.ref for one in lists} for lists in (dev, test))
else:
    lm, text = tiny_lm(), SENTENCES
    dev, test, dev_refs, test_refs = own_lists(DEV), own_lists(TEST), DEV_REFS, TEST_REFS

first_pass = {one.utt: one.hyps[0].text for one in test}
print("first pass:", asrprune.compute_wer(test_refs, first_pass))


def rescored(lm):
    """The best hypotheses of test, under weights tuned on dev."""
    tuned = asrprune.tune_weights(dev, asrprune.score_nbest(lm, dev), dev_refs)
    return asrprune.rescore_nbest(test, asrprune.score_nbest(lm, test), tuned.weights)


dense = rescored(lm)
print("dense:", asrprune.compute_wer(test_refs, dense, baseline=first_pass))
for small in asrprune.prune_lm(lm, text, method="structured", sparsities=(0.3, 0.5)):
    result = asrprune.compute_wer(test_refs, rescored(small), baseline=dense)
    print(f"sparsity {small.history[-1]['measured']:.2f}:", result)
