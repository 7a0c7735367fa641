"""The functions that ``import asrprune`` offers, one file per group of verbs.

- ``first_pass``: n-best lists, lattices and references, read and written
- ``lms``: language models, opened, loaded and saved
- ``scoring``: LM scores of n-best lists
- ``rescoring``: weights tuned, best hypotheses chosen
- ``word_errors``: WER with its interval
- ``pruning``: pruned LMs
- ``example``: a tiny LM and lists, for the examples of the docstrings and for a first try

Everything works in memory. The work is done by the other folders; nothing but notebooks and
scripts imports this one.
"""
