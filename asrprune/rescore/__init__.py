"""Rescoring: LM scores of the first pass's hypotheses, their weights, and the choice of the best.

Files first, then what uses them:

- ``scores_file``, ``weights_file``: LM scores and tuned weights on disk
- ``lmscore``: LM scores of n-best lists, written block by block
- ``merge``: scores, words and figures that shards have written, as one
- ``nbest``: the best hypothesis of each n-best list, from a scores file or with early termination
- ``lattices``: lattice rescoring: n-best, cover, beam with history, exact
- ``decisions``: the words of a rescored lattice: best path, or minimum Bayes risk
- ``tuning``: weights with the fewest word errors on a dev set (MERT), and the posterior scale
- ``bench``: how fast an LM scores, and how far an engine is from the reference
"""
