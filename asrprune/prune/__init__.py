"""Pruning of a Transformer LM: criterion x method x schedule, recovery, and a family of sizes.

In the order in which a run meets them: ``plan`` (what to do), ``gates`` (what can be removed),
``statistics`` (what the data says about it), ``criteria`` (a score per removable unit),
``selection`` and ``methods`` (what goes), ``factorisation`` and ``compaction`` (matrices really
become smaller), ``schedules`` (how much by when), ``distillation`` and ``recovery``
(fine-tuning), ``family`` and ``plot`` (what came out), ``loop`` (the run).
"""
