"""Language models: Transformers and n-grams behind one protocol, their training and scoring.

In the order in which they build on each other:

- ``trie``: hypotheses merged by their prefixes, so that no prefix is computed twice
- ``windows``: pieces with a sliding context, of hypotheses longer than the model's positions
- ``protocol``: LanguageModel and its kin: all that rescoring knows of an LM
- ``device``: which device and how many CPU threads torch computes with
- ``state_file``: what a killed run goes on from, with its hash
- ``model``: the architectures, their matrices and shapes, the checkpoint on disk
- ``training``: batches, loss, optimisers, the loop, resuming
- ``vocabulary``: the words of an n-gram model's file, and the text form that they show
- ``kenlm_file``: what n-gram files say of themselves, looked through before KenLM reads them
- ``ngram``: n-gram models through KenLM
- ``engines``: what computes the forward passes of scoring: torch, ONNX Runtime, own kernels
- ``scoring``: scores of sentences and of words; early termination
- ``perplexity``: of a text, per token and per word
- ``fastest``: the engine that ``auto`` and ``fastest`` stand for, measured
- ``low_rank_speed``: what low rank brings in speed on this processor
- ``open``: any LM by its path, whatever it is made of
- ``elastic_speed``: the size of an elastic LM that is so many times as fast as the whole
"""
