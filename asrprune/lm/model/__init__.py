"""Transformer LMs of every architecture, with shapes that are free in every block.

In the order in which they build on each other: ``shapes`` (what a model is now, as data),
``factors`` and ``matrices`` (stored forms that know how to shrink), ``attention`` and ``layers``,
``anatomy`` (which matrices a block has and what connects them), one file an architecture (``gpt2``,
``llama``), ``architecture`` (their table), ``transformer`` (the model), ``logprob`` (chunked
log-softmax), ``weights_file`` (tensors in a file), ``checkpoint`` (a model on disk).
"""
