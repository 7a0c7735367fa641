"""Language-model compression for speech recognition, judged end to end.

The sub-packages are the steps of the pipeline, in the order that data meets them:

- ``core``: hypotheses, lattices, score weights, counts, timings (no torch, no I/O)
- ``wer``: word errors, confidence intervals, oracle error rates
- ``text``: normalisation, SentencePiece tokeniser, corpus as a token stream
- ``firstpass``: decoder output in every supported format; decoders that can be run
- ``lm``: Transformer language model, training, checkpoints, scoring, n-gram models
- ``prune``: criteria, methods, schedules, low rank, compaction, families of sizes
- ``rescore``: prefix trie, LM scoring of n-best lists, weight tuning, rescoring
- ``exchange``: files for other decoders
- ``cli``: one thin file a verb

Scores are natural logarithms everywhere; higher is better.
"""

__version__ = "0.1.0"
